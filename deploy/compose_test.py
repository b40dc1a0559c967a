"""The profile `demo` of deploy/docker as its users have it. Run by deploy/test, which has built the images and knows a daemon."""
import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import resource
import secrets
import select
import signal
import socket
import subprocess
import time
import unittest
import urllib.parse

FOLDER = pathlib.Path(os.environ["TANDEM_DEPLOY_FOLDER"])
PROJECT = os.environ["TANDEM_DEPLOY_PROJECT"]
DOCKER = os.environ["DOCKER"]
ROOT = pathlib.Path(__file__).resolve().parents[1]
PROCESSES = ["loader-demo", "npu-worker-demo", "gpu-worker-demo", "gateway-demo"]
SERVICES = [*PROCESSES, "prometheus", *(["grafana"] if os.environ["TANDEM_DEPLOY_GRAFANA"] == "1" else [])]
KEY = secrets.token_hex(24)
METRICS_KEY = secrets.token_hex(24)
LONG = {"temperature": 0, "max_tokens": 96, "ignore_eos": True}


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def memlock() -> int:
    """What the daemon may give: without CAP_SYS_RESOURCE, as in some virtual machines, no more than it has itself."""
    bounding = next(int(line.split()[1], 16) for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
    if bounding >> 24 & 1:
        return -1
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    print(f"   no CAP_SYS_RESOURCE here: the limit of locked memory is {limit} bytes instead of none")
    return limit


def run(*command: str, check: bool = True, timeout: float = 600) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {result.stderr}\n{result.stdout}")
    return result.stdout


def compose(*arguments: str) -> str:
    folder = ROOT / "deploy/docker"
    return run("docker-compose", "--project-name", PROJECT, "--project-directory", str(folder), "--file", str(folder / "docker-compose.yml"),
               "--env-file", str(FOLDER / "env"), "--profile", "demo", *arguments)


def wait_for(condition, what: str, seconds: float = 300) -> None:
    """Docker is asked again and again: what is waited for happens in several places."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not in time: {what}\n{compose('ps')}\n{compose('logs', '--tail=20')}")
        select.select([], [], [], 0.2)


def container(service: str) -> dict:
    return json.loads(run(DOCKER, "inspect", compose("ps", "-q", service).strip()))[0]


def another(service: str, before: str) -> bool:
    """Whether there is a new container; while it takes the old one's place there may be none."""
    try:
        return container(service)["Id"] != before
    except (AssertionError, ValueError):
        return False


class NotBegun(Exception):
    """No server took the request; it may be repeated."""


class ComposeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.http_port, grpc, prometheus, grafana = free_ports(4)
        cls.prometheus_port, cls.grafana_port = prometheus, grafana
        cls.memlock = memlock()
        for name, text in (("api_keys", f"{KEY}\n{METRICS_KEY}\n"), ("metrics_key", METRICS_KEY)):
            (FOLDER / name).write_text(text)
            (FOLDER / name).chmod(0o644)
        settings = (ROOT / "deploy/docker/.env").read_text() + "\n".join((
            f"API_KEYS={FOLDER}/api_keys", f"METRICS_KEY={FOLDER}/metrics_key", f"HTTP_PORT={cls.http_port}", f"GRPC_PORT={grpc}",
            f"PROMETHEUS_PORT={prometheus}", f"GRAFANA_PORT={grafana}", f"TAG={PROJECT}", f"MEMLOCK={cls.memlock}", ""))
        (FOLDER / "env").write_text(settings)
        compose("up", "--detach", "--no-build", *SERVICES)
        cls.wait_healthy()

    @classmethod
    def wait_healthy(cls) -> None:
        def healthy() -> bool:
            try:
                states = [container(service)["State"] for service in PROCESSES]
            except (AssertionError, ValueError):
                return False
            return all(state["Running"] and state["Health"]["Status"] == "healthy" for state in states) and cls.ready()
        wait_for(healthy, "all processes are healthy")

    @classmethod
    def ready(cls) -> bool:
        try:
            return cls.request("GET", "/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    @classmethod
    def request(cls, method: str, path: str, body: dict | None = None, key: str | None = KEY, port: int | None = None):
        connection = http.client.HTTPConnection("127.0.0.1", port or cls.http_port, timeout=300)
        try:
            headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        finally:
            connection.close()
        return response.status, json.loads(text) if text.startswith(("{", "[")) else text

    def chat(self, question: str, **parameters) -> str:
        body = {"model": self.model(), "messages": [{"role": "user", "content": question}], **parameters}
        status, answer = self.request("POST", "/v1/chat/completions", body)
        self.assertEqual(status, 200, answer)
        return answer["choices"][0]["message"]["content"]

    def model(self) -> str:
        status, models = self.request("GET", "/v1/models")
        self.assertEqual(status, 200, models)
        return models["data"][0]["id"]

    def stream(self, question: str, on_text=None, model: str | None = None) -> str:
        """A long answer, as it comes; `on_text` is called once, after the first text. NotBegun: no server took the request."""
        body = {"model": model or self.model(), "messages": [{"role": "user", "content": question}], "stream": True, **LONG}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=300)) as connection:
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

    def status(self) -> dict:
        return json.loads(run(DOCKER, "exec", container("gateway-demo")["Id"], "/usr/bin/tandem", "status", "--json", "--grpc=unix:/run/tandem/gateway.sock"))

    def test_1_it_chats_with_a_key_and_not_without(self):
        answer = self.chat("What is 12 + 30?", temperature=0, max_tokens=32)
        print(f"   answer: {answer!r}")
        self.assertIn("42", answer)
        self.assertEqual(self.request("GET", "/v1/models", key=None)[0], 401)
        inside = run(DOCKER, "exec", container("gateway-demo")["Id"], "/usr/bin/tandem", "chat", "--once", "Hello", "--max_tokens=8",
                     "--grpc=unix:/run/tandem/gateway.sock")
        self.assertTrue(inside.strip())

    def test_2_containers_share_memory_without_a_copy(self):
        status = self.status()
        kinds = {edge["kind"] for edge in status["edges"]}
        print(f"   plan {status['plan']}, workers {[w['device_name'] for w in status['workers']]}, edges {sorted(kinds)}")
        self.assertEqual(status["plan"], "split")
        self.assertTrue(kinds)
        self.assertLessEqual(kinds, {"dma-buf", "host-pointer"}, "something is copied between containers")
        # Root alone may look into a process of Tandem.
        regions = pathlib.Path(f"/proc/{container('npu-worker-demo')['State']['Pid']}/maps").read_text().count("memfd:")
        self.assertGreater(regions, 0, "the weights are mapped from the loader's memory")

    def test_3_containers_may_do_what_they_must_and_no_more(self):
        for service in PROCESSES:
            state = container(service)
            self.assertTrue(state["HostConfig"]["ReadonlyRootfs"], service)
            self.assertGreater(state["HostConfig"]["Memory"], 0, service)
            self.assertEqual(state["HostConfig"]["NetworkMode"] == "none", service != "gateway-demo", service)
            own = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{state['State']['Pid']}/status").read_text().splitlines() if ":\t" in line)
            self.assertEqual(own["Uid"].split()[0], "10001", service)
            self.assertEqual((int(own["CapEff"], 16), int(own["CapBnd"], 16), own["NoNewPrivs"], own["Seccomp"]), (0, 0, "1", "2"), service)
            limits = pathlib.Path(f"/proc/{state['State']['Pid']}/limits").read_text()
            wanted = "unlimited" if self.memlock == -1 else str(self.memlock)
            self.assertRegex(limits, rf"Max locked memory +{wanted} +{wanted}", service)
        models = [m for m in container("loader-demo")["Mounts"] if m["Destination"] == "/models"]
        self.assertFalse(models[0]["RW"], "the models are read-only")

    def kill(self, service: str) -> None:
        # As the kernel does it; `docker kill` would tell the daemon that the container shall stay down.
        os.kill(container(service)["State"]["Pid"], signal.SIGKILL)

    def test_4_killed_containers_come_back_and_answers_go_on(self):
        whole = self.stream("Tell me a story.")
        self.assertGreater(len(whole), 100)
        for service in ("npu-worker-demo", "gpu-worker-demo", "loader-demo"):
            restarts = container(service)["RestartCount"]
            text = self.stream("Tell me a story.", on_text=lambda: self.kill(service))
            self.assertEqual(text, whole, f"{service} was killed in the middle")
            wait_for(lambda: container(service)["RestartCount"] > restarts, f"{service} is started again")
            self.wait_healthy()
            print(f"   {service} killed in the middle of an answer: the answer is whole, restarts {container(service)['RestartCount']}")
        self.kill("gateway-demo")
        wait_for(lambda: container("gateway-demo")["RestartCount"] == 1, "the gateway is started again")
        self.wait_healthy()
        self.assertEqual(self.stream("Tell me a story."), whole)

    def test_5_an_upgrade_loses_no_request(self):
        """docs/operations.md: workers and loader one after another, the gateway last, with its grace; clients repeat what found no server."""
        model = self.model()
        whole = self.stream("Tell me a story.", model=model)
        stop = []
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(self.ask_until, stop, whole, model) for _ in range(2)]
            try:
                for service in ("loader-demo", "npu-worker-demo", "gpu-worker-demo", "gateway-demo"):
                    before = container(service)["Id"]
                    replacing = []
                    self.assertEqual(whole, self.stream("Tell me a story.", model=model, on_text=lambda: replacing.append(pool.submit(
                        compose, "up", "--detach", "--no-build", "--no-deps", "--force-recreate", "--timeout", "75", service))))
                    replacing[0].result(timeout=200)
                    wait_for(lambda: another(service, before), f"{service} is another container")
                    self.wait_healthy()
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
        status, answer = self.request("GET", "/api/v1/query?" + urllib.parse.urlencode({"query": expression}), port=self.prometheus_port, key=None)
        self.assertEqual(status, 200, answer)
        return answer["data"]["result"]

    def test_6_prometheus_scrapes(self):
        def up() -> bool:
            try:
                return bool(self.query("up == 1")) and not self.query("up == 0")
            except (OSError, http.client.HTTPException):
                return False
        wait_for(up, "Prometheus reaches every target", 120)
        self.chat("Hello", max_tokens=4)
        wait_for(lambda: len(self.query("up == 1")) == len(PROCESSES), "the pages of all processes are scraped", 120)
        wait_for(lambda: self.query('sum({__name__=~"tandem_.*tokens.*"}) > 0'), "tokens are counted", 120)
        print(f"   targets up: {len(self.query('up == 1'))}")

    @unittest.skipIf("grafana" not in SERVICES, "Grafana's image cannot be reached")
    def test_7_grafana_is_provisioned(self):
        wait_for(lambda: self.request("GET", "/api/health", port=self.grafana_port, key=None)[0] == 200, "Grafana answers", 180)


if __name__ == "__main__":
    unittest.main(verbosity=2)
