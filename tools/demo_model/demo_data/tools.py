"""Conversations in which tools are offered: calls, several calls at once, answers from results, questions that need no tool."""

import json
import re

from demo_data import base, smalltalk, tool_kinds, tool_text

_WORDS_OF = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
_SIGNS = {"+": lambda a, b: a + b, "*": lambda a, b: a * b}
_ERRORS = ["not found", "timeout", "unknown name", "no connection", "not allowed", "try again later", "bad request", "out of range"]
# Kinds whose questions have no other answer here where the tool is not offered.
_ELSE_UNKNOWN = ["weather", "light", "translate", "order", "distance", "music", "event", "convert", "timer"]


def _styled(text, rng):
    parts, r = text.split(), rng.random()
    if r < 0.12:
        return parts[0] + "".join(p.capitalize() for p in parts[1:])
    return ("-" if r < 0.17 else "_").join(parts)


class Tool:
    """One tool of a kind, with a name and a schema of its own."""

    def __init__(self, rng, kind_name=None):
        made_up = kind_name is None and rng.random() < 0.45
        self.kind_name = "made-up" if made_up else kind_name or rng.choice(list(tool_kinds.KINDS))
        self.kind = tool_kinds.made_up_kind(rng) if made_up else tool_kinds.KINDS[self.kind_name]
        plain = rng.choice(self.kind.names)
        self.name = _styled(plain, rng)
        self.key = f"tool-name:{plain}" if made_up or not self.kind.slots else ""
        self.slots, self.properties, order = [], {}, []
        optional = [s for s in self.kind.optional if rng.random() < 0.35]
        described = rng.random() < 0.35
        # Every parameter has to be given: null, or the first choice, where the question does not say.
        self.strict = rng.random() < 0.2
        for slot in [*self.kind.slots, *optional]:
            name = rng.choice([n for n in slot.names.split() if n not in self.properties] or [f"other_{slot.names.split()[0]}"])
            self.properties[name], values = self._property(slot, described, rng)
            if self.strict and slot in optional and not slot.options:
                self.properties[name]["type"] = [self.properties[name]["type"], "null"]
            self.slots.append((name, values, slot in self.kind.slots, slot.phrase))
            order.append(name)
        if rng.random() < 0.15:
            rng.shuffle(order)
        self.order = order
        self.function = self._function(rng)

    @staticmethod
    def _property(slot, described, rng):
        """The parameter's schema, and what draws a value of it with its word in the question."""
        type_, options, values = slot.type, slot.options, slot.values
        if values is tool_kinds.on_off and rng.random() < 0.3:
            type_, options = "string", ("on", "off")
        elif options[:1] == ("+",) and rng.random() < 0.6:
            options = tuple(_WORDS_OF)
        elif type_ in ("integer", "number"):
            type_ = "integer" if rng.random() < 0.75 else "number"
        schema = {"type": type_}
        if type_ == "array":
            schema["items"] = {"type": "string"}
        if described:
            schema["description"] = rng.choice(slot.about)
        if options:
            options = rng.sample(options, rng.randint(2, min(5, len(options))))
            schema["enum"] = options
            return schema, lambda r: (lambda v: (v, _WORDS_OF.get(v, v)))(r.choice(options))

        def draw(r):
            value = values(r)
            return value if isinstance(value, tuple) else (value, str(value))

        return schema, draw

    def _function(self, rng):
        function = {"name": self.name}
        if rng.random() < 0.9:
            function["description"] = rng.choice(self.kind.about)
        if not self.order and rng.random() < 0.3:
            return function
        parameters = {"type": "object", "properties": {n: self.properties[n] for n in self.order}}
        needed = {name for name, _, required, _ in self.slots if required or self.strict}
        if needed and (self.strict or rng.random() < 0.85):
            parameters["required"] = [n for n in self.order if n in needed]
        if self.strict or rng.random() < 0.1:
            parameters["additionalProperties"] = False
        function["parameters"] = parameters
        return function

    def want(self, rng, split):
        """A call that somebody wants, on the wanted side of the split."""
        return base.draw(lambda r: Want(self, r), rng, split)

    def fits(self, split, rng):
        """Whether calls of it can be on this side of the split: some tools have few different ones."""
        if self.key:
            return base.held_out(self.key) == (split == "test")
        return split == "train" or any(base.held_out(Want(self, rng).key) for _ in range(500))


