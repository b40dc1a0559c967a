"""Random changes of valid requests, to every door: no 5xx, no crash, memory flat.

TANDEM_MUTATIONS says how many (a few thousand without it), TANDEM_MUTATION_SEED which ones.
"""
import http.client
import os
import pathlib
import random
import re
import threading
import unittest

from cluster import GOLDEN, Cluster
from http2_client import Http2Client
from mutations import changed_call, changed_request

COUNT = int(os.environ.get("TANDEM_MUTATIONS", "5000"))
SEED = int(os.environ.get("TANDEM_MUTATION_SEED", "1"))
THREADS = 4
CALLS_AT_ONCE = 40
# Responses are kept for those who ask again: up to that much, by design. The rest is what allocators keep.
ALLOWED_MIB = 64 + 48


def resident_mib(pid: int) -> float:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


class Sender(threading.Thread):
    """Sends its share over connections that it opens anew when the server closes them."""

    def __init__(self, cluster: Cluster, seed: int, count: int):
        super().__init__()
        self.address, self.pick, self.count = cluster.http, random.Random(seed), count
        self.statuses: dict[int, int] = {}
        self.bad: list = []

    def run(self) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=120)
        for _ in range(self.count):
            method, path, body = changed_request(self.pick)
            headers = {"Content-Type": "application/json"} if body is not None else {}
            try:
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                text = response.read()
            except (http.client.HTTPException, OSError) as error:
                self.bad.append((method, path, body, repr(error)))
                connection.close()
                continue
            if response.getheader("Connection") == "close":
                connection.close()
            self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
            # A stream has begun with 200: its errors are events.
            if response.status >= 500 or b"internal_error" in text or b'"type":"api_error"' in text:
                self.bad.append((method, path, body, response.status, text[-300:]))


class MutationTest(unittest.TestCase):
    def send(self, cluster: Cluster, seed: int, count: int) -> None:
        senders = [Sender(cluster, seed * 1000 + i, count // THREADS) for i in range(THREADS)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        for sender in senders:
            self.assertEqual(sender.bad[:3], [])
            for status, number in sender.statuses.items():
                self.statuses[status] = self.statuses.get(status, 0) + number

    def call(self, cluster: Cluster, pick: random.Random) -> None:
        with Http2Client(cluster.grpc) as client:
            calls = []
            for _ in range(CALLS_AT_ONCE):
                method, message = changed_call(pick)
                calls.append(client.open(f"/tandem.v1.Inference/{method}", message))
            self.assertTrue(client.run(lambda: all(call.ended for call in calls), seconds=120), "calls were not ended")

    def test_no_change_of_a_request_does_harm(self):
        self.statuses = {}
        pick = random.Random(SEED)
        with Cluster(GOLDEN / "tiny", npu="cpu", gpu="none", context=64) as c:
            pid = c.pids["gateway"]
            self.send(c, SEED, COUNT // 4)
            for _ in range(3):
                self.call(c, pick)
            warm = resident_mib(pid)
            self.send(c, SEED + 1, COUNT - COUNT // 4)
            for _ in range(max(COUNT // 1000, 3)):
                self.call(c, pick)
            grown = resident_mib(pid) - warm
            print(f"{COUNT} requests: {dict(sorted(self.statuses.items()))}; resident {warm:.0f} MiB, grown by {grown:.1f} MiB")
            self.assertGreater(self.statuses.get(200, 0), COUNT // 20)
            self.assertGreater(self.statuses.get(400, 0), COUNT // 5)
            self.assertLess(grown, ALLOWED_MIB)
            metrics = c.request("GET", "/metrics")[1]
            self.assertNotRegex(metrics, r'tandem_requests_total\{endpoint="grpc[^}]*status="(INTERNAL|UNKNOWN)"')
            self.assertEqual(c.read_state()["processes"][-1]["restarts"], 0)
            self.assertEqual(set(c.restarts.values()), {0})


if __name__ == "__main__":
    unittest.main(verbosity=2)
