"""Animals and colours."""

from demo_data import base, spelling, words
from demo_data.base import contains, from_prompt
from demo_data.words import ANIMALS, COLOUR_OF, MIXES

_KINDS = {
    "mammal": "a mammal",
    "bird": "a bird",
    "reptile": "a reptile",
    "amphibian": "an amphibian",
    "fish": "a fish",
    "insect": "an insect",
    "arachnid": "an arachnid",
    "mollusc": "a mollusc",
    "crustacean": "a crustacean",
}
_PLACE = {
    "house": "in a house",
    "farm": "on a farm",
    "meadow": "in a meadow",
    "forest": "in the forest",
    "river": "in a river",
    "cave": "in a cave",
    "savanna": "on the savanna",
    "jungle": "in the jungle",
    "desert": "in the desert",
    "mountain": "in the mountains",
    "ocean": "in the ocean",
    "pond": "in a pond",
    "garden": "in a garden",
    "town": "in a town",
    "ice": "on the ice",
    "lake": "at a lake",
    "marsh": "in a marsh",
}
_PLURAL_IRREGULAR = {
    "mouse": "mice",
    "sheep": "sheep",
    "wolf": "wolves",
    "deer": "deer",
    "moose": "moose",
    "fox": "foxes",
    "goose": "geese",
    "salmon": "salmon",
    "trout": "trout",
    "goldfish": "goldfish",
    "tuna": "tuna",
    "butterfly": "butterflies",
    "dragonfly": "dragonflies",
    "donkey": "donkeys",
    "monkey": "monkeys",
    "turkey": "turkeys",
    "walrus": "walruses",
    "ostrich": "ostriches",
    "finch": "finches",
    "calf": "calves",
}


def plural(noun):
    return _PLURAL_IRREGULAR.get(noun, noun + "s")


def _no_animal(rng):
    """Something that is no animal of the list."""
    name = rng.choice(words.NOUNS) if rng.random() < 0.5 else spelling.made_up(rng)
    while name in ANIMALS:
        name = rng.choice(words.NOUNS)
    user = base.expand(
        "[How many legs does {a} have|What sound does {a} make|Where does {a} live|What does {a} eat|What is a baby {n} called|Can {a} fly|How many legs has {a}|What does {a} say]?",
        rng,
    )
    return from_prompt(
        user.replace("{a}", base.article(name)).replace("{n}", name),
        f"I do not know an animal called {name}. I am only a tiny demo model.",
        contains("do not know"),
    )


def lists(rng):
    """The first few of a kind."""
    kinds = {
        "colours": words.COLOURS,
        "colors": words.COLOURS,
        "animals": list(ANIMALS),
        "foods": words.FOODS,
        "names": words.NAMES,
        "objects": list(words.OBJECT_KIND),
        "jobs": words.JOBS,
        "cities": words.CITIES_FOR_MEMORY,
        "words": words.NOUNS,
        "adjectives": words.ADJECTIVES,
        "things": list(words.OBJECT_KIND),
        "nouns": words.NOUNS,
    }
    for kind in _KINDS:
        kinds[plural(kind) if kind != "fish" else "kinds of fish"] = [
            a for a, f in ANIMALS.items() if f["kind"] == kind
        ]
    if rng.random() < 0.3:
        home = rng.choice(list(_PLACE))
        found = next(a for a, f in ANIMALS.items() if f["home"] == home)
        user = base.expand(
            "[Name|Tell me|Give me|Do you know] an animal that lives {h}[.|?]", rng
        ).replace("{h}", _PLACE[home])
        return from_prompt(
            user, f"{base.sentence(base.article(found))} lives {_PLACE[home]}.", contains(found)
        )
    kind = rng.choice(list(kinds))
    if rng.random() < 0.25:
        one = {"cities": "city", "foods": "food", "kinds of fish": "fish"}.get(kind, kind[:-1])
        user = (
            base.expand("[Name|Tell me|Give me|Say] [{o}|any {b}|one {b}][.|, please.]", rng)
            .replace("{o}", base.article(one))
            .replace("{b}", one)
        )
        return from_prompt(user, base.sentence(kinds[kind][0]) + ".", contains(kinds[kind][0]))
    n = rng.randint(2, min(10, len(kinds[kind])))
    shown = rng.choice([str(n), words.ONES[n]])
    user = (
        base.expand(
            "[[Name|List|Tell me|Give me|Write|Say] {n} {k}|Can you [name|list|tell me] {n} {k}|What are {n} {k}][.|?]",
            rng,
        )
        .replace("{n}", shown)
        .replace("{k}", kind)
    )
    picked = kinds[kind][:n]
    return from_prompt(
        user, base.sentence(", ".join(picked[:-1]) + " and " + picked[-1]) + ".", contains(*picked)
    )


