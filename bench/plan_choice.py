#!/usr/bin/env python3
"""Compares what `--plan auto` predicts and tries of each plan with what then runs, and says whether it took the fastest.

    bench/plan_choice.py [MODEL] [--npu cpu] [--gpu 0] [--plans split,gpu,npu] [--rounds 3] [--prompt 128] [--answer 33] [--up FLAG=VALUE ...]
                         [--results FILE]

Starts a cluster with --plan auto and an empty cache from build/release, reads what it measured and predicted, then changes to each of the PLANS in turn
on the same cluster and has one client complete a prompt of PROMPT tokens with ANSWER tokens, ROUNDS times. For each plan it prints the steps that the gateway
measured (the median) beside what was predicted for the very same steps, with the error (docs/adr/0024: under 25 % on a quiet machine), and the client's
times (the shortest round). In the end the plan that is fastest for the client beside the one that auto took. MODEL defaults to the demo model.

A machine that others share is faster in one minute than in the next, by more than predictions are off. With --results each run adds its errors to FILE, and
the medians of all runs in it are printed.
"""
from __future__ import annotations

import argparse
import json
import pathlib
import platform
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))
from cluster import Cluster  # noqa: E402

def one_request(cluster: Cluster, prompt: int, answer: int) -> tuple[float, float]:
    """Seconds of a token of the prompt, and of the answer."""
    begun, times = time.monotonic(), []
    body = {"prompt": [(11 * i + 5) % 1000 for i in range(prompt)], "max_tokens": answer, "temperature": 0, "ignore_eos": True,
            "stream_options": {"include_usage": True}}
    for event in cluster.stream("/v1/completions", body, timeout=600):
        if event.get("choices"):
            times.append(time.monotonic())
    return (times[0] - begun) / prompt, (times[-1] - times[0]) / (answer - 1)


def report_of(cluster: Cluster) -> dict:
    return json.loads(cluster.tandem("status", "--plan", "--json").stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=next((str(p) for p in sorted((ROOT / "models/demo").glob("**/*.gguf"))), str(ROOT / "tests/golden/data/tiny")))
    parser.add_argument("--npu", default="cpu")
    parser.add_argument("--gpu", default="0")
    parser.add_argument("--plans", default="split,gpu,npu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--answer", type=int, default=33)
    parser.add_argument("--up", action="append", default=[])
    parser.add_argument("--results", type=pathlib.Path)
    options = parser.parse_args()
    begun = time.monotonic()
    with Cluster(options.model, npu=options.npu, gpu=options.gpu, plan="auto", **dict(flag.split("=", 1) for flag in options.up)) as c:
        started = time.monotonic() - begun
        report = report_of(c)
        print(f"model {options.model}; {platform.processor() or platform.machine()}; ready after {started:.1f} s with measuring and all trials")
        print(c.tandem("status", "--plan").stdout)
        weights, requests, errors = (report["usual_prompt_tokens"], report["usual_answer_tokens"]), {}, {}
        trials = {trial["plan"]: trial for trial in report["trials"]}
        print(f"{'plan':<12}{'a step of prefill, ms':>33}{'a step of decode, ms':>33}{'client, ms a token':>22}")
        print(f"{'':<12}{'predicted':>12}{'measured':>11}{'error':>10}{'predicted':>12}{'measured':>11}{'error':>10}{'prompt':>11}{'answer':>11}")
        for plan in options.plans.split(","):
            if trials.get(plan, {}).get("error"):
                print(f"{plan:<12}cannot: {trials[plan]['error']}")
                continue
            changed = c.tandem("plan", plan, timeout=600)
            if changed.returncode != 0:
                sys.exit(f"plan {plan}: {changed.stderr}")
            rounds = [one_request(c, options.prompt, options.answer) for _ in range(options.rounds)]
            line = f"{plan:<12}"
            for step in sorted(report_of(c)["steps"], key=lambda s: not s["prefill"]):
                predicted, measured = step["predicted_seconds"], step["measured_seconds"]
                error = 100 * (predicted - measured) / measured
                errors[f"{plan}, a step of {'prefill' if step['prefill'] else 'decode'}"] = error
                line += f"{predicted * 1e3:12.3f}{measured * 1e3:11.3f}{error:+9.1f}%"
            client = [min(column) for column in zip(*rounds)]
            requests[plan] = sum(w * m for w, m in zip(weights, client))
            print(f"{line}{client[0] * 1e3:11.3f}{client[1] * 1e3:11.3f}", flush=True)
        fastest = min(requests, key=requests.get)
        chosen = requests.get(report["chosen"])
        print(f"largest error {max(map(abs, errors.values())):.1f} % (limit 25 %)")
        print(f"auto took {report['chosen']}; fastest for the client: {fastest}" + (f" (ratio {chosen / requests[fastest]:.2f})" if chosen else ""))
    if options.results is not None:
        print_medians(options.results, {**errors, "auto over the fastest": chosen / requests[fastest] if chosen else None})


def print_medians(file: pathlib.Path, run: dict) -> None:
    with file.open("a") as results:
        results.write(json.dumps(run) + "\n")
    runs = [json.loads(line) for line in file.read_text().splitlines()]
    print(f"medians of {len(runs)} runs in {file}")
    for name in run:
        values = [r[name] for r in runs if r.get(name) is not None]
        if name.startswith("auto"):
            print(f"  {name:<28}{statistics.median(values):8.2f} times the time, at most {max(values):.2f}")
        elif values:
            print(f"  {name:<28}{statistics.median(values):+8.1f} %, from {min(values):+.1f} to {max(values):+.1f}")


if __name__ == "__main__":
    main()
