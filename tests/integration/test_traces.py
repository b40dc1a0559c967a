"""Traces of whole requests arrive at a collector, with the gateway's and every worker's part; a collector that is away holds up nothing."""
from __future__ import annotations

import shutil
import socket
import time
import unittest

from cluster import GPU, GOLDEN, Cluster
from collector import Collector

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT = "00f067aa0ba902b7"
SECRET = "Ravens at noon"


def parent(trace: str, flags: str = "01") -> dict:
    return {"traceparent": f"00-{trace}-{CLIENT}-{flags}"}


class TracesTest(unittest.TestCase):
    def test_a_trace_goes_through_all_processes(self) -> None:
        collector = Collector()
        began = time.time_ns()
        # By name: the gateway resolves it in its sandbox.
        endpoint = f"http://localhost:{collector.server.server_port}/v1/traces"
        with Cluster(GOLDEN / "tiny", npu="cpu", gpu=GPU, plan="split", otlp_endpoint=endpoint) as cluster:
            body = {"model": cluster.model, "prompt": SECRET, "max_tokens": 6, "temperature": 0, "logit_bias": {"1": -100}}
            self.assertEqual(cluster.request("POST", "/v1/completions", body, parent(TRACE))[0], 200)
            # Asked not to be recorded; with a context that is none; refused.
            self.assertEqual(cluster.request("POST", "/v1/completions", body, parent(TRACE[::-1], "00"))[0], 200)
            self.assertEqual(cluster.request("POST", "/v1/completions", body, {"traceparent": "00-nonsense"})[0], 200)
            self.assertEqual(cluster.request("POST", "/v1/completions", {**body, "max_tokens": -5}, parent("a" * 32))[0], 400)
            self.assertTrue(collector.wait(lambda spans: len({s["traceId"] for s in spans if s["kind"] == 2}) == 3),
                            [(s["process"], s["name"]) for s in collector.spans])
            self.assertIn('tandem_trace_spans_total{result="dropped"} 0', cluster.request("GET", "/metrics")[1])
        ours = [span for span in collector.spans if span["traceId"] == TRACE]
        names = {(s["service"], s["process"], s["name"].split()[0]) for s in ours}
        self.assertEqual(names, {("tandem-gateway", "gateway", "text_completion"), ("tandem-gateway", "gateway", "queue"),
                                 ("tandem-gpu-worker", "gpu0", "prefill"), ("tandem-gpu-worker", "gpu0", "decode"),
                                 ("tandem-npu-worker", "npu0", "prefill"), ("tandem-npu-worker", "npu0", "decode")})
        by_name = {(s["process"], s["name"].split()[0]): s for s in ours}
        root = by_name["gateway", "text_completion"]
        self.assertEqual((root["parentSpanId"], root["gen_ai.usage.output_tokens"]), (CLIENT, "6"))
        self.assertEqual(len({span["spanId"] for span in ours}), len(ours))
        for span in ours:
            self.assertTrue(began <= root["begin"] <= span["begin"] <= span["end"] <= root["end"] <= time.time_ns(), span)
            if span is not root:
                self.assertEqual(span["parentSpanId"], root["spanId"])
        for worker in ("gpu0", "npu0"):
            prefill, decode = by_name[worker, "prefill"], by_name[worker, "decode"]
            self.assertLessEqual(prefill["end"], decode["begin"])
            self.assertEqual((prefill["tandem.tokens"], decode["tandem.steps"]), (root["gen_ai.usage.input_tokens"], "5"))
            # The device ran within the steps, and for some time.
            self.assertTrue(0 < decode["tandem.device_seconds"] * 1e9 <= decode["end"] - decode["begin"], decode)
        others = {span["traceId"] for span in collector.spans} - {TRACE}
        self.assertIn("a" * 32, others)
        self.assertEqual(len(others), 2, "the one with nonsense began a trace, the one that was not sampled is not there")
        refused = next(span for span in collector.spans if span["traceId"] == "a" * 32)
        self.assertEqual(refused["error.type"], "400")
        self.assertNotIn(SECRET, "".join(collector.bodies))
        collector.close()

    def test_a_collector_that_is_away_holds_up_nothing(self) -> None:
        # It takes connections and never answers; then nobody is there.
        silent = socket.create_server(("127.0.0.1", 0))
        with Cluster(GOLDEN / "tiny", npu="cpu", gpu="none", plan="npu",
                     otlp_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces") as cluster:
            cluster.complete("abc", max_tokens=1)
            for away in (False, True):
                if away:
                    silent.close()
                began = time.monotonic()
                for _ in range(20):
                    cluster.complete("abc", max_tokens=1)
                self.assertLess(time.monotonic() - began, 10)
            began = time.monotonic()
            self.assertEqual(cluster.tandem("down").returncode, 0)
            self.assertLess(time.monotonic() - began, 10)

    def test_an_endpoint_that_is_none_ends_the_start(self) -> None:
        cluster = Cluster(GOLDEN / "tiny", npu="cpu", gpu="none", plan="npu", otlp_endpoint="https://collector/v1/traces")
        result = cluster.up()
        logs = cluster.logs()
        shutil.rmtree(cluster.folder, ignore_errors=True)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("--otlp_endpoint: expected http://", result.stderr + result.stdout + logs)


if __name__ == "__main__":
    unittest.main(verbosity=2)
