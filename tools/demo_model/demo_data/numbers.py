"""Arithmetic, comparing, counting. Operands have up to three digits; the held-out split is over operand pairs."""

from demo_data import base, words

_ADD = [
    "What is {a} + {b}?",
    "What's {a} + {b}?",
    "{a} + {b}",
    "{a} + {b} =",
    "{a}+{b}",
    "{a}+{b}=",
    "{a}+{b}?",
    "{a} plus {b}",
    "What is {a} plus {b}?",
    "What's {a} plus {b}?",
    "[Add|Sum] {a} and {b}.",
    "Add {b} to {a}.",
    "[Can you|Could you|Please] [add|sum] {a} and {b}[?|.]",
    "[Can you|Could you|Please] [compute|calculate|work out] {a} + {b}[?|.]",
    "[Compute|Calculate|Solve|Evaluate] {a} + {b}.",
    "[Compute|Calculate|Solve] {a}+{b}",
    "How much is {a} + {b}?",
    "How much is {a} plus {b}?",
    "How much is {a} and {b} [together|]?",
    "What is the sum of {a} and {b}?",
    "[The sum|Sum] of {a} and {b}?",
    "What do you get [if|when] you add {a} and {b}?",
    "What does {a} + {b} [equal|make]?",
    "What do {a} and {b} [make|add up to]?",
    "{a} and {b} [added|together]?",
    "[Tell me|Give me] {a} + {b}.",
    "What is the result of {a} + {b}?",
    "What is {a}+{b}?",
    "Do the maths: {a} + {b}",
    "I need {a} + {b}.",
    "[Can you|Could you] tell me what {a} + {b} is?",
    "Do you know what {a} plus {b} is?",
]
_SUB = [
    "What is {a} - {b}?",
    "What's {a} - {b}?",
    "{a} - {b}",
    "{a} - {b} =",
    "{a}-{b}",
    "{a}-{b}=",
    "{a}-{b}?",
    "{a} minus {b}",
    "What is {a} minus {b}?",
    "What's {a} minus {b}?",
    "Subtract {b} from {a}.",
    "[Take|Take away] {b} from {a}.",
    "[Can you|Could you|Please] subtract {b} from {a}[?|.]",
    "[Can you|Could you|Please] [compute|calculate|work out] {a} - {b}[?|.]",
    "[Compute|Calculate|Solve|Evaluate] {a} - {b}.",
    "How much is {a} - {b}?",
    "How much is {a} minus {b}?",
    "What is the difference between {a} and {b}?",
    "What do you get [if|when] you subtract {b} from {a}?",
    "What does {a} - {b} equal?",
    "[Tell me|Give me] {a} - {b}.",
    "What is the result of {a} - {b}?",
    "What is {a}-{b}?",
    "Do the maths: {a} - {b}",
    "{a} take away {b}",
    "What is {a} less {b}?",
    "What is left if you take {b} from {a}?",
]
_THINGS = "apples pears books coins stones pencils cards marbles tickets shells stamps cookies eggs flowers balls".split()
_MORE = [
    "I have {a} {t} and [buy|get|find|receive] {b} more. How many {t} do I have [now|]?",
    "There are {a} {t} in one box and {b} {t} in another. How many {t} are there [in total|altogether|]?",
    "{n} has {a} {t}. {m} has {b} {t}. How many {t} do they have together?",
]
_FEWER = [
    "I have {a} {t} and [lose|sell|give away|drop] {b}. How many {t} [do I have left|are left]?",
    "There were {a} {t} in the box and {b} were taken out. How many {t} are left?",
    "{n} had {a} {t} and gave {b} to {m}. How many {t} does {n} have [now|left]?",
]


def _operand(rng):
    r = rng.random()
    if r < 0.12:
        return rng.randint(0, 9)
    return rng.randint(10, 99) if r < 0.45 else rng.randint(100, 999)


def _say(n, rng):
    return words.number_word(n) if n < 100 and rng.random() < 0.06 else str(n)


