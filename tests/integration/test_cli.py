"""The tandem command as a person uses it."""
import concurrent.futures
import json
import os
import pathlib
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import jsonschema
import yaml

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
        help_of_up = c.tandem("up", "--help").stdout
        for expected in ("--model", "Examples:", "Memory and limits:", "--kv_memory=BYTES", "--max_tokens_per_step=N", "--queue=N"):
            self.assertIn(expected, help_of_up)
        self.assertNotIn("--queue", c.tandem("down", "--help").stdout)
        self.assertIn("--context: expected a value", c.tandem("up", "--context").stderr)
        self.assertIn("unknown flag", c.tandem("down", "--model=x").stderr)
        self.assertEqual(c.tandem("fly").returncode, 1)
        self.assertIn("unknown command 'fly'", c.tandem("fly").stderr)
        self.assertIn("did you mean 'status'?", c.tandem("staus").stderr)
        self.assertIn("expected a command", c.tandem().stderr)
        self.assertNotEqual(c.tandem("up", "--no_such_flag").returncode, 0)

    def test_settings_from_everywhere_reach_the_processes(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "tandem.yaml"
            file.write_text("gpu: none\nnpu: xrt\nqueue: 3\nkv_memory: 64MiB\nmax_sequences: 5\ncontext: 64\n")
            c = Cluster(TINY, config=file, npu="cpu", max_tokens_per_step=16)
            c.environment |= {"TANDEM_QUEUE": "4", "TANDEM_CONTEXT": "32"}
            with c:
                command = pathlib.Path(f"/proc/{c.pids['gateway']}/cmdline").read_text().split("\0")
                for expected in ("--queue=4", f"--kv_memory={64 << 20}", "--max_sequences=5", "--context=32", "--max_tokens_per_step=16"):
                    self.assertIn(expected, command)
                self.assertEqual(c.tandem("health", f"unix:{c.folder}/tandem/default/npu0.sock").returncode, 0)
                self.assertEqual(c.tandem("health", c.grpc).returncode, 0)
                self.assertEqual(json.loads(c.tandem("status", "--json", f"--grpc={c.grpc}").stdout)["state"], "ready")
            self.assertEqual(c.tandem("health", c.grpc).returncode, 1)

    def test_the_schema_says_what_the_program_says(self):
        validator = jsonschema.Draft7Validator(json.loads(Cluster(TINY).tandem("config", "schema").stdout))
        good = ["", "model: m\nkv_memory: 2GiB\n", "kv_memory: 5\nqueue: 1\n", "gpu: 0\n", "edge_kinds: [inline, dma-buf]\n", "recovery_timeout: 1m30s\n",
                "log_level: \"off\"\n", "allowed_hosts: a,b\n", "model: '123'\n"]
        bad = ["contxt: 1\n", "context: '4096'\n", "context: -1\n", "context: 1.5\n", "plan: [x]\n", "queue: 0\n", "kv_type: off\n", "kv_memory: 2GB\n",
               "kv_memory: -1\n", "quant: int3\n", "http:\n", "edge_kinds: []\n", "edge_kinds: [pigeon]\n", "recovery_timeout: soon\n", "recovery_timeout: 5\n",
               "quant: {a: b}\n", "[]\n", "model: ''\n"]
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "tandem.yaml"
            for text, expected in [(t, True) for t in good] + [(t, False) for t in bad]:
                file.write_text(text)
                result = Cluster(TINY).tandem("config", "check", str(file))
                self.assertEqual(result.returncode == 0, expected, (text, result.stderr))
                value = yaml.safe_load(text)
                self.assertEqual(validator.is_valid({} if value is None else value), expected, text)

    def test_what_config_show_prints_can_be_read_again(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "tandem.yaml"
            c = Cluster(TINY)
            shown = c.tandem("config", "show", "--queue=7", "--edge_kinds=inline", "--log_level=off", "--gpu=0", "--kv_memory=1GiB")
            self.assertEqual(shown.returncode, 0, shown.stderr)
            file.write_text(shown.stdout)
            again = json.loads(c.tandem("config", "show", f"--config={file}", "--json", "--changed").stdout)
            self.assertEqual({name: setting["value"] for name, setting in again.items()},
                             {"queue": 7, "edge_kinds": ["inline"], "log_level": "off", "gpu": "0", "kv_memory": 1 << 30})
            self.assertRegex(again["queue"]["source"], rf"^{file}:\d+$")

    def complete_in_bash(self, script: str, line: str) -> list[str]:
        """What the completion of a line gives, as bash itself splits it."""
        code = f"""{script}
COMP_LINE={shlex.quote(line)}; COMP_POINT=${{#COMP_LINE}}
COMP_WORDS=({line.replace('=', ' = ') if not line.endswith(' ') else line + '""'}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_tandem; printf '%s\\n' "${{COMPREPLY[@]}}" """
        result = subprocess.run(["bash", "-c", code], capture_output=True, text=True)
        self.assertEqual(result.stderr, "")
        return result.stdout.split()

    def test_completion(self):
        c = Cluster(TINY)
        script = c.tandem("completion", "bash").stdout
        self.assertEqual(self.complete_in_bash(script, "tandem sta"), ["status"])
        self.assertEqual(self.complete_in_bash(script, "tandem config "), ["check", "show", "schema"])
        self.assertEqual(self.complete_in_bash(script, "tandem up --max_se"), ["--max_sequences="])
        self.assertEqual(self.complete_in_bash(script, "tandem up --kv_type=float1"), ["float16"])
        self.assertEqual(self.complete_in_bash(script, "tandem up --kv_type "), ["float32", "float16", "int8"])
        self.assertEqual(self.complete_in_bash(script, "tandem completion z"), ["zsh"])
        self.assertEqual(self.complete_in_bash(script, "tandem plan s"), ["split"])
        self.assertEqual(self.complete_in_bash(script, "tandem up --model /etc/hostn"), ["/etc/hostname"])
        for shell, check in (("zsh", ["zsh", "-n"]), ("fish", ["fish", "--no-execute"])):
            script = c.tandem("completion", shell).stdout
            self.assertIn("max_tokens_per_step", script)
            if shutil.which(shell) is None:
                continue
            result = subprocess.run([*check, "/dev/stdin"], input=script, capture_output=True, text=True)
            self.assertEqual((result.returncode, result.stderr), (0, ""), shell)
        if shutil.which("fish") is not None:
            with tempfile.TemporaryDirectory() as folder:
                (pathlib.Path(folder) / "tandem.fish").write_text(c.tandem("completion", "fish").stdout)
                result = subprocess.run(["fish", "--no-config", "-c", f"source {folder}/tandem.fish; complete -C 'tandem config '"],
                                        env=c.environment | {"HOME": folder}, capture_output=True, text=True)
                for expected in ("check", "show", "schema"):
                    self.assertIn(expected, result.stdout, result.stderr)
        self.assertIn("expected one of bash, zsh, fish, found 'csh'", c.tandem("completion", "csh").stderr)

    def test_manual_pages(self):
        with tempfile.TemporaryDirectory() as folder:
            c = Cluster(TINY)
            self.assertEqual(c.tandem("manuals", folder).returncode, 0)
            pages = {page.name for page in pathlib.Path(folder).iterdir()}
            self.assertLessEqual({"tandem.1", "tandem-up.1", "tandem-config-show.1", "tandem-chat.1", "tandem-plan.1"}, pages)
            self.assertEqual(c.tandem("up", "--man").stdout, (pathlib.Path(folder) / "tandem-up.1").read_text())
            self.assertIn("cannot be written", c.tandem("manuals", folder + "/none").stderr)

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
            broken.write('{\n "npu": "cpu",\n "gpu" none\n}')
            broken.flush()
            self.assertIn(f"--config: {broken.name}:3: expected YAML: ", self.start(TINY, config=broken.name))
        with tempfile.NamedTemporaryFile("w") as misspelt:
            misspelt.write("npu: cpu\ngpu: none\nmax_sequence: 3\n")
            misspelt.flush()
            self.assertIn(f"--config: {misspelt.name}:3: unknown key 'max_sequence'; did you mean 'max_sequences'?",
                          self.start(TINY, config=misspelt.name))

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
