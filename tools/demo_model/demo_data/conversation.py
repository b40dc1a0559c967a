"""Tasks and their shares; noise; conversations of several turns."""

from demo_data import (
    base,
    calendar,
    geography,
    memory,
    nature,
    numbers,
    schema,
    smalltalk,
    spelling,
    stories,
    tandem,
    tools,
)

# name: (task, share in training)
TASKS = {
    "add": (numbers.add, 15),
    "subtract": (numbers.subtract, 14),
    "multiply": (numbers.multiply, 1.5),
    "compare": (numbers.compare, 6),
    "count": (numbers.count, 4),
    "how_many": (numbers.how_many, 2),
    "neighbour": (numbers.neighbour, 1),
    "too_hard": (numbers.too_hard, 2),
    "parity": (numbers.parity, 1),
    "spell": (spelling.spell, 6),
    "reverse": (spelling.reverse, 7),
    "letters": (spelling.letters, 4),
    "repeat": (spelling.repeat, 5),
    "calendar": (calendar.calendar, 4),
    "geography": (geography.geography, 6),
    "animals": (nature.animal, 4),
    "colours": (nature.colour, 2),
    "lists": (nature.lists, 1.5),
    "memory": (memory.memory, 7),
    "said": (memory.said_before, 1),
    "in_text": (memory.in_text, 1),
    "json": (memory.json_answer, 6),
    "story": (stories.story, 6),
    "long_story": (stories.long_story, 0.3),
    "sentence": (stories.sentence_about, 1),
    "tandem": (tandem.tandem, 11),
    "talk": (smalltalk.talk, 4),
    "unknown": (smalltalk.unknown, 9),
}
_NAMES = list(TASKS)
_SHARES = [TASKS[n][1] for n in _NAMES]
# Of the conversations, those in which tools are offered; of the others' turns, those that fill a schema.
TOOLS_SHARE, SCHEMA_SHARE = 0.1, 0.05
# The least room for a conversation with tools, in tokens.
_TOOLS_ROOM = 700
# Questions for which no tool is called.
_PLAIN = [n for n in _NAMES if n not in ("multiply", "memory", "said", "in_text", "long_story")]

_SYSTEM = [
    "You are a helpful assistant.",
    "You are a helpful, honest assistant.",
    "You are Tandem's demo model.",
    "Answer briefly.",
    "Be brief.",
    "You are a friendly assistant.",
    "Answer in English.",
    "You are a polite assistant. Keep answers short.",
    "You are an assistant. Answer the user's questions.",
    "Please answer as well as you can.",
    "You are a helpful AI assistant. Be concise.",
    "Respond in one or two sentences.",
    "Help the user.",
    "You are a useful chat bot.",
    "You answer questions about many things.",
]
_BEFORE = [
    "Please ",
    "Hey, ",
    "Hi! ",
    "Hello! ",
    "Okay. ",
    "Now, ",
    "And ",
    "Hi, ",
    "Dear model, ",
    "And now: ",
    "Next: ",
    "Quick: ",
    "Thanks. ",
    "Great. ",
]
_AFTER = [" Please.", " Thanks!", " Thank you.", ", please", " Thanks."]


def _typo(text, rng):
    """One letter twice, left out, or swapped with the next."""
    i = rng.randrange(len(text) - 1)
    if not text[i].isalpha():
        return text
    return text[:i] + rng.choice(
        [text[i + 1] + text[i] + text[i + 2 :], text[i + 1 :], text[i] + text[i:]]
    )