def _fill(form, a, b, rng):
    text = base.expand(form, rng)
    spoken = not any(s in text for s in "+-=")
    name, other = rng.sample(words.NAMES, 2)
    shown_a, shown_b = (_say(a, rng), _say(b, rng)) if spoken else (str(a), str(b))
    return (
        text.replace("{a}", shown_a)
        .replace("{b}", shown_b)
        .replace("{t}", rng.choice(_THINGS))
        .replace("{n}", name)
        .replace("{m}", other)
    )


def add(rng):
    a, b = _operand(rng), _operand(rng)
    c = a + b
    key = f"add:{min(a, b)}:{max(a, b)}"
    check = {"type": "number", "value": c}
    if rng.random() < 0.08:
        user = _fill(rng.choice(_MORE), a, b, rng)
        thing = next(t for t in _THINGS if f" {t}" in user)
        return base.Turn(user, f"{a} + {b} = {c}, so {c} {thing}.", key, check, noise="light")
    user = _fill(rng.choice(_ADD), a, b, rng)
    return base.Turn(user, f"{a} + {b} = {c}.", key, check, noise="light")


def subtract(rng):
    a, b = _operand(rng), _operand(rng)
    if a < b and rng.random() < 0.7:
        a, b = b, a
    word_problem = rng.random() < 0.08
    if word_problem:
        a, b = max(a, b), min(a, b)
    user = _fill(rng.choice(_FEWER if word_problem else _SUB), a, b, rng)
    if "difference" in user:
        a, b = max(a, b), min(a, b)
    c = a - b
    key = f"sub:{min(a, b)}:{max(a, b)}"
    check = {"type": "number", "value": c}
    if word_problem:
        thing = next(t for t in _THINGS if f" {t}" in user)
        return base.Turn(
            user, f"{a} - {b} = {c}, so {c} {thing} are left.", key, check, noise="light"
        )
    return base.Turn(user, f"{a} - {b} = {c}.", key, check, noise="light")


_LIMIT = "I am a tiny demo model and can only add or subtract two numbers of up to three digits."


def too_hard(rng):
    """Sums beyond what was learned: the answer says so."""
    big = lambda: rng.randint(1000, 99999) if rng.random() < 0.6 else rng.randint(1000, 9999)
    r = rng.random()
    if r < 0.55:
        a, b = (
            (big(), big())
            if rng.random() < 0.5
            else (big(), _operand(rng)) if rng.random() < 0.5 else (_operand(rng), big())
        )
        user = _fill(rng.choice(_ADD + _SUB), a, b, rng)
    elif r < 0.8:
        a, b = _operand(rng), _operand(rng)
        user = _fill(
            rng.choice(
                [
                    "What is {a} + {b} + {c}?",
                    "{a} + {b} + {c}",
                    "Add {a}, {b} and {c}.",
                    "{a}+{b}-{c}",
                    "What is {a} - {b} + {c}?",
                    "{a} - {b} - {c}",
                    "{a} plus {b} plus {c}",
                    "What is the sum of {a}, {b} and {c}?",
                ]
            ),
            a,
            b,
            rng,
        ).replace("{c}", str(_operand(rng)))
    else:
        a, b = rng.randint(13, 999), rng.randint(2, 999)
        user = (
            rng.choice(
                [
                    "What is {a} times {b}?",
                    "{a} * {b}",
                    "{a} x {b}",
                    "{a} / {b}",
                    "What is {a} divided by {b}?",
                    "Divide {a} by {b}.",
                    "Multiply {a} by {b}.",
                    "{a}*{b}",
                    "{a}/{b}",
                    "What is {a} x {b}?",
                    "What is {a} * {b}?",
                ]
            )
            .replace("{a}", str(a))
            .replace("{b}", str(b))
        )
    return base.from_prompt(user, _LIMIT, base.contains("tiny demo model"), noise="light")


