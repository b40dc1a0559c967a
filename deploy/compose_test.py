"""The profile `demo` of deploy/docker as its users have it. Run by deploy/test, which has built the images and knows a daemon."""
import concurrent.futures
import contextlib
import http.client
import json
import os
import secrets
import select
import signal
import unittest
import urllib.parse

from compose_cluster import KEY, PROJECT, Deployment, run, DOCKER
from collector import Collector

PROCESSES = ["loader-demo", "npu-worker-demo", "gpu-worker-demo", "gateway-demo"]
OTHERS = ["prometheus", *(["grafana"] if os.environ["TANDEM_DEPLOY_GRAFANA"] == "1" else [])]
LONG = {"temperature": 0, "max_tokens": 96, "ignore_eos": True}


class NotBegun(Exception):
    """No server took the request; it may be repeated."""


class ComposeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.demo = Deployment("demo", PROCESSES)
        cls.addClassCleanup(cls.demo.down)
        if cls.demo.memlock != -1:
            print(f"   no CAP_SYS_RESOURCE here: the limit of locked memory is {cls.demo.memlock} bytes instead of none")
        # The collector stands outside, where the containers' network leads to this machine.
        cls.demo.compose("up", "--no-start", "--no-build", "prometheus")
        network = json.loads(run(DOCKER, "network", "inspect", f"{PROJECT}_default"))[0]
        cls.collector = Collector(network["IPAM"]["Config"][0]["Gateway"])
        cls.addClassCleanup(cls.collector.close)
        cls.demo.set(OTLP_ENDPOINT="http://{}:{}/v1/traces".format(*cls.collector.server.server_address))
        cls.demo.up(*OTHERS)

    def stream(self, question: str, on_text=None, model: str | None = None) -> str:
        """A long answer, as it comes; `on_text` is called once, after the first text. NotBegun: no server took the request."""
        body = {"model": model or self.demo.model(), "messages": [{"role": "user", "content": question}], "stream": True, **LONG}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.demo.http_port, timeout=300)) as connection:
            try:
                connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"})
                response = connection.getresponse()
            except (ConnectionError, http.client.RemoteDisconnected) as error:
                raise NotBegun(str(error)) from error
            return self.read_stream(response, on_text)

    def read_stream(self, response, on_text) -> str:
        if response.status == 503:
            raise NotBegun(response.read().decode())
        self.assertEqual(response.status, 200)
        text, done = "", False
        for line in response:
            if not line.startswith(b"data: "):
                continue
            if line[6:].strip() == b"[DONE]":
                done = True
                break
            event = json.loads(line[6:])
            self.assertNotIn("error", event)
            text += event["choices"][0]["delta"].get("content") or ""
            if text and on_text is not None:
                on_text()
                on_text = None
        self.assertTrue(done, "the stream ended early")
        return text

    def test_1_it_chats_with_a_key_and_not_without(self):
        answer = self.demo.chat("What is 12 + 30?", temperature=0, max_tokens=32)
        print(f"   answer: {answer!r}")
        self.assertIn("42", answer)
        self.assertEqual(self.demo.request("GET", "/v1/models", key=None)[0], 401)
        inside = self.demo.inside("gateway-demo", "/usr/bin/tandem", "chat", "--once", "Hello", "--max_tokens=8", "--grpc=unix:/run/tandem/gateway.sock")
        self.assertTrue(inside.strip())

    def test_2_containers_share_memory_without_a_copy(self):
        status = self.demo.status()
        kinds = {edge["kind"] for edge in status["edges"]}
        print(f"   plan {status['plan']}, workers {[w['device_name'] for w in status['workers']]}, edges {sorted(kinds)}")
        self.assertEqual(status["plan"], "split")
        self.assertTrue(kinds)
        self.assertLessEqual(kinds, {"dma-buf", "host-pointer"}, "something is copied between containers")
        regions = (self.demo.process("npu-worker-demo") / "maps").read_text().count("memfd:")
        self.assertGreater(regions, 0, "the weights are mapped from the loader's memory")

    def test_3_containers_may_do_what_they_must_and_no_more(self):
        for service in PROCESSES:
            state = self.demo.container(service)
            self.assertTrue(state["HostConfig"]["ReadonlyRootfs"], service)
            self.assertGreater(state["HostConfig"]["Memory"], 0, service)
            self.assertEqual(state["HostConfig"]["NetworkMode"] == "none", service != "gateway-demo", service)
            own = dict(line.split(":\t", 1) for line in (self.demo.process(service) / "status").read_text().splitlines() if ":\t" in line)
            self.assertEqual(own["Uid"].split()[0], "10001", service)
            self.assertEqual((int(own["CapEff"], 16), int(own["CapBnd"], 16), own["NoNewPrivs"], own["Seccomp"]), (0, 0, "1", "2"), service)
            limits = (self.demo.process(service) / "limits").read_text()
            wanted = "unlimited" if self.demo.memlock == -1 else str(self.demo.memlock)
            self.assertRegex(limits, rf"Max locked memory +{wanted} +{wanted}", service)
        models = [m for m in self.demo.container("loader-demo")["Mounts"] if m["Destination"] == "/models"]
        self.assertFalse(models[0]["RW"], "the models are read-only")

    def kill(self, service: str) -> None:
        # As the kernel does it; `docker kill` would tell the daemon that the container shall stay down.
        os.kill(self.demo.container(service)["State"]["Pid"], signal.SIGKILL)

    def test_4_killed_containers_come_back_and_answers_go_on(self):
        whole = self.stream("Tell me a story.")
        self.assertGreater(len(whole), 100)
        for service in ("npu-worker-demo", "gpu-worker-demo", "loader-demo"):
            restarts = self.demo.container(service)["RestartCount"]
            text = self.stream("Tell me a story.", on_text=lambda: self.kill(service))
            self.assertEqual(text, whole, f"{service} was killed in the middle")
            self.demo.wait_for(lambda: self.demo.container(service)["RestartCount"] > restarts, f"{service} is started again")
            self.demo.wait_healthy()
            print(f"   {service} killed in the middle of an answer: the answer is whole, restarts {self.demo.container(service)['RestartCount']}")
        self.kill("gateway-demo")
        self.demo.wait_for(lambda: self.demo.container("gateway-demo")["RestartCount"] == 1, "the gateway is started again")
        self.demo.wait_healthy()
        self.assertEqual(self.stream("Tell me a story."), whole)

    def test_5_an_upgrade_loses_no_request(self):
        """docs/operations.md: workers and loader one after another, the gateway last, with its grace; clients repeat what found no server."""
        model = self.demo.model()
        whole = self.stream("Tell me a story.", model=model)
        stop = []
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(self.ask_until, stop, whole, model) for _ in range(2)]
            try:
                for service in ("loader-demo", "npu-worker-demo", "gpu-worker-demo", "gateway-demo"):
                    before = self.demo.container(service)["Id"]
                    replacing = []
                    self.assertEqual(whole, self.stream("Tell me a story.", model=model, on_text=lambda: replacing.append(pool.submit(
                        self.demo.compose, "up", "--detach", "--no-build", "--no-deps", "--force-recreate", "--timeout", "75", service))))
                    replacing[0].result(timeout=200)
                    self.demo.wait_for(lambda: self.demo.another(service, before), f"{service} is another container")
                    self.demo.wait_healthy()
            finally:
                stop.append(True)
            counts = [client.result(timeout=600) for client in clients]
        print(f"   every container replaced under load: {sum(c[0] for c in counts)} answers, all whole; {sum(c[1] for c in counts)} requests repeated that no server had taken")
        self.assertGreater(min(c[0] for c in counts), 0)

    def ask_until(self, stop: list, whole: str, model: str) -> tuple[int, int]:
        """Asks again and again; a request that no server took is repeated, as OpenAI's clients do. An answer once begun must be whole."""
        answers = repeated = 0
        while not stop:
            try:
                self.assertEqual(self.stream("Tell me a story.", model=model), whole)
                answers += 1
            except NotBegun:
                repeated += 1
                select.select([], [], [], 0.2)
        return answers, repeated

    def query(self, expression: str) -> list:
        status, answer = self.demo.request("GET", "/api/v1/query?" + urllib.parse.urlencode({"query": expression}), port=self.demo.prometheus_port, key=None)
        self.assertEqual(status, 200, answer)
        return answer["data"]["result"]

    def test_6_prometheus_scrapes(self):
        def up() -> bool:
            try:
                return bool(self.query("up == 1")) and not self.query("up == 0")
            except (OSError, http.client.HTTPException):
                return False
        self.demo.wait_for(up, "Prometheus reaches every target", 120)
        self.demo.chat("Hello", max_tokens=4)
        self.demo.wait_for(lambda: len(self.query("up == 1")) == len(PROCESSES), "the pages of all processes are scraped", 120)
        self.demo.wait_for(lambda: self.query('sum({__name__=~"tandem_.*tokens.*"}) > 0'), "tokens are counted", 120)
        print(f"   targets up: {len(self.query('up == 1'))}")

    def test_7_traces_reach_a_collector(self):
        """One trace for each request, with spans of the gateway and of both workers, which have no network."""
        traces = [secrets.token_hex(16) for _ in range(3)]
        for trace in traces:
            self.demo.chat("Hello", {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}, max_tokens=4, temperature=0, ignore_eos=True)
        expected = {("gateway", "chat"), ("gateway", "queue"), *((worker, part) for worker in ("npu0", "gpu0") for part in ("prefill", "decode"))}
        for trace in traces:
            def parts(spans) -> list:
                return sorted((span["process"], span["name"].split()[0]) for span in spans if span["traceId"] == trace)
            self.assertTrue(self.collector.wait(lambda spans: parts(spans) == sorted(expected)), parts(self.collector.spans))
        print(f"   {len(traces)} requests, {len(traces)} traces of {len(expected)} spans each, from {sorted({name for name, _ in expected})}")

    @unittest.skipIf("grafana" not in OTHERS, "Grafana's image cannot be reached")
    def test_8_grafana_is_provisioned(self):
        self.demo.wait_for(lambda: self.demo.request("GET", "/api/health", port=self.demo.grafana_port, key=None)[0] == 200, "Grafana answers", 180)


if __name__ == "__main__":
    unittest.main(verbosity=2)