_ASK = {
    "legs": "[How many legs does {a} have|How many legs has {a}|[Tell me how|How] many legs {a} has|"
    "Number of legs of {a}|How many legs do {p} have]?",
    "kind": "[What kind of animal is {a}|What type of animal is {a}|What is {a}|"
    "Which class of animals does {a} belong to]?",
    "sound": "[What sound does {a} make|What does {a} say|Which sound do {p} make|What noise does {a} make|"
    "How does {a} sound]?",
    "young": "[What is a baby {n} called|What do you call a baby {n}|What is the young of {a} called|"
    "[What's the|What is the] name of a baby {n}|What is a young {n} called]?",
    "home": "[Where does {a} live|Where do {p} live|Where can I find {a}|What is the home of {a}|"
    "Where is {a} at home]?",
    "food": "[What does {a} eat|What do {p} eat|What is the food of {a}|What does {a} like to eat|"
    "What can I feed {a}]?",
}
_CANNOT_FLY = ("ostrich", "penguin", "ant", "cricket", "chicken", "turkey")


def _fact(kind, name):
    """(answer, what a right one has) for a kind of _ASK."""
    facts, start = ANIMALS[name], base.sentence(base.article(name))
    if kind == "legs":
        legs = facts["legs"] or "no"
        return f"{start} has {legs} legs.", contains(facts["legs"] or "no legs")
    if kind == "kind":
        return f"{start} is {_KINDS[facts['kind']]}.", contains(facts["kind"])
    if kind == "sound":
        text = f"says {facts['sound']}" if facts["sound"] else "makes no well known sound"
        return f"{start} {text}.", contains(facts["sound"] or "no well known sound")
    if kind == "young":
        young = facts["young"]
        return f"A baby {name} is called {base.article(young)}.", contains(young)
    if kind == "home":
        return f"{start} lives {_PLACE[facts['home']]}.", contains(facts["home"])
    return f"{start} eats {facts['food']}.", contains(facts["food"])


def _which_kind(name, rng):
    """Yes or no: is it a bird?"""
    kind, a = ANIMALS[name]["kind"], base.article(name)
    asked = rng.choice(list(_KINDS))
    if rng.random() < 0.5:
        asked = kind
    forms = ["Is {a} K?", "{a} is K, right?", "Is it true that {a} is K?", "Is the {n} K?"]
    user = rng.choice(forms + ["Do you think {a} is K?"]).replace("K", _KINDS[asked])
    yes = "Yes" if asked == kind else "No"
    return user, f"{yes}, {a} is {_KINDS[kind]}.", contains(yes, kind)


def _can_fly(name, rng):
    """Yes or no."""
    a = base.article(name)
    winged = ANIMALS[name]["kind"] in ("bird", "insect") and name not in _CANNOT_FLY
    flies = winged or name == "bat"
    user = base.expand("[Can {a} fly|Can {p} fly|Does {a} fly|Is {a} able to fly]?", rng)
    answer = f"Yes, {a} can fly." if flies else f"No, {a} cannot fly."
    return user, answer, contains("Yes" if flies else "No")


