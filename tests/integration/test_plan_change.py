"""The plan of a running cluster is changed under streams: their text is the one they would have had, and what cannot be is refused.
Without a name the plans are tried."""
import json
import os
import queue
import signal
import threading
import unittest

from cluster import GOLDEN, GPU, Cluster, greedy

TINY = GOLDEN / "tiny"
STREAMS = 3
# Tokens of a stream: from the CPU device they come so fast that it takes many for one to be running still.
LONG, SHORT = 150, 40


def prompt(index: int) -> str:
    return "The creature opened the window and looked at the"[: 20 + 7 * index]


class Streams:
    """Streams that have begun, and run until they end."""

    def __init__(self, cluster: Cluster, length: int):
        self.cluster = cluster
        self.length = length
        self.texts = [""] * STREAMS
        self.errors = []
        self.begun = queue.Queue()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(STREAMS)]
        for thread in self.threads:
            thread.start()
        for _ in range(STREAMS):
            self.begun.get(timeout=120)

    def run(self, index: int) -> None:
        body = {"prompt": prompt(index), "ignore_eos": True, **greedy(self.length)}
        try:
            for number, event in enumerate(self.cluster.stream("/v1/completions", body)):
                self.texts[index] += "".join(choice.get("text", "") for choice in event.get("choices", []))
                if event.get("error"):
                    self.errors.append(event["error"])
                if number == 3:
                    self.begun.put(index)
        except (OSError, AssertionError) as error:
            self.errors.append(error)
            self.begun.put(index)

    def running(self) -> int:
        return sum(thread.is_alive() for thread in self.threads)

    def join(self) -> list[str]:
        for thread in self.threads:
            thread.join(240)
        return self.texts


