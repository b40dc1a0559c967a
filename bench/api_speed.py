#!/usr/bin/env python3
"""Measures decoding and prompts through the public API: what a client gets, with gateway, worker and HTTP in it.

    bench/api_speed.py MODEL [--streams 1,8,16,32] [--answer 600] [--prompts 512,1024] [--rounds 2] [--bandwidth GB/s] [--up FLAG=VALUE ...]

Starts a cluster from build/release (TANDEM_BIN: from elsewhere) under plan gpu, with empty caches, and prints what it took to be ready. For each
number of streams as many completions start together, greedy and of ANSWER tokens each, from short prompts: tokens between the first one of all and
the last one of all, by that time. For each of PROMPTS the time to the first token of a prompt of about so many tokens that nobody has asked before,
and how fast the tokens behind it come, one at a time. All rounds are printed. A step reads the weights once, whatever the number of streams: the rate
of that stands beside each figure, with --bandwidth its share of the device's.
"""
from __future__ import annotations

import argparse
import http.client
import json
import pathlib
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))
from cluster import Cluster  # noqa: E402

WARM_UP_TOKENS = 16
TOKENS_BEHIND = 65


class Answer(threading.Thread):
    """One streamed completion; times of its first and last token, and what the server counted."""

    def __init__(self, cluster: Cluster, model: str, prompt: str, tokens: int):
        super().__init__(daemon=True)
        self.body = json.dumps({"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True,
                                "stream_options": {"include_usage": True}})
        self.address = cluster.http
        self.first = self.last = 0.0
        self.usage: dict = {}
        self.error = ""

    def run(self) -> None:
        try:
            self.read()
        except Exception as error:  # told by the main thread
            self.error = repr(error)

    def read(self) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=600)
        self.started = time.monotonic()
        connection.request("POST", "/v1/completions", self.body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {response.read()!r}")
        before = b""
        for line in response:
            if not line.startswith(b"data: "):
                continue
            if line.startswith(b"data: [DONE]"):
                break
            # Only the last event is parsed: a client in Python is slower than the server.
            if before:
                self.last = time.monotonic()
                self.first = self.first or self.last
            before = line
        self.usage = json.loads(before[len(b"data: "):])["usage"]
        connection.close()


def finish(answers: list[Answer]) -> None:
    for answer in answers:
        answer.start()
    for answer in answers:
        answer.join()
        if answer.error:
            raise SystemExit(f"a request failed: {answer.error}")


def decode(cluster: Cluster, model: str, streams: int, tokens: int) -> float:
    answers = [Answer(cluster, model, f"Story number {i}:", tokens) for i in range(streams)]
    finish(answers)
    made = sum(a.usage["completion_tokens"] - 1 for a in answers)
    return made / (max(a.last for a in answers) - min(a.first for a in answers))


def ask(cluster: Cluster, model: str, words: int, number: int) -> tuple[int, float, float]:
    """Tokens of a prompt of so many words; tokens a second to the first one of the answer, and behind it."""
    answer = Answer(cluster, model, f"{number} is the number of this: " + "a to " * (words // 2), TOKENS_BEHIND)
    finish([answer])
    tokens = answer.usage["prompt_tokens"]
    return tokens, tokens / (answer.first - answer.started), (answer.usage["completion_tokens"] - 1) / (answer.last - answer.first)


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--streams", type=numbers, default=[1, 8, 16, 32])
    parser.add_argument("--answer", type=int, default=600, help="tokens of each answer")
    parser.add_argument("--prompts", type=numbers, default=[512, 1024], help="tokens")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--bandwidth", type=float, default=0, help="GB/s that the device reads at most, where it is known")
    parser.add_argument("--up", nargs="*", default=[], help="flags of `tandem up`, without dashes")
    arguments = parser.parse_args()
    flags = {"plan": "gpu", "gpu": "0", "max_sequences": str(max(arguments.streams, default=1))}
    flags.update(flag.split("=", 1) for flag in arguments.up)
    started = time.monotonic()
    with Cluster(arguments.model, **flags) as cluster:
        cluster.wait_ready(600)
        print(f"ready after {time.monotonic() - started:.2f} s", flush=True)
        status = cluster.status()
        for worker in status["workers"]:
            print(f"{worker['name']}: {worker['device_kind']}: {worker['device_name']}", flush=True)
        region_bytes = arguments.model.stat().st_size
        model = cluster.model
        finish([Answer(cluster, model, "Warm up:", WARM_UP_TOKENS)])
        for streams in arguments.streams:
            rates = [decode(cluster, model, streams, arguments.answer) for _ in range(arguments.rounds)]
            read = max(rates) / streams * region_bytes / 1e9
            share = f", {read / arguments.bandwidth:.2f} of the device's" if arguments.bandwidth else ""
            print(f"decode {streams:3d} streams: {' '.join(f'{rate:.1f}' for rate in rates)} tok/s; weights at {read:.0f} GB/s{share}", flush=True)
        for wanted in arguments.prompts:
            asked = ask(cluster, model, wanted // 2, number=0)[0]
            words = wanted * (wanted // 2) // asked
            answers = [ask(cluster, model, words, number) for number in range(1, arguments.rounds + 1)]
            prompts = " ".join(f"{rate:.0f}" for _, rate, _ in answers)
            behind = " ".join(f"{rate:.1f}" for _, _, rate in answers)
            print(f"prompt of {answers[0][0]} tokens: {prompts} tok/s to the first token; {behind} tok/s behind it", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
