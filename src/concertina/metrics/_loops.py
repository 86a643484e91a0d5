"""Loops: a decoder that fell into repeating itself."""

from concertina.metrics._normaliser import UNSPACED

LONGEST = 8
TIMES = 8


def loops(text: str, language: str = "en") -> bool:
    """Whether the text ends in an n-gram of words, n <= 8, that stands there at least 8 times in a row.

    In languages written without spaces the n-gram is of characters. The last word may be cut short, as the cap on
    new tokens leaves it.
    """
    units = list("".join(text.split())) if language in UNSPACED else text.split()
    return any(_repeats(units, n) or _repeats(_completed(units, n), n) for n in range(1, LONGEST + 1))


def _repeats(units: list[str], n: int) -> bool:
    """Whether the last TIMES * n units have period n."""
    tail = units[-TIMES * n :]
    return len(tail) == TIMES * n and tail[n:] == tail[:-n]


def _completed(units: list[str], n: int) -> list[str]:
    """The units without a last one that is the beginning of the unit n places before it."""
    cut_short = len(units) > n and units[-n - 1].startswith(units[-1])
    return units[:-1] if cut_short else units
