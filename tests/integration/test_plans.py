"""All plans give the same tokens, devices are named truly, and activations cross without a copy."""
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

    def test_layers(self):
        self.run_plan("layers:3,5")

    def test_gpu_with_uploaded_weights(self):
        self.run_plan("gpu", gpu_weights="upload")

    def test_split_inline(self):
        self.run_plan("split", edge_kinds="inline")


class ManyAtOnceTest(unittest.TestCase):
    def test_many_requests_at_a_time_give_what_each_gives_alone(self):
        import concurrent.futures
        with Cluster(TINY, plan="split", **PLANS["split"]) as c:
            prompts = [f"{i} The creature opened the window" for i in range(12)]
            alone = [c.complete(p, **greedy(10))["choices"][0]["text"] for p in prompts]
            with concurrent.futures.ThreadPoolExecutor(12) as pool:
                together = list(pool.map(lambda p: c.complete(p, **greedy(10))["choices"][0]["text"], prompts))
            self.assertEqual(alone, together)


if __name__ == "__main__":
    unittest.main(verbosity=2)
