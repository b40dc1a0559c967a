"""Days of the week and months of the year."""

from demo_data import base

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December".split()
)
LENGTH = dict(zip(MONTHS, [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]))
SEASON = {
    m: s
    for s, ms in {
        "winter": [12, 1, 2],
        "spring": [3, 4, 5],
        "summer": [6, 7, 8],
        "autumn": [9, 10, 11],
    }.items()
    for m in (MONTHS[i - 1] for i in ms)
}
ORDINAL = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
)
NUMBER = "one two three four five six seven".split()


def _step(rng):
    days = rng.random() < 0.55
    names, unit = (DAYS, "day") if days else (MONTHS, "month")
    i = rng.randrange(len(names))
    d = rng.choice([1, -1])
    side = "after" if d > 0 else "before"
    n = rng.choice([1, 1, 1, 1, 2, 3])
    found = names[(i + d * n) % len(names)]
    if n == 1:
        forms = [
            "[What|Which] {u} [comes|is] [right |just |]{s} {x}?",
            (
                "[What|Which] {u} [follows|comes next after] {x}?"
                if d > 0
                else "[What|Which] {u} precedes {x}?"
            ),
            "[Tell me|Name] the {u} {s} {x}.",
            "What comes {s} {x}?",
            "The {u} {s} {x} is?",
            "What is the {u} {s} {x}?",
        ]
        if days:
            forms += [
                (
                    "[If today is {x}, what|Today is {x}. What] [day is|is] tomorrow?"
                    if d > 0
                    else "[If today is {x}, what|Today is {x}. What] [day was|was] yesterday?"
                )
            ]
        answer = f"{found} comes {side} {names[i]}."
    else:
        forms = [
            "[What|Which] {u} [comes|is] {n} {u}s {s} {x}?",
            (
                "[If it is {x} now, what|What] {u} [is it|will it be] in {n} {u}s?"
                if d > 0
                else "[What|Which] {u} [is|was] {n} {u}s before {x}?"
            ),
        ]
        answer = f"{found} is {NUMBER[n - 1]} {unit}s {side} {names[i]}."
    user = base.expand(rng.choice(forms), rng)
    if "{x}" not in user:
        user = "What {u} is {n} {u}s {s} {x}?"
    user = user.replace("{u}", unit).replace("{s}", side).replace("{x}", names[i])
    user = user.replace("{n}", rng.choice([str(n), NUMBER[n - 1]]))
    return base.from_prompt(user, answer, {"type": "starts", "text": found})


def _position(rng):
    days = rng.random() < 0.4
    names, unit, whole = (DAYS, "day", "week") if days else (MONTHS, "month", "year")
    i = rng.randrange(len(names))
    if rng.random() < 0.5:
        user = base.expand(
            rng.choice(
                [
                    "[What|Which] is the {o} {u} of the {w}?",
                    "[What|Which] {u} [is|comes] {o}[ in the {w}|]?",
                    "[Name|Tell me] the {o} {u} of the {w}.",
                ]
            ),
            rng,
        )
        answer, want = f"The {ORDINAL[i]} {unit} of the {whole} is {names[i]}.", names[i]
    else:
        user = base.expand(
            rng.choice(
                [
                    "[What|Which] number is {x} [in|among] the {u}s of the {w}?",
                    "Which {u} of the {w} is {x}?",
                    "[What|Which] place does {x} have in the {w}?",
                    "Is {x} the first or which {u} of the {w}?",
                ]
            ),
            rng,
        )
        answer, want = f"{names[i]} is the {ORDINAL[i]} {unit} of the {whole}.", ORDINAL[i]
    user = (
        user.replace("{o}", ORDINAL[i])
        .replace("{u}", unit)
        .replace("{w}", whole)
        .replace("{x}", names[i])
    )
    return base.from_prompt(user, answer, base.contains(want))


def _about_month(rng):
    month = rng.choice(MONTHS)
    if rng.random() < 0.6:
        user = base.expand(
            "[How many days [has|are in] {m}|How many days does {m} have|How long is {m}|[Number of days|Days] in {m}]?",
            rng,
        )
        extra = ", and 29 in a leap year" if month == "February" else ""
        return base.from_prompt(
            user.replace("{m}", month),
            f"{month} has {LENGTH[month]} days{extra}.",
            base.contains(LENGTH[month]),
        )
    user = base.expand(
        "[[What|Which] season is {m} in|In [which|what] season is {m}|Which season does {m} belong to]?",
        rng,
    )
    return base.from_prompt(
        user.replace("{m}", month),
        f"{month} is in {SEASON[month]} in the north.",
        base.contains(SEASON[month]),
    )


def _lists(rng):
    form, answer = rng.choice(
        [
            ("[Name|List|Tell me|What are|Say] the days of the week.", ", ".join(DAYS) + "."),
            ("[Name|List|Tell me|What are|Say] the months of the year.", ", ".join(MONTHS) + "."),
            ("[How many days are in a week|How many days does a week have]?", "A week has 7 days."),
            (
                "[How many months are in a year|How many months does a year have]?",
                "A year has 12 months.",
            ),
            (
                "[How many days are in a year|How many days does a year have]?",
                "A year has 365 days, and a leap year has 366.",
            ),
            (
                "[How many hours are in a day|How many hours does a day have]?",
                "A day has 24 hours.",
            ),
            (
                "[How many minutes are in an hour|How many minutes does an hour have]?",
                "An hour has 60 minutes.",
            ),
            (
                "[How many seconds are in a minute|How many seconds does a minute have]?",
                "A minute has 60 seconds.",
            ),
            (
                "[How many weeks are in a year|How many weeks does a year have]?",
                "A year has 52 weeks.",
            ),
            (
                "[What|Which] is the last month of the year?",
                "The last month of the year is December.",
            ),
            ("[What|Which] is the last day of the week?", "The last day of the week is Sunday."),
            (
                "[What's|Tell me|Name] the last month [of the year|in a year][?|.]",
                "The last month of the year is December.",
            ),
            (
                "[What's|Tell me|Name] the last day [of the week|in a week][?|.]",
                "The last day of the week is Sunday.",
            ),
            ("[What|Which] month has 28 days?", "February has 28 days, and 29 in a leap year."),
            (
                "[What|Which] is the [shortest month|month with the fewest days]?",
                "February has 28 days, and 29 in a leap year.",
            ),
            ("[What|Which] days are [on |]the weekend?", "Saturday and Sunday are the weekend."),
            (
                "[Name|List|What are] the [four |]seasons[ of the year|].",
                "Spring, summer, autumn and winter.",
            ),
        ]
    )
    return base.from_prompt(base.expand(form, rng), answer, base.contains(answer.rstrip(".")))


def _weekend(rng):
    day = rng.choice(DAYS)
    user = base.expand(
        "[Is {d} a weekday|Is {d} on the weekend|Is {d} part of the weekend|Is {d} a day of the weekend]?",
        rng,
    ).replace("{d}", day)
    weekend = day in DAYS[5:]
    yes = ("weekday" in user) != weekend
    kind = "is on the weekend" if weekend else "is a weekday"
    return base.from_prompt(
        user,
        f"{'Yes' if yes else 'No'}, {day} {kind}.",
        base.contains("Yes" if yes else "No", kind),
    )


def calendar(rng):
    r = rng.random()
    if r < 0.5:
        return _step(rng)
    if r < 0.7:
        return _position(rng)
    if r < 0.85:
        return _about_month(rng)
    return _lists(rng) if r < 0.93 else _weekend(rng)
