"""Countries, capitals, continents."""

from demo_data import base, spelling, words

_TABLE = """
Europe: Albania=Tirana Andorra=Andorra_la_Vella Austria=Vienna Belarus=Minsk Belgium=Brussels Bosnia_and_Herzegovina=Sarajevo
Bulgaria=Sofia Croatia=Zagreb Cyprus=Nicosia Denmark=Copenhagen Estonia=Tallinn Finland=Helsinki France=Paris Germany=Berlin
Greece=Athens Hungary=Budapest Iceland=Reykjavik Ireland=Dublin Italy=Rome Latvia=Riga Liechtenstein=Vaduz Lithuania=Vilnius
Luxembourg=Luxembourg Malta=Valletta Moldova=Chisinau Monaco=Monaco Montenegro=Podgorica the_Netherlands=Amsterdam
North_Macedonia=Skopje Norway=Oslo Poland=Warsaw Portugal=Lisbon Romania=Bucharest Russia=Moscow Serbia=Belgrade
Slovakia=Bratislava Slovenia=Ljubljana Spain=Madrid Sweden=Stockholm Switzerland=Bern Ukraine=Kyiv the_United_Kingdom=London
England=London Scotland=Edinburgh Wales=Cardiff
Asia: Afghanistan=Kabul Armenia=Yerevan Azerbaijan=Baku Bahrain=Manama Bangladesh=Dhaka Bhutan=Thimphu Cambodia=Phnom_Penh
China=Beijing Georgia=Tbilisi India=New_Delhi Indonesia=Jakarta Iran=Tehran Iraq=Baghdad Japan=Tokyo Jordan=Amman
Kazakhstan=Astana Kuwait=Kuwait_City Kyrgyzstan=Bishkek Laos=Vientiane Lebanon=Beirut Malaysia=Kuala_Lumpur Mongolia=Ulaanbaatar
Nepal=Kathmandu North_Korea=Pyongyang Oman=Muscat Pakistan=Islamabad the_Philippines=Manila Qatar=Doha Saudi_Arabia=Riyadh
Singapore=Singapore South_Korea=Seoul Syria=Damascus Taiwan=Taipei Tajikistan=Dushanbe Thailand=Bangkok Turkey=Ankara
Turkmenistan=Ashgabat Uzbekistan=Tashkent Vietnam=Hanoi Yemen=Sanaa
Africa: Algeria=Algiers Angola=Luanda Botswana=Gaborone Burkina_Faso=Ouagadougou Cameroon=Yaounde Chad=N'Djamena Egypt=Cairo
Eritrea=Asmara Ethiopia=Addis_Ababa Gabon=Libreville Ghana=Accra Guinea=Conakry Kenya=Nairobi Liberia=Monrovia Libya=Tripoli
Madagascar=Antananarivo Malawi=Lilongwe Mali=Bamako Mauritania=Nouakchott Morocco=Rabat Mozambique=Maputo Namibia=Windhoek
Niger=Niamey Nigeria=Abuja Rwanda=Kigali Senegal=Dakar Sierra_Leone=Freetown Somalia=Mogadishu South_Africa=Pretoria
Sudan=Khartoum Tanzania=Dodoma Togo=Lome Tunisia=Tunis Uganda=Kampala Zambia=Lusaka Zimbabwe=Harare
North_America: the_Bahamas=Nassau Barbados=Bridgetown Belize=Belmopan Canada=Ottawa Costa_Rica=San_Jose Cuba=Havana
the_Dominican_Republic=Santo_Domingo El_Salvador=San_Salvador Guatemala=Guatemala_City Haiti=Port-au-Prince Honduras=Tegucigalpa
Jamaica=Kingston Mexico=Mexico_City Nicaragua=Managua Panama=Panama_City the_United_States=Washington
South_America: Argentina=Buenos_Aires Brazil=Brasilia Chile=Santiago Colombia=Bogota Ecuador=Quito Guyana=Georgetown
Paraguay=Asuncion Peru=Lima Suriname=Paramaribo Uruguay=Montevideo Venezuela=Caracas
Oceania: Australia=Canberra Fiji=Suva New_Zealand=Wellington Papua_New_Guinea=Port_Moresby Samoa=Apia Tonga=Nuku'alofa
"""
CAPITAL, CONTINENT = {}, {}
for _line in _TABLE.strip().splitlines():
    _head, _, _rest = _line.partition(": ")
    if _rest:
        _continent = _head.replace("_", " ")
    for _pair in (_rest or _line).split():
        _country, _capital = (x.replace("_", " ") for x in _pair.split("="))
        CAPITAL[_country] = _capital
        CONTINENT[_country] = _continent
COUNTRIES = list(CAPITAL)
# Capitals that belong to one country of the table alone.
_OF = {}
for _c, _k in CAPITAL.items():
    _OF.setdefault(_k, []).append(_c)
ONE_COUNTRY = {k: c[0] for k, c in _OF.items() if len(c) == 1 and k != c[0]}

_PLACES_THAT_ARE_NOT = (
    "Atlantis Narnia Wonderland Neverland Gondor Oz Lilliput Utopia Camelot Avalon".split()
)

