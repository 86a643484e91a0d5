"""Word error rate in percent over the words as they are written, in lower case and without punctuation.

Numbers stay as they are written: 'four seven two' is three words, and '472' is another word. An apostrophe inside a
word stays. In languages that are written without spaces, each character counts as a word.
"""

import functools
import re
import unicodedata

from concertina import metrics
from concertina.metrics import Score, _edits, _normaliser

columns = _edits.COLUMNS
combine = _edits.combine
label, unit = "WER (raw words)", "%"
higher_is_better = False
tolerance = "wer_points"
INSIDE = re.compile(r"(?<=\w)['\u2019](?=\w)")


def score(references: list[str], hypotheses: list[str], language: str) -> Score:
    """Score the WER of raw words. Errors: ScoreError naming the utterance with an empty reference."""
    metrics.check(references, hypotheses)
    unspaced = language in _normaliser.UNSPACED
    references, hypotheses = ([words(text, unspaced) for text in texts] for texts in (references, hypotheses))
    unit = "characters" if unspaced else "words"
    return _edits.words(references, hypotheses, f"unit:{unit}|norm:lower-case, no punctuation")


@functools.lru_cache(maxsize=2**16)
def words(text: str, unspaced: bool = False) -> str:
    """Return the words of a text with one space between them; with `unspaced`, its characters."""
    text = INSIDE.sub("\N{MODIFIER LETTER APOSTROPHE}", unicodedata.normalize("NFC", text.lower()))
    kept = "".join(" " if unicodedata.category(character)[0] in "PSC" else character for character in text)
    return " ".join("".join(kept.split()) if unspaced else kept.split())