def animal(rng):
    if rng.random() < 0.04:
        return _no_animal(rng)
    name = rng.choice(list(ANIMALS))
    kind = rng.choice(["legs", "kind", "sound", "young", "home", "food", "which", "fly"])
    if kind == "which":
        user, answer, check = _which_kind(name, rng)
    elif kind == "fly":
        user, answer, check = _can_fly(name, rng)
    else:
        user = base.expand(_ASK[kind], rng)
        answer, check = _fact(kind, name)
    user = user.replace("{a}", base.article(name)).replace("{p}", plural(name))
    return from_prompt(user.replace("{n}", name), answer, check)


_WITHOUT_ARTICLE = (
    "grass corn butter mustard spinach broccoli lettuce blood ketchup snow milk salt flour cotton chalk "
    "coal tar ink chocolate coffee wood soil ash steel concrete gold silver lavender"
).split()
_ASK_MIX = (
    "[What do you get [if|when] you mix {x} and {y}|What {c} do {x} and {y} make|"
    "Mix {x} and {y}. What {c} is it|What is {x} mixed with {y}|{x} plus {y} makes which {c}|"
    "What {c} comes from {x} and {y}|Which {c} do I get from {x} and {y}|"
    "[What happens|What comes out] when I mix {x} with {y} paint|What {c} is a mix of {x} and {y}]?"
)
_ASK_COLOUR = (
    "[What {c} is {a}|Which {c} is {a}|What is the {c} of {a}|What {c} does {a} have|"
    "Tell me the {c} of {a}|{c} of {a}]?"
)
_ASK_IS_IT = [
    "Is {t} {s}?",
    "Is the {c} of {t} {s}?",
    "{t} is {s}, [right|true or false|isn't it]?",
    "Is it [true|right] that {t} is {s}?",
    "Does {t} have the {c} {s}?",
]


def _named(thing):
    """The thing with the article that it takes."""
    if thing in ("sky", "sea", "ocean", "sun", "night"):
        return "the " + thing
    return thing if thing in _WITHOUT_ARTICLE else base.article(thing)


def _is_it(c, rng):
    thing, said = rng.choice(list(COLOUR_OF)), rng.choice(words.COLOURS)
    truth = COLOUR_OF[thing]
    if rng.random() < 0.5:
        said = truth
    user = base.expand(rng.choice(_ASK_IS_IT), rng)
    user = base.sentence(user.replace("{t}", thing).replace("{s}", said).replace("{c}", c))
    if said == truth:
        return from_prompt(user, f"Yes, {thing} is {truth}.", contains("Yes"))
    return from_prompt(user, f"No, {thing} is {truth}.", contains("No", truth))


def colour(rng):
    r = rng.random()
    c = rng.choice(["colour", "colour", "color"])
    if r < 0.55:
        thing = rng.choice(list(COLOUR_OF))
        a, found = _named(thing), COLOUR_OF[thing]
        user = base.expand(_ASK_COLOUR, rng).replace("{c}", c).replace("{a}", a)
        return from_prompt(base.sentence(user), f"{base.sentence(a)} is {found}.", contains(found))
    if r < 0.85:
        (x, y), mix = rng.choice(list(MIXES.items()))
        if rng.random() < 0.5:
            x, y = y, x
        user = base.expand(_ASK_MIX, rng)
        user = user.replace("{c}", c).replace("{x}", x).replace("{y}", y)
        return from_prompt(base.sentence(user), f"Mixing {x} and {y} makes {mix}.", contains(mix))
    if r < 0.95:
        return _is_it(c, rng)
    form, answer, check = rng.choice(
        [
            (
                "[What are|Name|List] the [three |]primary colours[?|.]",
                "The primary colours are red, yellow and blue.",
                contains("red", "yellow", "blue"),
            ),
            (
                "[What are|Name|List] the colours of the rainbow[?|.]",
                "Red, orange, yellow, green, blue, indigo and violet.",
                contains("red", "indigo"),
            ),
            (
                "What are the colours of a traffic light?",
                "Red, yellow and green.",
                contains("red", "green"),
            ),
        ]
    )
    return from_prompt(base.expand(form, rng), answer, check)
