"""Things the user said about themselves, asked for later in the same conversation; what was said before; JSON answers."""

import json

from demo_data import base, geography, numbers, spelling, words


def _name(rng):
    return rng.choice(words.NAMES) if rng.random() < 0.75 else spelling.made_up(rng).capitalize()


# kind: (ways to tell, answer to that, ways to ask, answer, answer when it was never told, values)
_FACTS = {
    "name": (
        [
            "My name is {v}.",
            "I am {v}.",
            "I'm {v}.",
            "Hi, I'm {v}.",
            "Hello, my name is {v}.",
            "Call me {v}.",
            "You can call me {v}.",
            "Hello! I am {v}. Nice to meet you.",
            "Hi there, {v} here.",
            "My name's {v}.",
            "Please remember that my name is {v}.",
            "Remember my name: {v}.",
            "My name is {v} and I like dogs.",
            "Hello there, my name is {v} and I like music.",
            "I am {v} and I need help.",
            "My name is {v}, nice to meet you.",
            "Hi, I'm {v} and I have a question.",
            "My name is {v} and I am new here.",
            "Hello, I am called {v}.",
            "I'm {v}, and who are you?",
        ],
        "Nice to meet you, {v}!",
        [
            "What is my name?",
            "What's my name?",
            "Do you remember my name?",
            "Who am I?",
            "Can you tell me my name?",
            "Say my name.",
            "Tell me my name.",
            "What am I called?",
            "Do you know my name?",
            "What was my name again?",
            "What did I say my name was?",
        ],
        "Your name is {v}.",
        "You have not told me your name yet.",
        _name,
    ),
    "colour": (
        [
            "My favourite colour is {v}.",
            "My favorite color is {v}.",
            "I like the colour {v} best.",
            "I love {v}. It is my favourite colour.",
        ],
        "I will remember that your favourite colour is {v}.",
        [
            "What is my favourite colour?",
            "What's my favorite color?",
            "Which colour do I like best?",
            "Do you remember my favourite colour?",
            "Which is my favourite colour?",
        ],
        "Your favourite colour is {v}.",
        "You have not told me your favourite colour yet.",
        lambda rng: rng.choice(words.COLOURS),
    ),
    "animal": (
        [
            "My favourite animal is the {v}.",
            "My favorite animal is the {v}.",
            "The animal I like best is the {v}.",
        ],
        "I will remember that your favourite animal is the {v}.",
        [
            "What is my favourite animal?",
            "What's my favorite animal?",
            "Which animal do I like best?",
            "Do you remember my favourite animal?",
        ],
        "Your favourite animal is the {v}.",
        "You have not told me your favourite animal yet.",
        lambda rng: rng.choice(list(words.ANIMALS)),
    ),
    "food": (
        [
            "My favourite food is {v}.",
            "My favorite food is {v}.",
            "I like {v} more than any other food.",
        ],
        "I will remember that your favourite food is {v}.",
        [
            "What is my favourite food?",
            "What's my favorite food?",
            "Which food do I like best?",
            "Do you remember my favourite food?",
        ],
        "Your favourite food is {v}.",
        "You have not told me your favourite food yet.",
        lambda rng: rng.choice(words.FOODS),
    ),
    "city": (
        ["I live in {v}.", "I am from {v}.", "My city is {v}.", "My home is in {v}."],
        "I will remember that you live in {v}.",
        [
            "Where do I live?",
            "Which city do I live in?",
            "What city am I from?",
            "Do you remember where I live?",
            "Where am I from?",
        ],
        "You live in {v}.",
        "You have not told me where you live yet.",
        lambda rng: rng.choice(words.CITIES_FOR_MEMORY),
    ),
    "job": (
        ["I work as a {v}.", "I am a {v}.", "My job is {v}.", "I'm a {v} by profession."],
        "I will remember that your job is {v}.",
        [
            "What is my job?",
            "What's my job?",
            "What do I do for a living?",
            "Do you remember my job?",
            "What do I work as?",
        ],
        "Your job is {v}.",
        "You have not told me your job yet.",
        lambda rng: rng.choice(words.JOBS),
    ),
    "age": (
        ["I am {v} years old.", "I'm {v} years old.", "My age is {v}.", "I am {v}."],
        "I will remember that you are {v} years old.",
        ["How old am I?", "What is my age?", "What's my age?", "Do you remember how old I am?"],
        "You are {v} years old.",
        "You have not told me your age yet.",
        lambda rng: str(rng.randint(5, 99)),
    ),
    "pet": (
        [
            "My dog is called {v}.",
            "My cat's name is {v}.",
            "I have a pet named {v}.",
            "My pet is called {v}.",
        ],
        "{v} is a nice name for a pet.",
        [
            "What is my pet called?",
            "What is the name of my pet?",
            "What's my pet's name?",
            "Do you remember my pet's name?",
        ],
        "Your pet is called {v}.",
        "You have not told me about your pet yet.",
        _name,
    ),
    "number": (
        [
            "My lucky number is {v}.",
            "Remember the number {v}.",
            "Please remember this number: {v}.",
            "Keep the number {v} in mind.",
        ],
        "I will remember the number {v}.",
        [
            "What is my lucky number?",
            "Which number did I tell you?",
            "What was the number?",
            "Which number did you remember?",
            "What number did I ask you to remember?",
        ],
        "The number is {v}.",
        "You have not told me a number yet.",
        lambda rng: str(rng.randint(0, 999)),
    ),
    "word": (
        [
            "The secret word is {v}.",
            "Remember the word {v}.",
            "My password is {v}.",
            "Please keep the word {v} in mind.",
        ],
        "I will remember the word {v}.",
        [
            "What is the secret word?",
            "Which word did I tell you?",
            "What was the word?",
            "What is my password?",
            "Which word did I ask you to remember?",
        ],
        "The word is {v}.",
        "You have not told me a word yet.",
        lambda rng: rng.choice(words.NOUNS),
    ),
}


