"""Whole clusters with `--npu xrt`: the npu-worker runs in the Debian 13 root on unmodified XRT over the stand-in for the kernel driver, and the
gpu-worker of the ordinary build beside it on lavapipe of unmodified Mesa 26, which imports the NPU's memory; the loader, the gateway and `tandem`
are those of the ordinary build outside it. They meet at sockets in a folder that both see.

tools/run_npu_tests.sh runs it: TANDEM_BIN names the ordinary build's programs, TANDEM_NPU_BUILD the build folder inside the root. Tests named as
arguments (PlansTest.test_doctor) run alone. Standard library only.
"""
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))

import cluster  # noqa: E402
from cluster import GOLDEN, GPU, Cluster, greedy  # noqa: E402

BUILD = pathlib.Path(os.environ["TANDEM_NPU_BUILD"]).resolve()
ORDINARY = cluster.BIN
TINY = GOLDEN / "tiny"
DEMO = ROOT / "models/demo/tandem-demo-Q8_0.gguf"
PROMPTS = ["Hello", "The creature opened the window and looked at the", "naïve café — 日本語 🙂 "]
LENGTH = 40

# Takes the place of tandem-npu-worker: the real one in the root. Each start takes one line of the folder's `faults`, if there is one.
WORKER = f"""#!/usr/bin/env bash
set -euo pipefail
cd {str(ROOT)!r}
folder=$XDG_RUNTIME_DIR
if [ -s "$folder/faults" ]; then
  FAKE_AMDXDNA_FAULTS=$(head -1 "$folder/faults")
  sed -i 1d "$folder/faults"
  export FAKE_AMDXDNA_FAULTS
fi
export TANDEM_NPU_SHARE=$folder
exec tools/npu_root.sh run tests/fake_amdxdna/with_fake_npu.sh {str(BUILD / "tests/libfake_amdxdna.so")!r} {str(BUILD / "bin/tandem-npu-worker")!r} "$@"
"""


def gpu_worker(own):
    """Takes the place of tandem-gpu-worker: that of the ordinary build, in `own` with its libraries, in the root. The stand-in says of the memory that
    it exported, and of nothing else, that it is a dma-buf."""
    return f"""#!/usr/bin/env bash
set -euo pipefail
if [ -n "${{OUTSIDE_THE_ROOT:-}}" ]; then exec {str(own / "tandem-gpu-worker")!r} "$@"; fi
cd {str(ROOT)!r}
export TANDEM_NPU_SHARE=$XDG_RUNTIME_DIR
exec tools/npu_root.sh run env LD_LIBRARY_PATH={str(own)!r} LD_PRELOAD={str(BUILD / "tests/libfake_amdxdna.so")!r} {str(own / "tandem-gpu-worker")!r} "$@"
"""


programs = None


def copy_with_libraries(program, folder):
    """The program, and of what it links the libraries that the root has not: mostly gRPC's, in another version there."""
    folder.mkdir()
    shutil.copy(program, folder)
    root = pathlib.Path(os.environ.get("TANDEM_NPU_ROOT", ROOT / "build/npu-root"))
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for name, path in re.findall(r"^\s*(\S+) => (/\S+)", linked, re.MULTILINE):
        if not any((root / place / name).exists() for place in ("usr/lib/x86_64-linux-gnu", "usr/lib")):
            shutil.copy(path, folder / name)


def setUpModule():
    global programs
    programs = tempfile.TemporaryDirectory(dir=BUILD)
    cluster.BIN = pathlib.Path(programs.name)
    for program in ("tandem", "tandem-gateway", "tandem-loader"):
        # A program finds the others beside itself: a link to its file would lead it to where that one lies.
        shutil.copy(ORDINARY / program, cluster.BIN)
    copy_with_libraries(ORDINARY / "tandem-gpu-worker", cluster.BIN / "own")
    write_program(cluster.BIN / "tandem-gpu-worker", gpu_worker(cluster.BIN / "own"))
    write_program(cluster.BIN / "tandem-npu-worker", WORKER)


def write_program(path, text):
    path.write_text(text)
    path.chmod(0o755)


def tearDownModule():
    programs.cleanup()


def npu_cluster(model, faults=(), npu_model="phoenix", npu="xrt", **environment_and_flags):
    environment = {k: v for k, v in environment_and_flags.items() if k.isupper()}
    flags = {k: v for k, v in environment_and_flags.items() if not k.isupper()}
    c = Cluster(model, npu=npu, **flags)
    c.environment |= {"FAKE_AMDXDNA_MODEL": npu_model, "TANDEM_NPU_KERNELS": str(BUILD / "tests/npu_packages"), **environment}
    (c.folder / "faults").write_text("".join(f + "\n" for f in faults))
    return c


