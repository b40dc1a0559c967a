"""Word lists. All lower case unless a name."""


def _w(text):
    return text.split()


# Animal: (kind, home, sound or "", name of the young, legs, food)
_ANIMALS = """
dog mammal house woof puppy 4 meat|cat mammal house meow kitten 4 fish|cow mammal farm moo calf 4 grass
horse mammal farm neigh foal 4 hay|pig mammal farm oink piglet 4 vegetables|sheep mammal farm baa lamb 4 grass
goat mammal farm bleat kid 4 grass|donkey mammal farm hee-haw foal 4 hay|rabbit mammal meadow - kit 4 carrots
mouse mammal house squeak pup 4 seeds|rat mammal house squeak pup 4 seeds|hamster mammal house squeak pup 4 seeds
squirrel mammal forest - kit 4 nuts|fox mammal forest - cub 4 berries|wolf mammal forest howl pup 4 meat
bear mammal forest growl cub 4 honey|deer mammal forest - fawn 4 leaves|moose mammal forest - calf 4 leaves
badger mammal forest - cub 4 worms|hedgehog mammal forest - hoglet 4 insects|raccoon mammal forest - kit 4 berries
beaver mammal river - kit 4 bark|otter mammal river - pup 4 fish|bat mammal cave squeak pup 2 insects
lion mammal savanna roar cub 4 meat|tiger mammal jungle roar cub 4 meat|leopard mammal jungle growl cub 4 meat
cheetah mammal savanna - cub 4 meat|elephant mammal savanna trumpet calf 4 grass|giraffe mammal savanna - calf 4 leaves
zebra mammal savanna - foal 4 grass|rhino mammal savanna - calf 4 grass|hippo mammal river - calf 4 grass
monkey mammal jungle chatter infant 4 bananas|gorilla mammal jungle - infant 4 leaves|panda mammal forest - cub 4 bamboo
koala mammal forest - joey 4 leaves|kangaroo mammal desert - joey 4 grass|camel mammal desert - calf 4 grass
llama mammal mountain - cria 4 grass|yak mammal mountain - calf 4 grass|whale mammal ocean - calf 0 krill
dolphin mammal ocean click calf 0 fish|seal mammal ocean bark pup 0 fish|walrus mammal ocean - calf 0 clams
chicken bird farm cluck chick 2 seeds|duck bird pond quack duckling 2 plants|goose bird pond honk gosling 2 grass
turkey bird farm gobble poult 2 seeds|owl bird forest hoot owlet 2 mice|eagle bird mountain screech eaglet 2 fish
hawk bird mountain screech chick 2 mice|crow bird forest caw chick 2 seeds|raven bird mountain caw chick 2 seeds
robin bird garden chirp chick 2 worms|sparrow bird garden chirp chick 2 seeds|pigeon bird town coo squab 2 seeds
parrot bird jungle squawk chick 2 fruit|peacock bird garden - chick 2 seeds|swan bird pond - cygnet 2 plants
penguin bird ice - chick 2 fish|ostrich bird savanna - chick 2 plants|flamingo bird lake - chick 2 shrimp
stork bird marsh - chick 2 frogs|woodpecker bird forest - chick 2 insects|hummingbird bird garden - chick 2 nectar
snake reptile desert hiss snakelet 0 mice|lizard reptile desert - hatchling 4 insects|turtle reptile pond - hatchling 4 plants
tortoise reptile desert - hatchling 4 leaves|crocodile reptile river - hatchling 4 meat|gecko reptile jungle - hatchling 4 insects
frog amphibian pond croak tadpole 4 insects|toad amphibian garden croak tadpole 4 insects|newt amphibian pond - larva 4 worms
salmon fish river - fry 0 insects|trout fish river - fry 0 insects|shark fish ocean - pup 0 fish
goldfish fish pond - fry 0 plants|tuna fish ocean - fry 0 fish|eel fish river - elver 0 worms
bee insect garden buzz larva 6 nectar|ant insect garden - larva 6 seeds|butterfly insect meadow - caterpillar 6 nectar
beetle insect forest - larva 6 leaves|cricket insect meadow chirp nymph 6 leaves|dragonfly insect pond - nymph 6 insects
ladybird insect garden - larva 6 insects|spider arachnid garden - spiderling 8 insects|scorpion arachnid desert - scorpling 8 insects
octopus mollusc ocean - larva 0 crabs|squid mollusc ocean - larva 0 fish|snail mollusc garden - hatchling 0 leaves|crab crustacean ocean - larva 10 plants
lobster crustacean ocean - larva 10 fish|moth insect forest - caterpillar 6 nectar|wasp insect garden buzz larva 6 fruit
"""
ANIMALS = {}
for _row in _ANIMALS.replace("\n", "|").split("|"):
    if _row.strip():
        _name, _kind, _home, _sound, _young, _legs, _food = _row.split()
        ANIMALS[_name] = dict(
            kind=_kind,
            home=_home,
            sound="" if _sound == "-" else _sound,
            young=_young,
            legs=int(_legs),
            food=_food,
        )

