"""Spelling, reversing, letters of a word, repeating what was said.

Answers that name letters are tokenised letter by letter. So that words that were never spelled in training can be spelled, made-up
words are spelled too: they are built from pieces of the real ones, so every piece of the vocabulary shows its letters somewhere.
"""

import functools
import re

from demo_data import base, words

_ONSET = "b br c ch cl cr d dr f fl fr g gl gr h j k kl l m n p pl pr qu r s sc sh sk sl sm sn sp st str sw t th tr tw v w wh y z".split()
_VOWEL = "a e i o u ai ea ee oa oo ou ie y".split()
_CODA = [
    "",
    "",
    "",
    "b",
    "ck",
    "d",
    "ff",
    "g",
    "l",
    "ll",
    "m",
    "n",
    "nd",
    "ng",
    "nk",
    "nt",
    "p",
    "r",
    "rd",
    "rm",
    "rn",
    "s",
    "sh",
    "ss",
    "st",
    "t",
    "th",
    "x",
]
_SUFFIX = "er ing ed ly ness less ful ment ish able est y o a ino ette s tion ist ous al".split()
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def made_up(rng):
    """A word that is in no dictionary."""
    r = rng.random()
    if r < 0.4:
        return "".join(
            rng.choice(_ONSET) + rng.choice(_VOWEL) + rng.choice(_CODA)
            for _ in range(rng.randint(1, 3))
        )[:12]
    if r < 0.65:  # a real word with a strange end: its pieces show their letters
        return (
            _real(rng)
            + (
                rng.choice(_SUFFIX)
                if rng.random() < 0.5
                else rng.choice(_ONSET) + rng.choice(_VOWEL) + rng.choice(_CODA)
            )
        )[:16]
    if r < 0.85:  # parts of two real words
        a, b = _real(rng), _real(rng)
        return (a[: rng.randint(2, len(a))] + b[rng.randint(0, len(b) - 2) :])[:14]
    return "".join(rng.choice(_ALPHABET) for _ in range(rng.randint(2, 8)))


@functools.lru_cache(maxsize=1)
def _every_word():
    """Every word that stands anywhere in the lists and answers, so that each can be spelled."""
    from demo_data import geography, smalltalk, stories, tandem

    texts = (
        [a for _, a, _ in tandem.FACTS + smalltalk.TALK]
        + smalltalk.all_words()
        + stories.all_lines()
    )
    texts += (
        words.FOODS
        + words.JOBS
        + words.COLOURS
        + words.VERBS
        + words.ADVERBS
        + words.CITIES_FOR_MEMORY
        + words.ONES
    )
    texts += (
        words.NAMES
        + list(words.OBJECT_KIND)
        + list(geography.CAPITAL)
        + list(geography.CAPITAL.values())
        + [a["young"] for a in words.ANIMALS.values()]
    )
    return sorted({w for t in texts for w in re.findall(r"[a-z]{2,13}", t.lower())})


def _real(rng):
    return rng.choice(words.SPELLABLE if rng.random() < 0.4 else _every_word())


def word_of(rng):
    r = rng.random()
    if r < 0.38:
        return rng.choice(words.SPELLABLE)
    if r < 0.5:
        return rng.choice(_every_word())
    return rng.choice(words.NAMES).lower() if r < 0.58 else made_up(rng)


def _quote(word, rng):
    return rng.choice(["{w}", "{w}", '"{w}"', "'{w}'"]).replace("{w}", word)


def _in_prompt(word, form, rng):
    shown = word if rng.random() < 0.85 else word.capitalize()
    return base.expand(form, rng).replace("{w}", _quote(shown, rng))


def spell(rng):
    word = word_of(rng)
    user = _in_prompt(
        word,
        rng.choice(
            [
                "[Spell|Please spell|Can you spell|Could you spell] [the word |]{w}.",
                "How do you spell {w}?",
                "How is [the word |]{w} spelled?",
                "Spell {w} [for me|letter by letter].",
                "What are the letters [of|in] {w}?",
                "[Give me|List] the letters of {w}.",
                "Spelling of {w}?",
            ]
        ),
        rng,
    )
    letters = "-".join(word)
    return base.Turn(
        user,
        base.chars(letters),
        "word:" + word,
        {"type": "contains", "all": [letters]},
        noise="light",
    )


def reverse(rng):
    word = word_of(rng)
    user = _in_prompt(
        word,
        rng.choice(
            [
                "[Reverse|Please reverse|Can you reverse|Could you reverse] [the word |]{w}.",
                "[Say|Write|Spell] {w} backwards.",
                "What is {w} backwards?",
                "What is {w} [in reverse|reversed|spelled backwards]?",
                "[Turn|Flip] the word {w} around.",
                "{w} backwards?",
            ]
        ),
        rng,
    )
    back = word[::-1]
    answer = (
        base.chars("-".join(word))
        + " backwards is "
        + base.chars("-".join(back))
        + ": "
        + base.chars(back)
    )
    return base.Turn(
        user, answer, "word:" + word, {"type": "contains", "all": [": " + back]}, noise="light"
    )