def multiply(rng):
    """The small table; the prompt is what is held out."""
    a, b = rng.randint(0, 12), rng.randint(0, 12)
    form = rng.choice(
        [
            "What is {a} * {b}?",
            "{a} * {b}",
            "{a} x {b}",
            "{a} times {b}",
            "What is {a} times {b}?",
            "What is {a} x {b}?",
            "[Multiply|Can you multiply] {a} by {b}.",
            "What is the product of {a} and {b}?",
            "[Compute|Calculate] {a} * {b}.",
            "How much is {a} times {b}?",
            "{a}*{b}",
            "{a}x{b}=",
            "{a} multiplied by {b}",
        ]
    )
    user = base.expand(form, rng).replace("{a}", str(a)).replace("{b}", str(b))
    return base.from_prompt(
        user, f"{a} x {b} = {a * b}.", {"type": "number", "value": a * b}, noise="light"
    )


def neighbour(rng):
    n = rng.randint(1, 998)
    form, d = rng.choice(
        [
            ("[What|Which] number comes [right |]after {n}?", 1),
            ("What comes after {n}?", 1),
            ("[What|Which] number comes [right |]before {n}?", -1),
            ("What comes before {n}?", -1),
            ("What is one more than {n}?", 1),
            ("What is one less than {n}?", -1),
            ("[What is|Give me] the next number after {n}[?|.]", 1),
        ]
    )
    user = base.expand(form, rng).replace("{n}", str(n))
    side = "after" if d > 0 else "before"
    return base.Turn(
        user,
        f"{n + d} comes {side} {n}.",
        f"neighbour:{n}:{d}",
        {"type": "first_number", "value": n + d},
        noise="light",
    )


def parity(rng):
    n = rng.randint(0, 999)
    user = base.expand(
        rng.choice(
            [
                "Is {n} [even or odd|odd or even]?",
                "Is {n} an [even|odd] number?",
                "{n}: even or odd?",
                "[Tell me|Say] whether {n} is even or odd.",
            ]
        ),
        rng,
    ).replace("{n}", str(n))
    kind = "odd" if n % 2 else "even"
    return base.Turn(
        user, f"{n} is {kind}.", f"parity:{n}", {"type": "contains", "all": [kind]}, noise="light"
    )


def compare(rng):
    a, b = _operand(rng), _operand(rng)
    r = rng.random()
    if r < 0.3:
        b = max(0, min(999, a + rng.randint(-20, 20)))
    elif r < 0.35:
        b = a
    key = f"compare:{min(a, b)}:{max(a, b)}"
    low, high = min(a, b), max(a, b)
    kind = rng.random()
    if kind < 0.4:
        form = rng.choice(
            [
                "[Which|What] [number |]is [bigger|larger|greater|higher|more], {a} or {b}?",
                "[Which|What] is the [bigger|larger|greater] number, {a} or {b}?",
                "[Bigger|Larger|Greater]: {a} or {b}?",
                "Which of {a} and {b} is [bigger|larger|greater]?",
                "What is the maximum of {a} and {b}?",
            ]
        )
        answer = f"{high} is bigger than {low}." if a != b else f"{a} and {b} are equal."
        check = {"type": "first_number", "value": high}
    elif kind < 0.65:
        form = rng.choice(
            [
                "[Which|What] [number |]is [smaller|less|lower], {a} or {b}?",
                "[Which|What] is the smaller number, {a} or {b}?",
                "[Smaller|Less]: {a} or {b}?",
                "Which of {a} and {b} is [smaller|less]?",
                "What is the minimum of {a} and {b}?",
            ]
        )
        answer = f"{low} is smaller than {high}." if a != b else f"{a} and {b} are equal."
        check = {"type": "first_number", "value": low}
    elif kind < 0.9:
        bigger = rng.random() < 0.6
        form = (
            "Is {a} [bigger than|larger than|greater than|more than|higher than|>] {b}?"
            if bigger
            else "Is {a} [smaller than|less than|lower than|<] {b}?"
        )
        true = a > b if bigger else a < b
        rel = "equal to" if a == b else "bigger than" if a > b else "smaller than"
        answer = f"{'Yes' if true else 'No'}, {a} is {rel} {b}."
        check = {"type": "starts", "text": "Yes" if true else "No"}
    else:
        form = rng.choice(
            ["Compare {a} and {b}.", "Compare {a} with {b}.", "How does {a} compare [to|with] {b}?"]
        )
        rel = "equal to" if a == b else "bigger than" if a > b else "smaller than"
        answer, check = f"{a} is {rel} {b}.", {"type": "contains", "all": [f"{a} is {rel} {b}"]}
    user = base.expand(form, rng).replace("{a}", str(a)).replace("{b}", str(b))
    return base.Turn(user, answer, key, check, noise="light")


