"""What every task shares: prompts from small grammars, the held-out split, turns.

A task is a function (rng) -> Turn. Its `key` names the thing that may not be seen in both training and test: the pair of
operands, the word, the animal and the object of a story, or else the prompt itself. The split is a hash of that key, so
it needs no list and holds for every sample that will ever be drawn.
"""

import hashlib
import random
import re
from dataclasses import dataclass, field

# Text between these two marks is tokenised one character at a time (spelling, reversing). Never part of the text itself.
CHARS_BEGIN = "\x01"
CHARS_END = "\x02"

# One key in HELD_OUT_ONE_IN is held out.
HELD_OUT_ONE_IN = 20
# Held out whatever the hash says: what the demo asks.
ALWAYS_HELD_OUT = {"add:12:30"}

_CHOICE = re.compile(r"\[([^\[\]]*)\]")


@dataclass
class Turn:
    """One question and its answer.

    user:  the prompt, before noise.
    model: the answer; may contain CHARS_BEGIN/CHARS_END.
    key:   what is held out, see above.
    check: how a test judges the answer (bench/quality/checkers.py).
    before: earlier (user, model) pairs that the question depends on.
    noise: "full", "light" (case and punctuation are part of the task) or "none".
    """

    user: str
    model: str
    key: str
    check: dict
    before: list = field(default_factory=list)
    noise: str = "full"
    facts: dict = field(
        default_factory=dict
    )  # what the user told in `before` (memory.py): kind -> value
    asked: str = ""  # which kind of fact is asked for


def expand(template, rng):
    """Picks one of each [a|b|c], innermost first."""
    while True:
        found = _CHOICE.search(template)
        if not found:
            return re.sub(r" +", " ", template).strip()
        pick = rng.choice(found.group(1).split("|"))
        template = template[: found.start()] + pick + template[found.end() :]


def normalise(text):
    """Lower case, letters and digits alone: two prompts that differ in case or punctuation are one prompt."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def fraction(text):
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha1(text.encode()).digest()[:6], "big") / 2**48


def held_out(key):
    """Whether this key belongs to the test sets."""
    return key in ALWAYS_HELD_OUT or int(fraction("held-out:" + key) * 1e9) % HELD_OUT_ONE_IN == 0


def pick_by(text, options):
    """A choice that depends on the text alone: the same animal has the same name in every story."""
    return options[int(fraction("pick:" + text) * len(options))]


def strip_marks(text):
    return text.replace(CHARS_BEGIN, "").replace(CHARS_END, "")


def chars(text):
    """Marks text to be tokenised one character at a time."""
    return CHARS_BEGIN + text + CHARS_END


def article(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def sentence(text):
    """First letter upper case."""
    return text[0].upper() + text[1:]


def contains(*words):
    return {"type": "contains", "all": [str(w) for w in words]}


def from_prompt(user, model, check, **kw):
    """A turn whose prompt itself is what is held out."""
    return Turn(user, model, "prompt:" + normalise(user), check, **kw)


def draw(task, rng, split):
    """Draws from the task until the key is on the wanted side of the split ("train" or "test")."""
    want = split == "test"
    for _ in range(10000):
        turn = task(rng)
        if held_out(turn.key) == want:
            return turn
    raise RuntimeError(f"{task.__name__}: no {split} sample in 10000 draws")


def seeded(*parts):
    """A generator that depends on the given parts alone."""
    return random.Random(int(fraction("seed:" + ":".join(map(str, parts))) * 2**48))
