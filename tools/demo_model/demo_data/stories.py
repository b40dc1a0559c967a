"""Short stories about an animal and an object.

A story is nearly fixed by its two subjects: the animal gives name, place and character, the kind of object gives the plot. So the
model can learn it exactly, and the pair it is asked for was never seen together in training.
"""

from demo_data import base, words
from demo_data.words import ANIMALS, OBJECT_KIND, OBJECTS

_TRAIT = "brave curious kind shy clever cheerful patient gentle lively careful friendly hungry quiet proud playful".split()
_FRIENDS = ["mouse", "owl", "rabbit", "frog", "squirrel", "robin", "hedgehog", "turtle"]
_NAMES = [
    "Pip",
    "Milo",
    "Luna",
    "Tara",
    "Bruno",
    "Nell",
    "Otis",
    "Rosie",
    "Finn",
    "Willa",
    "Gus",
    "Hazel",
    "Kiki",
    "Momo",
    "Poppy",
    "Rufus",
    "Sunny",
    "Tilly",
    "Ziggy",
    "Ivy",
]
_WHERE = {
    "house": "in an old house at the end of the street",
    "farm": "on a small farm under the hills",
    "meadow": "in a green meadow",
    "forest": "in a deep forest",
    "river": "beside a wide river",
    "cave": "in a dry cave",
    "savanna": "on the warm savanna",
    "jungle": "in a noisy jungle",
    "desert": "at the edge of the desert",
    "mountain": "high in the mountains",
    "ocean": "in the blue ocean",
    "pond": "by a still pond",
    "garden": "in a sunny garden",
    "town": "on the roofs of a town",
    "ice": "on the white ice",
    "lake": "by a pink lake",
    "marsh": "in a misty marsh",
}
_OPEN = [
    "Once upon a time, {a} named {N} lived {w}.",
    "There was once {a} called {N}, who lived {w}.",
]
_TRAITS = [
    "{N} was {t}, and everyone knew it.",
    "{N} was a {t} little {A}.",
    "Of all the animals there, {N} was the most {t}.",
]
_PLOT = {
    "light": [
        "One evening {N} found a {O} beside the path.",
        "That night the clouds hid the moon, and a young {f} could not find the way home.",
        "{N} held up the {O}, and its light showed the path.",
        "Step by step they walked until they saw the {f}'s door.",
        "Since then the {O} shines there every night, so that nobody is lost.",
    ],
    "box": [
        "One morning {N} found an empty {O}.",
        '"What could I put in it?" {N} asked.',
        'A {f} said, "Put in something for a day when you are sad."',
        "So {N} filled the {O} with small happy things: a leaf, a smooth stone and a song on a piece of paper.",
        "When winter came, {N} opened the {O} and smiled the whole day.",
    ],
    "music": [
        "One day {N} found a {O} under a tree.",
        "At first it made only terrible noises, and a {f} covered its ears.",
        "But {N} practised every morning.",
        "At the summer party {N} played the {O} so well that everybody danced.",
        "Even the {f} asked for one more song.",
    ],
    "wear": [
        "For a birthday {N} got a {O}.",
        "It was far too big, and some of the others laughed.",
        "Then a cold wind came, and a little {f} began to shiver.",
        "{N} wrapped the {O} around the {f}, and it fitted perfectly.",
        "From that day they shared the {O}, and nobody laughed again.",
    ],
    "tool": [
        "After a storm the bridge was broken, and nobody could cross the stream.",
        "{N} had nothing but an old {O}.",
        '"That is enough for a start," said a {f}.',
        "All day they worked, and the {O} went from one to the next.",
        "In the evening the bridge stood again, and the {O} got a place of honour.",
    ],
    "ride": [
        "One windy day {N} built a {O}.",
        '"How far does it go?" asked a {f}.',
        '"Let us find out," said {N}, and off they went.',
        "They saw new hills, and far away a shining sea, and they were back for supper.",
        "The {O} was a little broken, but their story was worth it.",
    ],
    "paper": [
        "In the grass {N} found a {O}.",
        "Nobody knew whom it belonged to, so {N} read it aloud.",
        "It told of a {f} who was looking for a friend.",
        "{N} followed the words of the {O} all the way to a small door and knocked.",
        "The {f} opened, and they have been friends ever since.",
    ],
    "food": [
        "One day {N} had one {O} left, and it smelled wonderful.",
        "Just then a hungry {f} came by.",
        "{N} thought for a moment and cut the {O} in two.",
        "They ate together in the sun and laughed.",
        "Half a {O} with a friend, {N} learned, tastes better than a whole one alone.",
    ],
    "toy": [
        "{N} had a {O} and loved it very much.",
        "One day the {O} was gone.",
        "{N} looked under every bush, and a {f} helped to search.",
        "At last they found the {O} in a nest, where a small bird was playing with it.",
        "So they made up a new game, and all three played until dark.",
    ],
    "home": [
        "One rainy day {N} carried an old {O} home.",
        "It was dusty and had a crack.",
        "A {f} helped to clean and mend it.",
        "Soon the {O} looked like new, and the whole place felt warm.",
        "Now every guest wants to see the {O} first.",
    ],
    "key": [
        "In the sand {N} saw something small: a {O}.",
        '"Somebody must miss it," said {N}.',
        "They asked at every home, until a {f} cried for joy.",
        "The {O} had belonged to the {f}'s grandmother.",
        "As thanks the {f} baked a cake, and {N} got the largest piece.",
    ],
}
# A second plot for each kind; which of the two is told depends on the object.
_OTHER_PLOT = {
    "light": [
        "{N} was afraid of the dark and never went anywhere without a {O}.",
        "One night a {f} sat crying behind the trees.",
        '"Take my {O}," said {N}, "then you can see your way."',
        "On the way back {N} looked up, and there were a thousand stars.",
        "The dark was not so dark at all.",
    ],
    "box": [
        "A {f} asked {N} to look after a {O} for one day, and not to open it.",
        "All day {N} wondered what might be inside.",
        "It rattled, it hummed, and it was hard to wait.",
        "But {N} had given a promise and kept it.",
        "In the evening the {f} opened the {O}: it was a present for {N}.",
    ],
    "music": [
        "The sun did not want to get up one morning.",
        '"It needs some music," said a {f}.',
        "{N} ran home, fetched the {O} and began to play.",
        "At the third song a golden light came over the hill.",
        "Since then the {O} is played there at every sunrise.",
    ],
    "wear": [
        "The wind took {N}'s {O} and carried it away.",
        "{N} ran after it, over the hill and through the mud.",
        "A {f} had caught it and was already wearing it.",
        '"It looks better on you," said {N} and laughed.',
        "The next day the {f} came with a present: another {O}, even finer than the first.",
    ],
    "tool": [
        "{N} wanted to build a house for the winter, but had only a {O}.",
        "A {f} had boards, and another one had nails.",
        '"Let us build one house for all of us," said {N}.',
        "They built it in three days, and the {O} was never still.",
        "When the snow came, all of them sat inside and told stories.",
    ],
    "ride": [
        "There was to be a race, and {N} entered it with a {O}.",
        "At the first turn a {f} fell and hurt its foot.",
        "{N} stopped at once and took the {f} along.",
        "They came in last of all, but everyone stood up and clapped.",
        "The prize went to them, and the {O} was painted gold.",
    ],
    "paper": [
        "{N} could not read, and a {O} lay on the table.",
        '"I will teach you," said a {f}.',
        "They learned one letter every day, and on bad days only half of one.",
        "In spring {N} read the {O} from the first line to the last.",
        "Then {N} began to teach the next one.",
    ],
    "food": [
        "{N} wanted to make the best {O} in the land.",
        "The first one was too hard, and the second one was too soft.",
        '"You must not hurry," said an old {f}.',
        "So {N} took time, and the third one was perfect.",
        "It was so good that the whole neighbourhood asked for a piece of the {O}.",
    ],
    "toy": [
        "{N} and a {f} both wanted the same {O}.",
        "They pulled and pulled, until it fell into the mud.",
        "Then they looked at each other and had to laugh.",
        "They washed the {O} together in the stream.",
        "From now on it lives one week here and one week there.",
    ],
    "home": [
        "At the market nobody wanted the old {O}.",
        "{N} felt sorry for it and took it along.",
        "At home a {f} found a note hidden inside.",
        'It said: "Who is good to old things will never be alone."',
        "And really, since that day somebody comes to visit {N} every evening.",
    ],
    "key": [
        "{N} carried a small {O} everywhere, for luck.",
        "One day it was lost, and everything seemed to go wrong.",
        'A {f} said, "You were lucky before you had it."',
        "{N} thought about that the whole way home.",
        "There lay the {O} in front of the door, but {N} gave it to the {f}.",
    ],
}
_END = [
    "And {N} slept well that night.",
    "That was a good day.",
    "And that is the end of the story.",
]
_ASK = [
    "Tell me a [short |little |]story about {a} and {o}.",
    "[Write|Can you write|Could you write] a [short |]story about {a} and {o}.",
    "[Can|Could] you tell me a [short |]story about {a} and {o}?",
    "A [short |]story about {a} and {o}, please.",
    "[Make up|Invent] a story with {a} and {o}.",
    "I would like [to hear |]a story about {a} and {o}.",
    "Tell a story with {a} and {o} in it.",
    "Story: {A}, {O}",
    "Tell me about {a} that finds {o}.",
    "Give me a [short |]story about {a} and {o}.",
    "Please tell [me |]a story about {a} and {o}.",
]


