#!/usr/bin/env python3
"""Compares what `--plan auto` predicts and tries of each plan with what then runs, and says whether it took the fastest.

    bench/plan_choice.py [MODEL] [--npu cpu] [--gpu 0] [--plans split,gpu,npu] [--rounds 3] [--seconds 3] [--prompt 128] [--answer 33]
                         [--up FLAG=VALUE ...] [--results FILE]

Starts a cluster with --plan auto and an empty cache from build/release, reads what it measured and predicted, then changes to each of the PLANS in turn
on the same cluster and has one client complete a prompt of PROMPT tokens with ANSWER tokens, ROUNDS times and for SECONDS at least. For each plan it prints
the steps that the gateway measured (the median) beside what was predicted for the very same steps, with the error (docs/adr/0024: under 25 % on a quiet
machine), and the client's times (the shortest round). In the end the plan that is fastest for the client beside the one that auto took, and whether all
errors are within the limit. MODEL defaults to the demo model.

A machine that others share is faster in one minute than in the next, by more than predictions are off. With --results each run adds its errors and measured
times to FILE, and of all runs in it are printed the medians of the errors, whether those are within the limit, and how far apart the measured times of the
same steps are in different runs: no prediction can be nearer to all of them than half of that.
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

# Per cent that a prediction may be off: kPredictionMargin of gateway/dispatch/auto_plan.h.
LIMIT = 25


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
    parser.add_argument("--seconds", type=float, default=3)
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
        measured_times = {}
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
            rounds, until = [], time.monotonic() + options.seconds
            while len(rounds) < options.rounds or time.monotonic() < until:
                rounds.append(one_request(c, options.prompt, options.answer))
            line = f"{plan:<12}"
            for step in sorted(report_of(c)["steps"], key=lambda s: not s["prefill"]):
                predicted, measured = step["predicted_seconds"], step["measured_seconds"]
                error = 100 * (predicted - measured) / measured
                name = f"{plan}, a step of {'prefill' if step['prefill'] else 'decode'}"
                errors[name], measured_times[name] = error, measured
                line += f"{predicted * 1e3:12.3f}{measured * 1e3:11.3f}{error:+9.1f}%"
            client = [min(column) for column in zip(*rounds)]
            requests[plan] = sum(w * m for w, m in zip(weights, client))
            print(f"{line}{client[0] * 1e3:11.3f}{client[1] * 1e3:11.3f}", flush=True)
        fastest = min(requests, key=requests.get)
        chosen = requests.get(report["chosen"])
        print(f"auto took {report['chosen']}; fastest for the client: {fastest}" + (f" (ratio {chosen / requests[fastest]:.2f})" if chosen else ""))
        print_verdict("this run", errors)
    if options.results is not None:
        run = {"errors": errors, "measured": measured_times, "auto_over_fastest": chosen / requests[fastest] if chosen else None}
        print_all_runs(options.results, run)


def print_verdict(what: str, errors: dict[str, float]) -> None:
    over = [f"{name} ({error:+.1f} %)" for name, error in errors.items() if abs(error) > LIMIT]
    if over:
        print(f"{what}: NOT all within {LIMIT} %: {', '.join(over)}")
    else:
        print(f"{what}: all within {LIMIT} %, the largest error is {max(map(abs, errors.values())):.1f} %")


def print_all_runs(file: pathlib.Path, run: dict) -> None:
    with file.open("a") as results:
        results.write(json.dumps(run) + "\n")
    runs = [json.loads(line) for line in file.read_text().splitlines()]
    print(f"{len(runs)} runs in {file}")
    print(f"  {'':<26}{'error, median':>15}{'from':>9}{'to':>9}{'measured, ms: median':>23}{'from':>10}{'to':>10}{'to / from':>11}")
    medians = {}
    for name in run["errors"]:
        errors = [r["errors"][name] for r in runs if name in r["errors"]]
        measured = [1e3 * r["measured"][name] for r in runs if name in r["measured"]]
        medians[name] = statistics.median(errors)
        print(f"  {name:<26}{medians[name]:+13.1f} %{min(errors):+9.1f}{max(errors):+9.1f}{statistics.median(measured):23.3f}{min(measured):10.3f}"
              f"{max(measured):10.3f}{max(measured) / min(measured):11.2f}")
    ratios = [r["auto_over_fastest"] for r in runs if r["auto_over_fastest"] is not None]
    if ratios:
        print(f"  what auto took over the fastest: median {statistics.median(ratios):.2f} times the time, at most {max(ratios):.2f}")
    print_verdict("medians", medians)


if __name__ == "__main__":
    main()
