"""Starts clusters for tests and talks to them. Standard library only.

A cluster lives in a temporary folder of its own (XDG folders), listens on free loopback ports and is stopped whatever happens.
"""
from __future__ import annotations

import http.client
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("TANDEM_BIN", ROOT / "build/release/bin"))
GOLDEN = ROOT / "tests/golden/data"
START_SECONDS = 180
# The best Vulkan device that is there, be it a software driver: by its number it is named, and auto would not take that.
GPU = "0"


class Cluster:
    """`with Cluster(model, plan="split", npu="cpu") as c:`; keyword arguments are flags of `tandem up`."""

    def __init__(self, model: pathlib.Path | str, **flags):
        # Socket paths are short: not below pytest's or CI's deep folders.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tandem-", dir="/tmp"))
        self.environment = dict(os.environ, XDG_RUNTIME_DIR=str(self.folder), XDG_STATE_HOME=str(self.folder), XDG_CACHE_HOME=str(self.folder))
        self.flags = {"model": str(model), "http": "127.0.0.1:0", "grpc": "127.0.0.1:0", **flags}
        # Tests look at the descriptors of processes, which in the sandbox only root may.
        if os.geteuid() != 0:
            self.flags.setdefault("sandbox", "false")
        self.started = False

    def tandem(self, *arguments: str, text: str | None = None, timeout: float = 120) -> subprocess.CompletedProcess:
        return subprocess.run([str(BIN / "tandem"), *arguments], env=self.environment, input=text, capture_output=True, text=True,
                              errors="replace", timeout=timeout)

    def up(self) -> subprocess.CompletedProcess:
        return self.tandem("up", "--detach", *(f"--{k}={v}" for k, v in self.flags.items()), timeout=START_SECONDS)

    def __enter__(self) -> "Cluster":
        result = self.up()
        if result.returncode != 0:
            logs = self.logs()
            shutil.rmtree(self.folder, ignore_errors=True)
            raise AssertionError(f"the cluster did not start: {result.stderr}\n{result.stdout}\n{logs}")
        self.started = True
        self.start_output = result.stdout
        self.read_state()
        return self

    def __exit__(self, kind, value, trace) -> None:
        if kind is not None:
            print(self.logs())
        if self.started:
            self.tandem("down")
        shutil.rmtree(self.folder, ignore_errors=True)

    def read_state(self) -> dict:
        state = json.loads((self.folder / "tandem/default/state.json").read_text())
        self.http = state["http"]
        self.grpc = state["grpc"]
        self.pids = {p["name"]: p["pid"] for p in state["processes"]}
        self.restarts = {p["name"]: p["restarts"] for p in state["processes"]}
        return state

    def logs(self) -> str:
        parts = []
        for log in sorted((self.folder / "tandem/default/logs").glob("*.log")):
            parts.append(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:]))
        return "\n".join(parts)

    def status(self) -> dict:
        result = self.tandem("status", "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def request(self, method: str, path: str, body: dict | bytes | None = None, headers: dict | None = None, timeout: float = 240):
        """(status, parsed JSON or text, headers)."""
        connection = http.client.HTTPConnection(self.http, timeout=timeout)
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        try:
            return response.status, json.loads(text), response.headers
        except ValueError:
            return response.status, text.decode(errors="replace"), response.headers

    @property
    def model(self) -> str:
        return self.request("GET", "/v1/models")[1]["data"][0]["id"]

    def complete(self, prompt, **parameters) -> dict:
        status, answer, _ = self.request("POST", "/v1/completions", {"model": self.model, "prompt": prompt, **parameters})
        assert status == 200, (status, answer)
        return answer

    def chat(self, *texts: str, **parameters) -> dict:
        roles = ["user", "assistant"]
        messages = [{"role": roles[i % 2], "content": t} for i, t in enumerate(texts)]
        status, answer, _ = self.request("POST", "/v1/chat/completions", {"model": self.model, "messages": messages, **parameters})
        assert status == 200, (status, answer)
        return answer

    def stream(self, path: str, body: dict, timeout: float = 240):
        """Yields the data of each server-sent event as it arrives; ends after [DONE] or the end of the stream."""
        connection = http.client.HTTPConnection(self.http, timeout=timeout)
        connection.request("POST", path, json.dumps({"model": self.model, "stream": True, **body}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        try:
            if response.status != 200:
                raise AssertionError((response.status, response.read()))
            for line in response:
                if line.startswith(b"data: "):
                    data = line[6:].strip()
                    if data == b"[DONE]":
                        return
                    yield json.loads(data)
        finally:
            connection.close()

    def wait_ready(self, seconds: float = 90) -> None:
        """Until /readyz answers 200. The server is asked again and again: there is no event to wait for across processes."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if self.request("GET", "/readyz", timeout=5)[0] == 200:
                    return
            except OSError:
                pass
            select.select([], [], [], 0.05)
        raise AssertionError("not ready in time\n" + self.logs())


def greedy(length: int) -> dict:
    return {"temperature": 0, "max_tokens": length}
