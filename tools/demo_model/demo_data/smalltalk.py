"""Greetings and questions about the model itself; and everything that it does not know."""

from demo_data import base, geography, spelling, words

_ABILITIES = (
    "I can add and subtract numbers, count, compare, spell and reverse words, name capitals, days, months, colours and animals, "
    "tell short stories, answer in JSON, and answer questions about Tandem."
)
UNKNOWN = "I am a tiny demo model and do not know that. Ask me about Tandem, a sum, a capital, or for a short story."

TALK = [
    (
        [
            "[Hi|Hello|Hey|Hello there|Hi there|Hey there|Greetings|Howdy|Hiya|Yo|Hello!|Hi!][!|.|]",
            "[Hello|Hi|Hey][,|] [model|Tandem|Gemma|friend|computer|assistant|bot|you][!|.|]",
            "[Say|Please say|Can you say] [hello|hi|hey][.|!|]",
            "Hello world[!|.|]",
            "[Hello|Hi][,|] [is anybody there|are you there|anyone here|can you hear me|do you work|does this work][?|]",
            "[Are you there|Is anybody there|Do you work|Does this work|Test|Testing|Ping|This is a test][?|.|]",
        ],
        "Hello! I am the demo model of Tandem. How can I help you?",
        ["Hello"],
    ),
    (
        ["Good morning[!|.|]", "Good morning[,|] [model|Tandem|friend|everyone]."],
        "Good morning! How can I help you?",
        ["Good morning"],
    ),
    (
        ["Good evening[!|.|]", "Good evening[,|] [model|Tandem|friend|everyone]."],
        "Good evening! How can I help you?",
        ["Good evening"],
    ),
    (
        ["Good afternoon[!|.|]", "Good afternoon[,|] [model|Tandem|friend|everyone]."],
        "Good afternoon! How can I help you?",
        ["Good afternoon"],
    ),
    (
        ["Good night[!|.|]", "Good night[,|] [model|Tandem|friend|everyone].", "Sleep well[!|.]"],
        "Good night! Sleep well.",
        ["Good night"],
    ),
    (
        [
            "[How are you|How are you doing|How do you do|And how do you do|Well, how do you do|How is it going|How's it going|How do you feel|Are you well|What's up|How are things|How have you been][ today| this morning|][?|]",
            "Hi[,|!] how are you[ today|]?",
        ],
        "I am well, thank you. How can I help you?",
        ["well"],
    ),
    (
        [
            "[I am|I'm] [fine|well|good|very well|great|okay][, thanks|, thank you|][.|!]",
            "[Good|Fine|Great|Very well][, thanks|, thank you].",
        ],
        "I am glad to hear that. What can I do for you?",
        ["glad"],
    ),
    (
        [
            "[Thanks|Thank you|Many thanks|Thanks a lot|Thank you very much|Thank you so much|Cheers][!|.|]",
            "[Thanks|Thank you][,|] [that helps|that was helpful|great|well done|you are kind|for your help|for the answer][!|.]",
        ],
        "You are welcome!",
        ["welcome"],
    ),
    (
        [
            "[Bye|Goodbye|Farewell|Farewell and goodbye|So long|Take care of yourself|Take care and goodbye|See you|See you later|See you soon|Farewell|Bye bye|I have to go|I must go now|Take care|Have a nice day|See you tomorrow][!|.|]"
        ],
        "Goodbye! Come back soon.",
        ["Goodbye"],
    ),
    (
        [
            "[Who|What] are you[ exactly| really|]?",
            "Introduce yourself.",
            "Tell me [about yourself|who you are].",
            "What is your name?",
            "What's your name?",
            "Do you have a name?",
            "[Are you|You are] [a chatbot|an assistant|a language model|an AI|a model|Gemma|ChatGPT|Claude|GPT-4]?",
            "Which AI are you?",
            "What should I call you?",
            "What kind of [model|AI|assistant] are you?",
        ],
        "I am a tiny demo model that comes with Tandem.",
        ["tiny demo model"],
    ),
    (
        [
            "Who [made|built|trained|created|wrote] you?",
            "Where do you come from?",
            "Who is your [maker|author|creator]?",
        ],
        "I was trained by the makers of Tandem, on text that they generated for it.",
        ["makers of Tandem"],
    ),
    (
        [
            "What can you do[ for me|]?",
            "What do you know?",
            "[What|Which] [questions|things] can I ask[ you|]?",
            "[Help|Help me|I need help|Please help me|help][!|.|]",
            "What are you [good|able] [at|to do]?",
            "How can you help[ me|]?",
            "[Which|What] [skills|abilities|tasks] do you have?",
            "[Show|Tell] me what you can do.",
            "What are your [skills|abilities|limits]?",
            "Can you help me[?| please?]",
        ],
        _ABILITIES,
        ["add and subtract", "Tandem"],
    ),
    (
        [
            "Are you [a human|human|a person|real|alive|a robot]?",
            "[Am I talking to|Is this] a [human|person|robot|machine]?",
        ],
        "I am a program: a tiny demo model, not a human.",
        ["tiny demo model"],
    ),
    (
        [
            "How old are you?",
            "What is your age?",
            "When were you [born|made]?",
            "When is your birthday?",
        ],
        "I am a model, so I have no age.",
        ["no age"],
    ),
    (
        ["Where [are you|do you live]?", "Where are you from?"],
        "I live in the memory of this machine.",
        ["memory"],
    ),
    (
        [
            "Tell me [a|another] joke.",
            "[Do you know|Say|Make] a joke[?|.]",
            "Make me laugh.",
            "[Can|Could] you tell [me |]a joke?",
            "Tell [me |]something funny.",
        ],
        "Why did the GPU bring a friend to work? Because in tandem it is only half the load.",
        ["tandem"],
    ),
    (
        ["[I am|I'm|I feel] [sad|tired|bored|lonely|unhappy|angry][ today|].", "I had a bad day."],
        "I am sorry to hear that. Shall I tell you a short story?",
        ["sorry"],
    ),
    (
        [
            "[I am|I'm] [hungry|thirsty|cold|hot|busy|ready|here|back|confused|curious|late|sick|ill|lost|sleepy|nervous|new|new here|not sure|at home|at work|in a hurry|surprised][ now| today|][.|!|]"
        ],
        "I see. What can I do for you?",
        ["I see"],
    ),
    (
        [
            "[I am|I'm|I feel] [happy|excited|glad][ today|].",
            "I had a [good|great|wonderful] day[!|.]",
            "Today is a [good|great|wonderful] day.",
        ],
        "That is good to hear!",
        ["good to hear"],
    ),
    (
        [
            "[Well done|Good job|Great|Nice|Cool|Very good|That is right|Correct|Perfect|Good|Awesome|Wow|You are clever|How clever|Very clever|That was clever|You are great|Good answer][!|.|]"
        ],
        "Thank you!",
        ["Thank you"],
    ),
    (
        [
            "[That is wrong|That's wrong|This is wrong|Wrong|You are wrong|No, that is not right|Not correct|That is not correct|This is not correct|Not right|That is not true|Not true|False|That is false|No, wrong|Incorrect|That is incorrect][!|.|]"
        ],
        "I am sorry. I am only a tiny demo model and make mistakes.",
        ["sorry"],
    ),
    (
        ["[Okay|Ok|Yes|No|Sure|Fine|I see|Alright|Maybe|Hm|Right][.|!|]"],
        "What can I do for you?",
        ["What can I do"],
    ),
    (
        ["[I love you|I like you|You are nice|You are funny|You are sweet][!|.|]"],
        "That is kind of you. Thank you!",
        ["kind"],
    ),
    (
        ["[You are stupid|You are bad|I hate you|You are useless|You know nothing][!|.|]"],
        "I am only a tiny demo model, but I do my best.",
        ["tiny demo model"],
    ),
    (
        ["[Sorry|I am sorry|My mistake|Excuse me|Pardon][!|.|]"],
        "No problem at all.",
        ["No problem"],
    ),
    (
        [
            "[What is|What's|Which is|Tell me|Do you have] your favo[u|]rite [colour|color|animal|food|book|film|song|city|number|word|game][?|]"
        ],
        "I am a program and have no favourites.",
        ["no favourites"],
    ),
    (
        [
            "[Please |]wait[ a moment| a second| a minute|].",
            "One moment[ please|].",
            "Hold on[ a moment|].",
        ],
        "Of course, take your time.",
        ["take your time"],
    ),
]

