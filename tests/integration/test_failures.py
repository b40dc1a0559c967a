"""Kill -9 of any process during a stream: no hang, the client gets an error or the rest of the text, and the next request works.

`test_failures.py --rounds=10` kills each process in turn ten times under 32 streams; without it once.
"""
import collections
import concurrent.futures
import os
import pathlib
import select
import signal
import sys
import threading
import time
import unittest

from cluster import GOLDEN, GPU, Cluster, greedy

TINY = GOLDEN / "tiny"
PROMPT = "The creature opened the window and looked at the"
# Tokens of a stream: much is left of it when a worker dies.
LENGTH = 200

STREAMS = 32
ROUNDS = 1
# The gateway closes an idle connection after 75 s.
SETTLE_SECONDS = 120
# How the kernel names memfds and dma-bufs.
SHARED = ("/memfd:", "/dmabuf")


def text_of(event: dict) -> str:
    return "".join(choice.get("text", "") for choice in event.get("choices", []))


class KillTest(unittest.TestCase):
    def kill_during_stream(self, victim: str, **flags) -> None:
        with Cluster(TINY, **flags) as c:
            body = {"prompt": PROMPT, "ignore_eos": True, **greedy(LENGTH)}
            whole = c.complete(**body)["choices"][0]["text"]
            c.read_state()
            pid, text, error = c.pids[victim], "", None
            for number, event in enumerate(c.stream("/v1/completions", body)):
                if number == 3:
                    os.kill(pid, signal.SIGKILL)
                error = error or event.get("error")
                text += text_of(event)
            if error is None:
                self.assertEqual(text, whole, "the rest of the text came, unchanged")
            else:
                self.assertTrue(whole.startswith(text), "what came before the error is right")
            c.wait_ready()
            self.assertEqual(c.complete(**body)["choices"][0]["text"], whole)
            self.assertGreaterEqual(c.read_state()["processes"][[p for p in c.pids].index(victim)]["restarts"], 1)

    def test_npu_worker_of_split(self):
        self.kill_during_stream("npu0", npu="cpu", gpu=GPU, plan="split")

    def test_gpu_worker_of_split(self):
        self.kill_during_stream("gpu0", npu="cpu", gpu=GPU, plan="split")

    def test_npu_worker_of_hybrid_while_the_gpu_decodes(self):
        self.kill_during_stream("npu0", npu="cpu", gpu=GPU, plan="hybrid")

    def test_gpu_worker_of_hybrid(self):
        self.kill_during_stream("gpu0", npu="cpu", gpu=GPU, plan="hybrid")

    def test_only_worker(self):
        self.kill_during_stream("npu0", npu="cpu", gpu="none")

    def test_gateway(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            body = {"prompt": PROMPT, "ignore_eos": True, **greedy(LENGTH)}
            whole = c.complete(**body)["choices"][0]["text"]
            text = ""
            try:
                for number, event in enumerate(c.stream("/v1/completions", body)):
                    if number == 3:
                        os.kill(c.pids["gateway"], signal.SIGKILL)
                    text += text_of(event)
            except OSError:
                pass  # the connection breaks: that is the error
            self.assertTrue(whole.startswith(text))
            c.wait_ready()
            self.assertEqual(c.complete(**body)["choices"][0]["text"], whole)

    def test_loader_is_not_needed_to_serve(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            before = c.complete(PROMPT, **greedy(8))["choices"][0]["text"]
            descriptor = os.pidfd_open(c.pids["loader"])
            os.kill(c.pids["loader"], signal.SIGKILL)
            self.assertTrue(select.select([descriptor], [], [], 30)[0])
            os.close(descriptor)
            self.assertEqual(c.complete(PROMPT, **greedy(8))["choices"][0]["text"], before)


class Resources(collections.namedtuple("Resources", "descriptors shared_bytes")):
    """Open descriptors by process, and the bytes of shared memory that the processes of a cluster hold or map: each file once."""

    @staticmethod
    def of(c: Cluster) -> "Resources":
        c.read_state()
        descriptors, files = {}, {}
        for name, pid in c.pids.items():
            process = pathlib.Path(f"/proc/{pid}")
            open_files = list((process / "fd").iterdir())
            descriptors[name] = len(open_files)
            for file in open_files:
                if os.readlink(file).startswith(SHARED):
                    status = file.stat()
                    files[status.st_ino] = max(status.st_size, files.get(status.st_ino, 0))
            mapped = collections.Counter()
            for line in (process / "maps").read_text().splitlines():
                fields = line.split(maxsplit=5)
                if len(fields) == 6 and fields[5].startswith(SHARED):
                    begin, end = (int(x, 16) for x in fields[0].split("-"))
                    mapped[int(fields[4])] += end - begin
            for file, size in mapped.items():
                files[file] = max(size, files.get(file, 0))
        return Resources(descriptors, sum(files.values()))

    def within(self, before: "Resources", memory: bool) -> bool:
        held = all(count <= before.descriptors[name] for name, count in self.descriptors.items())
        return held and (not memory or self.shared_bytes == before.shared_bytes)


class KillUnderLoadTest(unittest.TestCase):
    def streams(self, c: Cluster, during=lambda: None) -> list[tuple[str, dict | None]]:
        """The text, and the error if there is one, of 32 streams at once; `during` runs when each has begun."""
        begun = threading.Semaphore(0)

        def one(index: int) -> tuple[str, dict | None]:
            text, error, number = "", None, 0
            body = {"prompt": PROMPT + " " + PROMPT[: index + 1], "ignore_eos": True, **greedy(24 + index)}
            try:
                for number, event in enumerate(c.stream("/v1/completions", body), 1):
                    error = error or event.get("error")
                    text += text_of(event)
                    if number == 3:
                        begun.release()
            except OSError as broken:
                error = error or {"message": str(broken)}
            finally:
                if number < 3:
                    begun.release()
            return text, error

        with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
            running = [pool.submit(one, index) for index in range(STREAMS)]
            for _ in running:
                begun.acquire()
            during()
            return [stream.result() for stream in running]

    def await_resources(self, c: Cluster, before: Resources, victim: str, memory: bool) -> None:
        """Connections are closed a while after their other end: asked again and again, there is no event to wait for."""
        deadline = time.monotonic() + SETTLE_SECONDS
        now = None
        while now is None or not now.within(before, memory):
            self.assertLess(time.monotonic(), deadline, f"after the end of {victim}: expected at most {before}, found {now}")
            select.select([], [], [], 0.05)
            try:
                now = Resources.of(c)
            except FileNotFoundError:
                pass  # a descriptor was closed meanwhile

    def restarted(self, c: Cluster, victim: str, pid: int) -> bool:
        c.read_state()
        return c.pids[victim] != pid and pathlib.Path(f"/proc/{c.pids[victim]}").exists()

    def kill(self, c: Cluster, victim: str, whole: list[str]) -> None:
        pid = c.pids[victim]
        results = self.streams(c, lambda: os.kill(pid, signal.SIGKILL))
        for text, (found, error) in zip(whole, results):
            if victim == "gateway":
                self.assertTrue(text.startswith(found), f"{victim}: what came is right")
            else:
                self.assertIsNone(error, victim)
                self.assertEqual(found, text, f"{victim}: the rest of the text came, unchanged")
        deadline = time.monotonic() + SETTLE_SECONDS
        while not self.restarted(c, victim, pid):
            self.assertLess(time.monotonic(), deadline, f"{victim} was not started again")
            select.select([], [], [], 0.05)
        c.wait_ready()

    def test_each_process_in_turn(self):
        with Cluster(TINY, npu="cpu", gpu=GPU, plan="split") as c:
            whole = [text for text, error in self.streams(c) if error is None]
            self.assertEqual(len(whole), STREAMS)
            self.assertEqual([text for text, _ in self.streams(c)], whole)
            before = Resources.of(c)
            for _ in range(ROUNDS):
                # The weights of a loader that has died are gone when the workers have ended, too: memory is counted last.
                for victim in ("loader", "gpu0", "npu0", "gateway"):
                    self.kill(c, victim, whole)
                    self.assertEqual(self.streams(c), [(text, None) for text in whole], f"after the end of {victim}")
                    self.await_resources(c, before, victim, memory=victim == "gateway")


class BadInputTest(unittest.TestCase):
    def test_nothing_crashes_and_the_process_serves_on(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            model = c.model
            good = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **greedy(4)}
            cases = [
                ({**good, "model": "other"}, 404, "model"),
                ({**good, "temperature": 3}, 400, "temperature"),
                ({**good, "temperature": "hot"}, 400, "temperature"),
                ({**good, "max_tokens": -2}, 400, "max_tokens"),
                ({**good, "messages": []}, 400, "messages"),
                ({**good, "messages": [{"role": "nobody", "content": "x"}]}, 400, None),
                ({**good, "messages": [{"role": "user", "content": "word " * 9000}]}, 400, None),
                ({**good, "stop": ["a", "b", "c", "d", "e"]}, 400, "stop"),
                ({**good, "top_logprobs": 21, "logprobs": True}, 400, "top_logprobs"),
                (b"{\"model\": ", 400, None),
                (b"{\"model\": \"\xff\xfe\"}", 400, None),
                (b"[" * 100000, 400, None),
            ]
            for body, expected, parameter in cases:
                status, answer, _ = c.request("POST", "/v1/chat/completions", body)
                self.assertEqual(status, expected, (str(body)[:100], answer))
                self.assertIn("message", answer["error"])
                self.assertIn("type", answer["error"])
                if parameter is not None:
                    self.assertEqual(answer["error"]["param"], parameter, answer)
            self.assertEqual(c.request("GET", "/nothing")[0], 404)
            self.assertEqual(c.request("DELETE", "/v1/models")[0], 405)
            self.assertEqual(c.request("POST", "/v1/chat/completions", b"x" * (64 << 20))[0], 413)
            self.assertEqual(c.request("POST", "/v1/chat/completions", good)[0], 200)
            self.assertEqual(c.read_state()["processes"][-1]["restarts"], 0)


if __name__ == "__main__":
    rounds = [argument for argument in sys.argv if argument.startswith("--rounds=")]
    ROUNDS = int(rounds[-1].removeprefix("--rounds=")) if rounds else ROUNDS
    unittest.main(argv=[argument for argument in sys.argv if argument not in rounds], verbosity=2)
