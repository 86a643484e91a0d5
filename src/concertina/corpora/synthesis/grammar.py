"""Twelve kinds of sentence, each rendered in English, German and French from the same drawn words.

Half of the kinds contain what a language model cannot guess: strings of digits, prices, names, spelled letters, times
of day. Every kind has fixed words at both ends, so that no sentence is contained in another. A hash of its English
text alone decides to which bucket (base, train, dev or test) a sentence and its translations belong; the seed and the
size of the corpus do not matter.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from concertina.corpora.synthesis import lexicon as words
from concertina.corpora.synthesis.forms import Adjective, Noun, Triple

LANGUAGES = ("en", "de", "fr")
BUCKETS = {"base": 60, "train": 20, "dev": 6, "test": 14}  # percent of all sentences
WHOLE = (0, 100)  # the share of a bucket that is all of it, in percent
SPELLED = "spelled"

Draw = random.Random
T = TypeVar("T")


class Sentence(NamedTuple):
    """A sentence in three languages, and its kind."""

    en: str
    de: str
    fr: str
    kind: str

    def text(self, language: str) -> str:
        return str(getattr(self, language))


def bucket(english: str) -> str:
    """Return the bucket of a sentence, which the hash of its English text alone decides."""
    number = _percent(english, 0)
    for name, percent in BUCKETS.items():
        number -= percent
        if number < 0:
            return name
    raise AssertionError("the buckets' percentages sum to 100")


def _percent(english: str, place: int) -> int:
    """Return a number from 0 to 99 that a sentence's text decides; those at different places are independent."""
    return int.from_bytes(hashlib.sha256(english.encode()).digest()[8 * place : 8 * place + 8]) % 100


def sentences(
    bucket_name: str, seed: int, kinds: list[str] | None = None, share: tuple[int, int] = WHOLE
) -> Iterator[Sentence]:
    """Yield different sentences of one bucket without end, of each of `kinds` (default: all) in turn.

    `share`: percentages of the bucket, from and below; shares that do not overlap have no sentence in common.
    Errors: ValueError when a kind has no sentence left.
    """
    draw = Draw(f"{bucket_name}/{seed}/{kinds}")
    seen: set[str] = set()
    while True:
        for kind in kinds or list(KINDS):
            for _ in range(10_000):
                sentence = Sentence(*KINDS[kind](draw), kind)
                if sentence.en not in seen and _belongs(sentence.en, bucket_name, share):
                    break
            else:
                raise ValueError(f"the grammar has no more sentences of kind {kind!r} for bucket {bucket_name!r}")
            seen.add(sentence.en)
            yield sentence


def _belongs(english: str, bucket_name: str, share: tuple[int, int]) -> bool:
    """Return whether a sentence is in a bucket, and in a share of it."""
    return bucket(english) == bucket_name and share[0] <= _percent(english, 1) < share[1]


# ---- pieces

_DE_NOMINATIVE = {"m": "der", "f": "die", "n": "das"}
_DE_ACCUSATIVE = {"m": "den", "f": "die", "n": "das"}
_FR_ARTICLE = {"m": "le", "f": "la"}


def _thing(draw: Draw) -> tuple[Noun, Adjective]:
    return draw.choice(words.OBJECTS), draw.choice(words.ADJECTIVES)


def _en_the(noun: Noun, adjective: Adjective) -> str:
    return f"the {adjective.en} {noun.en}"


def _de_the(noun: Noun, adjective: Adjective, accusative: bool = False) -> str:
    """Write article, adjective and noun, in the nominative or the accusative."""
    if accusative:
        ending = "en" if noun.de_gender == "m" else "e"
        return f"{_DE_ACCUSATIVE[noun.de_gender]} {adjective.de}{ending} {noun.de}"
    return f"{_DE_NOMINATIVE[noun.de_gender]} {adjective.de}e {noun.de}"


def _fr_the(noun: Noun, adjective: Adjective) -> str:
    form = adjective.fr if noun.fr_gender == "m" else adjective.fr_feminine
    phrase = f"{form} {noun.fr}" if adjective.fr_before else f"{noun.fr} {form}"
    return f"{_FR_ARTICLE[noun.fr_gender]} {phrase}"