# Object: what it is for in a story (see stories.py).
OBJECTS = {
    "light": _w("lantern candle torch lamp match flashlight"),
    "box": _w("basket box bag bucket jar chest bottle suitcase"),
    "music": _w("drum flute bell violin guitar trumpet piano whistle harp"),
    "wear": _w("hat scarf coat boot ring crown glove necklace cape sock"),
    "tool": _w("hammer rope ladder spoon broom shovel needle saw brush wrench"),
    "ride": _w("boat wagon bicycle kite balloon sled raft cart scooter"),
    "paper": _w("book map letter picture diary newspaper poem postcard"),
    "food": _w("apple cake pie cookie pear pumpkin carrot sandwich melon pancake"),
    "toy": _w("ball doll puzzle marble robot teddy yo-yo dice"),
    "home": _w("chair bed umbrella blanket pillow mirror clock teapot carpet cup"),
    "key": _w("key coin pearl stone compass feather shell medal button"),
}
OBJECT_KIND = {o: k for k, items in OBJECTS.items() for o in items}

# Things and their usual colour.
COLOUR_OF = dict(
    x.split(":")
    for x in _w(
        "banana:yellow lemon:yellow sunflower:yellow butter:yellow canary:yellow sun:yellow corn:yellow mustard:yellow "
        "grass:green lime:green cucumber:green spinach:green broccoli:green pea:green lettuce:green avocado:green "
        "emerald:green cactus:green frog:green leaf:green sky:blue sea:blue ocean:blue blueberry:blue sapphire:blue "
        "strawberry:red tomato:red cherry:red blood:red ruby:red raspberry:red rose:red ketchup:red brick:red "
        "orange:orange carrot:orange pumpkin:orange tangerine:orange apricot:orange snow:white milk:white salt:white "
        "flour:white cotton:white chalk:white swan:white coal:black tar:black raven:black night:black ink:black "
        "chocolate:brown coffee:brown wood:brown soil:brown walnut:brown bear:brown elephant:grey ash:grey steel:grey "
        "mouse:grey cloud:grey concrete:grey flamingo:pink pig:pink salmon:pink lavender:purple plum:purple grape:purple "
        "violet:purple eggplant:purple amethyst:purple gold:golden silver:silver"
    )
)
MIXES = {
    ("red", "blue"): "purple",
    ("red", "yellow"): "orange",
    ("blue", "yellow"): "green",
    ("black", "white"): "grey",
    ("red", "white"): "pink",
    ("red", "green"): "brown",
    ("blue", "white"): "light blue",
    ("black", "red"): "dark red",
    ("black", "blue"): "dark blue",
    ("black", "green"): "dark green",
}
COLOURS = _w(
    "red blue green yellow orange purple pink brown black white grey golden silver turquoise violet crimson beige navy"
)