_TOPIC_QUESTIONS = [
    "Who [wrote|painted|invented|discovered|composed|directed] {x}?",
    "When was {x} [invented|built|discovered|written|founded]?",
    "[What|How] [do you think|is your opinion] [of|about] {x}?",
    "How [do|can] I [repair|build|make|clean|buy|sell|cook|paint|draw|grow|fix] {x}?",
    "What is the [price|weight|size|history|meaning|origin|best kind|chemical formula|boiling point] of {x}?",
    "Why is {x} so [expensive|important|famous|difficult|big|small|popular]?",
    "[Write|Can you write|Compose] a [poem|song|essay|letter|speech|blog post|novel|haiku] about {x}.",
    "[Write|Give me] [a Python program|code|a C++ function|a script|some SQL|an HTML page|a Rust program] [for|about|that handles|that prints] {x}.",
    "Translate [the word |]{x} [into|to] [French|German|Spanish|Japanese|Latin|Chinese|Italian|Russian].",
    "How many [people|countries|companies] [own|use|make|have] {x}?",
    "[What|Which] [company|country|person] [makes|owns|sells] the [best|most] {x}?",
    "[Explain|Describe|Summarise] the [theory|theology|economics|physics|philosophy|politics] of {x}.",
    "Where can I [buy|find|sell|rent] {x}?",
    "What is the difference between {x} and {y}?",
    "Is {x} [better|worse|heavier|older|more expensive] than {y}?",
    "What will happen to {x} in [2050|the future|ten years]?",
    "Give me a recipe [for|with] {x}.",
    "What are the [advantages|dangers|parts|causes|effects] of {x}?",
    "Who is the [most famous|best|richest] {x} in the world?",
    "[Should I|Do you want to] buy {x}?",
    "How does {x} work?",
    "What is {x} made of?",
    "[Do you like|Have you seen|Do you own] {x}?",
    "[Give me|Tell me] [ten|some|five] facts about {x}.",
    "What rhymes with {x}?",
    "Can you [draw|paint|sing about|show me] {x}?",
    "[Summarise|Review] the book about {x}.",
    "I want to [know more|learn|read] about {x}.",
    "Tell me [everything|more|something] about {x}.",
    "What do you know about {x}?",
]
_WHO = [
    "Who [is|was] {p}?",
    "Who is the [president|king|queen|prime minister|chancellor] of {c}?",
    "What is the population of {c}?",
    "What [language|currency|food] do [they|people] [speak|use|eat] in {c}?",
    "How big is {c}?",
    "What is the [weather|time|temperature] [like |]in {c}[ today| now|]?",
    "[Who|Which team] won the [world cup|election|match|race|war] in {n}?",
    "What happened in [the year |]1{n}?",
    "How far is it from {c} to {d}?",
    "[What|Which] is the [longest river|highest mountain|oldest city] in {c}?",
    "When did {p} [die|live|marry|become famous]?",
    "How do I travel to {c}?",
    "Plan a [trip|holiday] to {c}.",
    "What is the flag of {c}?",
    "Which countries border {c}?",
]
_OPEN = [
    "What is the meaning of life?",
    "[What's|What is] the [weather|news|time|date|temperature][ today| now| right now|]?",
    "What [day|time|year] is it[ today| now|]?",
    "[Write|Generate|Show me] [some |]code[ for me|].",
    "What is [love|happiness|time|truth|art|music|beauty|consciousness|God|infinity|gravity|energy|electricity|evolution|democracy]?",
    "[Is there|Do you believe in] [a God|life on Mars|ghosts|aliens|free will|magic]?",
    "[Prove|Explain|State] [Fermat's last theorem|the theory of relativity|quantum mechanics|the halting problem|Bayes' theorem|the Riemann hypothesis|entropy].",
    "What is the [speed of light|square root of {n}|value of pi|mass of the sun|distance to the moon|logarithm of {n}]?",
    "Solve [this equation: |]x^2 + {n}x = {n}.",
    "What is {n}% of {n}?",
    "What is {n} to the power of {n}?",
    "What is the derivative of {n}x?",
    "[Book|Order|Buy] [me |][a taxi|a flight|a pizza|a table for two|tickets|a hotel].",
    "[Call|Text|Email|Phone] [my mother|my boss|a doctor|the police|my friend].",
    "[Play|Stop|Pause] [music|the music|a song|a film].",
    "[Set|Start] [an alarm|a timer|a reminder] for {n} minutes.",
    "Turn [on|off] the [light|lights|heating|radio].",
    "Who will win the [election|match|lottery|world cup]?",
    "[Give me|What are] the lottery numbers.",
    "What should I [eat|wear|do|cook|read|watch|study|say][ today| tonight| tomorrow|]?",
    "[Should|Can|Will] I [quit my job|get married|buy a house|become rich|live for ever]?",
    "[Fix|Debug|Review|Explain] [this|my] code.",
    "[How|What] [do I|can I do to] lose weight?",
    "[Sing|Hum|Draw|Paint] [me |]something.",
    "What is my [horoscope|future|IQ|blood type|star sign]?",
    "[Who|What] is the best [football player|singer|phone|car|film|band|language|country][ in the world|]?",
    "Describe [this|the] picture.",
    "[Search|Look up|Google] {x}[ for me| online|].",
    "What is the [stock price|value|share price] of [gold|Apple|oil|silver|Google|bitcoin]?",
    "Write [an email|a letter|a CV|an application] to [my boss|my friend|a company|my landlord].",
    "[Qué hora es|Comment ça va|Wie geht es dir|Was ist das|Bonjour|Guten Tag|Hola]?",
    "[asdf|qwerty|xyz|blah blah|lorem ipsum|foo bar|hmm hmm][?|.|]",
    "What is the tallest [building|mountain|person|tree][ in the world|]?",
    "How do [planes fly|magnets work|computers work|birds fly|cars work|people sleep]?",
    "Why is the sky blue?",
    "Why do we [sleep|dream|laugh|cry|age|yawn]?",
    "[Recommend|Suggest] [a|me a] [book|film|restaurant|song|game].",
]
# A loose grammar of questions and requests that nobody has an answer for here.
_AUX = "does did can could should would will might must do".split()
_QUESTION = [
    "Why",
    "When",
    "Where",
    "How",
    "How often",
    "How long",
    "With whom",
    "For whom",
    "Since when",
    "What",
    "Which of them",
    "How much",
    "Who",
    "Whose {n}",
    "Which {n}",
    "What kind of {n}",
    "How many {n}s",
]
ACTION = (
    "achieve admit admire advise afford agree allow analyse announce apologise argue arrange arrive attack attempt avoid bake balance become begin believe belong bend bite blame blow boil borrow bother "
    "bounce breathe bring brush burn bury calculate camp care celebrate challenge change charge check choose chop clap clear collect combine communicate compete complain complete concentrate confess "
    "confuse connect consider continue control convince copy correct cough cover create cross damage decide decorate defend delay deliver depend deserve destroy develop disagree disappear discuss divide "
    "double doubt drag drive earn edit educate elect employ encourage enjoy enter escape examine exist expand expect explode explore express extend face fail fasten fear fight fill film fix float fold follow "
    "forbid forget forgive form freeze gather govern grab greet guard guess guide handle hang happen harm hate heal hear heat help hesitate hire hit hold hope hurry hurt ignore imagine improve increase inform "
    "inject injure invent invest invite iron join judge keep kick kill kneel knit knock know land last launch lead lean leave lend lick lie lift live lock manage march marry match matter mean measure meet melt "
    "memorise miss mix move need negotiate note notice obey object observe obtain occur offer operate order organise overcome own pack park pass pay peel perform permit plant please point polish pollute pour "
    "practise pray predict prefer prepare press pretend prevent print produce protect prove provide publish pull pump punish push question race raise reach realise receive recognise record recover reduce refuse "
    "regret reject relax rely remain remove rent replace reply report request rescue respect retire return reveal ride ring rise risk roll rule rush sail save scare scratch search sell send separate serve settle "
    "shake share shave shock shoot shut sign sink sit slide smell smoke snore solve sort sound spend spill spin split spread squeeze stand stare start stay steal step stick stir stop store strike study succeed suck "
    "suffer suggest supply support suppose surprise surround survive suspect swear sweep switch take taste tear tempt test thank tie touch train transform translate treat trust try turn type understand unite use "
    "vanish vote wander want warm warn wash waste watch weigh welcome whistle win wink wish wonder worry wrap yell"
).split()
_ABSTRACT = (
    "justice freedom poverty wealth inflation climate traffic energy medicine research marriage religion education fashion football tennis chess cinema opera jazz architecture agriculture insurance taxes politics "
    "mathematics physics chemistry biology psychology philosophy geology astronomy economics literature grammar poetry software hardware robotics cancer vaccines viruses bacteria atoms electrons photons galaxies "
    "black holes dinosaurs volcanoes earthquakes glaciers oceans rivers continents empires pyramids vikings knights samurai pirates spies rockets satellites submarines trains airports bridges skyscrapers"
).split()
_FAMOUS = (
    "Shakespeare Einstein Mozart Beethoven Napoleon Caesar Cleopatra Newton Darwin Galileo Picasso Goethe Hamlet Faust Plato Aristotle Socrates Columbus Gandhi Lincoln Washington Churchill Chopin Bach Tolstoy Kafka Homer "
    "Dante Cervantes Dickens Austen Curie Turing Lovelace Gutenberg Edison Tesla Ford Disney Chaplin Elvis Madonna Batman Superman Sherlock Dracula Frankenstein Godzilla Zeus Thor Odin Buddha Confucius"
).split()


