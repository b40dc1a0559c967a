"""The official OpenAI clients (Python, Node) and grpcio against a cluster: clients/run_clients.py does the work.

The exit code is 77 (skipped) when no client can be installed because the registries are not reachable; each one that is skipped is named.
TANDEM_CLIENT_CACHE names a folder that keeps the installed clients between runs.
"""
import os
import pathlib
import subprocess
import sys

from cluster import GOLDEN, Cluster

RUNNER = pathlib.Path(__file__).resolve().parent / "clients/run_clients.py"


def main() -> int:
    cache = os.environ.get("TANDEM_CLIENT_CACHE")
    with Cluster(GOLDEN / "tiny", plan="npu", npu="cpu", gpu="none") as c:
        command = [sys.executable, str(RUNNER), f"http://{c.http}/v1", c.grpc, *(["--cache", cache] if cache else [])]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