def all_logs(c):
    return "".join(log.read_text(errors="replace") for log in sorted((c.folder / "tandem/default/logs").glob("*.log")))


# Of log probabilities. Float sums of whole rows differ in their last bits from device to device, and once in a while one of them rounds an activation
# to the next int8: that moves a log probability by a few hundredths, more than lies between some tokens of the tiny random model.
TIE = 0.05


class Tokens:
    """An answer's tokens. Two answers are equal up to a tie, behind which texts may part."""

    def __init__(self, logprobs):
        self.tokens = logprobs["tokens"]
        self.best = logprobs["top_logprobs"]

    def __eq__(self, other):
        for mine, others, best in zip(self.tokens, other.tokens, other.best):
            if mine != others:
                return mine in best and best[others] - best[mine] < TIE
        return len(self.tokens) == len(other.tokens)

    def __repr__(self):
        return repr(self.tokens)


def tokens(c, prompt, length):
    return Tokens(c.complete(prompt, **greedy(length), logprobs=3)["choices"][0]["logprobs"])


class Expected:
    """What a program answers with the CPU device in the NPU's place, once for all tests that ask."""
    lock = threading.Lock()
    answers: dict[str, concurrent.futures.Future] = {}

    @classmethod
    def of(cls, model, prompts, length, **settings):
        key = repr((model, prompts, length, sorted(settings.items())))
        with cls.lock:
            mine = key not in cls.answers
            answer = cls.answers.setdefault(key, concurrent.futures.Future())
        if mine:
            try:
                with npu_cluster(model, npu="cpu", **settings) as c:
                    answer.set_result([tokens(c, p, length) for p in prompts])
            except BaseException as error:
                answer.set_exception(error)
        return answer.result()