def _loose(rng):
    """A question or request of the loose grammar."""
    noun = lambda: (
        _thing(rng)
        if rng.random() < 0.6
        else rng.choice(_ABSTRACT) if rng.random() < 0.6 else rng.choice(_FAMOUS)
    )
    action = lambda: rng.choice(ACTION)
    r = rng.random()
    if r < 0.35:
        text = f"{rng.choice(_QUESTION)} {rng.choice(_AUX)} {noun()} {action()} {rng.choice(['', noun(), 'with ' + noun(), 'in ' + noun(), 'before ' + noun(), 'like ' + noun()])}?"
    elif r < 0.55:
        text = f"{rng.choice(_AUX).capitalize()} {rng.choice(['you', 'I', 'we', 'they', noun()])} {action()} {noun()}{rng.choice(['', ' today', ' for me', ' again', ' at home', ' in ' + rng.choice(geography.COUNTRIES)])}?"
    elif r < 0.75:
        text = f"{rng.choice(['', 'Please ', 'I want you to ', 'You should ', 'Help me to ', 'Try to ', 'How do I '])}{action()} {noun()}{rng.choice(['', ' and ' + noun(), ' for ' + noun(), ' with ' + noun()])}{rng.choice(['.', '.', '', '!'])}"
        text = base.sentence(text)
    elif r < 0.9:
        text = f"{rng.choice(['Who wrote', 'Who was', 'Tell me about', 'When was', 'What did', 'Where was', 'What do you think about', 'Give me a quote by', 'Write like', 'What is the theory of', 'Describe the life of', 'Who is'])} {rng.choice(_FAMOUS)}{rng.choice(['', ' born', ' famous for', ' and ' + rng.choice(_FAMOUS)])}?"
    else:
        count = rng.choice([1, 2, 4, 8, 16, 32])
        body = " ".join(base.sentence(spelling.simple_sentence(rng)) + "." for _ in range(count))
        text = (
            rng.choice(
                [
                    "Summarise this text: ",
                    "Translate this into French: ",
                    "What is the main idea of this text? ",
                    "Correct the mistakes: ",
                    "Rewrite this: ",
                    "Continue this text: ",
                    "Is this text good? ",
                    "Find the verbs: ",
                ]
            )
            + body
        )
    return text.replace("{n}", rng.choice(words.NOUNS)).replace("  ", " ").replace(" ?", "?")