def letters(rng):
    word = word_of(rng)
    r = rng.random()
    if r < 0.45:
        user = _in_prompt(
            word,
            rng.choice(
                [
                    "How many letters [are in|does] [the word |]{w}[| have]?",
                    "How many letters has {w}?",
                    "[Count the|How many] letters in {w}.",
                ]
            ),
            rng,
        )
        user = user.replace("does", "are in") if "does" in user and "have" not in user else user
        n = len(word)
        return base.Turn(
            user,
            base.chars("-".join(word)) + f" has {n} letter{'s' if n != 1 else ''}.",
            "word:" + word,
            {"type": "first_number", "value": n},
            noise="light",
        )
    if r < 0.6:
        letter = rng.choice(word) if rng.random() < 0.8 else rng.choice(_ALPHABET)
        user = _in_prompt(
            word,
            rng.choice(
                [
                    "How many [times does the letter |times does ]{l} [occur|appear] in [the word |]{w}?",
                    "How many {l}s are in [the word |]{w}?",
                    "How many {l} are [there |]in {w}?",
                    "Count the letter {l} in [the word |]{w}.",
                ]
            ).replace("{l}", letter),
            rng,
        )
        n = word.count(letter)
        return base.Turn(
            user,
            base.chars("-".join(word)) + f" has {n} times {letter}.",
            "word:" + word,
            {"type": "first_number", "value": n},
            noise="light",
        )
    first = r < 0.8
    user = _in_prompt(
        word,
        f"[What is|What's|Tell me|Which is] the {'first' if first else 'last'} letter [of|in] [the word |]{{w}}?",
        rng,
    )
    letter = word[0] if first else word[-1]
    answer = f"The {'first' if first else 'last'} letter of " + base.chars(word) + f" is {letter}."
    return base.Turn(
        user, answer, "word:" + word, {"type": "contains", "all": [f"is {letter}"]}, noise="light"
    )


def simple_sentence(rng):
    """A sentence of a small grammar; thousands of millions of them."""
    noun = lambda: (
        rng.choice(words.NOUNS) if rng.random() < 0.6 else rng.choice(list(words.ANIMALS))
    )
    adjective = lambda: rng.choice(words.ADJECTIVES)
    form = rng.choice(
        [
            "the {a} {n} {v} {d}",
            "my {n} {v} {d}",
            "{name} likes the {a} {n}",
            "the {n} is {a}",
            "the {n} and the {m} are {a}",
            "{name} {v} with the {n}",
            "i have {k} {a} {n}s",
            "every {n} {v}",
            "we saw a {a} {n} near the {m}",
            "there is a {n} behind the {a} {m}",
            "the {a} {n} {v} over the {b} {m}",
        ]
    )
    return (
        form.replace("{n}", noun())
        .replace("{m}", noun())
        .replace("{a}", adjective())
        .replace("{b}", adjective())
        .replace("{v}", rng.choice(words.VERBS))
        .replace("{d}", rng.choice(words.ADVERBS))
        .replace("{name}", rng.choice(words.NAMES))
        .replace("{k}", rng.choice(words.ONES[2:] + [str(rng.randint(2, 999))]))
    )


def phrase(rng):
    """Something to repeat."""
    r = rng.random()
    if r < 0.4:
        text = simple_sentence(rng)
    elif r < 0.7:
        text = " ".join(
            rng.choice(words.NOUNS + words.ADJECTIVES) for _ in range(rng.randint(1, 6))
        )
    elif r < 0.8:
        text = " ".join(made_up(rng) for _ in range(rng.randint(1, 3)))
    elif r < 0.9:
        text = " ".join(str(rng.randint(0, 999)) for _ in range(rng.randint(1, 6)))
    else:
        text = (
            rng.choice(words.NAMES)
            + " "
            + rng.choice(
                [
                    "is here",
                    "likes " + rng.choice(words.FOODS),
                    "lives in " + rng.choice(words.CITIES_FOR_MEMORY),
                    "says hello",
                    "and " + rng.choice(words.NAMES),
                ]
            )
        )
    r = rng.random()
    if r < 0.5:
        text = base.sentence(text)
    elif r < 0.56:
        text = text.upper()
    return text + rng.choice(["", "", ".", "!"])


def repeat_times(rng):
    """One word several times."""
    word = word_of(rng)
    n = rng.randint(2, 6)
    times = rng.choice([{2: "twice"}.get(n, words.ONES[n] + " times"), f"{n} times"])
    user = (
        base.expand("[Repeat|Say|Write] [the word |]{w} {t}.", rng)
        .replace("{w}", _quote(word, rng))
        .replace("{t}", times)
    )
    return base.Turn(
        user,
        " ".join([word] * n),
        f"times:{word}:{n}",
        {"type": "equals", "text": " ".join([word] * n)},
        noise="none",
    )


def repeat(rng):
    if rng.random() < 0.15:
        return repeat_times(rng)
    text = phrase(rng)
    form = rng.choice(
        [
            "[Repeat|Please repeat] after me: {p}",
            "Repeat: {p}",
            "[Say|Please say|Just say]: {p}",
            'Say "{p}"',
            'Repeat "{p}"',
            "[Repeat this|Say this|Echo this|Copy this]: {p}",
            "[Can|Could] you repeat this: {p}",
            "Repeat the following: {p}",
            "Repeat the following [sentence|words|text]: {p}",
            "Echo: {p}",
            "Repeat exactly: {p}",
            "Write exactly this: {p}",
        ]
    )
    user = base.expand(form, rng).replace("{p}", text)
    return base.Turn(
        user, text, "repeat:" + base.normalise(text), {"type": "equals", "text": text}, noise="none"
    )
