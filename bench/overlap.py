#!/usr/bin/env python3
"""Measures how much two workers compute at once, and how long a device waits between two steps.

    bench/overlap.py [MODEL] [--plan split] [--npu cpu] [--gpu llvmpipe] [--streams 8] [--seconds 10] [--micro_batches 1,2] [--up FLAG=VALUE ...]

For each number of micro-batches: starts a cluster from build/release, keeps STREAMS completions running, records `tandem trace` for SECONDS and prints
tokens a second (prompts and answers), busy shares, overlap and the idle time of each device between two steps. Steps of few tokens are not cut: give long
prompts, or many streams. MODEL defaults to the demo model. With --keep FOLDER the
traces stay there, for https://ui.perfetto.dev. A model of random weights does as well: speed does not depend on the values.
"""
from __future__ import annotations

import argparse
import json
import pathlib
import platform
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))
from cluster import Cluster  # noqa: E402

SENTENCE = "The history of the steam engine begins with a kettle. "


class Load:
    """Completions that follow one another on STREAMS connections until the end."""

    def __init__(self, cluster: Cluster, streams: int, prompt: str, max_tokens: int, temperature: float):
        self.cluster = cluster
        self.prompt = prompt
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.prompt_tokens = cluster.complete(prompt + "0", max_tokens=1)["usage"]["prompt_tokens"]
        self.lock = threading.Lock()
        # When something was done, and how many tokens it was.
        self.arrivals: list[tuple[float, int]] = []
        self.errors: list[str] = []
        self.stopping = threading.Event()
        # Set when a stream has its first token, or has failed. Nobody stops reading meanwhile: what would pile up unread would be counted later.
        self.first = [threading.Event() for _ in range(streams)]
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(streams)]
        for thread in self.threads:
            thread.start()

    def run(self, number: int) -> None:
        request = {"prompt": f"{self.prompt}{number}", "max_tokens": self.max_tokens, "temperature": self.temperature, "ignore_eos": True}
        try:
            while not self.stopping.is_set():
                for i, _ in enumerate(self.cluster.stream("/v1/completions", request)):
                    with self.lock:
                        self.arrivals.append((time.monotonic(), 1 if i > 0 else 1 + self.prompt_tokens))
                    self.first[number].set()
                    if self.stopping.is_set():
                        break
        except Exception as error:  # a thread's failure ends the measurement
            self.errors.append(f"stream {number}: {error}")
            self.first[number].set()

    def wait_for_all(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for number, event in enumerate(self.first):
            if not event.wait(max(0.0, end - time.monotonic())):
                raise SystemExit(f"overlap: error: stream {number} had no token within {seconds:.0f} s")

    def tokens_between(self, begin: float, end: float) -> int:
        with self.lock:
            return sum(tokens for at, tokens in self.arrivals if begin <= at <= end)

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=60)


def measure(arguments: argparse.Namespace, micro_batches: int, folder: pathlib.Path) -> dict:
    flags = {"plan": arguments.plan, "npu": arguments.npu, "gpu": arguments.gpu, "micro_batches": micro_batches, "max_sequences": arguments.streams}
    flags.update(item.split("=", 1) for item in arguments.up)
    with Cluster(arguments.model, **flags) as cluster:
        load = Load(cluster, arguments.streams, SENTENCE * arguments.sentences, arguments.max_tokens, arguments.temperature)
        try:
            load.wait_for_all(600)
            output = folder / f"trace-{micro_batches}.json"
            begin = time.monotonic()
            traced = cluster.tandem("trace", str(arguments.seconds), f"--output={output}", timeout=arguments.seconds + 120)
            end = time.monotonic()
            if traced.returncode != 0 or load.errors:
                raise SystemExit(f"overlap: error: {traced.stderr} {' '.join(load.errors)}")
            tokens = load.tokens_between(begin, end)
        finally:
            load.stop()
    print(f"\n{micro_batches} micro-batch(es), {arguments.streams} streams, prompts of {load.prompt_tokens} tokens and answers of {arguments.max_tokens}: "
          f"{tokens / (end - begin):.1f} tok/s")
    print(traced.stdout, end="", flush=True)
    with output.open() as file:
        summary = json.load(file)["otherData"]
    return {"micro_batches": micro_batches, "tokens_per_second": tokens / (end - begin), **summary}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    demo = next((ROOT / "models/demo").glob("*.gguf"), None)
    parser.add_argument("model", nargs="?", default=demo)
    parser.add_argument("--plan", default="split")
    parser.add_argument("--npu", default="cpu")
    parser.add_argument("--gpu", default="llvmpipe")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--sentences", type=int, default=30, help="length of the prompts")
    parser.add_argument("--max_tokens", type=int, default=8, help="length of the answers")
    parser.add_argument("--temperature", type=float, default=0, help="0 takes the best token; others draw from all of the vocabulary, on the host")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--micro_batches", default="1,2")
    parser.add_argument("--up", action="append", default=[], metavar="FLAG=VALUE", help="more flags of `tandem up`")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the traces")
    arguments = parser.parse_args()
    if arguments.model is None:
        parser.error("no model: models/demo is not there")
    print(f"command: {' '.join(sys.argv)}\nmachine: {platform.processor() or platform.machine()}, model {arguments.model}, plan {arguments.plan}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = [measure(arguments, int(count), folder) for count in arguments.micro_batches.split(",")]
    base = found[0]
    print(f"\n{'micro-batches':>13} {'tok/s':>9} {'ratio':>6} {'overlap':>8} {'any busy':>9}  idle between steps (mean us)")
    for row in found:
        idle = ", ".join(f"{w['name']} {w['idle_between_steps_us']['mean']:.0f}" for w in row["workers"])
        print(f"{row['micro_batches']:>13} {row['tokens_per_second']:>9.1f} {row['tokens_per_second'] / base['tokens_per_second']:>6.2f} "
              f"{100 * row['overlap_share']:>7.1f}% {100 * row['any_share']:>8.1f}%  {idle}")


if __name__ == "__main__":
    main()
