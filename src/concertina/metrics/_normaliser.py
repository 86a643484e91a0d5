"""Normalise texts for WER and CER: the language decides the normaliser, and the score's signature names it.

English: OpenAI Whisper's English normaliser (lower case, no punctuation, British to American spelling, numbers as
digits). Every other language: Whisper's basic normaliser with diacritics and vowel signs kept. Languages that are
written without spaces are split into graphemes, so that each character counts as a word.
Source: Radford et al. 2022, 'Robust Speech Recognition via Large-Scale Weak Supervision', appendix C.
"""

import functools
from collections.abc import Callable, Sequence
from importlib.metadata import version

UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "km", "my"})


def name(language: str) -> str:
    """Return the name and version of a language's normaliser, as signatures have it."""
    kind = "english" if language == "en" else "basic-graphemes" if language in UNSPACED else "basic"
    return f"{kind}|whisper-normalizer:{version('whisper-normalizer')}"


def normalise(texts: Sequence[str], language: str) -> list[str]:
    """Normalise texts; a text without words becomes ''."""
    return [_normalised(text, language) for text in texts]


def has_words(text: str, language: str) -> bool:
    """Return whether a text has words after it is normalised; '[laughter]' has none, and cannot be scored.

    A text that the English normaliser cannot read counts as one without words.
    """
    return (language != "en" or english(text) is not None) and any(map(str.isalnum, _normalised(text, language)))


@functools.lru_cache(maxsize=2**16)
def english(text: str) -> str | None:
    """Return a text as the English normaliser has it; None where it fails, as on a number of thousands of digits."""
    try:
        return _normaliser("en")(text)
    except (ValueError, ArithmeticError, AssertionError):  # it converts numbers, and Python does not convert those
        return None


@functools.lru_cache(maxsize=2**16)
def _normalised(text: str, language: str) -> str:
    """Normalise one text; the basic normaliser reads what the English one cannot.

    Cached, since every cell scores the same references and the English normaliser is slow.
    """
    words = english(text) if language == "en" else None
    return " ".join((_normaliser(language if language != "en" else "")(text) if words is None else words).split())


@functools.cache
def _normaliser(language: str) -> Callable[[str], str]:
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    if language == "en":
        return EnglishTextNormalizer()
    return BasicTextNormalizer(split_letters=language in UNSPACED, preserve_marks=True)
