#!/usr/bin/env python3
"""Compares a served demo model with what Hugging Face transformers computes from the same weights.

    python3 bench/quality/reference.py --endpoint http://127.0.0.1:8080/v1

Sends the token ids of models/demo/reference.json to /v1/completions with echo and logprobs, and prints the largest
difference of a log-probability over the reference's ten best tokens at each position. For a cluster with
--activations=float32 that serves the file as it is or with --quant int8: Q8_0 passes through unchanged. Of the ten, at least eight must be in the answer's
twenty. Exit code 1 over --bound.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from run import call  # noqa: E402

REFERENCE = Path(__file__).resolve().parents[2] / "models" / "demo" / "reference.json"


def compare(case, answer):
    """(largest difference, positions, values compared) for one conversation."""
    worst, positions, values = 0.0, 0, 0
    # Entry i of the answer is the distribution after the tokens before i.
    for row, found in enumerate(answer["top_logprobs"][1:]):
        if found is None:
            raise ValueError(f"no logprobs at position {row + 1}")
        wanted = zip(case["top_ids"][row], case["top_log_probabilities"][row])
        pairs = [(found[f"token_id:{i}"], x) for i, x in wanted if f"token_id:{i}" in found]
        if len(pairs) < 8:
            raise ValueError(f"position {row + 1}: only {len(pairs)} of the ten best are the same")
        worst = max([worst] + [abs(a - b) for a, b in pairs])
        positions, values = positions + 1, values + len(pairs)
    return worst, positions, values


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--endpoint", required=True, help="base URL that ends in /v1")
    parser.add_argument("--model", help="name of the model (default: the first of /models)")
    parser.add_argument("--key", default=os.environ.get("TANDEM_API_KEY", ""))
    parser.add_argument("--bound", type=float, default=0.02, help="largest difference allowed")
    parser.add_argument("--timeout", type=float, default=300)
    args = parser.parse_args()
    base = args.endpoint.rstrip("/")
    model = args.model or call(base + "/models", args.key, None, args.timeout)["data"][0]["id"]
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))
    worst, positions, values = 0.0, 0, 0
    for case in reference["cases"]:
        # One token has to be generated; it stands after the last one of the reference.
        body = {"model": model, "prompt": case["ids"] + case["greedy"], "max_tokens": 1}
        body.update(echo=True, logprobs=20, temperature=0, return_tokens_as_token_ids=True)
        answer = call(base + "/completions", args.key, body, args.timeout)["choices"][0]["logprobs"]
        result = compare(case, answer)
        worst, positions, values = max(worst, result[0]), positions + result[1], values + result[2]
    print(
        f"{model}: {len(reference['cases'])} conversations, {positions} positions, {values} values: "
        f"largest difference of a log-probability {worst:.5f} (bound {args.bound})"
    )
    return 0 if worst <= args.bound else 1


if __name__ == "__main__":
    sys.exit(main())
