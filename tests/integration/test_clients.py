"""Outside clients (OpenAI's, Anthropic's, Ollama's, grpcio) against a cluster with the demo model: clients/run_clients.py does the work.

  test_clients.py [--all]     --all: every client, and docs/clients.md gets its table

The exit code is 77 (skipped) when no client can be installed because the registries are not reachable; each one that is skipped is named.
TANDEM_CLIENT_CACHE names a folder that keeps the installed clients between runs.
"""
import os
import pathlib
import subprocess
import sys

from cluster import ROOT, Cluster

RUNNER = pathlib.Path(__file__).resolve().parent / "clients/run_clients.py"
MODEL = next((ROOT / "models/demo").glob("*.gguf"))


def main() -> int:
    cache = os.environ.get("TANDEM_CLIENT_CACHE")
    more = ["--all", "--table", str(ROOT / "docs/clients.md")] if "--all" in sys.argv[1:] else []
    with Cluster(MODEL, plan="npu", npu="cpu", gpu="none") as c:
        command = [sys.executable, str(RUNNER), f"http://{c.http}/v1", c.grpc, *(["--cache", cache] if cache else []), *more]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