NAMES = _w(
    "Anna Ben Clara David Emma Felix Grace Henry Iris Jack Kate Leo Maria Noah Olivia Peter Quinn Rosa Sam Tom Uma Victor Wendy "
    "Xavier Yara Zoe Alice Bob Carol Dan Eve Frank Gina Hugo Ida Jonas Karl Lena Max Nina Oscar Paula Ralf Sara Tim Ursula Vera "
    "Walter Yusuf Zara Aisha Bruno Chen Diego Elena Farid Giulia Hana Ivan Julia Kenji Luca Mei Nadia Omar Priya Rafael Sofia Tariq "
    "Ulrike Vikram Wei Ximena Yuki Zainab Adam Beth Carl Diana Eric Fiona George Helen Ian Jane Kevin Laura Mark Nora Otto Philip "
    "Rachel Simon Tina Vincent William Amy Brian Chloe Dylan Ella Finn Georgia Harry Isla James Kim Lucy Mia Nick Owen Penny Robert "
    "Susan Theo Violet Will Abby Alex Andrea Andrew Angela Anton Arthur Astrid Aurora Bella Bernard Bianca Boris Camille Carlos "
    "Charles Charlotte Christina Claire Daniel Daria Denis Dora Edgar Edith Edward Eleanor Elias Elise Emil Emily Erik Esther Ethan "
    "Eugene Eva Fatima Flora Florian Fred Frida Gabriel Gerald Gloria Greta Gustav Hannah Harold Heidi Hilda Ibrahim Ines Ingrid "
    "Irene Isaac Isabel Jacob Jan Jasmine Jasper Joan Joel John Joseph Josephine Judith Julian Karen Katarina Klaus Kristen Lara "
    "Lars Leila Liam Linda Lisa Lorenzo Louis Louise Lydia Magnus Marco Margaret Marie Martin Martha Matilda Matthew Michael Milan "
    "Miriam Mona Monica Nathan Niko Nils Olga Oliver Pablo Patrick Paul Petra Ravi Rebecca Richard Rita Roger Roland Ruth Ryan "
    "Samuel Sandra Sebastian Silvia Sonia Stella Stephen Sven Sylvia Tamara Tanya Teresa Thomas Tobias Valerie Vanessa Viola Xin Yasmin"
)

FOODS = _w(
    "pizza pasta soup bread rice salad cheese honey cake pancakes noodles curry sushi tacos apples bananas cherries grapes "
    "mangoes oranges peaches pears plums strawberries carrots peas potatoes tomatoes mushrooms onions beans chocolate cookies "
    "pie porridge yogurt waffles dumplings lasagna olives"
)
CITIES_FOR_MEMORY = _w(
    "Paris Berlin Madrid Rome Vienna Lisbon Dublin Oslo Cairo Tokyo Delhi London Boston Chicago Denver Seattle "
    "Hamburg Munich Lyon Milan Naples Porto Geneva Zurich Prague Warsaw Sydney Toronto Nairobi Lagos Lima Quito"
)
JOBS = _w(
    "teacher doctor nurse baker farmer pilot painter singer writer driver gardener carpenter engineer lawyer dentist cook "
    "sailor tailor plumber fisherman librarian musician photographer programmer scientist student waiter"
)

