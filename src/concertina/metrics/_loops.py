"""Detect loops: texts in which a decoder repeats itself until its cap on new tokens ends it."""

from concertina.metrics._normaliser import UNSPACED

LONGEST = 8  # units of a repeated n-gram
TIMES = 8  # repetitions that make a loop


def loops(text: str, language: str = "en") -> bool:
    """Return whether a text ends in an n-gram of words, n <= 8, repeated at least 8 times in a row.

    In languages written without spaces it is an n-gram of characters. The last word may be incomplete, since the cap
    on new tokens can end a text inside a word.
    """
    units = list("".join(text.split())) if language in UNSPACED else text.split()
    return any(_repeats(units, n) or _repeats(_without_incomplete(units, n), n) for n in range(1, LONGEST + 1))


def _repeats(units: list[str], n: int) -> bool:
    """Return whether the last TIMES * n units have period n."""
    tail = units[-TIMES * n :]
    return len(tail) == TIMES * n and tail[n:] == tail[:-n]


def _without_incomplete(units: list[str], n: int) -> list[str]:
    """Drop the last unit if it is only the beginning of the unit n positions before it."""
    incomplete = len(units) > n and units[-n - 1].startswith(units[-1])
    return units[:-1] if incomplete else units
