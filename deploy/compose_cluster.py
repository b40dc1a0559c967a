"""A cluster of deploy/docker's docker-compose.yml for tests: one profile at a time, with ports, keys and limits that fit the machine. Standard library only.

deploy/test has built the images and knows a daemon; its environment says where (TANDEM_DEPLOY_FOLDER and others).
"""
from __future__ import annotations

import http.client
import json
import os
import pathlib
import resource
import secrets
import select
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))

FOLDER = pathlib.Path(os.environ["TANDEM_DEPLOY_FOLDER"])
PROJECT = os.environ["TANDEM_DEPLOY_PROJECT"]
DOCKER = os.environ["DOCKER"]
KEY = secrets.token_hex(24)
METRICS_KEY = secrets.token_hex(24)


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def memlock() -> int:
    """What the daemon may give: without CAP_SYS_RESOURCE, as in some virtual machines, no more than it has itself."""
    bounding = next(int(line.split()[1], 16) for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
    return -1 if bounding >> 24 & 1 else resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]


def run(*command: str, check: bool = True, timeout: float = 600) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {result.stderr}\n{result.stdout}")
    return result.stdout


class Deployment:
    """The services of one profile. `settings` stand behind those of deploy/docker/.env, `files` over docker-compose.yml."""

    def __init__(self, profile: str, processes: list[str], settings: dict[str, object] | None = None, files: tuple[pathlib.Path, ...] = ()):
        self.profile, self.processes = profile, processes
        self.gateway = next(p for p in processes if p.startswith("gateway"))
        self.files = (ROOT / "deploy/docker/docker-compose.yml", *files)
        self.http_port, grpc, self.prometheus_port, self.grafana_port = free_ports(4)
        self.memlock = memlock()
        for name, text in (("api_keys", f"{KEY}\n{METRICS_KEY}\n"), ("metrics_key", METRICS_KEY)):
            (FOLDER / name).write_text(text)
            (FOLDER / name).chmod(0o644)
        self.settings = {"API_KEYS": FOLDER / "api_keys", "METRICS_KEY": FOLDER / "metrics_key", "HTTP_PORT": self.http_port, "GRPC_PORT": grpc,
                         "PROMETHEUS_PORT": self.prometheus_port, "GRAFANA_PORT": self.grafana_port, "TAG": PROJECT, "MEMLOCK": self.memlock}
        self.set(**(settings or {}))

    def set(self, **settings: object) -> None:
        self.settings |= settings
        lines = "".join(f"{name}={value}\n" for name, value in self.settings.items())
        (FOLDER / "env").write_text((ROOT / "deploy/docker/.env").read_text() + lines)

    def compose(self, *arguments: str) -> str:
        files = [argument for file in self.files for argument in ("--file", str(file))]
        return run("docker-compose", "--project-name", PROJECT, "--project-directory", str(ROOT / "deploy/docker"), *files,
                   "--env-file", str(FOLDER / "env"), "--profile", self.profile, *arguments)

    def up(self, *others: str) -> None:
        """Starts the processes and other services, and waits until questions are answered."""
        self.compose("up", "--detach", "--no-build", *self.processes, *others)
        self.wait_healthy()

    def down(self) -> None:
        self.compose("down", "--volumes", "--timeout", "5")

    def wait_for(self, condition, what: str, seconds: float = 600) -> None:
        """Docker is asked again and again: what is waited for happens in several places."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not in time: {what}\n{self.compose('ps')}\n{self.compose('logs', '--tail=20')}")
            select.select([], [], [], 0.2)

    def wait_healthy(self) -> None:
        def healthy() -> bool:
            try:
                states = [self.container(service)["State"] for service in self.processes]
            except (AssertionError, ValueError):
                return False
            return all(state["Running"] and state["Health"]["Status"] == "healthy" for state in states) and self.ready()
        self.wait_for(healthy, "all processes are healthy")

    def ready(self) -> bool:
        try:
            return self.request("GET", "/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def container(self, service: str) -> dict:
        return json.loads(run(DOCKER, "inspect", self.compose("ps", "-q", service).strip()))[0]

    def another(self, service: str, before: str) -> bool:
        """Whether there is a new container; while it takes the old one's place there may be none."""
        try:
            return self.container(service)["Id"] != before
        except (AssertionError, ValueError):
            return False

    def inside(self, service: str, *command: str) -> str:
        return run(DOCKER, "exec", self.container(service)["Id"], *command)

    def process(self, service: str) -> pathlib.Path:
        """The folder in /proc of a container's process, into which root alone may look."""
        return pathlib.Path(f"/proc/{self.container(service)['State']['Pid']}")

    def status(self) -> dict:
        return json.loads(self.inside(self.gateway, "/usr/bin/tandem", "status", "--json", "--grpc=unix:/run/tandem/gateway.sock"))

    def request(self, method: str, path: str, body: dict | None = None, key: str | None = KEY, port: int | None = None, headers: dict | None = None):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.http_port, timeout=300)
        try:
            headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {}) | (headers or {})
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        finally:
            connection.close()
        return response.status, json.loads(text) if text.startswith(("{", "[")) else text

    def model(self) -> str:
        status, models = self.request("GET", "/v1/models")
        assert status == 200, models
        return models["data"][0]["id"]

    def chat(self, question: str, headers: dict | None = None, **parameters) -> str:
        body = {"model": self.model(), "messages": [{"role": "user", "content": question}], **parameters}
        status, answer = self.request("POST", "/v1/chat/completions", body, headers=headers)
        assert status == 200, answer
        return answer["choices"][0]["message"]["content"]
