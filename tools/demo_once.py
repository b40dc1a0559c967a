#!/usr/bin/env python3
"""Asks the running local cluster one question over HTTP and one over gRPC, and prints answers, speed, plan and devices."""
import json
import re
import subprocess
import sys
import time
import urllib.request

QUESTION_HTTP = "What is 12 + 30?"
QUESTION_GRPC = "What is the gateway?"


def ask_http(address: str, question: str) -> None:
    request = urllib.request.Request(
        f"http://{address}/v1/chat/completions",
        json.dumps({"model": "", "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 64}).encode(),
        {"Content-Type": "application/json"})
    models = json.load(urllib.request.urlopen(f"http://{address}/v1/models", timeout=60))
    body = json.loads(request.data)
    body["model"] = models["data"][0]["id"]
    request.data = json.dumps(body).encode()
    begin = time.monotonic()
    answer = json.load(urllib.request.urlopen(request, timeout=300))
    seconds = time.monotonic() - begin
    tokens = answer["usage"]["completion_tokens"]
    print(f"HTTP  Q: {question}\n      A: {answer['choices'][0]['message']['content']!r}\n      {tokens} tokens, {tokens / seconds:.1f} tok/s")


def ask_grpc(tandem: str, question: str) -> None:
    result = subprocess.run([tandem, "chat", "--once", question, "--temperature", "0", "--max_tokens", "64"],
                            capture_output=True, text=True, errors="replace", timeout=300)
    if result.returncode != 0:
        sys.exit(f"gRPC chat failed: {result.stderr}")
    print(f"gRPC  Q: {question}\n      A: {result.stdout.rstrip()!r}\n      {result.stderr.strip()}")


def main() -> None:
    tandem = sys.argv[1]
    status = subprocess.run([tandem, "status"], capture_output=True, text=True, check=True).stdout
    address = re.search(r"^HTTP\s+(\S+)$", status, re.M).group(1)
    ask_http(address, QUESTION_HTTP)
    ask_grpc(tandem, QUESTION_GRPC)
    print(subprocess.run([tandem, "status"], capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