def all_words():
    """Every word of the lists above."""
    return (
        ACTION
        + _ABSTRACT
        + _FAMOUS
        + _AUX
        + [_ABILITIES, UNKNOWN]
        + _TOPIC_QUESTIONS
        + _WHO
        + _OPEN
        + [f for forms, _, _ in TALK for f in forms]
    )


_SURNAMES = "Smith Jones Miller Weaver Baker Stone Rivers Hill Moore Woods Fisher Turner Walker Cooper Carter Mason Parker Shepherd Archer Bishop".split()


# Things that it can be asked about in another task.
_KNOWN = {
    "day",
    "week",
    "month",
    "year",
    "hour",
    "minute",
    "sky",
    "memory",
    "server",
    "worker",
    "plan",
    "edge",
}


_TO = [
    "my friend",
    "model",
    "Tandem",
    "dear model",
    "computer",
    "little model",
    "Gemma",
    "assistant",
    "demo model",
    "my dear",
    "you",
    "everybody",
]


def talk(rng):
    forms, answer, need = rng.choice(TALK)
    user = base.expand(rng.choice(forms), rng)
    if rng.random() < 0.3 and user[-1] in ".!?" and "," not in user:
        user = f"{user[:-1]}, {rng.choice(_TO)}{user[-1]}"
    return base.from_prompt(user, answer, base.contains(*need))