class Want:
    """Arguments of a tool, and the words that ask for them."""

    def __init__(self, tool, rng):
        self.tool = tool
        drawn, self.words, self.more = {}, [], ""
        for name, values, required, phrase in tool.slots:
            if not required and rng.random() < 0.4:
                if tool.strict:
                    drawn[name] = tool.properties[name].get("enum", [None])[0]
                continue
            drawn[name], word = values(rng)
            if required:
                self.words.append(word)
            else:
                self.more += phrase.replace("{}", word)
        self.arguments = {n: drawn[n] for n in tool.order if n in drawn}
        self.key = tool.key or f"tool:{tool.kind_name}:" + base.normalise(" ".join(self.words) + self.more)
        if tool.kind_name in ("add", "calculator"):
            numbers = sorted(x for x in self.arguments.values() if isinstance(x, int))
            self.key = f"add:{numbers[0]}:{numbers[1]}"

    @property
    def call(self):
        return self.tool.name, self.arguments

    def ask(self, rng):
        text = rng.choice(self.tool.kind.asks).format(*self.words)
        if not self.more:
            return text
        return text[:-1] + self.more + text[-1] if text[-1] in ".?" else text + self.more

    def result(self, rng):
        """(content of the tool's message, answer, what the answer has to contain)."""
        if rng.random() < 0.04:
            error = rng.choice(_ERRORS)
            content = tool_text.spelled({"error": error}) if rng.random() < 0.7 else "error: " + error
            return content, f"The tool gave an error: {error}.", [error]
        keys, *makers, answer = rng.choice(self.tool.kind.outputs)
        values = [_SIGNS[m](*list(map(int, self.words))[:2]) if isinstance(m, str) else m(rng) for m in makers]
        values = [int(v) if isinstance(v, str) and re.fullmatch("0|[1-9][0-9]*", v) else v for v in values]
        shown = [str(v) for v in values]
        text = answer.format(*self.words, r=shown[0], s=shown[-1])
        if not keys:
            return shown[0], text, [shown[0]] if "{r}" in answer else []
        output = {rng.choice(k.split("|")): v for k, v in zip(keys.split(), values)}
        if rng.random() < 0.25:
            output = {**self.arguments, **output}
        return tool_text.spelled(output), text, [s for s, v in zip(shown, values) if v is not True]


def offer(rng, split):
    """One to three tools; in tests the first is one that can be called there, and the others are any."""
    tools, count = [], rng.choices([1, 2, 3], [40, 35, 25])[0]
    while len(tools) < count:
        tool = Tool(rng)
        if split == "train" or not tools:
            if not tool.fits(split, rng) or (split == "test" and not tool.kind.slots):
                continue
        if all(t.name != tool.name and (tool.key or t.kind_name != tool.kind_name) for t in tools):
            tools.append(tool)
    return tools


def said(text, rng):
    """The question as somebody else would type it; names keep their letters."""
    r = rng.random
    if r() < 0.1:
        text = text[0].lower() + text[1:]
    if r() < 0.1 and text[-1] in ".?":
        text = text[:-1]
    if r() < 0.05 and "lease" not in text:
        text = rng.choice(["Please ", "Hey, ", "Hi! ", "Okay. ", "Now: "]) + text
    return text + (rng.choice([" Thanks!", " Please.", " Thank you."]) if r() < 0.04 else "")


def several(tools, rng, split):
    """(question, wants) for several calls at once."""
    tool = rng.choice(tools)
    if tool.kind.both and rng.random() < 0.7:
        wants = {}
        while len(wants) < (3 if rng.random() < 0.15 else 2):
            want = tool.want(rng, split)
            if not want.more:
                wants[want.words[0]] = want
        *front, last = wants
        return rng.choice(tool.kind.both).format(", ".join(front), b=last), list(wants.values())
    wants = [rng.choice(tools).want(rng, split) for _ in range(2)]
    if wants[0].call == wants[1].call:
        wants.pop()
    asked = [q if q[-1] in '.?"' else q + "." for q in (w.ask(rng) for w in wants)]
    joined = rng.choice([" ", " ", " And: ", "\n", " Also: ", " Then: "]).join(asked)
    return joined, wants