class PlansTest(unittest.TestCase):
    # Under auto each device takes its own: the XRT device int8, the CPU device float32.
    PLANS = {"npu": {"gpu": "none", "plan": "npu", "activations": "int8"}, "split": {"gpu": GPU, "plan": "split", "activations": "auto"},
             "hybrid": {"gpu": GPU, "plan": "hybrid", "activations": "auto"}}

    def check(self, model, prompts, length, plan, npu_model, edges=frozenset({"dma-buf"}), quant="int8", **environment):
        settings = {**self.PLANS[plan], "quant": quant}
        # The same program with the CPU device in the NPU's place. Built by another compiler, with another C library, it would have other last bits.
        expected = Expected.of(model, prompts, length, **settings)
        with npu_cluster(model, npu_model=npu_model, **settings, **environment) as c:
            status = c.status()
            self.assertEqual(status["plan"], plan)
            npu = next(w for w in status["workers"] if w["name"] == "npu0")
            self.assertEqual(npu["device_kind"], "xrt")
            self.assertIn("stand-in for the kernel driver", npu["device_name"], "nobody takes it for an NPU")
            self.assertIn("stand-in for the kernel driver", c.tandem("status").stdout)
            if plan != "npu":
                self.assertEqual({e["kind"] for e in status["edges"]}, edges)
            self.assertEqual([tokens(c, p, length) for p in prompts], expected)
            self.check_parts(c, plan)
            return all_logs(c), status

    def check_parts(self, c, plan):
        """Status says what the host computes of the NPU's stages, and what the NPU does, with the time of each."""
        def npu():
            return next(w for w in c.status()["workers"] if w["name"] == "npu0")
        facts = {f["name"]: f["value"] for f in npu()["device_facts"]}
        self.assertRegex(facts["generation"], r"^AIE2P?, [48] columns of 4 cores$")
        self.assertRegex(facts["firmware"], r"^1\.\d\.\d\.\d+$")
        self.assertIn("stand-in", facts["kernel driver"])
        self.assertRegex(facts["weights in the array's order"], r"^\d+ of at most \d+ MiB$")
        self.assertEqual(facts["memory of weights"], "the worker's, pinned by the driver")
        # Under hybrid attention is the GPU's.
        wanted = {part: "host" for part in ("attention", "norms", "packing activations")[plan == "hybrid":]} | {"matrix products": "NPU"}
        # The gateway asks the worker now and then, it may be within a step: a later answer has the new times.
        deadline = time.monotonic() + 30
        while True:
            parts = {p["name"]: p for p in npu()["device_parts"]}
            without = [part for part in wanted if parts[part]["seconds"] <= 0]
            if not without:
                break
            self.assertLess(time.monotonic(), deadline, f"parts without time: {without}")
        self.assertEqual({part: parts[part]["where"] for part in wanted}, wanted)
        self.assertIn("on the NPU: matrix products", c.tandem("status").stdout)

    def test_doctor(self):
        c = npu_cluster(TINY)
        try:
            text = c.tandem("doctor").stdout
        finally:
            shutil.rmtree(c.folder, ignore_errors=True)
        self.assertRegex(text, r"NPU Phoenix \(stand-in for the kernel driver\) at 0000:c5:00.1, AIE2, 4 columns of 4 cores, XRT 2\.\d+, amdxdna stand-in")
        self.assertIn("firmware 1.5.5.391", text)
        self.assertIn("for weights in the array's order", text)

    def test_demo_model_under_hybrid_on_strix(self):
        self.check(DEMO, ["What is 12 + 30?"], 8, "hybrid", "strix", quant="int4")

    def test_demo_model_under_npu_on_strix(self):
        self.check(DEMO, ["What is 12 + 30?"], 8, "npu", "strix", quant="int4")

    def test_tiny_under_npu(self):
        self.check(TINY, PROMPTS, 12, "npu", "phoenix")

    def test_tiny_under_hybrid(self):
        self.check(TINY, PROMPTS, 12, "hybrid", "phoenix")

    def test_demo_model_under_split(self):
        _, status = self.check(DEMO, ["What is 12 + 30?", "What is the capital of France?"], 8, "split", "phoenix")
        (gpu,) = [w for w in status["workers"] if w["name"] == "gpu0"]
        self.assertIn("Mesa 26", gpu["driver"], "the NPU's memory is imported by an unmodified driver")
        (npu,) = [w for w in status["workers"] if w["name"] == "npu0"]
        self.assertIn({"name": "memory of edges", "value": "the driver's, exported as dma-buf"}, npu["device_facts"])

    def test_auto_compares_every_plan(self):
        """What both measure is believed as it is: over the stand-in it says nothing of an NPU, and the table says whose times these are."""
        with npu_cluster(TINY, gpu=GPU, quant="int8", activations="auto") as c:
            report = json.loads(c.tandem("status", "--plan", "--json").stdout)
            self.assertEqual([(w["worker"], w["error"]) for w in report["workers"]], [("npu0", ""), ("gpu0", "")])
            trials = {t["plan"]: t for t in report["trials"]}
            for plan in ("split", "gpu", "npu", "hybrid"):
                self.assertEqual(trials[plan]["error"], "", plan)
                self.assertGreater(trials[plan]["predicted_decode_seconds"], 0, plan)
            tried = [t for t in trials.values() if t["decode_seconds"] > 0]
            self.assertEqual(report["chosen"], min(tried, key=lambda t: t["usual_seconds"])["plan"])
            self.assertIn("stand-in for the kernel driver", report["reason"])
            self.assertEqual(report["pairs"][0]["edge_kind"], "dma-buf")
            self.assertEqual(len(c.complete(PROMPTS[0], **greedy(4))["choices"]), 1)

    def test_split_with_a_gpu_that_imports_no_dma_buf(self):
        logs, _ = self.check(TINY, PROMPTS, 12, "split", "phoenix", edges={"host-pointer"}, OUTSIDE_THE_ROOT="1")
        self.assertRegex(logs, 'gpu-worker info  device "llvmpipe.*": memory of other processes: host-pointer .imports')

    def test_split_with_a_driver_that_exports_nothing(self):
        logs, status = self.check(TINY, PROMPTS, 12, "split", "phoenix", edges={"host-pointer"},
                                  FAKE_AMDXDNA_FAULTS="export 1 refused")
        (npu,) = [w for w in status["workers"] if w["name"] == "npu0"]
        (memory,) = [f["value"] for f in npu["device_facts"] if f["name"] == "memory of edges"]
        self.assertRegex(memory, "^host memory only: NPU: exporting a buffer")

    def test_split_where_an_edge_gets_none_of_the_drivers_memory(self):
        # The first export is the trial of the device's opening.
        logs, _ = self.check(TINY, PROMPTS, 12, "split", "phoenix", edges={"dma-buf", "host-pointer"},
                             FAKE_AMDXDNA_FAULTS="export 2 refused")
        self.assertRegex(logs, "edge [a-z0-9>]+: dma-buf does not work here: .*exporting a buffer")


