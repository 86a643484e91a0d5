"""Word error rate in percent where each digit counts as a word, so that one wrong digit costs one error.

Texts are normalised as for `wer`, and then '472' becomes '4 7 2'. The English normaliser writes spoken numbers as
digits, so 'four seven two' and '472' are the same three words; in `wer` they are one, and one wrong digit costs all.
"""

import re

from concertina import metrics
from concertina.metrics import Score, _edits, _normaliser

columns = _edits.COLUMNS
combine = _edits.combine
label, unit = "WER (digits apart)", "%"
higher_is_better = False
tolerance = "wer_points"
BETWEEN_DIGITS = re.compile(r"(?<=[\d.])(?=\d)")


def score(references: list[str], hypotheses: list[str], language: str) -> Score:
    """Score the WER with digits apart. Errors: ScoreError naming the utterance with an empty reference."""
    metrics.check(references, hypotheses)
    references, hypotheses = (apart(texts, language) for texts in (references, hypotheses))
    return _edits.words(references, hypotheses, f"unit:words, digits apart|norm:{_normaliser.name(language)}")


def apart(texts: list[str], language: str) -> list[str]:
    """Normalise texts, and put a space between the digits of every number."""
    return [BETWEEN_DIGITS.sub(" ", text) for text in _normaliser.normalise(texts, language)]
