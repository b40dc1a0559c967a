"""Logs are JSON where that is asked for, with the ids of requests and without what people write."""
from __future__ import annotations

import json
import time
import unittest

from cluster import GOLDEN, Cluster

SECRET = "Ravens at noon"


class LogsTest(unittest.TestCase):
    def lines(self, **flags) -> dict[str, list[dict]]:
        with Cluster(GOLDEN / "tiny", npu="cpu", gpu="none", plan="npu", log_format="json", access_log="true", **flags) as cluster:
            body = {"model": cluster.model, "prompt": SECRET, "max_tokens": 1}
            status, _, headers = cluster.request("POST", "/v1/completions", body, {"X-Request-Id": "mine-1"})
            self.assertEqual((status, headers["X-Request-Id"]), (200, "mine-1"))
            self.assertEqual(cluster.tandem("tokenize", "--grpc", cluster.grpc, text=SECRET).returncode, 0)
            files = [f for f in (cluster.folder / "tandem/default/logs").glob("*.log") if f.stem in ("gateway", "loader", "npu0")]
            # The line of a request is written when its answer has left.
            deadline = time.monotonic() + 10
            log = cluster.folder / "tandem/default/logs/gateway.log"
            while "mine-1" not in log.read_text() or "/Tokenize" not in log.read_text():
                self.assertLess(time.monotonic(), deadline, "no line of the request in the access log")
            # Every line is an object: one that is none fails here.
            lines = {file.stem: [json.loads(line) for line in file.read_text().splitlines()] for file in files}
        self.assertEqual(set(lines), {"gateway", "loader", "npu0"})
        for process in lines.values():
            self.assertTrue(process and all(line["time"].endswith("Z") and line["message"] for line in process))
        return lines

    def test_access_log_without_prompts(self) -> None:
        lines = self.lines()
        access = [line for line in lines["gateway"] if line.get("request_id") == "mine-1"]
        self.assertEqual([(a["method"], a["path"], a["status"], a["client"]) for a in access],
                         [("POST", "/v1/completions", 200, "stayed")])
        self.assertGreater(access[0]["milliseconds"], 0)
        calls = [line for line in lines["gateway"] if line["message"] == "grpc"]
        self.assertIn(("/tandem.v1.Inference/Tokenize", "OK"), [(c["method"], c["code"]) for c in calls])
        self.assertTrue(all(c["request_id"].startswith("req_") and c["milliseconds"] > 0 for c in calls), calls)
        self.assertNotIn(SECRET, json.dumps(lines))

    def test_prompts_where_they_are_asked_for(self) -> None:
        lines = self.lines(log_prompts="true")["gateway"]
        access = [line for line in lines if line.get("request_id") == "mine-1"]
        self.assertEqual(json.loads(access[0]["body"])["prompt"], SECRET)
        call = next(line for line in lines if line.get("method") == "/tandem.v1.Inference/Tokenize")
        self.assertEqual(json.loads(call["body"])["text"], SECRET)


if __name__ == "__main__":
    unittest.main(verbosity=2)
