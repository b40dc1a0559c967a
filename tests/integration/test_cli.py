"""The tandem command as a person uses it."""
import concurrent.futures
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from cluster import BIN, GOLDEN, Cluster, greedy

TINY = GOLDEN / "tiny"


def gpu_is_there() -> bool:
    devices = subprocess.run([str(BIN / "tandem-gpu-worker"), "--list_devices"], capture_output=True, text=True).stdout
    return any(line.endswith("\tusable") for line in devices.splitlines())


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
            self.assert_processes(c)
            down = c.tandem("down")
            self.assertEqual(down.returncode, 0, down.stderr)
            gone = c.tandem("status")
            self.assertEqual(gone.returncode, 1)
            self.assertIn("no cluster 'default' is running", gone.stderr)
            for pid in c.pids.values():
                self.assertFalse(pathlib.Path(f"/proc/{pid}").exists(), "a process outlived the cluster")

    def assert_processes(self, c: Cluster) -> None:
        c.read_state()
        listed = {p["name"]: p for p in c.status()["processes"]}
        self.assertEqual({name: p["pid"] for name, p in listed.items()}, c.pids)
        for process in listed.values():
            self.assertEqual((process["state"], process["restarts"]), ("running", 0))
            self.assertTrue(pathlib.Path(process["log"]).exists())

    def test_the_id_of_the_apis_is_shown(self):
        with Cluster(TINY, npu="cpu", gpu="none", model_id="my/model") as c:
            self.assertIn(f"ready: HTTP http://{c.http}/v1, gRPC {c.grpc}, model my/model, logs ", c.start_output)
            self.assertIn("model    my/model (", c.tandem("status").stdout)
            self.assertEqual(c.status()["model"], "my/model")
            self.assertEqual(c.model, "my/model")

    def test_a_key_file_as_people_leave_it(self):
        with tempfile.TemporaryDirectory() as folder:
            key_file = pathlib.Path(folder) / "key"
            key_file.write_bytes(b"# the key of this machine\r\n\r\nsecret\r\nsecond\r\n")
            with Cluster(TINY, npu="cpu", gpu="none", api_key_file=key_file) as c:
                self.assertEqual(c.status()["state"], "ready")
                chat = c.tandem("chat", "--once", "Hello", "--max_tokens", "2")
                self.assertEqual(chat.returncode, 0, chat.stderr)
                for key, expected in (("secret", 200), ("second", 200), ("secretx", 401), ("# the key of this machine", 401)):
                    self.assertEqual(c.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})[0], expected, key)

    def test_more_sequences_than_logit_rows(self):
        with Cluster(TINY, npu="cpu", gpu="none", max_sequences=65, context=64) as c:
            with concurrent.futures.ThreadPoolExecutor(70) as pool:
                answers = list(pool.map(lambda _: c.complete("Hello", **greedy(8))["choices"][0]["text"], range(70)))
            self.assertEqual(len(set(answers)), 1)

    def test_ctrl_c_in_chat_before_the_first_word(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            os.kill(c.pids["npu0"], signal.SIGSTOP)  # no word will come
            chat = subprocess.Popen([str(BIN / "tandem"), "chat"], env=c.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE)
            try:
                chat.stdin.write(b"Hello\n")
                chat.stdin.flush()
                self.wait_for(lambda: c.status()["running"] == 1)
                chat.send_signal(signal.SIGINT)
                self.wait_for(lambda: c.status()["running"] == 0)
                chat.stdin.write(b"/quit\n")
                chat.stdin.flush()
                self.assertEqual(chat.wait(60), 0, "Ctrl-C stopped the answer, not the chat")
                # At the prompt it leaves.
                idle = subprocess.Popen([str(BIN / "tandem"), "chat"], env=c.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                self.read_until(idle.stdout, b"> ")
                idle.send_signal(signal.SIGINT)
                self.assertEqual(idle.wait(60), 0)
                idle.stdin.close()
                idle.stdout.close()
            finally:
                chat.kill()
                chat.communicate()
                os.kill(c.pids["npu0"], signal.SIGCONT)

    def wait_for(self, condition, seconds: float = 60) -> None:
        """The server is asked again and again: there is no event to wait for across processes."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), deadline, "not in time")
            select.select([], [], [], 0.02)

    def read_until(self, stream, text: bytes) -> bytes:
        output = b""
        while text not in output:
            self.assertTrue(select.select([stream], [], [], 120)[0], output)
            part = os.read(stream.fileno(), 65536)
            self.assertTrue(part, output)
            output += part
        return output

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
            self.read_until(process.stdout, b"ready: HTTP")
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
        self.assertIn("tandem up --model PATH", c.tandem("--help").stdout)
        self.assertIn("--model", c.tandem("up", "--help").stdout)
        self.assertIn("--context: expected a value", c.tandem("up", "--context").stderr)
        self.assertIn("unknown flag", c.tandem("down", "--model=x").stderr)
        self.assertEqual(c.tandem("fly").returncode, 1)
        self.assertIn("unknown command 'fly'", c.tandem("fly").stderr)
        self.assertIn("expected a command", c.tandem().stderr)
        self.assertNotEqual(c.tandem("up", "--no_such_flag").returncode, 0)

    def test_doctor(self):
        result = Cluster(TINY).tandem("doctor")
        self.assertEqual(result.returncode, 0, result.stderr)
        for expected in ("GPU (gpu-worker, Vulkan)", "NPU (npu-worker, XRT)", "Memory", "What would run where", "tandem up --model PATH"):
            self.assertIn(expected, result.stdout)
        if not gpu_is_there():
            for expected in ("software, runs only where it is named", "--gpu auto would find none", "tandem up --model PATH --gpu llvmpipe"):
                self.assertIn(expected, result.stdout)


class OtherUserTest(unittest.TestCase):
    """/tmp belongs to everybody: another user may have made our folder there before us."""

    @unittest.skipUnless(os.getuid() == 0, "only root can be two users")
    def test_a_folder_of_another_user_is_not_believed(self):
        victim, attacker = 61001, 61002
        runtime = pathlib.Path(f"/tmp/tandem-{victim}")
        self.assertFalse(runtime.exists())
        with tempfile.TemporaryDirectory() as folder:
            program = pathlib.Path(folder) / "tandem"
            shutil.copy(BIN / "tandem", program)
            for path in (pathlib.Path(folder), program):
                path.chmod(0o755)
            secret = pathlib.Path(folder) / "secret"
            secret.write_text("password\n")
            os.chown(secret, victim, victim)
            listener = socket.create_server(("127.0.0.1", 0))
            decoy = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, user=victim)
            nest = runtime / "default"
            nest.mkdir(parents=True)
            address = "127.0.0.1:%d" % listener.getsockname()[1]
            (nest / "state.json").write_text(json.dumps({"supervisor_pid": decoy.pid, "http": address, "grpc": address, "model": "m", "plan": "npu",
                                                         "api_key_file": str(secret), "processes": []}))
            (nest / "lock").touch()
            for path in (runtime, nest, nest / "state.json", nest / "lock"):
                os.chown(path, attacker, attacker)
                path.chmod(0o777 if path.is_dir() else 0o666)
            holders = []
            try:
                # Whichever lock the program looks at: it is held.
                holders.append(self.hold(nest / "lock", "flock"))
                holders.append(self.hold(nest / "lock", "lockf"))
                environment = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")} | {"HOME": folder}
                for command in (["status"], ["down"], ["chat", "--once", "x"], ["tokenize"], ["up", f"--model={program}"]):
                    result = subprocess.run([str(program), *command], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                            user=victim, group=victim, timeout=60)
                    self.assertEqual(result.returncode, 1, (command, result.stdout))
                    self.assertIn(f"'{runtime}': expected a folder of uid {victim} that nobody else can write to, found one of uid {attacker}",
                                  result.stderr)
                self.assertIsNone(decoy.poll(), "a process that the foreign file named was stopped")
                self.assertFalse(select.select([listener], [], [], 0)[0], "the key went to where the foreign file said")
            finally:
                for process in (decoy, *holders):
                    process.kill()
                    process.communicate()
                listener.close()
                shutil.rmtree(runtime)

    def hold(self, path: pathlib.Path, how: str) -> subprocess.Popen:
        code = f"import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.{how}(f, fcntl.LOCK_EX | fcntl.LOCK_NB); print('held', flush=True); sys.stdin.read()"
        holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual(holder.stdout.readline(), b"held\n")
        return holder


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

    def test_a_software_driver_runs_only_where_it_is_named(self):
        if gpu_is_there():
            self.skipTest("there is a GPU here")
        for flags in ({}, {"gpu": "auto"}, {"npu": "cpu", "gpu": "auto"}):
            line = self.start(TINY, **flags)
            self.assertIn("no GPU: there is 0: \"llvmpipe", line)
            self.assertIn("--gpu llvmpipe takes it", line)
        with Cluster(TINY, gpu="lavapipe") as c:
            self.assertIn("llvmpipe", c.status()["workers"][0]["device_name"])

    def test_numbers_and_choices(self):
        self.assertIn("--context: expected a whole number from 0 to 1048576, found '-5'", self.start(TINY, context=-5))
        self.assertIn("--threads: expected a whole number from 0 to 1024, found '-2'", self.start(TINY, threads=-2))
        self.assertIn("--log_level: expected one of trace, debug, info, warn, error, off, found 'loud'", self.start(TINY, log_level="loud"))
        self.assertIn("--max_sequences: expected a whole number from 0 to 1024", self.start(TINY, max_sequences=1025))
        self.assertIn("--max_tokens_per_step: expected at least 32 (--max_sequences), found 8",
                      self.start(TINY, npu="cpu", gpu="none", max_tokens_per_step=8))

    def test_a_context_that_the_model_does_not_have(self):
        line = self.start(TINY, npu="cpu", gpu="none", context=999999)
        self.assertRegex(line, r"--context: expected at most \d+ tokens \(what the model was trained for\), found 999999")

    def test_taken_ports(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = "127.0.0.1:%d" % listener.getsockname()[1]
            for flag in ("http", "grpc"):
                line = self.start(TINY, npu="cpu", gpu="none", **{flag: address})
                self.assertIn(f"--{flag}: cannot listen on {address}", line)
                self.assertIn("Address already in use", line)

    def test_key_files(self):
        self.assertIn("--api_key_file: API key file '/no/such/key': cannot be opened: No such file", self.start(TINY, api_key_file="/no/such/key"))
        with tempfile.NamedTemporaryFile() as empty:
            self.assertIn(f"--api_key_file: API key file '{empty.name}': expected a key", self.start(TINY, api_key_file=empty.name))

    def test_configuration_files(self):
        self.assertIn("--config: '/no/such/file' cannot be read: No such file", self.start(TINY, config="/no/such/file"))
        with tempfile.NamedTemporaryFile("w") as broken:
            broken.write('{\n "npu": "cpu",\n "gpu": none\n}')
            broken.flush()
            line = self.start(TINY, config=broken.name)
            self.assertIn(f"--config: '{broken.name}': expected JSON, found a parse error at line 3", line)

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