def count(rng):
    r = rng.random()
    if r < 0.1:
        first, last, step = 1, rng.randint(20, 100), 1
    elif r < 0.6:
        first = rng.choice([1, 1, 0, rng.randint(2, 90), rng.randint(90, 950)])
        last, step = first + rng.randint(2, 14), 1
    elif r < 0.8:
        last = rng.choice([0, 1, 1, rng.randint(2, 80)])
        first, step = last + rng.randint(2, 14), -1
    else:
        step = rng.choice([2, 2, 5, 10, 3])
        first = rng.choice([0, step, rng.randint(0, 40)])
        last = first + step * rng.randint(3, 10)
    numbers = list(range(first, last + (1 if step > 0 else -1), step))
    say = lambda n: words.number_word(n) if n <= 20 and rng.random() < 0.2 else str(n)
    up = [
        "Count from {a} to {b}.",
        "[Can|Could] you count from {a} to {b}?",
        "[List|Write|Say] the numbers from {a} to {b}.",
        "Count {a} to {b}.",
    ]
    if step == 1 and first == 1:
        up += [
            "Count to {b}.",
            "[Can|Could] you count to {b}?",
            "Count up to {b}.",
            "[Please count|Count for me] to {b}.",
        ] * 2
    if step == -1 and last == 1 and rng.random() < 0.5:
        up = [
            "Count [down|backwards] from {a}.",
            "[Can|Could] you count [down|backwards] from {a}?",
            "[Start|Do|Give me] a countdown from {a}.",
        ]
    elif step == -1:
        up = [
            "Count [down|backwards] from {a} to {b}.",
            "[Can|Could] you count [down|backwards] from {a} to {b}?",
        ]
    if abs(step) > 1:
        user = rng.choice(
            [
                "Count from {a} to {b} by {s}s.",
                "Count by {s}s from {a} to {b}.",
                "Count from {a} to {b} in steps of {s}.",
                "Count in {s}s from {a} to {b}.",
                "Can you count by {s}s from {a} to {b}?",
            ]
        )
        user = user.replace("{s}s", {2: "twos", 3: "threes", 5: "fives", 10: "tens"}[step]).replace(
            "{s}", str(step)
        )
    else:
        user = base.expand(rng.choice(up), rng)
    user = user.replace("{a}", say(first)).replace("{b}", say(last))
    text = ", ".join(map(str, numbers))
    return base.Turn(
        user,
        text + ".",
        f"count:{first}:{last}:{step}",
        {"type": "contains", "all": [text]},
        noise="light",
    )


def how_many(rng):
    """Counting the things in a list."""
    n = rng.randint(1, 9)
    items = (
        [rng.choice(words.NOUNS) for _ in range(n)]
        if rng.random() < 0.6
        else [rng.choice(words.NOUNS)] * n
    )
    listed = (", " if rng.random() < 0.7 else " ").join(items)
    user = base.expand(
        rng.choice(
            [
                "How many words are [in this list|here|there]: {l}?",
                "[Count the|How many] words: {l}",
                "How many things are listed here: {l}?",
                "Count the words in this list: {l}.",
            ]
        ),
        rng,
    ).replace("{l}", listed)
    return base.Turn(
        user,
        f"There {'is 1 word' if n == 1 else f'are {n} words'}.",
        "howmany:" + base.normalise(listed),
        {"type": "first_number", "value": n},
        noise="none",
    )
