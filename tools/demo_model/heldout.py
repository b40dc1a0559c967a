"""The held-out sets.

    python3 tools/demo_model/heldout.py               writes bench/quality/sets/*.jsonl
    python3 tools/demo_model/heldout.py --check N     draws N training conversations and asserts that none has a held-out prompt

Each line: {"id", "messages", "max_tokens", "check"}. The keys are on the test side of the split (demo_data/base.py), so no
training sample has them; training also refuses these very prompts, however they came about.
"""

import json
import random
import sys

import config
from demo_data import base, conversation

# set: (tasks, number of prompts, longest answer in tokens)
SETS = {
    "add": (["add"], 200, 40),
    "subtract": (["subtract"], 150, 40),
    "compare": (["compare"], 100, 30),
    "count": (["count", "how_many", "neighbour", "parity"], 100, 400),
    "spell": (["spell", "letters"], 80, 60),
    "reverse": (["reverse"], 80, 100),
    "days_months": (["calendar"], 80, 60),
    "capitals": (["geography"], 100, 30),
    "animals_colours": (["animals", "colours", "lists"], 120, 30),
    "multiply": (["multiply"], 40, 30),
    "repeat": (["repeat"], 80, 80),
    "memory": (["memory", "memory", "said", "in_text"], 120, 60),
    "json": (["json"], 100, 80),
    "story": (["story"], 60, 300),
    "tandem": (["tandem"], 150, 80),
    "small_talk": (["talk"], 50, 60),
    "unknown": (["unknown", "unknown", "unknown", "too_hard"], 100, 60),
}
# Prompts that somebody will surely try, all on the test side of the split or refused to training through `forbidden`.
FIXED = [("What is 12 + 30?", {"type": "number", "value": 42})]


def _messages(pairs, last):
    messages = []
    for user, model in pairs:
        messages += [
            {"role": "user", "content": user},
            {"role": "assistant", "content": base.strip_marks(model)},
        ]
    return messages + [{"role": "user", "content": last}]


def make():
    rng = random.Random(config.SEED + 1)
    generator = conversation.Generator(rng)
    config.SETS_DIR.mkdir(parents=True, exist_ok=True)
    for name, (tasks, count, longest) in SETS.items():
        lines, seen = [], set()
        if name == "add":
            lines = [
                {
                    "id": "add-fixed",
                    "messages": _messages([], user),
                    "max_tokens": longest,
                    "check": check,
                }
                for user, check in FIXED
            ]
            seen = {user for user, _ in FIXED}
        while len(lines) < count:
            turn = base.draw(conversation.TASKS[rng.choice(tasks)][0], rng, "test")
            last = (
                conversation.noisy(turn.user, turn.noise, rng) if rng.random() < 0.5 else turn.user
            )
            before = list(turn.before)
            if turn.facts and before:  # other turns between telling and asking
                for _ in range(rng.choice([0, 0, 1, 2, 4])):
                    other = generator.turn()
                    if not other.before and not other.facts:
                        before.append((other.user, other.model))
            text = json.dumps([before, base.normalise(last)])
            if text in seen:
                continue
            seen.add(text)
            lines.append(
                {
                    "id": f"{name}-{len(lines)}",
                    "messages": _messages(before, last.strip()),
                    "max_tokens": longest,
                    "check": turn.check,
                }
            )
        path = config.SETS_DIR / f"{name}.jsonl"
        path.write_text(
            "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines), encoding="utf-8"
        )
    print(f"{sum(c for _, c, _ in SETS.values())} prompts in {config.SETS_DIR}")


def read():
    """All prompts: {set: [line, ...]}."""
    return {
        name: [
            json.loads(x)
            for x in (config.SETS_DIR / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for name in SETS
    }


def forbidden():
    """What training may never ask, normalised: the user's side of every held-out conversation."""
    return frozenset(
        base.normalise(" ".join(m["content"] for m in line["messages"] if m["role"] == "user"))
        for lines in read().values()
        for line in lines
    )


def check(count):
    """Training conversations never contain a held-out prompt, and the split alone all but ensures it."""
    prompts = forbidden()
    generator = conversation.Generator(random.Random(config.SEED + 2), prompts)
    turns = 0
    for _ in range(count):
        pairs = generator.conversation(config.ROW)
        turns += len(pairs)
        for i, (user, _) in enumerate(pairs):
            assert base.normalise(user) not in prompts, user
            assert base.normalise(" ".join(u for u, _ in pairs[: i + 1])) not in prompts, user
    assert generator.refused <= max(2, turns // 5000), (generator.refused, turns)
    print(
        f"{count} conversations, {turns} turns, no held-out prompt; {generator.refused} refused beyond the split by keys"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        check(int(sys.argv[2]))
    else:
        make()