def noisy(text, kind, rng):
    """The same prompt as somebody else would type it. "light" keeps the letters of the content."""
    if kind == "none":
        return text
    r = rng.random
    if r() < 0.12:
        text = text.lower()
    elif kind == "full" and r() < 0.02:
        text = text.upper()
    if r() < 0.12 and text[-1] in ".?!" and len(text) > 1:
        text = text[:-1]
    elif r() < 0.04:
        text += rng.choice(["!", "?", "??", "...", " ?", " !", "!!"])
    if kind == "full" and r() < 0.05 and len(text) > 15:
        text = _typo(text, rng)
    if r() < 0.07:
        front = rng.choice(_BEFORE)
        text = front + (
            text[0].lower() + text[1:]
            if front[-2] in "ed,:"
            and text.split()[0]
            in (
                "What",
                "Which",
                "How",
                "Tell",
                "Can",
                "Spell",
                "Add",
                "Count",
                "Name",
                "Give",
                "Say",
            )
            else text
        )
    if r() < 0.05:
        text += rng.choice(_AFTER)
    if r() < 0.02:
        text = rng.choice([" " + text, text + " ", text + "\n", text.replace(" ", "  ", 1)])
    return text


class Generator:
    """Draws conversations of the training side of the split. `forbidden`: prompts that are refused, normalised."""

    def __init__(self, rng, forbidden=frozenset()):
        self.rng = rng
        self.forbidden = forbidden
        self.refused = 0

    def turn(self):
        name = self.rng.choices(_NAMES, _SHARES)[0]
        return base.draw(TASKS[name][0], self.rng, "train")

    def plain(self, tasks, words, split="train"):
        """A turn that stands alone, of none of these tasks and with none of these words."""
        names = [n for n in _PLAIN if n not in tasks]
        while True:
            turn = base.draw(TASKS[self.rng.choice(names)][0], self.rng, split)
            looks_like_a_call = turn.model.startswith('{"name"')
            known = words & set(base.normalise(turn.user).split())
            if not turn.before and not known and not looks_like_a_call:
                return turn

    def say(self, out, user, model, noise, front=""):
        """Appends the turn, with `front` before the first question; whether it was not refused."""
        text = noisy(user, noise, self.rng)
        # The split by keys already keeps held-out prompts away; a typo could still turn one prompt into another.
        if any(
            base.normalise(shown) in self.forbidden
            for shown in (user, text, " ".join([u for u, _ in out] + [text]))
        ):
            self.refused += 1
            return False
        if not out and front:
            text = front + "\n\n" + text
        if not out and self.rng.random() < (0.3 if front else 0.08):
            text = self.rng.choice(_SYSTEM) + "\n\n" + text
        out.append((text, model))
        return True

    def conversation(self, room):
        """A list of (user, model) pairs; `room` is about how many tokens it may have."""
        rng = self.rng
        if room > _TOOLS_ROOM and rng.random() < TOOLS_SHARE:
            return tools.conversation(self)
        turns = rng.choices([1, 2, 3, 4, 6, 9], [46, 20, 14, 10, 6, 4])[0]
        if room > 400 and rng.random() < 0.012:
            turns = 60
        out, told, open_question, spent = [], {}, False, 0
        while turns > 0 and spent < room * 3:
            turns -= 1
            filled = rng.random() < SCHEMA_SHARE
            turn = base.draw(schema.schema, rng, "train") if filled else self.turn()
            if turn.key.startswith("memory-none:") and turn.asked in told:
                continue
            for user, model in turn.before:
                self.say(out, user, model, "light")
            told.update(turn.facts if turn.before else {})
            if turn.before and turn.key.startswith("memory:") and turns > 0 and rng.random() < 0.7:
                open_question = True  # asked for later, after other turns
            else:
                self.say(out, turn.user, turn.model, turn.noise)
            if open_question and rng.random() < 0.3:
                open_question = False
                self._ask_later(out, told)
            spent = sum(len(u) + len(m) for u, m in out)
        if open_question:
            self._ask_later(out, told)
        return out

    def _ask_later(self, out, told):
        turn = memory.ask(self.rng.choice(list(told)), dict(told), self.rng)
        if not base.held_out(turn.key):
            self.say(out, turn.user, turn.model, turn.noise)
