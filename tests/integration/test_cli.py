"""The tandem command as a person uses it."""
import os
import pathlib
import select
import signal
import subprocess
import tempfile
import unittest

from cluster import BIN, GOLDEN, Cluster

TINY = GOLDEN / "tiny"


class CliTest(unittest.TestCase):
    def test_one_life(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            self.assertIn("ready: HTTP", c.start_output)
            status = c.tandem("status").stdout
            for expected in ("plan     npu", "cpu:", "npu0", "loader", "gateway", c.http, c.grpc):
                self.assertIn(expected, status)
            self.assertEqual(c.status()["state"], "ready")
            chat = c.tandem("chat", "--once", "Hello", "--max_tokens", "8", "--temperature", "0")
            self.assertEqual(chat.returncode, 0, chat.stderr)
            self.assertRegex(chat.stderr, r"\[8 tokens, first after \d+ ms, [\d.]+ tok/s\]")
            ids = c.tandem("tokenize", text="naïve café 🙂")
            self.assertEqual(ids.returncode, 0, ids.stderr)
            self.assertEqual(c.tandem("tokenize", "--decode", text=ids.stdout).stdout, "naïve café 🙂")
            self.assertNotEqual(c.tandem("tokenize", "--decode", text="12 x").returncode, 0)
            again = c.up()
            self.assertEqual(again.returncode, 1)
            self.assertIn("is running already", again.stderr)
            down = c.tandem("down")
            self.assertEqual(down.returncode, 0, down.stderr)
            gone = c.tandem("status")
            self.assertEqual(gone.returncode, 1)
            self.assertIn("no cluster 'default' is running", gone.stderr)
            for pid in c.pids.values():
                self.assertFalse(pathlib.Path(f"/proc/{pid}").exists(), "a process outlived the cluster")

    def test_interactive_chat_remembers(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            chat = c.tandem("chat", "--max_tokens", "4", "--temperature", "0", text="Hello\nAgain\n/reset\nHello\n/quit\n")
            self.assertEqual(chat.returncode, 0, chat.stderr)
            answers = [line for line in chat.stdout.split("> ")[1:] if line.strip()]
            self.assertEqual(len(answers), 3)
            self.assertEqual(answers[0], answers[2], "after /reset the first answer comes again")

    def test_two_clusters_side_by_side(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            blue = c.tandem("up", "--detach", "--cluster=blue", f"--model={TINY}", "--npu=cpu", "--gpu=none", "--http=127.0.0.1:0", "--grpc=127.0.0.1:0")
            self.assertEqual(blue.returncode, 0, blue.stderr)
            self.assertEqual(c.tandem("down", "--cluster=blue").returncode, 0)
            self.assertEqual(c.tandem("status", "--cluster=blue").returncode, 1)
            self.assertEqual(c.status()["state"], "ready", "the other cluster is untouched")

    def test_foreground_stops_on_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            c = Cluster(TINY)
            process = subprocess.Popen([str(BIN / "tandem"), "up", f"--model={TINY}", "--npu=cpu", "--gpu=none", "--http=127.0.0.1:0", "--grpc=127.0.0.1:0"],
                                       env=c.environment, stdout=subprocess.PIPE)
            output = b""
            while b"ready: HTTP" not in output:
                self.assertTrue(select.select([process.stdout], [], [], 120)[0], output)
                part = os.read(process.stdout.fileno(), 65536)
                self.assertTrue(part, (output, c.logs()))
                output += part
            c.read_state()
            process.send_signal(number)
            self.assertEqual(process.wait(60), 0)
            process.stdout.close()
            for pid in c.pids.values():
                self.assertFalse(pathlib.Path(f"/proc/{pid}").exists())

    def test_children_die_with_a_killed_supervisor(self):
        c = Cluster(TINY, npu="cpu", gpu="none")
        with c:
            supervisor = c.read_state()["supervisor_pid"]
            descriptors = [os.pidfd_open(pid) for pid in c.pids.values()]
            os.kill(supervisor, signal.SIGKILL)
            for descriptor in descriptors:
                self.assertTrue(select.select([descriptor], [], [], 60)[0], "a process outlived its supervisor")
                os.close(descriptor)
            self.assertEqual(c.tandem("status").returncode, 1)

    def test_version_help_and_unknown_words(self):
        c = Cluster(TINY)
        self.assertRegex(c.tandem("version").stdout, r"^tandem \d+\.\d+\.\d+\n$")
        self.assertIn("--model", c.tandem("--help").stdout)
        self.assertEqual(c.tandem("fly").returncode, 1)
        self.assertIn("unknown command 'fly'", c.tandem("fly").stderr)
        self.assertIn("expected a command", c.tandem().stderr)
        self.assertNotEqual(c.tandem("up", "--no_such_flag").returncode, 0)

    def test_doctor(self):
        result = Cluster(TINY).tandem("doctor")
        self.assertEqual(result.returncode, 0, result.stderr)
        for expected in ("GPU (gpu-worker, Vulkan)", "NPU (npu-worker, XRT)", "Memory", "What would run where", "tandem up --model PATH"):
            self.assertIn(expected, result.stdout)


class StartErrorTest(unittest.TestCase):
    """Each gives one clear line and a failing exit code, also with --detach."""

    def start(self, model, **flags) -> str:
        c = Cluster(model, **flags)
        result = c.up()
        self.assertEqual(result.returncode, 1, result.stdout)
        lines = [line for line in result.stderr.splitlines() if line]
        self.assertEqual(len(lines), 1, result.stderr)
        self.assertEqual(c.tandem("status").returncode, 1, "nothing is left running")
        return lines[0]

    def test_no_such_file(self):
        self.assertIn("'/no/such/model' does not exist", self.start("/no/such/model"))

    def test_broken_model(self):
        with tempfile.TemporaryDirectory() as folder:
            broken = pathlib.Path(folder) / "broken.gguf"
            broken.write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 16)
            self.assertIn("broken.gguf", self.start(broken, npu="cpu", gpu="none"))

    def test_no_such_gpu(self):
        line = self.start(TINY, gpu="Voodoo 2")
        self.assertIn("Voodoo 2", line)

    def test_no_npu_in_this_build(self):
        self.assertIn("XRT", self.start(TINY, npu="xrt", gpu="none"))

    def test_bad_plan(self):
        self.assertIn("--plan", self.start(TINY, plan="zigzag"))
        self.assertIn("layers", self.start(TINY, npu="cpu", gpu="none", plan="layers:3,4"))

    def test_public_address_without_a_key(self):
        self.assertIn("API key", self.start(TINY, npu="cpu", gpu="none", http="0.0.0.0:0").replace("api key", "API key"))

    def test_quant_that_the_model_cannot_hold(self):
        self.assertIn("--quant", self.start(TINY, quant="int3"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
