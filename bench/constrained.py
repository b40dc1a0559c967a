#!/usr/bin/env python3
"""What a constraint costs a token: the same request with and without, in turn, against a running gateway.

  bench/constrained.py [--endpoint http://127.0.0.1:8080/v1] [--tokens 192] [--rounds 15] [--at_a_time 1]

"masked": every token goes through the head and a mask (log-probabilities are asked for, also without a mask, so nothing is jumped over).
"jumping": what only one text can follow is computed at once. The ratios are medians of pairs that ran one after the other.
"""
import argparse
import concurrent.futures
import json
import statistics
import time
import urllib.request

ITEM = {"type": "object", "properties": {"id": {"type": "integer", "minimum": 0, "maximum": 99999}, "name": {"type": "string", "maxLength": 24},
                                         "kind": {"enum": ["cat", "dog", "mouse"]}}, "required": ["id", "name", "kind"], "additionalProperties": False}
# More than fits the tokens asked for: every answer has its full length.
SCHEMA = {"type": "array", "items": ITEM, "minItems": 1000}
FORMAT = {"response_format": {"type": "json_schema", "json_schema": {"name": "list", "schema": SCHEMA}}}


def ask(endpoint: str, body: dict) -> int:
    request = urllib.request.Request(endpoint + "/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as response:
        return json.load(response)["usage"]["completion_tokens"]


def measure(options, seed: int, **more) -> float:
    """Seconds a token of one stream, with `at_a_time` streams."""
    bodies = [{"messages": [{"role": "user", "content": "Tell me a story about a cat and a key."}], "max_tokens": options.tokens,
               "temperature": 1, "seed": seed * 100 + i, **more} for i in range(options.at_a_time)]
    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(options.at_a_time) as pool:
        tokens = list(pool.map(lambda body: ask(options.endpoint, body), bodies))
    return (time.perf_counter() - begin) / statistics.mean(tokens)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoint", default="http://127.0.0.1:8080/v1")
    parser.add_argument("--tokens", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--at_a_time", type=int, default=1)
    options = parser.parse_args()
    free = {"logprobs": True, "ignore_eos": True}
    kinds = {"masked": {"logprobs": True, **FORMAT}, "jumping": FORMAT}
    first = time.perf_counter()
    ask(options.endpoint, {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, **FORMAT})
    print(f"the first token under the schema: {(time.perf_counter() - first) * 1e3:.1f} ms with compiling it")
    measure(options, 0, **free)
    without, times = [], {kind: [] for kind in kinds}
    ratios = {kind: [] for kind in kinds}
    for number in range(1, options.rounds + 1):
        for kind, more in kinds.items():
            base = measure(options, number, **free)
            constrained = measure(options, number, **more)
            without.append(base)
            times[kind].append(constrained)
            ratios[kind].append(constrained / base)
    print(f"{options.rounds} rounds, {options.at_a_time} at a time, up to {options.tokens} tokens each; medians")
    print(f"without: {statistics.median(without) * 1e3:.3f} ms a token")
    for kind in kinds:
        quartiles = statistics.quantiles(ratios[kind], n=4)
        print(f"{kind}: {statistics.median(times[kind]) * 1e3:.3f} ms a token, {statistics.median(ratios[kind]):.3f} of without "
              f"(quartiles {quartiles[0]:.3f} to {quartiles[2]:.3f})")


if __name__ == "__main__":
    main()
