"""All plans give the same tokens, devices are named truly, and activations cross without a copy."""
import concurrent.futures
import pathlib
import re
import unittest

from cluster import GOLDEN, GPU, Cluster, greedy

TINY = GOLDEN / "tiny"
PROMPTS = ["Hello", "The creature opened the window and looked at the", "naïve café — 日本語 🙂 "]
PLANS = {
    "gpu": {"gpu": GPU},
    "npu": {"npu": "cpu", "gpu": "none"},
    "split": {"npu": "cpu", "gpu": GPU},
    "hybrid": {"npu": "cpu", "gpu": GPU},
    "layers:3,5": {"npu": "none", "gpu": f"{GPU},{GPU}"},
}


def shared_inodes(pid: int) -> set[tuple[str, str]]:
    """(device, inode) of every memfd mapped by a process."""
    found = set()
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
        match = re.match(r"\S+ \S+ \S+ (\S+) (\d+)\s+/memfd:(\S+)", line)
        if match and "edge" in match.group(3):
            found.add((match.group(1), match.group(2)))
    return found


class PlansTest(unittest.TestCase):
    answers: dict[str, list[str]] = {}

    def run_plan(self, plan: str, **more) -> None:
        with Cluster(TINY, plan=plan, **PLANS[plan], **more) as c:
            status = c.status()
            self.assertEqual(status["plan"], plan.split(":")[0])
            kinds = {w["name"]: w["device_kind"] for w in status["workers"]}
            for name, kind in kinds.items():
                self.assertEqual(kind, "cpu" if name.startswith("npu") else "vulkan")
            edges = {e["id"]: e["kind"] for e in status["edges"]}
            if plan in ("gpu", "npu"):
                self.assertEqual(edges, {})
            elif more.get("edge_kinds") == "inline":
                self.assertEqual(set(edges.values()), {"inline"})
            else:
                self.assertLessEqual(set(edges.values()), {"dma-buf", "host-pointer"})
                ends = [shared_inodes(c.pids[name]) for name in kinds]
                self.assertTrue(set.intersection(*ends), "both workers map the very same pages")
            texts = [c.complete(p, **greedy(12), logprobs=0)["choices"][0]["logprobs"]["tokens"] for p in PROMPTS]
            self.answers[plan + str(more)] = texts
            self.assertEqual(texts, next(iter(self.answers.values())), f"plan {plan} {more} against {next(iter(self.answers))}")

    def test_npu(self):
        self.run_plan("npu")

    def test_gpu(self):
        self.run_plan("gpu")

    def test_split(self):
        self.run_plan("split")

    def test_hybrid(self):
        self.run_plan("hybrid")

    def test_hybrid_inline(self):
        self.run_plan("hybrid", edge_kinds="inline")

    def test_layers(self):
        self.run_plan("layers:3,5")

    def test_gpu_with_uploaded_weights(self):
        self.run_plan("gpu", gpu_weights="upload")

    def test_split_inline(self):
        self.run_plan("split", edge_kinds="inline")


class ManyAtOnceTest(unittest.TestCase):
    def test_many_requests_at_a_time_give_what_each_gives_alone(self):
        self.many_at_once("split")

    def test_under_hybrid_too_where_prompts_and_decodes_take_turns(self):
        self.many_at_once("hybrid")

    def many_at_once(self, plan: str) -> None:
        with Cluster(TINY, plan=plan, **PLANS[plan]) as c:
            prompts = [f"{i} The creature opened the window" for i in range(12)]
            alone = [c.complete(p, **greedy(10))["choices"][0]["text"] for p in prompts]
            with concurrent.futures.ThreadPoolExecutor(12) as pool:
                together = list(pool.map(lambda p: c.complete(p, **greedy(10))["choices"][0]["text"], prompts))
            self.assertEqual(alone, together)


class RoutesTest(unittest.TestCase):
    def runs(self, c: Cluster, worker: str) -> dict[str, int]:
        status, page, _ = c.request("GET", f"/metrics/process/{worker}")
        self.assertEqual(status, 200, page)
        return {name: int(runs) for name, runs in re.findall(r'^tandem_stage_runs_total\{.*stage="([^"]+)".*\} (\d+)', page, re.MULTILINE)}

    def test_prompts_go_through_the_npu_and_decode_stays_on_the_gpu(self):
        with Cluster(TINY, plan="hybrid", **PLANS["hybrid"]) as c:
            products = ["prefill qkv 0", *(f"prefill output+ffn+next qkv {i}" for i in range(7)), "prefill output 7+ffn 7"]
            attention = ["prefill embed", *(f"prefill attend {i}" for i in range(8)), "prefill head"]
            whole = "decode embed+layers 0-7+head"
            self.assertEqual([(s["worker"], s["name"]) for s in c.status()["stages"]],
                             [*(("npu0", name) for name in products), *(("gpu0", name) for name in (whole, *attention))])
            self.assertRegex(c.tandem("status").stdout, r"on npu0 .*: prefill qkv 0, prefill output\+ffn\+next qkv 0-6, prefill output 7\+ffn 7\n")
            c.complete(PROMPTS[1], ignore_eos=True, **greedy(12))
            npu, gpu = self.runs(c, "npu0"), self.runs(c, "gpu0")
            # One step for the prompt, which samples the first token, and one for each of the others.
            self.assertEqual(npu, {name: 1 for name in products})
            self.assertEqual(gpu, {whole: 11, **{name: 1 for name in attention}})


if __name__ == "__main__":
    unittest.main(verbosity=2)
