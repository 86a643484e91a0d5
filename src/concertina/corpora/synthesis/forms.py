"""The forms that the grammar needs of a word in English, German and French, and how they are read from lines."""

from typing import NamedTuple


class Noun(NamedTuple):
    en: str
    en_plural: str
    de: str
    de_gender: str
    de_plural: str
    fr: str
    fr_gender: str
    fr_plural: str


class Adjective(NamedTuple):
    en: str
    de: str
    fr: str
    fr_feminine: str
    fr_plural: str
    fr_feminine_plural: str
    fr_before: bool


class Triple(NamedTuple):
    en: str
    de: str
    fr: str


class Verb(NamedTuple):
    """Third person, then the infinitive (English: imperative)."""

    en: str
    de: str
    fr: str
    en_base: str
    de_base: str
    fr_base: str


def rows(text: str) -> list[list[str]]:
    """The comma-separated fields of every line."""
    return [[field.strip() for field in line.split(",")] for line in text.strip().splitlines()]


def triples(text: str) -> list[Triple]:
    """Lines of English, German, French."""
    return [Triple(*row) for row in rows(text)]
