"""The held-out sets.

    python3 tools/demo_model/heldout.py               writes bench/quality/sets/*.jsonl
    python3 tools/demo_model/heldout.py --check N     draws N training conversations and asserts that none has a held-out prompt

Each line: {"id", "messages", "max_tokens", "check"}. The keys are on the test side of the split (demo_data/base.py), so no
training sample has them; training also refuses these very prompts, however they came about. Lines of some sets also have
"tools", "parallel_tool_calls" or "response_format", as a request of OpenAI's API has them.
"""

import json
import random
import sys

import config
from demo_data import base, conversation, schema, tools

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
# set: (maker of a line, number of prompts, longest answer in tokens)
REQUESTS = {
    "tools": (tools.one_call, 150, 160),
    "tools_parallel": (tools.several_calls, 60, 200),
    "tools_result": (tools.from_result, 80, 80),
    "tools_none": (tools.no_call, 80, 400),
    "schema": (schema.filled, 120, 160),
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


def _write(name, lines):
    path = config.SETS_DIR / f"{name}.jsonl"
    text = "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines)
    path.write_text(text, encoding="utf-8")


def _turns(name, generator):
    """The lines of a set of turns."""
    tasks, count, longest = SETS[name]
    rng, lines, seen = generator.rng, [], set()

    def add(id_, messages, check):
        lines.append({"id": id_, "messages": messages, "max_tokens": longest, "check": check})

    if name == "add":
        for user, check in FIXED:
            add("add-fixed", _messages([], user), check)
            seen.add(user)
    while len(lines) < count:
        turn = base.draw(conversation.TASKS[rng.choice(tasks)][0], rng, "test")
        last = conversation.noisy(turn.user, turn.noise, rng) if rng.random() < 0.5 else turn.user
        before = list(turn.before)
        if turn.facts and before:  # other turns between telling and asking
            for _ in range(rng.choice([0, 0, 1, 2, 4])):
                other = generator.turn()
                if not other.before and not other.facts:
                    before.append((other.user, other.model))
        text = json.dumps([before, base.normalise(last)])
        if text not in seen:
            seen.add(text)
            add(f"{name}-{len(lines)}", _messages(before, last.strip()), turn.check)
    return lines


def _requests(name, generator):
    """The lines of a set that needs more than messages."""
    maker, count, longest = REQUESTS[name]
    lines, seen = [], set()
    while len(lines) < count:
        line = maker(generator)
        text = json.dumps(line["messages"])
        if text not in seen:
            seen.add(text)
            lines.append({"id": f"{name}-{len(lines)}", **line, "max_tokens": longest})
    return lines


def make():
    generator = conversation.Generator(random.Random(config.SEED + 1))
    config.SETS_DIR.mkdir(parents=True, exist_ok=True)
    for name in SETS:
        _write(name, _turns(name, generator))
    for name in REQUESTS:
        _write(name, _requests(name, generator))
    print(f"{sum(map(len, read().values()))} prompts in {config.SETS_DIR}")


def read():
    """All prompts: {set: [line, ...]}."""
    return {
        name: [
            json.loads(x)
            for x in (config.SETS_DIR / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for name in [*SETS, *REQUESTS]
    }


def forbidden():
    """What training may never ask, normalised: the user's side of every held-out conversation. A result is no prompt."""
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
