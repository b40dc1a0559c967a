#!/usr/bin/env python3
"""Compares what `--plan auto` has measured of each plan with what a client measures, and says whether it took the fastest.

    bench/plan_choice.py [MODEL] [--npu cpu] [--gpu 0] [--rounds 3] [--up FLAG=VALUE ...]

Starts a cluster with --plan auto and an empty cache from build/release, reads its times, then changes to each plan in turn on the same cluster and times
completions of one client there: a prompt of 128 tokens, an answer of 33; of ROUNDS the shortest. Prints both, the error of the first against the second
(docs/adr/0021: at most 25 % on a quiet machine), and the plan that is fastest by the client's times. MODEL defaults to the demo model.
"""
from __future__ import annotations

import argparse
import json
import pathlib
import platform
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))
from cluster import Cluster  # noqa: E402

PROMPT, ANSWER = 128, 33


def one_request(cluster: Cluster) -> tuple[float, float]:
    """Seconds of a token of the prompt, and of the answer."""
    begun, times = time.monotonic(), []
    body = {"prompt": [(11 * i + 5) % 1000 for i in range(PROMPT)], "max_tokens": ANSWER, "temperature": 0, "ignore_eos": True,
            "stream_options": {"include_usage": True}}
    for event in cluster.stream("/v1/completions", body):
        if event.get("choices"):
            times.append(time.monotonic())
    return (times[0] - begun) / PROMPT, (times[-1] - times[0]) / (ANSWER - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=next((str(p) for p in sorted((ROOT / "models/demo").glob("**/*.gguf"))), str(ROOT / "tests/golden/data/tiny")))
    parser.add_argument("--npu", default="cpu")
    parser.add_argument("--gpu", default="0")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--up", action="append", default=[])
    options = parser.parse_args()
    begun = time.monotonic()
    with Cluster(options.model, npu=options.npu, gpu=options.gpu, plan="auto", **dict(flag.split("=", 1) for flag in options.up)) as c:
        started = time.monotonic() - begun
        report = json.loads(c.tandem("status", "--plan", "--json").stdout)
        print(f"model {options.model}; {platform.processor() or platform.machine()}; ready after {started:.1f} s with all trials")
        print(f"{'plan':<8}{'prompt, ms a token':>34}{'answer, ms a token':>34}{'a request, s':>14}  devices")
        print(f"{'':<8}{'auto':>12}{'client':>11}{'error':>11}{'auto':>12}{'client':>11}{'error':>11}")
        weights, requests = (report["usual_prompt_tokens"], report["usual_answer_tokens"]), {}
        for trial in report["trials"]:
            if trial["error"]:
                print(f"{trial['plan']:<8}cannot: {trial['error']}")
                continue
            changed = c.tandem("plan", trial["plan"])
            if changed.returncode != 0:
                sys.exit(f"plan {trial['plan']}: {changed.stderr}")
            one_request(c)
            rounds = [one_request(c) for _ in range(options.rounds)]
            measured = [min(column) for column in zip(*rounds)]
            line = f"{trial['plan']:<8}"
            for predicted, found in zip((trial["prefill_seconds"], trial["decode_seconds"]), measured):
                line += f"{predicted * 1e3:12.3f}{found * 1e3:11.3f}{100 * (predicted - found) / found:+10.1f}%"
            requests[trial["plan"]] = sum(w * m for w, m in zip(weights, measured))
            print(f"{line}{requests[trial['plan']]:14.2f}  {trial['devices']}")
        fastest = min(requests, key=requests.get)
        print(f"auto took {report['chosen']}; fastest for the client: {fastest} "
              f"(ratio {requests[report['chosen']] / requests[fastest]:.2f})")
        print(report["reason"])


if __name__ == "__main__":
    main()