# Who else may be in a story: (name, where).
_PEOPLE = {
    "dragon": "cave",
    "knight": "castle",
    "robot": "town",
    "wizard": "tower",
    "princess": "castle",
    "king": "castle",
    "queen": "castle",
    "pirate": "ocean",
    "giant": "mountain",
    "monster": "cave",
    "witch": "forest",
    "unicorn": "meadow",
    "mermaid": "ocean",
    "ghost": "house",
    "fairy": "garden",
    "dwarf": "mountain",
    "elf": "forest",
    "farmer": "farm",
    "girl": "town",
    "boy": "town",
    "child": "town",
    "dinosaur": "jungle",
    "alien": "desert",
    "computer": "house",
    "snowman": "ice",
    "fisherman": "lake",
}
_WHERE.update({"castle": "in an old castle", "tower": "in a high tower"})


def all_lines():
    """Every sentence of the grammar."""
    return (
        _OPEN
        + _TRAITS
        + _END
        + [x for p in (_PLOT, _OTHER_PLOT) for v in p.values() for x in v]
        + _TRAIT
        + _FRIENDS
        + _NAMES
        + list(_PEOPLE)
    )


def _an(text):
    return (
        text.replace("a apple", "an apple")
        .replace("a umbrella", "an umbrella")
        .replace("a owl", "an owl")
    )


