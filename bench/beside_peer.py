#!/usr/bin/env python3
"""Runs model_bench and llama.cpp's benchmarks on one model file in turns, and prints their ratio.

  bench/beside_peer.py --peer FOLDER --model FILE [--device cpu] [--rounds 5] [--prompt 512] [--streams 1,8] [--build build/release]

FOLDER has llama-bench and llama-batched-bench; built with Vulkan they take the GPU, and a software driver where GGML_VK_VISIBLE_DEVICES names
it. Turns are short and the best of each counts: what else a machine does makes a turn slower, never faster. The exit code says whether everything could be measured, not how fast it was.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys


def output_of(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed with {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout


class Peer:
    def __init__(self, options):
        self.folder, self.common = options.peer, ["-m", options.model, "-t", options.threads]
        self.tokens, self.ran_on = options.tokens, "?"

    def prompt(self, tokens):
        return self.bench(["-p", tokens, "-n", 0])

    def decode(self, streams):
        if streams == 1:
            return self.bench(["-p", 0, "-n", self.tokens])
        rows = output_of([self.folder / "llama-batched-bench", *self.common, "-c", 128 * streams, "-npp", 64, "-ntg", 24, "-npl", streams])
        cells = [[cell.strip() for cell in row.split("|")] for row in rows.splitlines() if row.startswith("|")]
        column = cells[0].index("S_TG t/s")
        return float(cells[-1][column])

    def bench(self, arguments):
        found = json.loads(output_of([self.folder / "llama-bench", *self.common, "-r", 1, "-o", "json", *arguments]))
        self.ran_on = f"{found[0]['backends']}: {found[0]['gpu_info'] or found[0]['cpu_info']}"
        return found[0]["avg_ts"]


class Ours:
    def __init__(self, options):
        self.command = [pathlib.Path(options.build) / "bench/model_bench", "--device", options.device, "--model", options.model,
                        "--seconds", 1.5, "--context", 64]

    def prompt(self, tokens):
        return self.rate(["--prompts", tokens, "--streams", 1], rf"prompt of +{tokens} tokens +([\d.]+)")

    def decode(self, streams):
        return self.rate(["--prompts", 16, "--streams", streams], rf"decode of +{streams} streams +([\d.]+)")

    def rate(self, arguments, line):
        printed = output_of([*self.command, *arguments])
        found = re.search(line, printed)
        if not found:
            sys.exit(f"model_bench printed no line like '{line}': {printed[-400:]}")
        return float(found.group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--streams", default="1,8")
    parser.add_argument("--tokens", type=int, default=48, help="that the peer decodes for one stream")
    parser.add_argument("--build", default="build/release")
    options = parser.parse_args()
    peer, ours = Peer(options), Ours(options)
    rows = [(f"prompt of {options.prompt} tokens", lambda side: side.prompt(options.prompt))]
    rows += [(f"decode, streams: {n}", lambda side, n=n: side.decode(n)) for n in map(int, options.streams.split(","))]
    print(f"{'tok/s, best (median)':26} {'peer':>18} {'ours':>18} {'ratio':>7}")
    for name, measure in rows:
        found = {peer: [], ours: []}
        for _ in range(options.rounds):
            for side, rates in found.items():
                rates.append(measure(side))
        best = {side: max(rates) for side, rates in found.items()}
        text = {side: f"{best[side]:.1f} ({statistics.median(rates):.1f})" for side, rates in found.items()}
        print(f"{name:26} {text[peer]:>18} {text[ours]:>18} {best[ours] / best[peer]:7.2f}", flush=True)
    print(f"the peer ran on {peer.ran_on}, ours on {options.device}")


if __name__ == "__main__":
    main()