class FaultsTest(unittest.TestCase):
    """The table of docs/npu.md: what breaks while the cluster serves."""

    def check(self, faults, expected, restarts, plan="npu", gpu="none"):
        """Each start of the npu-worker takes the next line of faults; the one behind the last line breaks nothing. Faults come while requests run, and every
        request gets the text of one that nothing happened to."""
        body = {"prompt": PROMPTS[1], "ignore_eos": True, **greedy(LENGTH)}
        with npu_cluster(TINY, faults, plan=plan, gpu=gpu, quant="int8", activations="auto") as c:
            texts = [c.complete(**body)["choices"][0]["text"]]
            c.read_state()
            self.assertGreaterEqual(int(c.status()["recoveries"]), 1, "the first fault came while a request ran")
            texts += [c.complete(**body)["choices"][0]["text"] for _ in faults[1:]]
            logs = "".join((c.folder / "tandem/default/logs" / name).read_text() for name in ("npu0.log", "gateway.log"))
            for text in expected:
                self.assertIn(text, logs)
            self.assertEqual((c.folder / "faults").read_text(), "", "every fault had its start")
            text = c.complete(**body)["choices"][0]["text"]
            self.assertEqual(texts, [text] * len(texts))
            c.read_state()
            self.assertEqual(c.restarts["npu0"], restarts)

    def test_one_fault_after_another(self):
        # The last two come while it starts again: no context, with which the process ends, and no memory for a buffer, so that Prepare is asked again. One
        # refusal of memory to be pinned would only have it taken from the driver.
        self.check(["exec 200 timeout", "exec 200 error", "exec 200 vanish", "exec 200 lost", "create_hwctx 1 nomem",
                    "create_bo 30 nomem, create_bo 31 nomem"],
                   ["the command did not end and the driver reset it", "the command failed with state", "the device is lost, nothing more can be served",
                    "the command was aborted, its context is lost", "NPU: opening", "Cannot allocate memory"], 5)

    def test_a_lost_context_under_split(self):
        self.check(["exec 100 lost"], ["the command was aborted, its context is lost"], 1, plan="split", gpu=GPU)

    def test_a_lost_context_under_hybrid(self):
        self.check(["exec 10 lost"], ["the command was aborted, its context is lost"], 1, plan="hybrid", gpu=GPU)


class StartTest(unittest.TestCase):
    """What is wrong from the start ends it, with one line that says what."""

    def start(self, faults=(), **flags):
        c = npu_cluster(TINY, faults, gpu="none", quant="int8", activations=flags.pop("activations", "int8"), **flags)
        try:
            result = c.up()
            self.assertEqual(result.returncode, 1, result.stdout)
            lines = [line for line in result.stderr.splitlines() if line]
            self.assertEqual(len(lines), 1, result.stderr)
            return lines[0]
        finally:
            shutil.rmtree(c.folder, ignore_errors=True)

    def test_old_firmware(self):
        self.assertIn("expected firmware 1.5.2.380 or newer, found 1.4.0.1", self.start(FAKE_AMDXDNA_FIRMWARE="1.4.0.1"))

    def test_no_context(self):
        self.assertIn("NPU: opening", self.start(["create_hwctx 1 nomem"]))

    def test_no_memory(self):
        self.assertIn("NPU: allocating", self.start([", ".join(f"create_bo {n} nomem" for n in range(30, 1000))]))

    def test_a_device_that_is_gone(self):
        self.assertIn("No such device", self.start(["ioctl 1 vanish"]))

    def test_activations_that_the_npu_does_not_take(self):
        self.assertIn("--activations=int8 or auto", self.start(activations="float32"))


# Most of a test is waiting for programs that start: this many run side by side.
TOGETHER = 2


def run_one(test):
    """What a test came to: lines to print, and whether it went well."""
    started = time.monotonic()
    result = unittest.TestResult()
    try:
        test.run(result)
        problems = [text for _, text in result.errors + result.failures]
    except BaseException:
        problems = [traceback.format_exc()]
    name = test.id().removeprefix("__main__.")
    line = f"{'FAILED' if problems else 'ok':6} {time.monotonic() - started:6.1f} s  {name}"
    return "\n".join([line, *problems]), not problems


def main(names):
    suite = unittest.defaultTestLoader.loadTestsFromNames(names or [c.__name__ for c in (PlansTest, FaultsTest, StartTest)], sys.modules[__name__])
    tests = list(flat(suite))
    if not tests:
        sys.exit("no tests")
    setUpModule()
    try:
        with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
            runs = [pool.submit(run_one, test) for test in tests]
            well = []
            for run in concurrent.futures.as_completed(runs):
                text, good = run.result()
                print(text, flush=True)
                well.append(good)
    finally:
        tearDownModule()
    print(f"{sum(well)} of {len(well)} tests passed")
    sys.exit(0 if all(well) else 1)


def flat(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


if __name__ == "__main__":
    main(sys.argv[1:])
