"""The forms of words that the grammar needs in English, German and French, and functions that parse lists of them."""

from typing import NamedTuple


class Noun(NamedTuple):
    """A noun: singular and plural, with its gender where the language has one."""

    en: str
    en_plural: str
    de: str
    de_gender: str
    de_plural: str
    fr: str
    fr_gender: str
    fr_plural: str


class Adjective(NamedTuple):
    """An adjective: the German stem, the four French forms, and whether French puts it before the noun."""

    en: str
    de: str
    fr: str
    fr_feminine: str
    fr_plural: str
    fr_feminine_plural: str
    fr_before: bool


class Triple(NamedTuple):
    """The same word or phrase in three languages."""

    en: str
    de: str
    fr: str


class Verb(NamedTuple):
    """A verb: third person singular, then the infinitive (in English the imperative)."""

    en: str
    de: str
    fr: str
    en_base: str
    de_base: str
    fr_base: str


def rows(text: str) -> list[list[str]]:
    """Return the comma-separated fields of every line."""
    return [[field.strip() for field in line.split(",")] for line in text.strip().splitlines()]


def triples(text: str) -> list[Triple]:
    """Parse lines of English, German, French."""
    return [Triple(*row) for row in rows(text)]