_ASK = [
    "[What is|What's|Tell me|Name|Do you know] the capital [|city ]of {c}?",
    "[Which|What] city is the capital of {c}?",
    "{c}: [capital|what is the capital|capital city]?",
    "The capital of {c} is?",
    "[What|Which] is {c}'s capital [|city]?",
    "[I want|I need] to know the capital of {c}.",
    "[Give me|Say] the capital of {c}.",
    "Capital of {c}?",
    "What is the name of the capital of {c}?",
    "[Can|Could] you [tell me|name] the capital of {c}?",
]
_BACK = [
    "{k} is the capital of [which|what] country?",
    "[Which|What] country has {k} as its capital?",
    "[Which|What] country's capital is {k}?",
    "Of which country is {k} the capital?",
    "[Whose capital|Which country's capital city] is {k}?",
]


def _start(country):
    return country[0].upper() + country[1:]


def capital(rng):
    if rng.random() < 0.08:
        place = rng.choice(
            [
                rng.choice(_PLACES_THAT_ARE_NOT),
                "the " + rng.choice(words.NOUNS),
                "my " + rng.choice(words.NOUNS),
                spelling.made_up(rng).capitalize(),
            ]
        )
        return base.from_prompt(
            base.expand(rng.choice(_ASK), rng).replace("{c}", place),
            f"I do not know a country called {place}. I am only a tiny demo model.",
            base.contains("do not know"),
        )
    country = rng.choice(COUNTRIES)
    city = CAPITAL[country]
    user = base.expand(rng.choice(_ASK), rng)
    shown = _start(country) if user.startswith("{c}") else country
    return base.from_prompt(
        user.replace("{c}", shown), f"The capital of {country} is {city}.", base.contains(city)
    )


def capital_backwards(rng):
    city = rng.choice(list(ONE_COUNTRY))
    country = ONE_COUNTRY[city]
    user = base.expand(rng.choice(_BACK), rng).replace("{k}", city)
    return base.from_prompt(user, f"{city} is the capital of {country}.", base.contains(country))


def capital_yes_no(rng):
    country = rng.choice(COUNTRIES)
    truth = CAPITAL[country]
    said = truth if rng.random() < 0.5 else CAPITAL[rng.choice(COUNTRIES)]
    form = rng.choice(
        [
            "Is {k} the capital [|city ]of {c}?",
            "{k} is the capital of {c}, [right|isn't it|true or false]?",
            "Is it [true|right|correct] that {k} is the capital of {c}?",
            "Is the capital of {c} {k}?",
            "Is the capital of {c} [called|named] {k}?",
            "The capital of {c} is {k}, [right|isn't it|true or false]?",
            "Is [it|the city] {k} that is the capital of {c}?",
            "Does {c} have {k} as its capital?",
        ]
    )
    user = base.expand(form, rng).replace("{k}", said).replace("{c}", country)
    if said == truth:
        return base.from_prompt(
            user, f"Yes, {truth} is the capital of {country}.", base.contains("Yes", truth)
        )
    return base.from_prompt(
        user, f"No, the capital of {country} is {truth}.", base.contains("No", truth)
    )


def continent(rng):
    country = rng.choice(COUNTRIES)
    form = rng.choice(
        [
            "[On|In] which continent is {c}?",
            "[What|Which] continent is {c} [on|in]?",
            "Where in the world is {c}?",
            "[What|Which] continent does {c} belong to?",
            "Where is {c}?",
        ]
    )
    user = base.expand(form, rng).replace("{c}", country)
    return base.from_prompt(
        user, f"{_start(country)} is in {CONTINENT[country]}.", base.contains(CONTINENT[country])
    )


def city(rng):
    """Where a capital is."""
    where = rng.choice(list(ONE_COUNTRY))
    country = ONE_COUNTRY[where]
    if rng.random() < 0.5:
        user = base.expand(
            "[Where is|In which country is|Which country is home to|Do you know where|To which country does] {k}?",
            rng,
        )
        user = (
            user.replace("where {k}", "where {k} is")
            .replace("does {k}", "does {k} belong")
            .replace("{k}", where)
        )
        return base.from_prompt(user, f"{where} is in {country}.", base.contains(country))
    said = country if rng.random() < 0.5 else rng.choice(COUNTRIES)
    user = (
        base.expand(
            "[Is {k} in {c}|Is {k} a city in {c}|{k} is in {c}, right|Does {k} belong to {c}|Is {k} located in {c}]?",
            rng,
        )
        .replace("{k}", where)
        .replace("{c}", said)
    )
    truth = said == country
    return base.from_prompt(
        user,
        f"{'Yes' if truth else 'No'}, {where} is in {country}.",
        base.contains("Yes" if truth else "No", country),
    )


def geography(rng):
    kind = rng.random()
    if kind < 0.45:
        return capital(rng)
    if kind < 0.57:
        return capital_backwards(rng)
    if kind < 0.78:
        return capital_yes_no(rng)
    return city(rng) if kind < 0.9 else continent(rng)
