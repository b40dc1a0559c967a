"""Real Prometheus watches a cluster under load: what it scrapes is clean, and every query of every rule and panel has data.

TANDEM_FIGURES=FOLDER draws the dashboards there at the end, after TANDEM_FIGURE_SECONDS more seconds of load and with as many of its minutes.
"""
from __future__ import annotations

import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

from cluster import GPU, ROOT, Cluster

DEPLOY = ROOT / "deploy"
MODEL = ROOT / "models/demo/tandem-demo-Q8_0.gguf"
PATIENCE_SECONDS = 90
RULES = re.compile(r"^ +expr: (?:>-\n((?: {10}.*\n)+)|(.*)\n)", re.MULTILINE)


def run(*command: str, text: str | None = None) -> str:
    result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, (command, result.stdout, result.stderr)
    return result.stdout


def rule_queries() -> list[str]:
    """Of alerts: whether the condition holds, as 0 or 1, instead of the series for which it does."""
    queries = []
    for file in sorted((DEPLOY / "prometheus/rules").glob("*.yml")):
        for folded, plain in RULES.findall(file.read_text()):
            query = " ".join(folded.split()) if folded else plain
            queries.append(re.sub(r" (==|>) ", r" \1 bool ", query) if file.stem == "alerts" else query)
    return queries


def panel_queries() -> list[str]:
    return [target["expr"] for file in sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
            for panel in json.loads(file.read_text())["panels"] for target in panel["targets"]]


class Prometheus:
    """A process of its own, with the project's configuration; only the gateway's address and the pace differ."""

    def __init__(self, gateway: str):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tandem-prometheus-", dir="/tmp"))
        shutil.copytree(DEPLOY / "prometheus/rules", self.folder / "rules")
        text = (DEPLOY / "prometheus/prometheus.yml").read_text()
        text = text.replace("127.0.0.1:8080", gateway).replace(" 5s", " 1s").replace(" 4s", " 1s").replace(" 15s", " 1s")
        (self.folder / "prometheus.yml").write_text(text)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"

    def __enter__(self) -> "Prometheus":
        self.log = (self.folder / "log").open("w")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
             f"--web.listen-address={self.address}"], stdout=self.log, stderr=self.log)
        return self

    def __exit__(self, kind, value, trace) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.log.close()
        if kind is not None:
            print((self.folder / "log").read_text()[-4000:])
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, path: str, **parameters) -> dict:
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=30) as reply:
            return json.load(reply)["data"]

    def query(self, query: str) -> list[dict]:
        return [r for r in self.ask("query", query=query)["result"] if r["value"][1] != "NaN"]

    def wait(self, queries: list[str], holds=bool) -> list[str]:
        """Those whose answers do not come to hold. Asked again and again: Prometheus has no event to wait for."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                queries = [q for q in queries if not holds(self.query(q))]
            except urllib.error.HTTPError as error:
                # 503: it is still starting.
                if error.code != 503:
                    raise AssertionError(error.read()) from error
            except OSError:
                # It does not listen yet.
                pass
            if not queries or time.monotonic() > end:
                return queries
            select.select([], [], [], 0.3)


class Load:
    """Streams of requests from a few threads, one of them asking wrongly now and then, until it is told to stop."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.model = cluster.model
        self.stop = threading.Event()
        self.done = 0
        self.threads = [threading.Thread(target=self.work, args=(i,)) for i in range(5)]

    def work(self, number: int) -> None:
        turn = 0
        while not self.stop.is_set():
            turn += 1
            body = {"model": self.model, "max_tokens": 24, "messages": [{"role": "user", "content": f"What is {turn} + {number}?"}]}
            if number == 4 and turn % 5 == 0:
                body["temperature"] = -3
            try:
                self.cluster.request("POST", "/v1/chat/completions", body)
                self.done += 1
            except OSError:
                pass

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind, value, trace) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()


class PrometheusTest(unittest.TestCase):
    def check_pages(self, cluster: Cluster) -> None:
        pages = ["/metrics", *(f"/metrics/process/{name}" for name in ("loader", "npu0", "gpu0"))]
        for page in pages:
            status, text, _ = cluster.request("GET", page)
            self.assertEqual(status, 200, page)
            # Ends with an error, too, where only a name is against the conventions.
            run("promtool", "check", "metrics", text=text)
        # The processes' own ports show the same.
        status = cluster.status()
        for address in [status["loader_metrics"], *(w["metrics"] for w in status["workers"])]:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as reply:
                self.assertIn("process_open_fds", reply.read().decode())

    def test_every_query_has_data(self) -> None:
        with Cluster(MODEL, npu="cpu", gpu=GPU, plan="split", process_metrics="true") as cluster, Load(cluster) as load, \
                Prometheus(cluster.http) as prometheus:
            queries = sorted(set(rule_queries() + panel_queries()))
            self.assertGreater(len(queries), 60)
            missing = prometheus.wait(queries)
            self.assertEqual(missing, [], "queries without data")
            self.assertGreater(load.done, 0)
            self.check_pages(cluster)
            health = {rule["name"]: rule["health"] for group in prometheus.ask("rules")["groups"] for rule in group["rules"]}
            self.assertEqual(set(health.values()), {"ok"}, health)
            self.kill_a_worker(cluster, prometheus)
            if folder := os.environ.get("TANDEM_FIGURES"):
                seconds = float(os.environ.get("TANDEM_FIGURE_SECONDS", "60"))
                select.select([], [], [], seconds)
                run(sys.executable, str(ROOT / "tools/render_dashboards.py"), "--prometheus", f"http://{prometheus.address}",
                    "--out", folder, "--minutes", f"{seconds / 60 + 0.2:.1f}")

    def kill_a_worker(self, cluster: Cluster, prometheus: Prometheus) -> None:
        os.kill(cluster.pids["npu0"], signal.SIGKILL)
        seen = ['tandem_worker_restarts_total{worker="npu0"} == 1', "tandem_recoveries_total == 1", "tandem_replayed_requests_total > 0",
                'up{process="npu0"} == 1 and on () (tandem_cluster_ready == 1)']
        self.assertEqual(prometheus.wait(seen), [], "a killed worker is not seen")


if __name__ == "__main__":
    if not shutil.which("prometheus") or not shutil.which("promtool"):
        print("skipped: Prometheus is not installed (tools/install_deps.sh does it)")
        sys.exit(77)
    unittest.main(verbosity=2)
