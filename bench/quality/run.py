#!/usr/bin/env python3
"""Asks the held-out prompts through an OpenAI-compatible API and prints a table of scores.

    python3 bench/quality/run.py --endpoint http://127.0.0.1:8080/v1
    python3 bench/quality/run.py --endpoint bf16=URL --endpoint int8=URL --endpoint int4=URL --json scores.json

One column per endpoint. Greedy, one request per prompt, --parallel of them at a time. Needs Python 3.9 and nothing else.
Exit code 1 where a request failed, or a score is under --at-least.
"""

import argparse
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import sets  # noqa: E402


def call(url, key, body, timeout):
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(
        url, None if body is None else json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=timeout) as reply:
        return json.load(reply)


# What a line may have of a request besides its messages.
FIELDS = ("tools", "parallel_tool_calls", "response_format")


def text_of(message):
    """The answer as text; calls of tools as a JSON list of {"name", "parameters"} behind it."""
    text = message["content"] or ""
    functions = [call["function"] for call in message.get("tool_calls") or []]
    if not functions:
        return text
    return text + json.dumps(
        [{"name": f["name"], "parameters": json.loads(f["arguments"])} for f in functions]
    )


def ask(base, model, line, args):
    """The answer to one prompt; None, with the reason on stderr, where the request failed."""
    body = {
        "model": model,
        "messages": line["messages"],
        "max_tokens": line["max_tokens"],
        "temperature": 0,
        **{field: line[field] for field in FIELDS if field in line},
    }
    for attempt in range(args.retries + 1):
        try:
            answer = call(base + "/chat/completions", args.key, body, args.timeout)
            return text_of(answer["choices"][0]["message"])
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8", "replace")[:300]
            if error.code == 429 and attempt < args.retries:
                time.sleep(min(30.0, float(error.headers.get("Retry-After") or 1)))
                continue
            print(f"{line['id']}: HTTP {error.code}: {text}", file=sys.stderr)
            return None
        except (
            OSError,
            ValueError,
            KeyError,
            IndexError,
            TypeError,
            http.client.HTTPException,
        ) as error:
            print(f"{line['id']}: {type(error).__name__}: {error}", file=sys.stderr)
            return None
    return None


def evaluate(label, base, args):
    """Scores of one endpoint."""
    prompts = sets.read(args.sets, args.limit)
    model = args.model or call(base + "/models", args.key, None, args.timeout)["data"][0]["id"]
    started = time.time()
    with ThreadPoolExecutor(args.parallel) as pool:
        answers = list(pool.map(lambda p: ask(base, model, p[1], args), prompts))
    table, failures = sets.score(prompts, answers)
    failed = sum(a is None for a in answers)
    print(
        f"{label}: {model}, {len(prompts)} prompts in {time.time() - started:.1f} s, {failed} requests failed",
        file=sys.stderr,
    )
    if args.show_wrong:
        for name, line, answer in failures:
            print(
                f"  {line['id']}: {line['messages'][-1]['content']!r} -> {answer!r}, wanted {line['check']}",
                file=sys.stderr,
            )
    return table, failed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--endpoint",
        action="append",
        required=True,
        metavar="[LABEL=]URL",
        help="base URL that ends in /v1; repeat for more columns",
    )
    parser.add_argument("--model", help="name of the model (default: the first of /models)")
    parser.add_argument(
        "--key",
        default=os.environ.get("TANDEM_API_KEY", ""),
        help="API key (default: TANDEM_API_KEY)",
    )
    parser.add_argument(
        "--sets",
        nargs="*",
        choices=sets.NAMES,
        metavar="SET",
        help="only these sets: " + ", ".join(sets.NAMES),
    )
    parser.add_argument("--limit", type=int, default=0, help="only the first N prompts of each set")
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--timeout", type=float, default=300)
    parser.add_argument(
        "--retries", type=int, default=5, help="after HTTP 429, as Retry-After says"
    )
    parser.add_argument(
        "--at-least",
        type=float,
        default=0,
        help="fail where a column's total is under this (per cent)",
    )
    parser.add_argument("--json", type=Path, help="write the scores there too")
    parser.add_argument("--show-wrong", action="store_true")
    args = parser.parse_args()
    columns, failed = {}, 0
    for endpoint in args.endpoint:
        label, separator, base = endpoint.partition("=")
        if not separator or "/" in label:
            label, base = "score", endpoint
        columns[label], n = evaluate(label, base.rstrip("/"), args)
        failed += n
    print(sets.markdown(columns))
    if args.json:
        args.json.write_text(
            json.dumps(
                {c: {n: list(x) for n, x in t.items()} for c, t in columns.items()}, indent=1
            )
            + "\n"
        )
    low = [c for c, t in columns.items() if sets.percent(*sets.total(t)) < args.at_least]
    for label in low:
        print(f"{label}: under {args.at_least} per cent", file=sys.stderr)
    return 1 if failed or low else 0


if __name__ == "__main__":
    sys.exit(main())
