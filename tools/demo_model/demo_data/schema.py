"""Facts in a text, asked for as JSON with given keys: what a user of response_format with a json_schema writes."""

import json

from demo_data import base, spelling, tool_kinds, words

_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def _some(list_, low=2, high=3):
    return lambda rng: rng.sample(list_, rng.randint(low, high))


def _listed(value):
    return ", ".join(value[:-1]) + " and " + value[-1]


def _price(rng):
    return rng.randint(1, 99)


# Of what: {fact: (names of the key, type, values, ways to say it)}; {n} is the subject. The first fact is the subject itself.
_RECORDS = {
    "person": {
        "name": ("name name name person first_name", "string", tool_kinds.person, ()),
        "age": (
            "age age age years",
            "integer",
            lambda rng: rng.randint(1, 99),
            ("{n} is {v} years old", "{n} is {v}", "{n}'s age is {v}", "{n} turned {v} this year"),
        ),
        "city": (
            "city city city home town place location",
            "string",
            tool_kinds.city,
            ("{n} lives in {v}", "{n}'s home is in {v}", "{n} is from {v}", "{n} comes from {v}"),
        ),
        "job": (
            "job job profession occupation work",
            "string",
            lambda rng: rng.choice(words.JOBS),
            ("{n} works as a {v}", "{n}'s job is {v}", "{n} is a {v}"),
        ),
        "colour": (
            "colour color favourite_colour favorite_color",
            "string",
            lambda rng: rng.choice(words.COLOURS),
            ("{n}'s favourite colour is {v}", "{n} likes the colour {v}", "{n} loves {v}"),
        ),
        "food": (
            "food favourite_food dish",
            "string",
            lambda rng: rng.choice(words.FOODS),
            ("{n}'s favourite food is {v}", "{n} likes to eat {v}", "{n} eats {v} every day"),
        ),
        "pet": ("pet pet_name dog", "string", tool_kinds.person, ("{n} has a dog called {v}", "{n}'s pet is called {v}")),
        "married": ("married is_married", "boolean", lambda rng: rng.random() < 0.5, ("{n} is{not} married",)),
        "student": ("student is_student", "boolean", lambda rng: rng.random() < 0.5, ("{n} is{not} a student",)),
        "likes": (
            "likes animals favourite_animals",
            "array",
            _some(list(words.ANIMALS)),
            ("{n} likes the {v}", "{n}'s favourite animals are the {v}"),
        ),
        "phone": (
            "phone phone_number number",
            "string",
            lambda rng: str(rng.randint(1000, 9999999)),
            ("{n}'s phone number is {v}", "you can reach {n} at {v}"),
        ),
    },
    "order": {
        "item": ("item product article thing", "string", lambda rng: rng.choice(words.NOUNS), ()),
        "count": (
            "count quantity amount pieces",
            "integer",
            lambda rng: rng.randint(2, 99),
            ("the number of pieces is {v}", "{v} pieces were ordered", "we need {v} of it"),
        ),
        "colour": (
            "colour color",
            "string",
            lambda rng: rng.choice(words.COLOURS),
            ("its colour is {v}", "the {n} is {v}", "it has to be {v}"),
        ),
        "price": ("price cost euros", "integer", _price, ("it costs {v} euros", "the price is {v} euros", "the {n} is {v} euros")),
        "customer": (
            "customer buyer name client",
            "string",
            tool_kinds.person,
            ("the customer is {v}", "{v} ordered the {n}", "it is for {v}"),
        ),
        "city": ("city town address destination", "string", tool_kinds.city, ("it goes to {v}", "send it to {v}", "the address is in {v}")),
        "gift": ("gift is_gift", "boolean", lambda rng: rng.random() < 0.5, ("it is{not} a gift",)),
        "size": ("size", ("small", "medium", "large"), None, ("the size is {v}", "the {n} is {v}")),
    },
    "event": {
        "title": ("title event name", "string", lambda rng: rng.choice(words.NOUNS + ["meeting", "party", "concert", "dinner"] * 60), ()),
        "day": (
            "day weekday date",
            "string",
            lambda rng: rng.choice(_DAYS),
            ("it is on {v}", "the {n} is on {v}", "it takes place on {v}"),
        ),
        "time": (
            "time start hour",
            "string",
            lambda rng: f"{rng.randint(0, 23):02d}:{rng.choice([0, 15, 30, 45]):02d}",
            ("it begins at {v}", "the {n} starts at {v}", "come at {v}"),
        ),
        "city": ("city place location where", "string", tool_kinds.city, ("it is in {v}", "the {n} is in {v}", "we meet in {v}")),
        "people": (
            "people guests participants",
            "integer",
            lambda rng: rng.randint(2, 500),
            ("{v} people come", "there are {v} guests", "{v} people are invited"),
        ),
        "host": ("host speaker organiser", "string", tool_kinds.person, ("the host is {v}", "{v} organises it")),
        "free": ("free is_free", "boolean", lambda rng: rng.random() < 0.5, ("it is{not} free",)),
    },
}
_OPENING = {
    "order": ("Somebody ordered a {n}.", "This order is for a {n}.", "We need a {n}.", "A new order: a {n}."),
    "event": ("There is a {n}.", "You are invited to a {n}.", "We plan a {n}.", "A {n} is planned."),
}
_BEFORE = (
    "Give me a JSON object with the keys {k}.",
    "Extract {k} as JSON.",
    "Return JSON with the keys {k}.",
    "Write the {w} as JSON with the keys {k}.",
    "Extract the {w} from the text. Answer with a JSON object that has the keys {k}.",
    "Find {k} in this text and answer in JSON.",
    "Answer with JSON. Keys: {k}.",
    "Reply with a JSON object ({k}).",
    "Put the facts into JSON with {k}.",
    "JSON with {k}, please.",
)
_SCHEMA = (
    "Fill in this JSON schema: {s}",
    "Answer with JSON that follows this schema:\n{s}",
    "Extract the {w} as JSON with this schema: {s}",
    "Use this JSON schema: {s}",
    "Return JSON. Schema: {s}",
    "Schema: {s}",
)
_OPEN = (
    "Extract the {w}.",
    "Extract the {w} information.",
    "Extract the facts as JSON.",
    "Who or what is it about? Extract the data.",
    "Fill in the form.",
)


