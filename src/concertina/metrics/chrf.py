"""Corpus chrF2 of raw texts (sacrebleu): character 1- to 6-grams without spaces, recall weighs twice as much.

Source: Popovic 2015, 'chrF: character n-gram F-score for automatic MT evaluation'.
Shapes: K = 18 statistics, R rows.
"""

import numpy as np
from sacrebleu.metrics import CHRF

from concertina import metrics

ORDERS = 6
BETA = 2
columns = tuple(f"{part}_{n}" for n in range(1, ORDERS + 1) for part in ("hypothesis", "reference", "correct"))
label, unit = "chrF", ""
higher_is_better = True
tolerance = "bleu_points"


def score(references: list[str], hypotheses: list[str], language: str) -> metrics.Score:
    """Score chrF2, 0 to 100, in any language. Errors: ScoreError naming the utterance with an empty reference."""
    metrics.check(references, hypotheses)
    chrf = CHRF(char_order=ORDERS, word_order=0, beta=BETA)
    stats_UK = chrf._extract_corpus_statistics(hypotheses, [references])
    return metrics.build(stats_UK, columns, combine, str(chrf.get_signature()))


def combine(sums_RK: np.ndarray) -> np.ndarray:
    """Compute chrF2 [R] from added-up n-gram counts: the F-score of precision and recall, each averaged over orders."""
    counts_RN3 = sums_RK.reshape(*sums_RK.shape[:-1], ORDERS, 3).astype(float)
    hypothesis_RN, reference_RN, correct_RN = np.moveaxis(counts_RN3, -1, 0)
    # Orders longer than all texts have no n-grams, and are left out of the average.
    present_RN = (hypothesis_RN > 0) & (reference_RN > 0)
    orders_R = np.maximum(present_RN.sum(-1), 1)
    precision_R = np.where(present_RN, correct_RN / np.maximum(hypothesis_RN, 1), 0).sum(-1) / orders_R
    recall_R = np.where(present_RN, correct_RN / np.maximum(reference_RN, 1), 0).sum(-1) / orders_R
    weighted_R = BETA**2 * precision_R + recall_R
    return 100 * (1 + BETA**2) * precision_R * recall_R / np.where(weighted_R > 0, weighted_R, 1)
