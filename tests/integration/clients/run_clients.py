"""Runs the outside clients against a running gateway.

  run_clients.py BASE_URL GRPC_ADDRESS [--api_key KEY] [--cache FOLDER] [--overload]

BASE_URL is like http://127.0.0.1:8080/v1. Each client is installed from its registry into FOLDER (default: a temporary one). A
client that cannot be installed is skipped and said to be. One line each: "passed", "skipped: why" or "FAILED". The exit code is 1 when
one failed, 77 when all were skipped, else 0.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv

HERE = pathlib.Path(__file__).resolve().parent
PROTOS = HERE.parents[2] / "proto"
INSTALL_SECONDS = 240
RUN_SECONDS = 600


class Skipped(Exception):
    pass


def run(command, seconds, **options):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=seconds, **options)


def install(command, **options):
    try:
        result = run(command, INSTALL_SECONDS, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Skipped(f"cannot be installed: {error}") from error
    if result.returncode != 0:
        lines = [line for line in (result.stderr + result.stdout).splitlines() if "error" in line.lower()] or ["no reason given"]
        raise Skipped(f"the registry is not reachable: {lines[0].strip()[:160]}")


PYTHON_PACKAGES = ["openai", "grpcio", "grpcio-tools", "grpcio-reflection"]


def python_with(cache, packages):
    folder = cache / "python"
    python = folder / "bin/python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    missing = run([python, "-c", "import openai, grpc, grpc_tools, grpc_reflection"], 60).returncode != 0
    if missing:
        install([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
    return python


def node_with(cache, package):
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        raise Skipped("node and npm are not installed")
    folder = cache / "node"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules" / package).exists():
        install([npm, "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", folder, package], cwd=folder)
    return node, folder


def openai_python(options, cache):
    python = python_with(cache, PYTHON_PACKAGES)
    extra = ["--overload"] if options.overload else []
    return [python, HERE / "openai_client.py", options.base_url, *options.key, *extra]


def openai_node(options, cache):
    node, folder = node_with(cache, "openai")
    # Node looks for packages beside the script.
    shutil.copy(HERE / "openai_client.mjs", folder)
    return [node, folder / "openai_client.mjs", options.base_url, *options.key]


def grpc_python(options, cache):
    python = python_with(cache, PYTHON_PACKAGES)
    return [python, HERE / "grpc_client.py", options.grpc_address, PROTOS, *options.key]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("base_url")
    parser.add_argument("grpc_address")
    parser.add_argument("--api_key")
    parser.add_argument("--cache", type=pathlib.Path)
    parser.add_argument("--overload", action="store_true")
    options = parser.parse_args()
    options.key = [options.api_key] if options.api_key else []
    temporary = None if options.cache else tempfile.TemporaryDirectory(prefix="tandem-clients-")
    cache = options.cache or pathlib.Path(temporary.name)
    # Local addresses are not reached through a proxy that a registry may need.
    environment = dict(os.environ, NO_PROXY="127.0.0.1,localhost", no_proxy="127.0.0.1,localhost")
    outcomes = []
    for name, prepare in (("openai-python", openai_python), ("openai-node", openai_node), ("grpcio", grpc_python)):
        try:
            result = run(prepare(options, cache), RUN_SECONDS, env=environment)
        except Skipped as reason:
            outcomes.append("skipped")
            print(f"{name}: skipped: {reason}", flush=True)
            continue
        except subprocess.TimeoutExpired:
            outcomes.append("failed")
            print(f"{name}: FAILED: not done after {RUN_SECONDS} s", flush=True)
            continue
        outcomes.append("passed" if result.returncode == 0 else "failed")
        print(f"{name}: {'passed' if result.returncode == 0 else 'FAILED'}", flush=True)
        if result.returncode != 0:
            print(result.stdout[-2000:] + result.stderr[-4000:], flush=True)
    if "failed" in outcomes:
        return 1
    return 77 if set(outcomes) == {"skipped"} else 0


if __name__ == "__main__":
    sys.exit(main())