def tell(animal, obj, rng):
    name = base.pick_by("name " + animal, _NAMES)
    trait = base.pick_by("trait " + animal, _TRAIT)
    friend = base.pick_by("friend " + obj, _FRIENDS)
    if friend == animal:
        friend = "badger" if animal != "badger" else "mouse"
    plot = base.pick_by("plot " + obj, [_PLOT, _OTHER_PLOT])[
        OBJECT_KIND.get(obj) or base.pick_by("kind " + obj, ["key", "home"])
    ]
    lines = (
        [base.pick_by("open " + animal, _OPEN), base.pick_by("traits " + animal, _TRAITS)]
        + plot
        + [rng.choice(_END)]
    )
    text = " ".join(lines)
    text = (
        text.replace("a {O}", base.article(obj))
        .replace("A {f}", base.sentence(base.article(friend)))
        .replace("a {f}", base.article(friend))
        .replace("an old {O}", "an old " + obj)
    )
    text = (
        text.replace("{a}", base.article(animal))
        .replace("{A}", animal)
        .replace("{N}", name)
        .replace("{t}", trait)
        .replace("{w}", _WHERE[ANIMALS[animal]["home"] if animal in ANIMALS else _PEOPLE[animal]])
        .replace("{O}", obj)
        .replace("{f}", friend)
    )
    return _an(text)


