"""Clients that mean harm, against a running cluster: it serves on, and its memory stays within bounds."""
import json
import os
import pathlib
import resource
import shutil
import socket
import tempfile
import threading
import time
import unittest

from cluster import GOLDEN, Cluster, greedy
from http2_client import Http2Client

TINY = GOLDEN / "tiny"
GENERATE = "/tandem.v1.Inference/Generate"
MESSAGE = b"\x1a\xff\xff\xff\x03" + b"x" * ((8 << 20) - 5)  # GenerateRequest.text, of which the last bytes never come


def resident_mib(pid: int) -> float:
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


class Health:
    """Asks /healthz all the time; `worst` is the slowest answer in seconds."""

    def __init__(self, cluster: Cluster):
        self.cluster, self.worst, self.asked, self.failed = cluster, 0.0, 0, []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.stop.wait(0.01):
            begin = time.monotonic()
            try:
                status = self.cluster.request("GET", "/healthz", timeout=30)[0]
            except OSError as error:
                status = error
            if status != 200:
                self.failed.append(status)
            self.worst = max(self.worst, time.monotonic() - begin)
            self.asked += 1

    def __enter__(self) -> "Health":
        self.thread.start()
        return self

    def __exit__(self, kind, value, trace) -> None:
        self.stop.set()
        self.thread.join()


class HostileClientTest(unittest.TestCase):
    def serves_on(self, c: Cluster, **headers) -> None:
        status, answer, _ = c.request("POST", "/v1/completions", {"model": "tiny", "prompt": "The", **greedy(4)}, headers)
        self.assertIn(status, (200, 404), answer)
        self.assertEqual(c.request("GET", "/healthz")[0], 200)
        self.assertEqual(c.read_state()["processes"][-1]["restarts"], 0)

    def half_sent(self, c: Cluster) -> tuple[float, list]:
        """The gateway's memory, in MiB beyond what it was, with 60 calls on one connection whose 8 MiB messages lack their last bytes."""
        pid = c.pids["gateway"]
        before = resident_mib(pid)
        with Http2Client(c.grpc) as client:
            calls = [client.open(GENERATE, MESSAGE[:-50], len(MESSAGE)) for _ in range(60)]
            client.run(lambda: all(call.ended or not call.pending for call in calls), seconds=15)
            return resident_mib(pid) - before, calls

    def test_half_sent_messages_without_the_key_hold_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            key = pathlib.Path(folder) / "key"
            key.write_text("secret\n")
            with Cluster(TINY, npu="cpu", gpu="none", api_key_file=key) as c:
                grown, calls = self.half_sent(c)
                self.assertTrue(all(call.ended for call in calls), "each is refused while its message is still to come")
                self.assertLess(grown, 32)
                self.serves_on(c, Authorization="Bearer secret")

    def test_half_sent_messages_are_bounded_together(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            grown, _ = self.half_sent(c)
            self.assertLess(grown, 256)
            self.serves_on(c)

    def test_idle_connections_lock_nobody_out(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            host, port = c.http.rsplit(":", 1)
            idle = [socket.create_connection((host, int(port))) for _ in range(600)]
            half = [socket.create_connection((host, int(port))) for _ in range(300)]
            for connection in half:
                connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-")
            self.assertEqual(c.request("GET", "/healthz", timeout=10)[0], 200)
            self.assertEqual(c.request("GET", "/readyz", timeout=10)[0], 200)
            # The half-sent heads give way when they have had their time.
            deadline = time.monotonic() + 30
            while c.request("GET", "/v1/models", timeout=10)[0] != 200:
                self.assertLess(time.monotonic(), deadline)
            self.serves_on(c)
            for connection in idle + half:
                connection.close()

    def test_want_of_descriptors_ends_no_port(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            resource.prlimit(c.pids["gateway"], resource.RLIMIT_NOFILE, (120, 120))
            for address in (c.grpc, c.http):
                host, port = address.rsplit(":", 1)
                many = [socket.create_connection((host, int(port))) for _ in range(300)]
                for connection in many:
                    connection.close()
            # What still waits in the backlog is taken in and closed first; who comes meanwhile may be turned away.
            deadline = time.monotonic() + 30
            while (answer := c.tandem("status")).returncode != 0:
                self.assertLess(time.monotonic(), deadline, answer.stderr)
            self.assertEqual(c.status()["state"], "ready")
            self.serves_on(c)

    def test_prompts_of_8_mib_delay_nobody(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            text = "abcdefghijklmnopqrstuvwxyz" * (((8 << 20) - 1000) // 26)
            body = json.dumps({"model": c.model, "messages": [{"role": "user", "content": text}]}).encode()
            answers = []
            with Health(c) as health:
                senders = [threading.Thread(target=lambda: answers.append(c.request("POST", "/v1/chat/completions", body))) for _ in range(8)]
                for sender in senders:
                    sender.start()
                for sender in senders:
                    sender.join()
            for status, answer, _ in answers:
                self.assertEqual((status, answer["error"]["code"]), (400, "context_length_exceeded"))
            self.assertEqual(health.failed, [])
            self.assertGreater(health.asked, 0)
            self.assertLess(health.worst, 1.0)

    def test_a_web_page_cannot_use_the_gateway(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            body = {"model": c.model, "prompt": "The", **greedy(1)}
            for headers, expected in (({}, 200), ({"Content-Type": "text/plain"}, 415), ({"Host": "evil.example"}, 403),
                                      ({"Origin": "http://evil.example"}, 403), ({"Content-Encoding": "gzip"}, 415)):
                self.assertEqual(c.request("POST", "/v1/completions", body, headers)[0], expected, headers)

    def test_logprobs_of_echoed_prompts_are_bounded(self):
        with Cluster(TINY, npu="cpu", gpu="none") as c:
            context = c.request("GET", "/v1/models")[1]["data"][0]["max_model_len"]
            before = resident_mib(c.pids["gateway"])
            body = {"model": c.model, "prompt": [[5] * (context - 1)] * 16, "n": 8, "echo": True, "logprobs": 20, "max_tokens": 0}
            status, answer, _ = c.request("POST", "/v1/completions", body)
            self.assertEqual((status, answer["error"]["param"]), (400, "echo"))
            self.assertIn("16 MiB", answer["error"]["message"])
            self.assertLess(resident_mib(c.pids["gateway"]) - before, 64)

    def test_deeply_nested_model_files_are_an_error(self):
        deep = b'{"model_type": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
        for name in ("config.json", "tokenizer.json"):
            with tempfile.TemporaryDirectory() as folder:
                model = pathlib.Path(folder) / "model"
                shutil.copytree(TINY, model)
                if name == "tokenizer.json":
                    os.remove(model / "tokenizer.model")
                (model / name).write_bytes(deep)
                result = Cluster(model, npu="cpu", gpu="none").up()
                self.assertEqual(result.returncode, 1, result.stdout)
                self.assertIn("at most 64 levels", result.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
