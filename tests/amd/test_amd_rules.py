"""The whole cluster under the rules of AMD's kernel driver: every plan serves, and nothing is copied.

lavapipe of Mesa 25 imports dma-bufs; a Vulkan layer of ours makes it refuse what amdgpu refuses; a stand-in makes dma-bufs of memfds as
/dev/udmabuf does. Mesa is unpacked below the build folder, beside the system's.
"""
import os
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))
from cluster import GOLDEN, Cluster, greedy  # noqa: E402

BUILD = pathlib.Path(os.environ.get("TANDEM_BUILD", ROOT / "build/release"))
MESA = ROOT / "build/mesa"
TINY = GOLDEN / "tiny"
DEMO = ROOT / "models/demo/tandem-demo-Q8_0.gguf"
PROMPTS = ["Hello", "The creature opened the window and looked at the"]
PLANS = {
    "gpu": {"gpu": "llvmpipe", "npu": "none"},
    "npu": {"npu": "cpu", "gpu": "none"},
    "split": {"npu": "cpu", "gpu": "llvmpipe"},
    "layers:3,5": {"npu": "none", "gpu": "llvmpipe,llvmpipe"},
}


def rules(icd: str, limit_mb: int, udmabuf: bool = True) -> dict[str, str]:
    """The environment of a machine with that driver."""
    settings = {
        "VK_ICD_FILENAMES": icd,
        "VK_DRIVER_FILES": icd,
        "LD_LIBRARY_PATH": str(MESA / "tree/usr/lib/x86_64-linux-gnu"),
        "VK_LAYER_PATH": str(BUILD / "amd/layers"),
        "VK_INSTANCE_LAYERS": "VK_LAYER_TANDEM_amd_rules",
        "TANDEM_AMD_LIMIT_MB": str(limit_mb),
        "TANDEM_AMD_RULES": "1",
    }
    if udmabuf:
        settings["LD_PRELOAD"] = str(BUILD / "amd/libudmabuf_standin.so")
        settings["TANDEM_STANDIN_LIMIT_MB"] = str(limit_mb)
    return settings


class AmdCluster(Cluster):
    def __init__(self, model, settings: dict[str, str], **flags):
        super().__init__(model, **flags)
        self.environment.update(settings)


def imports(status: dict, worker: str) -> set[str]:
    (entry,) = [w for w in status["workers"] if w["name"] == worker]
    return {line.split(": ", 1)[1] for line in entry["weight_imports"]}


class AmdRulesTest(unittest.TestCase):
    icd = ""
    answers: list[list[str]] = []

    def run_plan(self, plan: str, model=TINY, limit_mb: int = 1) -> dict:
        with AmdCluster(model, rules(self.icd, limit_mb), plan=plan, **PLANS[plan]) as c:
            status = c.status()
            for worker in status["workers"]:
                expected = "dma-buf" if worker["device_kind"] == "vulkan" else "mapped"
                self.assertEqual(imports(status, worker["name"]), {expected})
                if worker["device_kind"] == "vulkan":
                    self.assertIn("Mesa 25", worker["driver"])
            kinds = {e["kind"] for e in status["edges"]}
            self.assertEqual(kinds, set() if plan in ("gpu", "npu") else {"dma-buf"})
            answer = [c.complete(p, **greedy(12))["choices"][0]["text"] for p in PROMPTS]
            if model is TINY:
                self.answers.append(answer)
                self.assertEqual(answer, self.answers[0])
            return status

    def test_gpu(self):
        self.run_plan("gpu")

    def test_npu(self):
        self.run_plan("npu")

    def test_split(self):
        self.run_plan("split")

    def test_layers(self):
        self.run_plan("layers:3,5")

    def test_regions_larger_than_a_window(self):
        self.run_plan("gpu", model=DEMO, limit_mb=2)

    def test_inline_where_it_is_asked_for(self):
        with AmdCluster(TINY, rules(self.icd, 1), plan="split", edge_kinds="inline", **PLANS["split"]) as c:
            self.assertEqual({e["kind"] for e in c.status()["edges"]}, {"inline"})
            c.complete(PROMPTS[0], **greedy(4))

    def test_without_udmabuf_it_says_what_to_do_and_copies_only_when_asked(self):
        cluster = AmdCluster(TINY, rules(self.icd, 1, udmabuf=False), plan="gpu", **PLANS["gpu"])
        with self.assertRaises(AssertionError) as failure:
            cluster.__enter__()
        self.assertIn("/dev/udmabuf", str(failure.exception))
        self.assertIn("upload", str(failure.exception))
        with AmdCluster(TINY, rules(self.icd, 1, udmabuf=False), plan="gpu", gpu_weights="upload", **PLANS["gpu"]) as c:
            self.assertEqual(imports(c.status(), "gpu0"), {"upload as asked for"})


class AmdConformanceTest(unittest.TestCase):
    icd = ""

    def test_the_device_passes_its_suite(self):
        program = BUILD / "tests/vulkan_conformance_test"
        result = subprocess.run([str(program), "--gtest_filter=*Residual*:*Shared*:*Import*:*Memory*"], cwd=ROOT,
                                env={**os.environ, **rules(self.icd, 64)}, capture_output=True, text=True, timeout=600)
        self.assertEqual(result.returncode, 0, result.stdout[-4000:] + result.stderr[-2000:])
        self.assertIn("OutputsAreInTheSharedPages_dmabuf", result.stdout)
        self.assertIn("Mesa 25", result.stdout)


def main() -> int:
    fetched = subprocess.run([str(ROOT / "tools/fetch_mesa.sh"), str(MESA)], capture_output=True, text=True, timeout=600)
    if fetched.returncode != 0:
        print(f"NOT RUN: {fetched.stderr.strip()}\nNOT RUN: nothing was shown about the rules of AMD's driver", file=sys.stderr)
        return 77 if fetched.returncode == 3 else 1
    AmdRulesTest.icd = AmdConformanceTest.icd = fetched.stdout.strip()
    program = unittest.main(verbosity=2, exit=False)
    return 0 if program.result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
