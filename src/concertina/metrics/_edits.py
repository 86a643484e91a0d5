"""Count edit errors: normalise both texts, align them, count per utterance. WER and CER differ only in the unit.

Shapes: U utterances, K = 5 statistics, R rows.
"""

from importlib.metadata import version
from typing import Literal

import jiwer
import numpy as np

from concertina import metrics
from concertina.metrics import _normaliser

COLUMNS = ("substitutions", "deletions", "insertions", "length", "capped_errors")
SUBSTITUTIONS, DELETIONS, INSERTIONS, LENGTH, CAPPED_ERRORS = range(len(COLUMNS))
_COLUMN_OF = {"substitute": SUBSTITUTIONS, "delete": DELETIONS, "insert": INSERTIONS}


def combine(sums_RK: np.ndarray) -> np.ndarray:
    """Return error rates in percent [R]: summed edits over summed reference units."""
    return 100.0 * sums_RK[..., :LENGTH].sum(-1) / sums_RK[..., LENGTH]


def combine_capped(sums_RK: np.ndarray) -> np.ndarray:
    """Return error rates [R] with each utterance's edits capped at its reference length, so that no loop dominates."""
    return 100.0 * sums_RK[..., CAPPED_ERRORS] / sums_RK[..., LENGTH]


def score(
    references: list[str], hypotheses: list[str], language: str, unit: Literal["words", "characters"]
) -> metrics.Score:
    """Score the error rate in percent over `unit`; its `counts` hold the totals and `capped_value`.

    Errors: ScoreError when a reference is empty, before or after normalisation.
    """
    metrics.check(references, hypotheses)
    references = _normaliser.normalise(references, language)
    hypotheses = _normaliser.normalise(hypotheses, language)
    norm = f"norm:{_normaliser.name(language)}"
    if unit == "words":
        return words(references, hypotheses, f"unit:words|{norm}")
    unspaced = language in _normaliser.UNSPACED
    if unspaced:
        references = [text.replace(" ", "") for text in references]
        hypotheses = [text.replace(" ", "") for text in hypotheses]
    return characters(references, hypotheses, f"unit:characters|spaces:{'dropped' if unspaced else 'counted'}|{norm}")


def words(references: list[str], hypotheses: list[str], signature: str) -> metrics.Score:
    """Score the error rate over words, separated by spaces, of normalised texts. Errors: as `score`."""
    metrics.check(references, hypotheses, after=" after normalisation")
    alignments = jiwer.process_words(references, hypotheses).alignments
    return _score(alignments, [len(text.split()) for text in references], signature)


def characters(references: list[str], hypotheses: list[str], signature: str) -> metrics.Score:
    """Score the error rate over characters, including spaces, of normalised texts. Errors: as `score`."""
    metrics.check(references, hypotheses, after=" after normalisation")
    alignments = jiwer.process_characters(references, hypotheses).alignments
    return _score(alignments, [len(text) for text in references], signature)


def _score(alignments: list[list[jiwer.AlignmentChunk]], lengths: list[int], signature: str) -> metrics.Score:
    """Make a Score of alignments and the lengths of the references."""
    signature = f"{signature}|jiwer:{version('jiwer')}"
    stats_UK = _count(alignments, lengths)
    capped = float(combine_capped(stats_UK.sum(0)))
    return metrics.build(stats_UK, COLUMNS, combine, signature, capped_value=capped)


def _count(alignments: list[list[jiwer.AlignmentChunk]], lengths: list[int]) -> np.ndarray:
    """Count the statistics [U, K] from jiwer's alignments and the reference lengths."""
    stats_UK = np.zeros((len(lengths), len(COLUMNS)), dtype=np.int64)
    for row, chunks in zip(stats_UK, alignments, strict=True):
        for chunk in chunks:
            if chunk.type != "equal":
                reference = chunk.ref_end_idx - chunk.ref_start_idx
                row[_COLUMN_OF[chunk.type]] += max(reference, chunk.hyp_end_idx - chunk.hyp_start_idx)
    stats_UK[:, LENGTH] = lengths
    stats_UK[:, CAPPED_ERRORS] = np.minimum(stats_UK[:, :LENGTH].sum(1), stats_UK[:, LENGTH])
    return stats_UK
