"""Runs the outside clients against a running gateway.

  run_clients.py BASE_URL GRPC_ADDRESS [--api_key KEY] [--cache FOLDER] [--overload] [--all] [--table FILE]

BASE_URL is like http://127.0.0.1:8080/v1. Each client is installed, in the version pinned here, from its registry into FOLDER (default:
a temporary one). A client that cannot be installed is skipped and said to be. Without --all only those run that install quickly. --table
writes what came out into FILE, between the two marks that it has. One line each: "passed", "skipped: why" or "FAILED". The exit code is 1
when one failed, 77 when all were skipped, else 0.
"""
import argparse
import json
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
BEGIN_TABLE, END_TABLE = "<!-- begin: written by ./check --clients -->", "<!-- end -->"

GRPC = ["grpcio==1.85.1", "grpcio-tools==1.85.1", "grpcio-reflection==1.85.1"]
# The libraries of the quick run share one environment; every other one has its own, so that none decides the others' versions.
QUICK = ["openai==3.54.0", "anthropic==2.12.0", "ollama==0.6.3", "openresponses-types==2.4.0"]
OTHERS = {
    "langchain-openai": ["langchain-openai==1.7.3"],
    "llama-index": ["llama-index-llms-openai-like==0.8.1"],
    "instructor": ["instructor==1.17.0"],
    "pydantic-ai": ["pydantic-ai-slim[openai]==2.68.0"],
    "litellm": ["litellm==1.106.2", "mcp==2.3.0"],
    "llm": ["llm==0.36"],
    "openai-agents": ["openai-agents==0.24.0"],
    "smolagents": ["smolagents[openai]==1.26.0"],
}
NODE_QUICK = ["openai@7.57.0"]
NODE_AI = ["ai@7.0.173", "@ai-sdk/openai-compatible@3.0.92"]


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


def python_with(cache, folder_name, packages):
    folder = cache / folder_name
    python, done = folder / "bin/python", folder / "installed"
    wanted = "\n".join(packages)
    if not done.exists() or done.read_text() != wanted:
        venv.create(folder, with_pip=True)
        install([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
        done.write_text(wanted)
    return python


def node_with(cache, folder_name, packages):
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        raise Skipped("node and npm are not installed")
    folder = cache / folder_name
    folder.mkdir(parents=True, exist_ok=True)
    done, wanted = folder / "installed", "\n".join(packages)
    if not done.exists() or done.read_text() != wanted:
        install([npm, "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", folder, *packages], cwd=folder)
        done.write_text(wanted)
    # Node looks for packages beside the script.
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, folder)
    return node, folder


class Client:
    """`prepare` installs it and gives the command. One that `reports` prints its checks as JSON, for the table."""

    def __init__(self, name, prepare, reports=False, quick=True):
        self.name, self.prepare, self.reports, self.quick = name, prepare, reports, quick


def clients(options, cache):
    root = options.base_url.removesuffix("/v1")

    def quick(script, *arguments):
        return lambda: [python_with(cache, "python", QUICK + GRPC), HERE / script, *arguments, *options.key]

    def library(name, folder, packages):
        return lambda: [python_with(cache, folder, packages), HERE / "python_clients.py", name, root, options.model, *options.key]

    def node(script, packages, folder, *arguments):
        def prepare():
            program, place = node_with(cache, folder, packages)
            return [program, place / script, *arguments, *options.key]
        return prepare
    overload = ["--overload"] if options.overload else []
    found = [Client("openai-python", lambda: quick("openai_client.py", options.base_url)() + overload),
             Client("openai-node", node("openai_client.mjs", NODE_QUICK, "node", options.base_url)),
             Client("grpcio", quick("grpc_client.py", options.grpc_address, PROTOS)),
             Client("typed answers", quick("typed_answers.py", root, options.model)),
             Client("Open Responses (types)", quick("open_responses.py", root, options.model), True)]
    found += [Client(f"{name} (Python)", library(name, "python", QUICK + GRPC), True) for name in ("openai", "anthropic", "ollama")]
    found += [Client(f"{name} (Python)", library(name, f"python-{name}", packages), True, False) for name, packages in OTHERS.items()]
    found += [Client("openai (Node)", node("node_clients.mjs", NODE_QUICK, "node", "openai", root, options.model), True, False),
              Client("Vercel ai (Node)", node("node_clients.mjs", NODE_AI, "node-ai", "ai", root, options.model), True, False)]
    return [client for client in found if client.quick or options.all]


def run_client(client, environment):
    """(outcome, report or None)"""
    try:
        result = run(client.prepare(), RUN_SECONDS, env=environment)
    except Skipped as reason:
        return f"skipped: {reason}", None
    except subprocess.TimeoutExpired:
        return f"FAILED: not done after {RUN_SECONDS} s", None
    if result.returncode != 0:
        return "FAILED\n" + result.stdout[-2000:] + result.stderr[-4000:], None
    if not client.reports:
        return "passed", None
    report = json.loads(result.stdout.strip().splitlines()[-1])
    bad = {name: outcome for name, outcome in report["checks"].items() if outcome.startswith("FAILED")}
    shown = ", ".join(f"{name} {outcome.split(':')[0]}" for name, outcome in report["checks"].items())
    return ("FAILED: " if bad else "passed: ") + shown + "".join(f"\n{name}: {outcome}" for name, outcome in bad.items()), report


def write_table(file, reports):
    columns = ["chat", "stream", "tools", "structured"]
    lines = ["| client | version | " + " | ".join(columns) + " | further checks |", "|---" * (len(columns) + 3) + "|"]
    for name, report in reports.items():
        checks = {check: outcome.split(":")[0] for check, outcome in report["checks"].items()}
        further = ", ".join(f"{check}: {outcome}" for check, outcome in checks.items() if check not in columns)
        cells = [name, report["version"], *(checks.get(column, "") for column in columns), further]
        lines.append("| " + " | ".join(cells) + " |")
    text = file.read_text()
    begin, end = text.index(BEGIN_TABLE) + len(BEGIN_TABLE), text.index(END_TABLE)
    file.write_text(text[:begin] + "\n" + "\n".join(lines) + "\n" + text[end:])


def served_model(options):
    import urllib.request
    request = urllib.request.Request(options.base_url + "/models", headers={"Authorization": f"Bearer {options.api_key or 'none'}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as reply:
        return json.load(reply)["data"][0]["id"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("base_url")
    parser.add_argument("grpc_address")
    parser.add_argument("--api_key")
    parser.add_argument("--cache", type=pathlib.Path)
    parser.add_argument("--overload", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--table", type=pathlib.Path)
    options = parser.parse_args()
    options.key = [options.api_key] if options.api_key else []
    options.model = served_model(options)
    temporary = None if options.cache else tempfile.TemporaryDirectory(prefix="tandem-clients-")
    cache = options.cache or pathlib.Path(temporary.name)
    # Local addresses are not reached through a proxy that a registry may need. Settings of libraries go to the temporary folder.
    environment = dict(os.environ, NO_PROXY="127.0.0.1,localhost", no_proxy="127.0.0.1,localhost", LLM_USER_PATH=str(cache))
    outcomes, reports = [], {}
    for client in clients(options, cache):
        outcome, report = run_client(client, environment)
        outcomes.append(outcome)
        if report is not None:
            reports[client.name] = report
        print(f"{client.name}: {outcome}", flush=True)
    if options.table is not None:
        write_table(options.table, reports)
    if any(outcome.startswith("FAILED") for outcome in outcomes):
        return 1
    return 77 if all(outcome.startswith("skipped") for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