def _draw(what, rng):
    """The facts of a record: {fact: value}."""
    table = _RECORDS[what]
    subject, *others = table
    facts = [subject, *rng.sample(others, rng.randint(1, min(5, len(others))))]
    return {f: rng.choice(table[f][1]) if isinstance(table[f][1], tuple) else table[f][2](rng) for f in facts}


def _text(what, values, rng):
    table = _RECORDS[what]
    (_, name), *others = values.items()
    parts = []
    for fact, value in others:
        said = rng.choice(table[fact][3])
        shown = _listed(value) if isinstance(value, list) else str(value)
        parts.append(said.replace("{not}", "" if value is True else " not").replace("{v}", shown))
    rng.shuffle(parts)
    sentences = [rng.choice(_OPENING[what])] if what in _OPENING else []
    pronoun = rng.choice(["She", "He", "{n}"])
    while parts:
        part = parts.pop()
        about = part.startswith("{n} ") and what == "person"
        if about and sentences:
            part = pronoun + part[3:]
        if about and parts and parts[-1].startswith("{n} ") and rng.random() < 0.5:
            part += " and" + parts.pop()[3:]
        sentences.append(base.sentence(part) + ".")
    if rng.random() < 0.15:
        sentences.insert(rng.randint(1, len(sentences)), base.sentence(spelling.simple_sentence(rng)) + ".")
    text = " ".join(sentences).replace("a {n}", base.article(name)).replace("A {n}", base.article(name))
    return base.sentence(text.replace("{n}", name))


def _property(type_):
    if isinstance(type_, tuple):
        return {"type": "string", "enum": list(type_)}
    return {"type": "array", "items": {"type": "string"}} if type_ == "array" else {"type": type_}


def schema_of(properties, rng):
    schema = {"type": "object", "properties": properties}
    if rng.random() < 0.8:
        schema["required"] = list(properties)
    if rng.random() < 0.3:
        schema["additionalProperties"] = False
    return schema


def _asked(keys, types, what, schema, rng, named):
    """The sentence that asks, and whether it stands before the text."""
    r = rng.random()
    if r < 0.08 and not named:
        return rng.choice(_OPEN).replace("{w}", what)
    if r < 0.35:
        return rng.choice(_SCHEMA).replace("{w}", what).replace("{s}", json.dumps(schema))
    shown = list(keys)
    if r < 0.5:
        shown = [f"{k} ({t if isinstance(t, str) else 'string'})" for k, t in zip(keys, types)]
    elif r < 0.6:
        shown = [f'"{k}"' for k in keys]
    listed = ", ".join(shown) if len(shown) == 1 or rng.random() < 0.4 else _listed(shown)
    return rng.choice(_BEFORE).replace("{w}", what).replace("{k}", listed)


def schema(rng, named=False):
    """A turn; `turn.facts` has the schema of the answer. named: the keys stand in the question."""
    what = rng.choice(["person", "person", "person", "order", "event"])
    table, values = _RECORDS[what], _draw(what, rng)
    text = _text(what, values, rng)
    facts = list(values)
    wanted = rng.sample(facts, rng.randint(1, len(facts))) if rng.random() < 0.5 else facts
    keys = {}
    for fact in wanted:
        free = [k for k in table[fact][0].split() if k not in keys]
        if free:
            keys[rng.choice(free)] = fact
    answer = {k: values[f] for k, f in keys.items()}
    types = [table[f][1] for f in keys.values()]
    rule = schema_of({k: _property(t) for k, t in zip(keys, types)}, rng)
    ask = _asked(keys, types, what, rule, rng, named)
    form = rng.choice(["{a}\n\n{t}", "{t}\n\n{a}", "{a} {t}", "{t} {a}", "{a}\n\nText: {t}", "{a}\n{t}"])
    user = form.replace("{a}", ask).replace("{t}", text)
    check = {"type": "json", "value": answer}
    return base.Turn(
        user, json.dumps(answer, ensure_ascii=False), "schema:" + base.normalise(text), check, noise="none", asked=json.dumps(rule)
    )


def filled(generator):
    """A line of the test sets."""
    turn = base.draw(lambda rng: schema(rng, named=True), generator.rng, "test")
    format_ = {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(turn.asked)}}
    return {"messages": [{"role": "user", "content": turn.user}], "response_format": format_, "check": turn.check}
