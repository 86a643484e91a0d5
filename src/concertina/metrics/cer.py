"""Character error rate in percent: edits over reference characters, summed over the corpus (jiwer).

A space between words is a character, except in languages that are written without spaces.
"""

from concertina.metrics import Score, _edits

columns = _edits.COLUMNS
combine = _edits.combine
label, unit = "CER", "%"
higher_is_better = False
tolerance = "wer_points"


def score(references: list[str], hypotheses: list[str], language: str) -> Score:
    """Score the CER of normalised texts. Errors: ScoreError naming the utterance with an empty reference."""
    return _edits.score(references, hypotheses, language, unit="characters")