def _fr_many(noun: Noun, adjective: Adjective) -> str:
    form = adjective.fr_plural if noun.fr_gender == "m" else adjective.fr_feminine_plural
    return f"{form} {noun.fr_plural}" if adjective.fr_before else f"{noun.fr_plural} {form}"


def _place(draw: Draw) -> Triple:
    preposition, location = draw.choice(words.PREPOSITIONS), draw.choice(words.LOCATIONS)
    return Triple(*(f"{p} {where}" for p, where in zip(preposition, location, strict=True)))


def _person(draw: Draw) -> Triple:
    if draw.random() < 0.5:
        name = draw.choice(words.NAMES)
        return Triple(name, name, name)
    return draw.choice(words.PEOPLE)


def _number(value: int) -> Triple:
    """Write a cardinal number from 2 to 69 in words."""
    if value < 20:
        return words.UNITS[value]
    ten, unit = words.TENS[value // 10 - 2], words.UNITS[value % 10]
    if value % 10 == 0:
        return ten
    german_unit = "ein" if unit.de == "eins" else unit.de
    return Triple(
        f"{ten.en} {unit.en}", f"{german_unit}und{ten.de}", f"{ten.fr} {'et un' if unit.fr == 'un' else unit.fr}"
    )


def _digits(draw: Draw, low: int, high: int) -> Triple:
    """Draw a string of `low` to `high` digits."""
    digits = [words.UNITS[draw.randrange(10)] for _ in range(draw.randint(low, high))]
    return Triple(*(" ".join(digit) for digit in zip(*digits, strict=True)))


def _clock(draw: Draw) -> Triple:
    """Draw a time of day."""
    hour = draw.randint(1, 11)
    now, after = words.UNITS[hour], words.UNITS[hour + 1]
    fr_now = "une heure" if hour == 1 else f"{now.fr} heures"
    fr_after = f"{after.fr} heures"
    return draw.choice(
        [
            Triple(f"{now.en} o'clock", f"{'ein' if hour == 1 else now.de} uhr", fr_now),
            Triple(f"quarter past {now.en}", f"viertel nach {now.de}", f"{fr_now} et quart"),
            Triple(f"half past {now.en}", f"halb {after.de}", f"{fr_now} et demie"),
            Triple(f"quarter to {after.en}", f"viertel vor {after.de}", f"{fr_after} moins le quart"),
            Triple(f"ten past {now.en}", f"zehn nach {now.de}", f"{fr_now} dix"),
            Triple(f"twenty to {after.en}", f"zwanzig vor {after.de}", f"{fr_after} moins vingt"),
        ]
    )


# ---- kinds: each returns English, German, French

Texts = tuple[str, str, str]


def _stands(draw: Draw) -> Texts:
    thing, place = _thing(draw), _place(draw)
    return (
        f"{_en_the(*thing)} is {place.en}",
        f"{_de_the(*thing)} ist {place.de}",
        f"{_fr_the(*thing)} est {place.fr}",
    )


def _acts(draw: Draw) -> Texts:
    who, verb, thing, when = _person(draw), draw.choice(words.VERBS), _thing(draw), draw.choice(words.TIMES)
    return (
        f"{who.en} {verb.en} {_en_the(*thing)} {when.en}",
        f"{who.de} {verb.de} {when.de} {_de_the(*thing, accusative=True)}",
        f"{who.fr} {verb.fr} {_fr_the(*thing)} {when.fr}",
    )


def _counts(draw: Draw) -> Texts:
    number, (noun, adjective), place = _number(draw.randint(2, 19)), _thing(draw), _place(draw)
    return (
        f"there are {number.en} {adjective.en} {noun.en_plural} {place.en}",
        f"es gibt {number.de} {adjective.de}e {noun.de_plural} {place.de}",
        f"il y a {number.fr} {_fr_many(noun, adjective)} {place.fr}",
    )


def _happens(draw: Draw) -> Texts:
    event, clock, when = draw.choice(words.EVENTS), _clock(draw), draw.choice(words.TIMES[:12])
    return (
        f"{event.en} at {clock.en} {when.en}",
        f"{event.de} {when.de} um {clock.de}",
        f"{event.fr} à {clock.fr} {when.fr}",
    )


def _code(draw: Draw) -> Texts:
    code, when = _digits(draw, 3, 6), draw.choice(words.TIMES[:10])
    return (
        f"the code is {code.en} {when.en}",
        f"der code ist {when.de} {code.de} bitte",
        f"le code est {code.fr} {when.fr}",
    )


def _room(draw: Draw) -> Texts:
    who, room, when = draw.choice(words.NAMES), _digits(draw, 3, 3), draw.choice(words.TIMES)
    return (
        f"{who} waits in room {room.en} {when.en}",
        f"{who} wartet {when.de} in zimmer {room.de}",
        f"{who} attend dans la chambre {room.fr} {when.fr}",
    )


def _spelled(draw: Draw) -> Texts:
    letters, person = " ".join(draw.choices(words.LETTERS, k=draw.randint(3, 5))), _person(draw)
    return (
        f"{person.en} spells {letters} and waits",
        f"{person.de} buchstabiert {letters} und wartet",
        f"{person.fr} épelle {letters} et attend",
    )


def _travels(draw: Draw) -> Texts:
    month, who, goes, city = (
        draw.choice(words.MONTHS),
        draw.choice(words.NAMES),
        draw.choice(words.JOURNEYS),
        draw.choice(words.CITIES),
    )
    return (
        f"in {month.en} {who} {goes.en} to {city.en}",
        f"im {month.de} {goes.de} {who} nach {city.de}",
        f"en {month.fr} {who} {goes.fr} à {city.fr}",
    )


def _weather(draw: Draw) -> Texts:
    one, other = draw.sample(words.WEATHER, 2)
    city, when = draw.choice(words.CITIES), draw.choice(words.TIMES[:12])
    return (
        f"it will be {one.en} and {other.en} in {city.en} {when.en}",
        f"es wird {when.de} in {city.de} {one.de} und {other.de} sein",
        f"le temps sera {one.fr} et {other.fr} à {city.fr} {when.fr}",
    )


def _please(draw: Draw) -> Texts:
    verb, thing, manner = draw.choice(words.VERBS), _thing(draw), draw.choice(words.MANNERS)
    return (
        f"please {verb.en_base} {_en_the(*thing)} {manner.en}",
        f"bitte {verb.de_base} sie {manner.de} {_de_the(*thing, accusative=True)}",
        f"veuillez {verb.fr_base} {_fr_the(*thing)} {manner.fr}",
    )


def _costs(draw: Draw) -> Texts:
    thing, number = _thing(draw), _number(draw.randint(2, 69))
    return (
        f"{_en_the(*thing)} costs {number.en} euros",
        f"{_de_the(*thing)} kostet {number.de} euro",
        f"{_fr_the(*thing)} coûte {number.fr} euros",
    )


def _says(draw: Draw) -> Texts:
    who, noun, adjective, other = (
        _person(draw),
        draw.choice(words.OBJECTS),
        draw.choice(words.ADJECTIVES),
        draw.choice(words.LOCATIONS),
    )
    form = adjective.fr if noun.fr_gender == "m" else adjective.fr_feminine
    return (
        f"{who.en} says that the {noun.en} behind {other.en} is too {adjective.en}",
        f"{who.de} sagt dass {_DE_NOMINATIVE[noun.de_gender]} {noun.de} hinter {other.de} zu {adjective.de} ist",
        f"{who.fr} dit que {_FR_ARTICLE[noun.fr_gender]} {noun.fr} derrière {other.fr} est trop {form}",
    )


KINDS: dict[str, Callable[[Draw], Texts]] = {
    "stands": _stands,
    "acts": _acts,
    "counts": _counts,
    "happens": _happens,
    "code": _code,
    "room": _room,
    SPELLED: _spelled,
    "travels": _travels,
    "weather": _weather,
    "please": _please,
    "costs": _costs,
    "says": _says,
}
