"""Corpus BLEU of raw texts (sacrebleu): 4-grams, exponential smoothing, the target language decides the tokenizer.

Source: Papineni et al. 2002; Post 2018, 'A Call for Clarity in Reporting BLEU Scores'.
Shapes: K = 10 statistics, R rows.
"""

import numpy as np
from sacrebleu.metrics import BLEU

from concertina import metrics

ORDERS = 4
TOKENIZERS = {"zh": "zh", "yue": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}
TOKENIZERS |= dict.fromkeys(["th", "lo", "km", "my"], "char")
columns = (
    "hypothesis_length",
    "reference_length",
    *(f"correct_{n}" for n in range(1, ORDERS + 1)),
    *(f"total_{n}" for n in range(1, ORDERS + 1)),
)
label, unit = "BLEU", ""
higher_is_better = True
tolerance = "bleu_points"


def score(references: list[str], hypotheses: list[str], language: str) -> metrics.Score:
    """Score BLEU, 0 to 100; `language` is the target's. Errors: ScoreError naming an utterance without reference."""
    metrics.check(references, hypotheses)
    bleu = BLEU(tokenize=TOKENIZERS.get(language, "13a"))
    stats_UK = bleu._extract_corpus_statistics(hypotheses, [references])
    return metrics.build(stats_UK, columns, combine, str(bleu.get_signature()))


def combine(sums_RK: np.ndarray) -> np.ndarray:
    """Compute BLEU [R] from added-up n-gram counts, as sacrebleu's `compute_bleu` does for one row."""
    hypothesis_R, reference_R = sums_RK[..., 0].astype(float), sums_RK[..., 1].astype(float)
    correct_RN, total_RN = sums_RK[..., 2 : 2 + ORDERS].astype(float), sums_RK[..., 2 + ORDERS :].astype(float)
    # Exponential smoothing: the first order without a match counts as 1/2 of a match, the second as 1/4, and so on.
    missed_RN = correct_RN == 0
    smoothed_RN = np.where(missed_RN, 0.5 ** np.cumsum(missed_RN, -1), correct_RN)
    log_RN = np.log(100 * smoothed_RN / np.maximum(total_RN, 1))
    penalty_R = np.exp(np.minimum(0, 1 - reference_R / np.maximum(hypothesis_R, 1)))
    defined_R = correct_RN.any(-1) & (total_RN > 0).all(-1)
    return np.where(defined_R, penalty_R * np.exp(log_RN.mean(-1)), 0.0)