def avoid(tools):
    """What a question for which no tool fits keeps away from: (tasks, words)."""
    tasks, found = set(), set()
    for tool in tools:
        tasks |= tool.kind.clash
        text = " ".join([*tool.kind.names, *tool.kind.about, *tool.kind.asks])
        found |= {w for w in base.normalise(text).split() if len(w) > 2}
    return tasks, found - set("what the for you how much and are tell please can find want get has with this that".split())


def not_offered(tools, rng, split):
    """A question for a tool that is not there."""
    while True:
        tool = Tool(rng, rng.choice(_ELSE_UNKNOWN))
        if all(tool.kind_name != t.kind_name for t in tools) and tool.fits(split, rng):
            return tool.want(rng, split).ask(rng)


def results_text(wants, results):
    return "\n\n".join(tool_text.output_text(w.tool.name, r[0]) for w, r in zip(wants, results))


def conversation(generator):
    """Pairs of (user, model): tools are offered, and some of the questions are for them."""
    rng = generator.rng
    tools, parallel = offer(rng, "train"), rng.random() < 0.75
    front = tool_text.instructions([t.function for t in tools], parallel)
    out, last = [], None
    for _ in range(rng.choices([1, 2, 3, 4, 6], [25, 25, 20, 15, 15])[0]):
        r, say = rng.random(), lambda user, model: generator.say(out, user, model, "none", front)
        if r < 0.2:
            turn = generator.plain(*avoid(tools))
            generator.say(out, turn.user, turn.model, turn.noise, front)
            continue
        if r < 0.27:
            say(said(not_offered(tools, rng, "train"), rng), smalltalk.UNKNOWN)
            continue
        if parallel and r < 0.43:
            text, wants = several(tools, rng, "train")
        else:
            wants = [rng.choice(tools).want(rng, "train")]
            again = wants[0].tool.kind.again
            follow = last is wants[0].tool and again and not wants[0].more and rng.random() < 0.6
            text = rng.choice(again).format(*wants[0].words) if follow else wants[0].ask(rng)
        if not say(said(text, rng), tool_text.calls_text([w.call for w in wants])):
            continue
        if rng.random() < 0.2:
            break
        results = [w.result(rng) for w in wants]
        out.append((results_text(wants, results), " ".join(r[1] for r in results)))
        last = wants[0].tool if len(wants) == 1 else None
    return out


def _line(tools, parallel, messages, check):
    line = {"messages": messages, "tools": [{"type": "function", "function": t.function} for t in tools]}
    return {**line, **({} if parallel else {"parallel_tool_calls": False}), "check": check}


def _calls_check(wants):
    return {"type": "calls", "value": [{"name": w.tool.name, "parameters": w.arguments} for w in wants]}


def _user(text):
    return {"role": "user", "content": text}


def one_call(generator):
    """A line of the test sets: one tool is wanted."""
    rng = generator.rng
    first, *others = offer(rng, "test")
    want = first.want(rng, "test")
    tools = rng.sample([first, *others], 1 + len(others))
    return _line(tools, rng.random() < 0.75, [_user(want.ask(rng))], _calls_check([want]))


def several_calls(generator):
    rng, wants = generator.rng, []
    while len(wants) < 2:
        tool = Tool(rng)
        if tool.kind.slots and tool.fits("test", rng):
            text, wants = several([tool], rng, "test")
    return _line([tool], True, [_user(text)], _calls_check(wants))


def no_call(generator):
    rng = generator.rng
    tools = offer(rng, "train")
    if rng.random() < 0.25:
        return _line(tools, True, [_user(not_offered(tools, rng, "test"))], base.contains("tiny demo model"))
    turn = generator.plain(*avoid(tools), split="test")
    return _line(tools, rng.random() < 0.75, [_user(turn.user)], turn.check)


def from_result(generator):
    """The call was made; the answer has to say what the tool gave."""
    rng, needs = generator.rng, []
    while not needs:
        first, *others = offer(rng, "test")
        want = first.want(rng, "test")
        content, _, needs = want.result(rng)
    function = {"name": first.name, "arguments": json.dumps(want.arguments, ensure_ascii=False)}
    call = {"id": "call_0", "type": "function", "function": function}
    messages = [
        _user(want.ask(rng)),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0", "content": content},
    ]
    return _line([first, *others], True, messages, base.contains(*needs))
