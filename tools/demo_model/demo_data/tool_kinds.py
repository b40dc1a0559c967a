"""Kinds of tools: how each is named and described, what it takes, how it is asked for, what it gives.

A kind makes tools of many names and schemas for the same purpose, so that a model has to read the schema. `MADE_UP` tools
are put together from verbs and nouns: those of the tests have names that were never seen.
"""

from dataclasses import dataclass

from demo_data import base, geography, smalltalk, spelling, words

CITIES = sorted(set(geography.CAPITAL.values()) | set(words.CITIES_FOR_MEMORY))
VERBS = [v for v in smalltalk.ACTION if v not in ("add", "multiply", "subtract", "send", "search")]
_FRUIT = [f for f in words.FOODS if f.endswith("s") and f != "lasagna"]
_SKIES = "sunny cloudy rainy windy foggy snowy clear stormy dry warm cold".split()


def made_up(rng):
    return spelling.made_up(rng).capitalize()


def city(rng):
    return rng.choice(CITIES) if rng.random() < 0.85 else made_up(rng)


def person(rng):
    return rng.choice(words.NAMES) if rng.random() < 0.85 else made_up(rng)


def noun(rng):
    return rng.choice(words.NOUNS)


def whole(low, high):
    """Numbers of every length alike."""

    def pick(rng):
        digits = rng.randint(len(str(low)), len(str(high)))
        return rng.randint(max(low, 10 ** (digits - 1) if digits > 1 else 0), min(high, 10**digits - 1))

    return pick


@dataclass
class Slot:
    """One parameter. values(rng) -> value or (value, its word in the question); `options` makes an enum."""

    names: str
    about: tuple
    values: object = None
    type: str = "string"
    options: tuple = ()
    phrase: str = ""  # an optional parameter's part of the question


@dataclass
class Kind:
    """`{0}`, `{1}` stand for the slots' words; in answers also `{r}`, `{s}` for what the tool gave."""

    names: tuple
    about: tuple
    slots: tuple
    asks: tuple
    outputs: tuple  # (keys of the output or "", makers of the values, answer)
    optional: tuple = ()
    both: tuple = ()  # asks for {0} and {b}
    again: tuple = ()  # asks for another {0}
    clash: frozenset = frozenset()  # tasks that this tool would be called for


_whole = whole(1, 999)
_number = lambda rng: str(_whole(rng))
_NUMBERS = frozenset("add subtract multiply compare count how_many neighbour parity too_hard json".split())


def _pick(options):
    return lambda rng: rng.choice(options)


def on_off(rng):
    on = rng.random() < 0.5
    return on, "on" if on else "off"


def _clock(rng):
    return f"{rng.randint(0, 23):02d}:{rng.choice([0, 5, 10, 15, 20, 30, 40, 45, 50]):02d}"


def _foods(rng):
    """A list, and how it is said."""
    items = rng.sample(words.FOODS, rng.randint(1, 3))
    return items, " and ".join([", ".join(items[:-1])] * (len(items) > 1) + items[-1:])


def words_of(rng):
    return spelling.simple_sentence(rng)


_CITY = Slot("city location place town", ("Name of the city", "The city", "City, such as Paris"), city)
_PERSON = Slot("name person to recipient customer user", ("Name of the person", "Who"), person)
_ROOMS = tuple("kitchen bedroom bathroom office garden hall cellar attic garage nursery".split())
_DAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
_MONEY = tuple("euros dollars pounds yen francs crowns".split())
_LANGUAGES = tuple("French German Spanish Italian Polish Dutch Greek Turkish".split())
_SENT = ("sent", _pick([True]), "I have sent the message to {0}.")