class PlanChangeTest(unittest.TestCase):
    def test_streams_go_on_under_every_plan(self):
        with Cluster(TINY, npu="cpu", gpu=GPU, plan="npu") as c:
            whole = {length: [c.complete(prompt(i), ignore_eos=True, **greedy(length))["choices"][0]["text"] for i in range(STREAMS)]
                     for length in (LONG, SHORT)}
            for name, length, workers in (("split", LONG, {"npu0", "gpu0"}), ("hybrid", LONG, {"npu0", "gpu0"}), ("gpu", SHORT, {"gpu0"}), ("layers:5,3", SHORT, {"npu0", "gpu0"}),
                                          ("npu", SHORT, {"npu0"})):
                streams = Streams(c, length)
                self.assertGreater(streams.running(), 0, "nothing runs any more when the plan changes")
                changed = c.tandem("plan", name)
                self.assertEqual((changed.returncode, changed.stdout, changed.stderr), (0, f"plan {name}\n", ""))
                self.assertEqual(streams.join(), whole[length], f"text across the change to {name}")
                self.assertEqual(streams.errors, [])
                status = c.status()
                self.assertEqual(status["plan"], name.split(":")[0])
                self.assertEqual((status["plan_change"]["to"], status["plan_change"]["state"]), (name, "done"))
                self.assertEqual({w["name"] for w in status["workers"] if w["connected"]}, workers)
                self.assertEqual({s["worker"] for s in status["stages"]}, workers)
                self.assertEqual(status["recoveries"], "0", "a planned change is no recovery")

    def test_what_cannot_be_is_refused_and_nothing_changes(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            generation = c.status()["detail"]
            for name, expected in (("fastest", "found 'fastest'"), ("split", "expected a worker of role 'gpu'"), ("layers:1,2", "8 layers"), ("", "found none")):
                refused = c.tandem("plan", name)
                self.assertEqual(refused.returncode, 1, name)
                self.assertIn(expected, refused.stderr)
            self.assertEqual(c.tandem("plan", "npu").returncode, 0, "what is there already is no change")
            self.assertEqual(c.status()["detail"], generation)

    def test_a_worker_that_is_stopped_leaves_the_plan_as_it_is(self):
        with Cluster(TINY, npu="cpu", gpu=GPU, plan="gpu") as c:
            # Both workers are up now, and one has no part any more.
            self.assertEqual(c.tandem("plan", "npu").returncode, 0)
            os.kill(c.pids["gpu0"], signal.SIGSTOP)
            try:
                streams = Streams(c, LONG)
                refused = c.tandem("plan", "gpu")
                self.assertEqual(refused.returncode, 1)
                self.assertIn("worker gpu0", refused.stderr)
                self.assertIn("the plan stays npu", refused.stderr)
                streams.join()
                self.assertEqual(streams.errors, [])
                self.assertEqual(c.status()["plan"], "npu")
            finally:
                os.kill(c.pids["gpu0"], signal.SIGCONT)
            self.assertEqual(c.tandem("plan", "gpu").returncode, 0)


class AutoPlanTest(unittest.TestCase):
    def report(self, cluster: Cluster) -> dict:
        shown = cluster.tandem("status", "--plan", "--json")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        return json.loads(shown.stdout)

    def check_stages(self, report: dict) -> None:
        """Each worker has timed every kind of stage, more tokens take longer, and what both do at once was looked at."""
        self.assertEqual([w["worker"] for w in report["workers"]], [w["first"] for w in report["pairs"]] + [w["second"] for w in report["pairs"]])
        for worker in report["workers"]:
            self.assertEqual(worker["error"], "")
            self.assertEqual({s["kind"] for s in worker["stages"]},
                             {"embed", "local attention", "global attention", "ffn", "local attend", "global attend", "head", "submission",
                              "begin"})
            ffn = {s["tokens"]: s["seconds"] for s in worker["stages"] if s["kind"] == "ffn"}
            self.assertGreater(ffn[max(ffn)], min(ffn.values()))
            self.assertGreater(max(ffn), 1)
        self.assertGreaterEqual(report["pairs"][0]["slowdown"], 1)

    def test_the_fastest_plan_is_taken_and_kept(self):
        with Cluster(TINY, npu="cpu", gpu=GPU) as c:
            report = self.report(c)
            trials = {t["plan"]: t for t in report["trials"]}
            self.assertEqual(list(trials), ["split", "gpu", "npu", "hybrid", "layers:2,6", "layers:4,4", "layers:6,2"])
            for trial in trials.values():
                self.assertEqual(trial["error"], "", trial)
                self.assertGreater(trial["predicted_decode_seconds"], 0, trial)
            tried = [t for t in trials.values() if t["decode_seconds"] > 0]
            fastest = min(tried, key=lambda t: t["usual_seconds"])["plan"]
            self.assertEqual((report["chosen"], report["plan"].split(":")[0]), (fastest, fastest.split(":")[0]))
            self.assertFalse(report["kept"])
            self.check_stages(report)
            table = c.tandem("status", "--plan").stdout
            self.assertIn("tried at this start", table)
            if any("llvmpipe" in t["devices"] for t in report["trials"]):
                self.assertEqual(fastest, "npu", "the CPU device is faster than a software driver")
                self.assertEqual(trials["gpu"]["decode_seconds"], 0, "a plan that is far behind is not brought up to find that out")
                self.assertRegex(table, r"because  npu \(npu0 CPU .*gpu \(gpu0 llvmpipe.*\) would take [0-9.e+]+ times as long, by the times of its stages")
            self.assertEqual(c.status()["requests_total"], "0")
            c.complete("Hello", **greedy(8))
            steps = {s["prefill"]: s for s in self.report(c)["steps"]}
            self.assertGreater(int(steps[False]["steps"]), 7)
            for step in steps.values():
                self.assertGreater(step["measured_seconds"], 0)
                self.assertGreater(step["predicted_seconds"], 0)
            self.assertRegex(c.tandem("status", "--plan").stdout, r"decode +1 tokens: [0-9.]+ ms, predicted [0-9.]+ \([-+]\d+ %\)")
            self.assertEqual(c.tandem("down").returncode, 0)
            self.assertEqual(c.up().returncode, 0)
            again = self.report(c)
            self.assertTrue(again["kept"])
            self.assertEqual((again["chosen"], again["trials"]), (report["chosen"], report["trials"]))
            self.assertEqual([w["stages"] for w in again["workers"]], [w["stages"] for w in report["workers"]])
            self.assertTrue(all(w["kept"] for w in again["workers"]))
            self.assertIn("tried at an earlier start", c.tandem("status", "--plan").stdout)

    def test_where_nothing_was_tried_it_says_so(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            self.assertIn("no plans were compared", c.tandem("status", "--plan").stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