def tell(kind, value, rng):
    """One exchange in which the user tells a fact."""
    tell_, answer = _FACTS[kind][0], _FACTS[kind][1]
    return rng.choice(tell_).replace("{v}", value), answer.replace("{v}", value)


def key_of(facts):
    return "memory:" + ",".join(sorted(f"{k}={v}" for k, v in facts.items()))


def ask(kind, facts, rng):
    """The question for one of the facts that were told."""
    value = facts[kind]
    return base.Turn(
        rng.choice(_FACTS[kind][2]),
        _FACTS[kind][3].replace("{v}", value),
        key_of(facts),
        base.contains(value),
        facts=facts,
        asked=kind,
    )


def memory(rng):
    kinds = rng.sample(list(_FACTS), rng.choice([1, 1, 1, 2, 2, 3]))
    if "name" not in kinds and rng.random() < 0.4:
        kinds[0] = "name"
    facts = {k: _FACTS[k][5](rng) for k in kinds}
    if rng.random() < 0.1:  # asked without having been told
        missing = rng.choice([k for k in _FACTS if k not in facts])
        return base.Turn(
            rng.choice(_FACTS[missing][2]),
            _FACTS[missing][4],
            "memory-none:" + missing + str(facts),
            base.contains("not told me"),
            before=[tell(k, v, rng) for k, v in facts.items()],
            facts=facts,
            asked=missing,
        )
    turn = ask(rng.choice(kinds), facts, rng)
    told = [tell(k, v, rng) for k, v in facts.items()]
    if len(facts) == 1 and rng.random() < 0.12:  # told and asked in one message
        turn.user = told[0][0] + " " + turn.user
        turn.noise = "light"
    else:
        turn.before = told
    return turn


def said_before(rng):
    """What the user said one turn ago."""
    sentence = base.sentence(spelling.simple_sentence(rng)) + "."
    user = base.expand(
        "[What did I [just |]say|Can you repeat what I said|What was my last message|Repeat my last message|What have I just told you]?",
        rng,
    )
    return base.Turn(
        user,
        f'You said: "{sentence}"',
        "said:" + base.normalise(sentence),
        base.contains(sentence.rstrip(".")),
        before=[(sentence, rng.choice(["I see.", "I see. Thank you for telling me."]))],
        noise="light",
    )