KINDS = {
    "weather": Kind(
        (
            "get weather",
            "weather",
            "get current weather",
            "weather now",
            "fetch weather",
            "check weather",
            "weather report",
            "get forecast",
        ),
        (
            "Weather of a city",
            "Get the current weather",
            "Tells the weather in a place",
            "Get the weather for a location.",
            "Get current temperature for a given location.",
            "Current weather in a given city",
        ),
        (_CITY,),
        (
            "What is the weather in {0}?",
            "What's the weather like in {0}?",
            "How is the weather in {0}?",
            "Weather in {0}?",
            "Tell me the weather in {0}.",
            "How warm is it in {0}?",
            "Is it raining in {0}?",
            "What is the weather like in {0} today?",
            "Please check the weather in {0}.",
        ),
        (
            ("temperature|celsius|degrees", _number, "It is {r} degrees in {0}."),
            ("temperature|celsius sky|condition|weather", _number, _pick(_SKIES), "It is {r} degrees and {s} in {0}."),
            ("", _pick(_SKIES), "The weather in {0} is {r}."),
            ("condition|sky", _pick(_SKIES), "The weather in {0} is {r}."),
        ),
        (Slot("unit units", ("Unit of the temperature",), None, options=("celsius", "fahrenheit"), phrase=" in {}"),),
        (
            "What is the weather in {0} and in {b}?",
            "What is the weather in {0} and {b}?",
            "How is the weather in {0} and {b}?",
            "Weather in {0} and {b}?",
            "Compare the weather in {0} and {b}.",
        ),
        ("And in {0}?", "What about {0}?", "And what is it like in {0}?"),
    ),
    "time": Kind(
        ("get time", "time", "local time", "get current time", "clock", "time in city", "world clock"),
        ("Local time of a city", "The time in a place", "Get the current time of a city"),
        (_CITY,),
        (
            "What time is it in {0}?",
            "What is the time in {0}?",
            "Tell me the time in {0}.",
            "How late is it in {0}?",
            "Time in {0}?",
            "What's the local time in {0}?",
        ),
        (("time|local_time|clock", _clock, "It is {r} in {0}."), ("", _clock, "It is {r} in {0}.")),
        (),
        ("What time is it in {0} and in {b}?", "What time is it in {0} and {b}?", "Tell me the time in {0} and {b}."),
        ("And in {0}?", "What about {0}?"),
        frozenset(["calendar"]),
    ),
    "now": Kind(
        ("now", "get date", "current time", "what time", "today"),
        ("The time now", "Gives the current date and time"),
        (),
        ("What time is it?", "What is the time now?", "Tell me the time.", "How late is it now?"),
        (("time|now", _clock, "It is {r}."), ("", _clock, "It is {r}.")),
        clash=frozenset(["calendar", "talk"]),
    ),
    "light": Kind(
        ("set light", "light", "switch light", "control light", "turn light", "lamp"),
        ("Switches a light", "Turn a light on or off", "Controls the lights of the house"),
        (Slot("room place", ("The room", "Which room"), _pick(_ROOMS)), Slot("on state power", ("On or off",), on_off, "boolean")),
        (
            "Turn the light in the {0} {1}.",
            "Turn {1} the light in the {0}.",
            "Switch the {0} light {1}.",
            "Please turn the {0} light {1}.",
            "Light {1} in the {0}.",
        ),
        (
            ("ok|done", _pick([True]), "Done. The light in the {0} is {1}."),
            ("", _pick(["ok", "done"]), "Done. The light in the {0} is {1}."),
        ),
        (Slot("brightness level", ("Brightness in per cent",), whole(1, 100), "integer", phrase=" at {} per cent"),),
        (),
        ("Now the {0}, {1}.", "And the {0} {1}."),
    ),
    "message": Kind(
        ("send message", "message", "send text", "text person", "send sms", "notify"),
        ("Sends a message to somebody", "Send a text message", "Message a person"),
        (_PERSON, Slot("text message content body", ("The text", "What to say"), words_of)),
        (
            'Send {0} the message "{1}".',
            'Tell {0}: "{1}".',
            'Write "{1}" to {0}.',
            'Message {0} "{1}".',
            "Send a message to {0}: {1}",
            "Text {0} that {1}.",
        ),
        (_SENT, ("", _pick(["sent", "ok", "delivered"]), "I have sent the message to {0}.")),
        clash=frozenset(["memory", "repeat"]),
    ),
    "timer": Kind(
        ("set timer", "timer", "start timer", "create timer", "countdown"),
        ("Sets a timer", "Starts a timer of some minutes"),
        (Slot("minutes duration length", ("Length in minutes", "Minutes"), whole(1, 180), "integer"),),
        (
            "Set a timer for {0} minutes.",
            "Start a timer of {0} minutes.",
            "Timer for {0} minutes, please.",
            "Wake me in {0} minutes.",
            "I need a {0} minute timer.",
        ),
        (
            ("ok|started", _pick([True]), "The timer is set for {0} minutes."),
            ("", _pick(["ok", "started", "done"]), "The timer is set for {0} minutes."),
        ),
        (Slot("label title", ("Name of the timer",), noun, phrase=" called {}"),),
        ("Set timers for {0} and {b} minutes.", "Set a timer for {0} minutes and one for {b} minutes."),
        ("And one for {0} minutes.",),
    ),
    "add": Kind(
        ("add", "sum", "add numbers", "plus", "addition"),
        ("Adds two numbers", "Sum of two numbers", "Add a and b"),
        (
            Slot("a x first", ("The first number",), whole(0, 99999), "integer"),
            Slot("b y second", ("The second number",), whole(0, 99999), "integer"),
        ),
        ("What is {0} + {1}?", "Add {0} and {1}.", "What is {0} plus {1}?", "Calculate {0} + {1}.", "{0} + {1}", "How much is {0} + {1}?"),
        (("sum|result", "+", "{0} + {1} = {r}."), ("", "+", "{0} + {1} = {r}.")),
        clash=_NUMBERS,
    ),
    "multiply": Kind(
        ("multiply", "times", "product", "multiply numbers"),
        ("Multiplies two numbers", "Product of two numbers"),
        (
            Slot("a x first", ("The first factor",), whole(0, 9999), "integer"),
            Slot("b y second", ("The second factor",), whole(0, 9999), "integer"),
        ),
        (
            "What is {0} * {1}?",
            "Multiply {0} by {1}.",
            "What is {0} times {1}?",
            "Calculate {0} x {1}.",
            "{0} * {1}",
            "How much is {0} times {1}?",
        ),
        (("product|result", "*", "{0} * {1} = {r}."), ("", "*", "{0} * {1} = {r}.")),
        clash=_NUMBERS,
    ),
    "calculator": Kind(
        ("calculator", "calculate", "compute", "arithmetic", "math"),
        ("A calculator", "Calculates with two numbers"),
        (
            Slot("operation op operator", ("What to do",), None, options=("+", "-", "*", "/")),
            Slot("a x left", ("Left number",), whole(0, 99999), "integer"),
            Slot("b y right", ("Right number",), whole(0, 99999), "integer"),
        ),
        ("What is {1} {0} {2}?", "Calculate {1} {0} {2}.", "{1} {0} {2}", "Compute {1} {0} {2}.", "How much is {1} {0} {2}?"),
        (("result|value", _number, "{1} {0} {2} = {r}."), ("", _number, "{1} {0} {2} = {r}.")),
        clash=_NUMBERS,
    ),
    "search": Kind(
        ("search", "web search", "search web", "find", "lookup", "google"),
        ("Searches the web", "Search for a text", "Looks something up"),
        (
            Slot(
                "query q text topic",
                ("What to look for", "The search text"),
                lambda rng: rng.choice(words.ADJECTIVES) + " " + noun(rng) if rng.random() < 0.5 else noun(rng) + "s",
            ),
        ),
        (
            "Search for {0}.",
            "Search the web for {0}.",
            "Look up {0}.",
            "Find something about {0}.",
            "Google {0}.",
            "What can you find about {0}?",
        ),
        (("text|result|summary", words_of, "I found this: {r}."), ("", words_of, "I found this: {r}.")),
        (Slot("limit count", ("Most results",), whole(1, 20), "integer", phrase=", at most {} results"),),
        ("Search for {0} and for {b}.", "Look up {0} and {b}."),
        ("And {0}?", "Now {0}."),
        frozenset(["unknown", "geography", "tandem", "animals"]),
    ),
    "convert": Kind(
        ("convert", "exchange", "convert currency", "exchange money", "currency"),
        ("Converts money", "Exchange rate calculator"),
        (
            Slot("amount value", ("How much",), whole(1, 9999), "number"),
            Slot("from source from_currency", ("Money to change",), None, options=_MONEY),
            Slot("to target to_currency", ("Money wanted",), None, options=_MONEY),
        ),
        (
            "Convert {0} {1} to {2}.",
            "How much are {0} {1} in {2}?",
            "What is {0} {1} in {2}?",
            "Change {0} {1} into {2}.",
            "{0} {1} in {2}?",
        ),
        (("result|amount", _number, "{0} {1} are {r} {2}."), ("", _number, "{0} {1} are {r} {2}.")),
    ),
    "translate": Kind(
        ("translate", "translate text", "translation"),
        ("Translates a text", "Translate into another language"),
        (
            Slot("text word input", ("The text",), lambda rng: noun(rng) if rng.random() < 0.5 else words_of(rng)),
            Slot("language to target", ("The language",), None, options=_LANGUAGES),
        ),
        (
            'Translate "{0}" into {1}.',
            'What is "{0}" in {1}?',
            'Say "{0}" in {1}.',
            'How do you say "{0}" in {1}?',
            "Translate into {1}: {0}",
        ),
        (
            ("text|translation", lambda rng: spelling.made_up(rng) + " " + spelling.made_up(rng), 'In {1}: "{r}"'),
            ("", lambda rng: spelling.made_up(rng), 'In {1}: "{r}"'),
        ),
        clash=frozenset(["repeat", "unknown"]),
    ),
    "event": Kind(
        ("add event", "create event", "calendar add", "schedule", "book meeting"),
        ("Puts something into the calendar", "Creates an event"),
        (Slot("title name event", ("What it is",), noun), Slot("day date", ("The day",), None, options=_DAYS)),
        (
            "Put the {0} on {1} into my calendar.",
            "Add an event on {1}: {0}.",
            "Schedule the {0} for {1}.",
            "The {0} is on {1}, add it.",
            "Plan the {0} on {1}.",
        ),
        (
            ("ok|created", _pick([True]), "The {0} is in your calendar on {1}."),
            ("", _pick(["ok", "created"]), "The {0} is in your calendar on {1}."),
        ),
        (Slot("time at", ("Time of day",), _clock, phrase=" at {}"),),
        clash=frozenset(["calendar"]),
    ),
    "order": Kind(
        ("order", "buy", "order item", "add to cart", "shop"),
        ("Orders things", "Buys something in the shop", "Puts an article into the cart"),
        (
            Slot("item article product", ("What to buy",), _pick(_FRUIT)),
            Slot("count quantity amount", ("How many",), whole(2, 99), "integer"),
        ),
        ("Order {1} {0}.", "Buy {1} {0}.", "I want {1} {0}.", "Please order {1} {0}.", "Get me {1} {0}.", "Add {1} {0} to my cart."),
        (("ok|ordered", _pick([True]), "I have ordered {1} {0}."), ("price|total", _number, "I have ordered {1} {0}. The price is {r}.")),
        (
            Slot("size", ("The size",), None, options=("small", "medium", "large"), phrase=", size {}"),
            Slot("gift wrapped", ("Wrap it as a gift",), _pick([(True, "as a gift"), (False, "not as a gift")]), "boolean", phrase=", {}"),
        ),
    ),
    "distance": Kind(
        ("distance", "get distance", "how far", "route", "travel distance"),
        ("Distance of two cities", "How far one place is from another"),
        (Slot("from start origin", ("Where it begins",), city), Slot("to end destination", ("Where it ends",), city)),
        (
            "How far is it from {0} to {1}?",
            "What is the distance from {0} to {1}?",
            "Distance between {0} and {1}?",
            "How far is {1} from {0}?",
        ),
        (("km|kilometres|distance", _number, "It is {r} km from {0} to {1}."), ("", _number, "It is {r} km from {0} to {1}.")),
    ),
    "music": Kind(
        ("play music", "play", "music", "play song", "start music"),
        ("Plays music", "Plays a song", "Play a song by its title"),
        (
            Slot(
                "song title track",
                ("Title of the song",),
                lambda rng: rng.choice(words.ADJECTIVES).capitalize() + " " + noun(rng).capitalize(),
            ),
        ),
        ("Play {0}.", 'Play the song "{0}".', "I want to hear {0}.", "Put on {0}, please.", "Start the song {0}."),
        (("playing|ok", _pick([True]), "I am playing {0} now."), ("", _pick(["ok", "playing"]), "I am playing {0} now.")),
        (Slot("volume loudness", ("How loud",), whole(1, 10), "integer", phrase=" at volume {}"),),
        ("Play {0} and then {b}.",),
        ("And then {0}.", "Now {0}."),
    ),
    "random": Kind(
        ("random number", "random", "roll", "dice"),
        ("Gives a random number", "A random number between two numbers"),
        (
            Slot("min low from", ("The smallest",), whole(0, 99), "integer"),
            Slot("max high to", ("The biggest",), whole(100, 9999), "integer"),
        ),
        ("Give me a random number between {0} and {1}.", "Pick a number from {0} to {1}.", "Roll a number from {0} to {1}."),
        (("number|value", _number, "The number is {r}."), ("", _number, "The number is {r}.")),
        clash=_NUMBERS,
    ),
}

