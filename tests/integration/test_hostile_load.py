"""Slow, broken and countless requests at both public ports, while somebody else is served as before.

`test_hostile_load.py --requests=100000` sends that many tiny requests; without it 3,000. Standard library only.
"""
import http.client
import json
import os
import pathlib
import select
import socket
import statistics
import struct
import sys
import threading
import time
import unittest

from cluster import GOLDEN, Cluster, greedy
from http2_client import CONTINUATION_FLOOD, frame, DATA, GOAWAY, HEADERS, PING, RESET, SETTINGS, WINDOW_UPDATE, header

TINY = GOLDEN / "tiny"
REQUESTS = 3000
ATTACK_SECONDS = 2.0
CLOSE_SECONDS = 15
PEAK_MIB = 192   # just after an attack: what gRPC may hold at most, and the allocator's rest
GROWTH_MIB = 48  # when the gateway has given back what it does not need, which it looks at every few seconds
# What an answer may take beyond twenty times the quiet one: this must hold on a loaded machine, too.
SPARE_SECONDS = 2.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

BROKEN_HTTP = [
    b"\x00\x01\x02\x03" * 64, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20000 + b"\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX\x00: y\r\n\r\n", b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n", PREFACE, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 600,
]


def call(stream: int) -> bytes:
    return frame(HEADERS, 4, stream, b"".join(header(n, v) for n, v in {":method": "POST", ":scheme": "http", ":path": "/tandem.v1.Inference/GetModel",
                                                                        ":authority": "x", "content-type": "application/grpc", "te": "trailers"}.items()))


BROKEN_HTTP2 = {
    "a frame over the size": PREFACE + frame(SETTINGS, 0, 0, b"") + struct.pack(">I", 0xFFFFFF)[1:] + bytes([DATA, 0, 0, 0, 0, 1]) + b"x" * 70_000,
    "data on no stream": PREFACE + frame(SETTINGS, 0, 0, b"") + frame(DATA, 0, 0, b"x" * 10),
    "an even stream": PREFACE + frame(SETTINGS, 0, 0, b"") + call(2),
    "settings that cannot be": PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0xFFFFFFFF)),
    "half a setting": PREFACE + frame(SETTINGS, 0, 0, b"xyz"),
    "a window over its end": PREFACE + frame(SETTINGS, 0, 0, b"") + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7FFFFFFF)) * 3,
    "many pings": PREFACE + frame(SETTINGS, 0, 0, b"") + frame(PING, 0, 0, b"12345678") * 5000,
    "many settings": PREFACE + frame(SETTINGS, 0, 0, b"") * 5000,
    "streams that are reset at once": PREFACE + frame(SETTINGS, 0, 0, b"") + b"".join(call(s) + frame(RESET, 0, s, b"\0\0\0\x08") for s in range(1, 6000, 2)),
    "headers without an end": PREFACE + frame(SETTINGS, 0, 0, b"") + CONTINUATION_FLOOD,
    "broken compression": PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, 4, 1, b"\xff" * 200),
    "an end and then more": PREFACE + frame(SETTINGS, 0, 0, b"") + frame(GOAWAY, 0, 0, b"\0" * 8) + call(1),
    "no HTTP/2 at all": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "noise": b"\xde\xad\xbe\xef" * 5000,
}


def resident_mib(pid: int) -> float:
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def completion(tokens: int, stream: bool = False) -> bytes:
    body = json.dumps({"model": "tiny", "prompt": "The", "stream": stream, "ignore_eos": True, **greedy(tokens)}).encode()
    return b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class GoodClient(threading.Thread):
    """Somebody who asks for four tokens again and again, each time on a new connection."""

    def __init__(self, c: Cluster):
        super().__init__(daemon=True)
        self.cluster, self.stopping, self.seconds, self.failures = c, threading.Event(), [], []

    def run(self) -> None:
        while not self.stopping.is_set():
            begin = time.monotonic()
            try:
                status, answer, _ = self.cluster.request("POST", "/v1/completions", {"model": "tiny", "prompt": "The", **greedy(4)}, timeout=60)
                # To be told to wait is an answer: who gets it asks again.
                if status not in (200, 429, 503):
                    self.failures.append((status, answer))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            self.seconds.append(time.monotonic() - begin)

    def __enter__(self) -> "GoodClient":
        self.start()
        return self

    def __exit__(self, kind, value, trace) -> None:
        self.stopping.set()
        self.join()

    @property
    def p95(self) -> float:
        return statistics.quantiles(self.seconds, n=20)[-1] if len(self.seconds) > 1 else self.seconds[0]


class HostileLoadTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.cluster = Cluster(TINY, npu="cpu", gpu="none", threads="1").__enter__()
        cls.addClassCleanup(cls.cluster.__exit__, None, None, None)
        cls.pid = cls.cluster.pids["gateway"]
        with GoodClient(cls.cluster) as good:
            select.select([], [], [], ATTACK_SECONDS)
        cls.quiet = good.p95

    def connect(self, address: str | None = None) -> socket.socket:
        host, port = (address or self.cluster.http).rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout=60)

    def under(self, attack, name: str) -> None:
        """Somebody else is served as before, the gateway does not grow, and lets go of every connection."""
        memory, descriptors = resident_mib(self.pid), self.descriptors()
        with GoodClient(self.cluster) as good:
            attack()
        growth = resident_mib(self.pid) - memory
        print(f"{name}: {len(good.seconds)} good requests, 95 % within {good.p95 * 1000:.0f} ms ({self.quiet * 1000:.0f} ms when quiet), "
              f"{growth:+.1f} MiB", flush=True)
        self.assertEqual(good.failures, [], name)
        self.assertLess(good.p95, 20 * self.quiet + SPARE_SECONDS, name)
        self.assertLess(growth, PEAK_MIB, name)
        deadline = time.monotonic() + CLOSE_SECONDS
        while self.descriptors() > descriptors + 2 or resident_mib(self.pid) - memory > GROWTH_MIB:
            self.assertLess(time.monotonic(), deadline, f"{name}: {self.descriptors() - descriptors} more descriptors, "
                                                        f"{resident_mib(self.pid) - memory:.1f} MiB")
            select.select([], [], [], 0.1)
        self.assertEqual(self.cluster.read_state()["processes"][-1]["restarts"], 0, name)

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def drip(self, connections: list[socket.socket], text: bytes) -> None:
        end = time.monotonic() + ATTACK_SECONDS
        for at in range(len(text)):
            for connection in connections:
                try:
                    connection.send(text[at : at + 1])
                except OSError:
                    pass  # it gave way
            if time.monotonic() > end:
                break
            select.select([], [], [], 0.02)
        for connection in connections:
            connection.close()

    def test_heads_and_bodies_that_come_byte_by_byte(self):
        self.under(lambda: self.drip([self.connect() for _ in range(150)], b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"a" * 4000), "slow heads")

        def bodies() -> None:
            slow = [self.connect() for _ in range(100)]
            for connection in slow:
                connection.sendall(completion(4)[:-60] + b" " * 5)
            self.drip(slow, b" " * 50)
        self.under(bodies, "slow bodies")

    def test_clients_that_do_not_read(self):
        def attack() -> None:
            deaf = [self.connect() for _ in range(20)]
            for connection in deaf:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                connection.sendall(completion(40, stream=True) * 3)
            select.select([], [], [], ATTACK_SECONDS)
            for connection in deaf:
                connection.close()
        self.under(attack, "nobody reads")

    def test_connections_that_are_half_closed_or_broken_off(self):
        def attack() -> None:
            end = time.monotonic() + ATTACK_SECONDS
            while time.monotonic() < end:
                half = [self.connect() for _ in range(10)]
                for number, connection in enumerate(half):
                    connection.sendall(completion(8, stream=bool(number % 2)))
                    connection.shutdown(socket.SHUT_WR)
                for number, connection in enumerate(half):
                    if number % 3 == 0:  # a reset instead of an end
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.close()
        self.under(attack, "half closed")

    def test_pipelines(self):
        def one() -> None:
            with self.connect() as connection:
                for _ in range(5):
                    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answers = b""
                while part := connection.recv(65536):
                    answers += part
            self.assertEqual(answers.count(b"HTTP/1.1 200"), 251)

        def attack() -> None:
            threads = [threading.Thread(target=one) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.under(attack, "pipelines")

    def read_answer(self, reader) -> int:
        """Its status; the body is read, too."""
        status = int(reader.readline().split()[1])
        length = 0
        while (line := reader.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        reader.read(length)
        return status

    def test_countless_tiny_requests(self):
        requests = [b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /no HTTP/1.1\r\nHost: localhost\r\n\r\n",
                    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n{"]

        def one(count: int) -> None:
            with self.connect() as connection:
                reader = connection.makefile("rb")
                for number in range(count):
                    connection.sendall(requests[number % len(requests)])
                    self.assertEqual(self.read_answer(reader), (200, 404, 400)[number % len(requests)])

        def attack() -> None:
            threads = [threading.Thread(target=one, args=(REQUESTS // 4,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.under(attack, f"{REQUESTS} tiny requests")

    def test_bytes_that_are_no_requests(self):
        def attack() -> None:
            for text in BROKEN_HTTP:
                with self.connect() as connection:
                    try:
                        connection.sendall(text)
                        connection.shutdown(socket.SHUT_WR)
                        answer = b""
                        while part := connection.recv(65536):
                            answer += part
                    except OSError:
                        continue  # refused before all was sent
                    self.assertTrue(answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), (text[:80], answer[:80]))
            for name, text in BROKEN_HTTP2.items():
                with self.connect(self.cluster.grpc) as connection:
                    try:
                        connection.sendall(text)
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(65536):
                            pass
                    except OSError:
                        continue
            self.assertEqual(self.cluster.status()["state"], "ready")
        self.under(attack, "no requests")


if __name__ == "__main__":
    chosen = [argument for argument in sys.argv if argument.startswith("--requests=")]
    REQUESTS = int(chosen[-1].removeprefix("--requests=")) if chosen else REQUESTS
    unittest.main(argv=[argument for argument in sys.argv if argument not in chosen], verbosity=2)