def in_text(rng):
    """One fact in a long text, asked for at its end (or the beginning): what only the global layers can see."""
    kind, told, answer = rng.choice(
        [
            ("word", "The secret word is {v}.", "The word is {v}."),
            ("number", "The secret number is {v}.", "The number is {v}."),
            ("city", "The meeting is in {v}.", "The meeting is in {v}."),
            ("name", "The captain is called {v}.", "The captain is called {v}."),
        ]
    )
    value = _FACTS[kind][5](rng)
    count = rng.choice([2, 4, 8, 8, 16, 32, 60, 100])
    sentences = [base.sentence(spelling.simple_sentence(rng)) + "." for _ in range(count)]
    sentences.insert(rng.randint(0, count), told.replace("{v}", value))
    question = {
        "word": "What is the secret word?",
        "number": "What is the secret number?",
        "city": "Where is the meeting?",
        "name": "What is the captain called?",
    }[kind]
    text = " ".join(sentences)
    user = (
        rng.choice(["{t}\n\n{q}", "{t} {q}", "{q}\n\n{t}", "Read this: {t}\n\n{q}"])
        .replace("{t}", text)
        .replace("{q}", question)
    )
    return base.Turn(
        user,
        answer.replace("{v}", value),
        "text:" + base.normalise(text),
        base.contains(value),
        noise="none",
    )


_IN_JSON = [
    "{q} Answer in JSON.",
    "{q} [Reply|Respond|Answer] [in|as] JSON.",
    "{q} Give the answer as JSON.",
    "{q} Return JSON.",
    "{q} JSON please.",
    "Answer in JSON: {q}",
    "In JSON: {q}",
    "[Reply|Respond|Answer] with [only |]a JSON object. {q}",
    "{q} Use JSON.",
]


def _json_turn(user, value, key, noise="none"):
    return base.Turn(
        user,
        json.dumps(value, ensure_ascii=False),
        key,
        {"type": "json", "value": value},
        noise=noise,
    )


def _json_object(rng):
    """The keys and values are given."""
    kinds = ["name", "age", "city", "job", "colour", "food", "animal"]
    kinds = rng.sample(kinds, rng.choice([1, 2, 2, 3]))
    value = {k: _FACTS[k][5](rng) for k in kinds}
    if "age" in value:
        value["age"] = int(value["age"])
    listed = [f"{k} {v}" for k, v in value.items()]
    text = ", ".join(listed[:-1]) + (" and " if len(listed) > 1 else "") + listed[-1]
    form = "[Give me|Write|Make|Create|Return|I need] a JSON object with {l}."
    user = base.expand(form, rng).replace("{l}", text)
    return _json_turn(user, value, "json:" + base.normalise(text))


def _json_of_sentence(rng):
    value = {"name": _name(rng), "age": rng.randint(5, 99)}
    value["city"] = rng.choice(words.CITIES_FOR_MEMORY)
    text = f"{value['name']} is {value['age']} years old and lives in {value['city']}."
    form = "[Turn this into|Write this as|Convert to|Put this into|Give this as] JSON: {l}"
    user = base.expand(form, rng).replace("{l}", text)
    return _json_turn(user, value, "json:" + base.normalise(text))


def _json_array(rng):
    kinds = [words.COLOURS, list(words.ANIMALS), words.FOODS, words.NOUNS]
    items = rng.sample(rng.choice(kinds), rng.randint(1, 5))
    if rng.random() < 0.3:
        items = [rng.randint(0, 999) for _ in items]
    form = "[Return|Write|Give me] a JSON [list|array] with {l}"
    if rng.random() < 0.7:
        form = "[Turn this list into|Write this list as|Give me|Make] a JSON array: {l}"
    user = base.expand(form, rng).replace("{l}", ", ".join(map(str, items)))
    return _json_turn(user, items, "json:" + " ".join(map(str, items)))


def json_answer(rng):
    r = rng.random()
    if r < 0.25:
        return _json_object(rng)
    if r < 0.4:
        return _json_of_sentence(rng)
    if r < 0.55:
        return _json_array(rng)
    form = base.expand(rng.choice(_IN_JSON), rng)
    if r < 0.8:
        turn = numbers.add(rng) if rng.random() < 0.6 else numbers.subtract(rng)
        user = form.replace("{q}", turn.user)
        return _json_turn(user, {"answer": turn.check["value"]}, turn.key, "light")
    if r < 0.9:
        country = rng.choice(geography.COUNTRIES)
        value = {"country": country.removeprefix("the "), "capital": geography.CAPITAL[country]}
        asked = "[What is the capital of {c}|Which city is the capital of {c}|What's the capital of {c}]?"
        question = base.expand(asked, rng).replace("{c}", country)
    else:
        animal = rng.choice(list(words.ANIMALS))
        value = {"animal": animal, "legs": words.ANIMALS[animal]["legs"]}
        asked = "[How many legs does {a} have|How many legs has {a}]?"
        question = base.expand(asked, rng).replace("{a}", base.article(animal))
    user = form.replace("{q}", question)
    return _json_turn(user, value, "prompt:" + base.normalise(user), "light")
