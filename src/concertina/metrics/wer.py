"""Word error rate in percent: edits over reference words, summed over the corpus (jiwer)."""

from concertina.metrics import Score, _edits

columns = _edits.COLUMNS
combine = _edits.combine
label, unit = "WER", "%"
higher_is_better = False
tolerance = "wer_points"


def score(references: list[str], hypotheses: list[str], language: str) -> Score:
    """Score the WER of normalised texts. Errors: ScoreError naming the utterance with an empty reference."""
    return _edits.score(references, hypotheses, language, unit="words")