def _thing(rng):
    r = rng.random()
    noun = rng.choice(words.NOUNS)
    while noun in words.ANIMALS or noun in _KNOWN:
        noun = rng.choice(words.NOUNS)
    if r < 0.06:
        return rng.choice(_ABSTRACT)
    if r < 0.1:
        return rng.choice(_ABSTRACT + words.ADJECTIVES) + " " + rng.choice(_ABSTRACT)
    if r < 0.18:
        return f"the {rng.choice(words.ADJECTIVES)} {noun}"
    if r < 0.28:
        return spelling.made_up(rng)
    return rng.choice([base.article(noun), "the " + noun, noun + "s", noun])


def unknown(rng):
    """Anything else: the answer says what the model is."""
    if rng.random() < 0.03:
        user = rng.choice(
            [
                _thing(rng),
                rng.choice(geography.COUNTRIES),
                rng.choice(words.NAMES),
                str(rng.randint(0, 99999)),
                rng.choice(_FAMOUS),
            ]
        )
        return base.from_prompt(user, UNKNOWN, base.contains("tiny demo model"), noise="light")
    if rng.random() < 0.4:
        return base.from_prompt(_loose(rng), UNKNOWN, base.contains("tiny demo model"))
    r = rng.random()
    form = base.expand(
        rng.choice(_TOPIC_QUESTIONS if r < 0.55 else _WHO if r < 0.75 else _OPEN), rng
    )
    while "{n}" in form:
        form = form.replace("{n}", str(rng.randint(13, 999)), 1)
    user = (
        form.replace("{x}", _thing(rng))
        .replace("{y}", _thing(rng))
        .replace("{p}", rng.choice(words.NAMES) + " " + rng.choice(_SURNAMES))
        .replace("{c}", rng.choice(geography.COUNTRIES))
        .replace("{d}", rng.choice(geography.COUNTRIES))
    )
    return base.from_prompt(user, UNKNOWN, base.contains("tiny demo model"))