_PROPERTIES = (
    "price weight height owner address population email status balance size speed length temperature rating score stock password phone age "
    "manager salary room date colour country language level version code"
).split()
_THINGS = "item product thing user account city order book machine server room project player customer file".split()


def _plain_slot(rng):
    """A parameter of a made-up tool, and its part of the question."""
    size = tuple(rng.sample(["small", "medium", "large", "tiny", "huge", "short", "long"], rng.randint(2, 4)))
    slots = [
        (Slot("name title label", ("The name",), person), "called {}"),
        (Slot("colour color", ("The colour",), _pick(words.COLOURS)), "in {}"),
        (Slot("number id count", ("The number",), whole(0, 9999), "integer"), "number {}"),
        (_CITY, "in {}"),
        (_PERSON, "for {}"),
        (Slot("size", ("The size",), None, options=size), "of size {}"),
        (Slot("day", ("The day",), None, options=_DAYS), "on {}"),
        (Slot("room", ("The room",), _pick(_ROOMS)), "in the {}"),
        (Slot("items list things", ("What belongs to it",), _foods, "array"), "with {}"),
        (Slot("fast quick urgent", ("At once or not",), _pick([(True, "now"), (False, "later")]), "boolean"), "{}"),
    ]
    return rng.choice(slots)


def made_up_kind(rng):
    """A tool of a verb and a noun, or one that looks up a property."""
    if rng.random() < 0.4:
        prop, thing = rng.choice(_PROPERTIES), rng.choice(_THINGS)
        values = rng.choice([noun, person, made_up])
        return Kind(
            (f"get {prop}", f"{thing} {prop}", f"lookup {prop}", f"get {thing} {prop}", f"find {prop}", f"{prop} of"),
            (f"The {prop} of a {thing}", f"Looks up the {prop}", f"Get the {prop} of a {thing}"),
            (Slot(f"{thing} name of", (f"The {thing}",), values),),
            (
                f"What is the {prop} of {{0}}?",
                f"What's the {prop} of {{0}}?",
                f"Tell me the {prop} of {{0}}.",
                f"I need the {prop} of {{0}}.",
                f"Look up the {prop} of {{0}}.",
            ),
            (
                (f"{prop}|result|value", rng.choice([_number, noun, person]), f"The {prop} of {{0}} is {{r}}."),
                ("", rng.choice([_number, noun]), f"The {prop} of {{0}} is {{r}}."),
            ),
            both=(f"What is the {prop} of {{0}} and of {{b}}?", f"Tell me the {prop} of {{0}} and the {prop} of {{b}}."),
            again=("And of {0}?", "What about {0}?"),
        )
    verb, what = rng.choice(VERBS), noun(rng)
    parts = [_plain_slot(rng) for _ in range(rng.choice([0, 1, 1, 1, 2]))]
    if len(parts) == 2 and parts[0][1] == parts[1][1]:
        parts.pop()
    text = f"{verb} the {what}" + "".join(" " + phrase.replace("{}", f"{{{i}}}") for i, (_, phrase) in enumerate(parts))
    return Kind(
        (f"{verb} {what}", f"{what} {verb}", verb, f"{verb} the {what}"),
        (f"{base.sentence(verb)} a {what}", f"Can {verb} the {what}", f"{base.sentence(verb)}s the {what}"),
        tuple(slot for slot, _ in parts),
        (base.sentence(text) + ".", f"Please {text}.", f"Can you {text}?", f"I want you to {text}."),
        (("ok|done|success", _pick([True]), "Done."), ("", _pick(["ok", "done"]), "Done."), ("result", noun, "The result is {r}.")),
    )