NOUNS = _w(
    "house tree river mountain garden window door table chair road bridge city village school church market castle tower island "
    "forest desert ocean beach valley hill lake field farm barn fence gate wall roof floor kitchen bedroom bathroom office library "
    "museum theatre hospital station airport train bus car truck plane ship engine wheel machine computer keyboard screen phone camera "
    "radio paper pencil pen ruler eraser notebook story song music dance game sport team player winner prize money bank shop store "
    "price ticket journey travel holiday summer winter spring autumn morning evening night day week month year hour minute second "
    "weather rain snow wind storm cloud thunder sunshine rainbow star moon planet earth fire water stone metal glass plastic rubber "
    "leather cotton silk wool shirt dress jacket trousers shoes belt pocket button heart hand foot head face nose mouth ear eye "
    "shoulder finger knee back brain bone skin voice smile laughter tear dream idea thought question answer problem secret promise "
    "friend neighbour brother sister mother father child baby family teacher student doctor farmer soldier king queen prince princess "
    "wizard dragon giant monster pirate captain sailor hunter knight sword shield arrow treasure flag coin gift party birthday wedding "
    "breakfast lunch dinner sugar salt pepper butter flour oven plate bowl fork knife spoon glass bottle kettle flower leaf root seed "
    "branch grass bush berry apple orange lemon cherry peach grape banana potato tomato onion garlic bread cheese honey soup salad "
    "science history language number letter word sentence page chapter lesson exam class desk board chalk map globe picture painting "
    "colour shape circle square triangle line corner middle edge top bottom side shadow light darkness silence noise echo whisper "
    "battery signal network server memory circuit robot rocket satellite telescope magnet crystal diamond emerald pebble anchor "
    "blanket cushion curtain drawer envelope feather hammer helmet jungle ladder lantern mirror needle parcel pillow rabbit saddle "
    "scissors shelter shovel statue stomach string sunset temple thread thumb tunnel umbrella vessel violin volcano wagon whistle "
    "elephant dolphin penguin kangaroo butterfly crocodile hedgehog squirrel tortoise octopus giraffe leopard panther falcon "
    "adventure alphabet avenue balcony basket bicycle biscuit calendar carriage ceiling chimney chocolate compass cottage country "
    "courage cousin customer daughter detective dictionary direction distance electricity elevator experience festival fountain "
    "furniture gallery gardener government hurricane imagination industry instrument invention knowledge lemonade lighthouse magazine "
    "medicine message microscope midnight mistake moment monument motorcycle mystery newspaper orchestra package palace passenger "
    "pattern peninsula pharmacy playground possibility postcard professor pyramid raincoat restaurant sandwich satellite schedule "
    "secretary signature skeleton snowflake spaceship strawberry submarine suitcase supermarket surprise technology telephone "
    "television thermometer thunderstorm tomorrow tournament tradition traveller university vacation vegetable waterfall wilderness "
    "wonder yesterday zookeeper"
).copy()
NOUNS = list(dict.fromkeys(NOUNS))
ADJECTIVES = _w(
    "big small tall short long old young new happy sad angry brave calm clever kind lazy loud quiet quick slow strong weak "
    "warm cold hot cool bright dark clean dirty dry wet empty full heavy light soft hard rich poor sweet sour bitter fresh "
    "gentle honest proud shy silly wise wild tiny huge funny lucky lonely hungry thirsty tired curious patient polite round "
    "flat sharp smooth rough shiny rusty wooden golden purple yellow green blue red white black grey"
)
VERBS = _w(
    "runs jumps sings dances sleeps eats drinks reads writes draws paints cooks swims flies walks climbs falls laughs cries "
    "smiles waits works plays listens talks whispers shouts thinks dreams learns teaches builds breaks opens closes carries "
    "drops throws catches hides seeks finds loses wins travels rests grows shines"
)
ADVERBS = _w(
    "quickly slowly quietly loudly happily sadly bravely gently often never always today tomorrow again together alone outside "
    "inside here there soon early late carefully easily"
)
SPELLABLE = sorted(
    set(w for w in NOUNS + ADJECTIVES + [a for a in ANIMALS] if w.isalpha() and 3 <= len(w) <= 12)
)

ONES = _w(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
)
TENS = [None, None] + _w("twenty thirty forty fifty sixty seventy eighty ninety")


def number_word(n):
    """0..999 in words."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + ("-" + ONES[n % 10] if n % 10 else "")
    return ONES[n // 100] + " hundred" + (" and " + number_word(n % 100) if n % 100 else "")
