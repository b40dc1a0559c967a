"""What the model knows about Tandem.

Each row of FACTS: ways to ask (a small grammar each), the answer, words that a right answer has.
"""

from demo_data import base, tandem_more, tandem_start

FACTS = tandem_start.FACTS + tandem_more.FACTS

# Before a question that starts with "what/how/why..." these keep its meaning.
_FRONT = [
    "",
    "",
    "",
    "",
    "",
    "Tell me: ",
    "Quick question: ",
    "I have a question. ",
    "In short, ",
    "I am new here. ",
]

# Terms that can be set against each other.
_TERMS = {
    forms[0].split("|What exactly is] ")[1].split("[|")[0].rstrip("?"): (answer, need)
    for forms, answer, need in FACTS
    if "|What exactly is] " in forms[0]
}


def _difference(rng):
    one, two = rng.sample(list(_TERMS), 2)
    user = base.expand(
        rng.choice(
            [
                "[What is|What's|Explain|Tell me] the difference between {a} and {b}[?|.]",
                "[Compare|Explain|Describe] {a} and {b}.",
                "What are {a} and {b}?",
                "How is {a} different from {b}?",
                "How does {a} differ from {b}?",
            ]
        ),
        rng,
    )
    user = user.replace("{a}", one).replace("{b}", two)
    return base.Turn(
        user,
        _TERMS[one][0] + " " + _TERMS[two][0],
        "difference:" + ":".join(sorted([one, two])),
        base.contains(*_TERMS[one][1], *_TERMS[two][1]),
    )


def tandem(rng):
    if rng.random() < 0.08:
        return _difference(rng)
    forms, answer, need = rng.choice(FACTS)
    user = base.expand(rng.choice(forms), rng)
    user = user[0].upper() + user[1:] if not user.startswith("tandem") else user
    turn = base.from_prompt(user, answer, base.contains(*need))
    front = rng.choice(_FRONT)
    if front and user.split()[0] in (
        "What",
        "Which",
        "How",
        "Why",
        "Where",
        "Who",
        "Is",
        "Does",
        "Do",
        "Can",
    ):
        turn.user = front + (user if front.endswith(". ") else user[0].lower() + user[1:])
    return turn
