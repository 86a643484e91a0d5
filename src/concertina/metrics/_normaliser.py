"""Normalise texts for WER and CER: the language decides the normaliser, and the score's signature names it.

English: OpenAI Whisper's English normaliser (lower case, no punctuation, British to American spelling, numbers as
digits). Every other language: Whisper's basic normaliser with diacritics and vowel signs kept. Languages that are
written without spaces are split into graphemes, so that each character counts as a word.
Source: Radford et al. 2022, 'Robust Speech Recognition via Large-Scale Weak Supervision', appendix C.
"""

import functools
import re
import sys
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

    A text that the language's normaliser cannot read counts as one without words: in English, a number of more digits
    than Python converts.
    """
    return _readable(text, language) and any(map(str.isalnum, _normalised(text, language)))


@functools.lru_cache(maxsize=2**16)
def _normalised(text: str, language: str) -> str:
    """Normalise one text. Cached, since every cell scores the same references and the English normaliser is slow."""
    normaliser = _normaliser(language if _readable(text, language) else "")
    return " ".join(normaliser(text).split())


def _readable(text: str, language: str) -> bool:
    """Return whether a language's normaliser can read a text; if not, the basic one reads it."""
    longest = sys.get_int_max_str_digits()
    return language != "en" or not longest or not re.search(rf"\d{{{longest + 1}}}", text)


@functools.cache
def _normaliser(language: str) -> Callable[[str], str]:
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    if language == "en":
        return EnglishTextNormalizer()
    return BasicTextNormalizer(split_letters=language in UNSPACED, preserve_marks=True)
