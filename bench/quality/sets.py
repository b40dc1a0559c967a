"""The prompt sets, and the table of scores. Shared by the evaluation through the API and by the training side."""

import json
from pathlib import Path

from checkers import right

FOLDER = Path(__file__).resolve().parent / "sets"
# Order of the table; each is a file of FOLDER.
NAMES = [
    "add",
    "subtract",
    "multiply",
    "compare",
    "count",
    "spell",
    "reverse",
    "days_months",
    "capitals",
    "animals_colours",
    "repeat",
    "memory",
    "json",
    "story",
    "tandem",
    "small_talk",
    "unknown",
    "tools",
    "tools_parallel",
    "tools_result",
    "tools_none",
    "schema",
]


def read(names=None, limit=0):
    """[(set, line), ...], the first `limit` of each set (0: all)."""
    out = []
    for name in names or NAMES:
        lines = [
            json.loads(x)
            for x in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        out += [(name, line) for line in lines[: limit or None]]
    return out


def score(prompts, answers):
    """{set: (right, all)} and the failures as [(set, line, answer), ...]."""
    table, failures = {}, []
    for (name, line), answer in zip(prompts, answers):
        good = answer is not None and right(answer, line["check"])
        hits, count = table.get(name, (0, 0))
        table[name] = (hits + good, count + 1)
        if not good:
            failures.append((name, line, answer))
    return table, failures


def percent(hits, count):
    return 100.0 * hits / count if count else 0.0


def total(table):
    """All prompts together: (right, all)."""
    return tuple(map(sum, zip(*table.values()))) if table else (0, 0)


def markdown(columns):
    """A table; columns: {label: table of score()}."""
    labels = list(columns)
    names = [n for n in NAMES if any(n in t for t in columns.values())]
    rows = [["set", "prompts"] + labels]
    for name in names:
        count = next(t[name][1] for t in columns.values() if name in t)
        rows.append(
            [name, str(count)] + [f"{percent(*columns[c].get(name, (0, 0))):.1f}" for c in labels]
        )
    rows.append(
        ["**all**", str(total(next(iter(columns.values())))[1])]
        + [f"**{percent(*total(columns[c])):.1f}**" for c in labels]
    )
    lines = ["| " + " | ".join(r) + " |" for r in rows]
    lines.insert(1, "|" + "---|" * 2 + "---:|" * len(labels))
    return "\n".join(lines)