def _check(*need):
    return {"type": "story", "all": list(need), "sentences": 6}


def story(rng):
    animal = rng.choice(list(ANIMALS)) if rng.random() < 0.85 else rng.choice(list(_PEOPLE))
    obj = rng.choice(list(OBJECT_KIND)) if rng.random() < 0.8 else rng.choice(words.NOUNS)
    r = rng.random()
    if r < 0.85:
        a, o = animal, obj
        if rng.random() < 0.15:
            a = rng.choice(words.ADJECTIVES + _TRAIT) + " " + a
        if rng.random() < 0.15:
            o = rng.choice(words.ADJECTIVES + ["magic", "broken", "lost", "tiny"]) + " " + o
        user = (
            base.expand(rng.choice(_ASK), rng)
            .replace("{a}", base.article(a))
            .replace("{o}", base.article(o))
            .replace("{A}", a)
            .replace("{O}", o)
        )
        return base.Turn(user, tell(animal, obj, rng), f"story:{animal}:{obj}", _check(animal, obj))
    if r < 0.92:
        obj = base.pick_by("object of " + animal, list(OBJECT_KIND))
        user = base.expand(
            "[Tell me|Write|Give me|Can you tell me] a [short |]story about {a}.", rng
        ).replace("{a}", base.article(animal))
        return base.from_prompt(user, tell(animal, obj, rng), _check(animal))
    if r < 0.97:
        animal = base.pick_by("animal of " + obj, list(ANIMALS))
        user = base.expand(
            "[Tell me|Write|Give me|Can you tell me] a [short |]story about {a}.", rng
        ).replace("{a}", base.article(obj))
        return base.from_prompt(user, tell(animal, obj, rng), _check(obj))
    user = base.expand(
        "[[Tell me|Write|Can you tell me|I want|Please tell me|Read me] a|A|Another] [short |nice |little |]story[ please|, please|][.|]",
        rng,
    )
    return base.from_prompt(user, tell("fox", "lantern", rng), _check("fox"))


def long_story(rng):
    """Three stories in a row: something long to stream."""
    animals = rng.sample(list(ANIMALS), 3)
    objects = [rng.choice(list(OBJECT_KIND)) for _ in range(3)]
    user = base.expand("[Tell me|Write] a [very |]long story about {a}, {b} and {c}.", rng)
    for mark, animal in zip(("{a}", "{b}", "{c}"), animals):
        user = user.replace(mark, base.article(animal))
    objects = [base.pick_by("object of " + a, list(OBJECT_KIND)) for a in animals]
    text = "\n\n".join(tell(a, o, rng) for a, o in zip(animals, objects))
    return base.Turn(
        user,
        text,
        "longstory:" + ":".join(animals),
        {"type": "story", "all": animals, "sentences": 18},
    )


def sentence_about(rng):
    noun = rng.choice(words.NOUNS)
    user = base.expand(
        "[Write|Give me|Make|Can you write] [a|one] [short |]sentence [about|with] {n}.", rng
    ).replace("{n}", rng.choice([base.article(noun), "the " + noun, 'the word "' + noun + '"']))
    form = base.pick_by(
        "sentence " + noun,
        [
            "The {n} was there long before we came.",
            "Every morning I see the {n} from my window.",
            "She remembered the {n} with a smile.",
            "Nobody had ever seen a {n} like this one.",
            "The {n} belongs to an old friend of mine.",
        ],
    )
    answer = form.replace("{n}", noun)
    answer = answer.replace(" a " + noun, " " + base.article(noun))
    return base.Turn(user, answer, "sentence:" + noun, base.contains(noun), noise="light")
