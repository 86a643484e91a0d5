"""Metrics, one file each: found by file name, all with the same seam.

A metric file has
  `score(references, hypotheses, language) -> Score`: the corpus score with its evidence;
  `columns`: the names of its K sufficient statistics, which add up over utterances;
  `combine(sums_RK) -> values_R`: scores from R rows of added-up statistics, so that a resampling is one matrix product;
  `label`, `unit` and `higher_is_better`: how a report names it, such as 'WER' in '%' (or '': a bare number);
  `tolerance`: the key of the config's gate that says how many points it may be off a published figure.
Shapes: U utterances, K statistics, R rows (resamples).
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np

from concertina.nearest import nearest


class ScoreError(ValueError):
    """Texts that cannot be scored; `index` is the utterance to blame, where there is one."""

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


@dataclass(frozen=True)
class Score:
    """A corpus score with its evidence.

    `signature` says everything that decides the value besides the texts; `counts` are corpus totals;
    `stats_UK` holds the sufficient statistics of each utterance, named by `columns`: int64 where all are whole, else
    float64.
    """

    value: float
    signature: str
    counts: dict[str, float]
    columns: tuple[str, ...]
    stats_UK: np.ndarray


class Metric(Protocol):
    """What a metric file offers."""

    label: str
    unit: str
    higher_is_better: bool
    tolerance: Literal["wer_points", "bleu_points"]
    columns: tuple[str, ...]
    score: Callable[[list[str], list[str], str], Score]
    combine: Callable[[np.ndarray], np.ndarray]


def names() -> list[str]:
    """Every metric: the files of this folder."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def load(name: str) -> Metric:
    """The metric in `metrics/<name>.py`.

    Errors: ScoreError naming the missing file and the nearest metric, or what the file lacks.
    """
    if name not in names():
        raise ScoreError(f"no metric {name!r}: no file metrics/{name}.py{nearest(name, names())}")
    metric = importlib.import_module(f"concertina.metrics.{name}")
    if missing := [part for part in Metric.__annotations__ if not hasattr(metric, part)]:
        raise ScoreError(f"src/concertina/metrics/{name}.py does not define {' and '.join(missing)}")
    return cast(Metric, metric)


def build(
    stats_UK: Any,
    columns: tuple[str, ...],
    combine: Callable[[np.ndarray], np.ndarray],
    signature: str,
    **counts: float,
) -> Score:
    """A Score from per-utterance statistics; the totals of all statistics join `counts`."""
    stats_UK = np.asarray(stats_UK, dtype=np.float64)
    if (stats_UK == np.rint(stats_UK)).all():
        stats_UK = stats_UK.astype(np.int64)
    sums_K = stats_UK.sum(0)
    totals = dict(zip(columns, sums_K.tolist(), strict=True))
    return Score(float(combine(sums_K[None])[0]), signature, totals | counts, columns, stats_UK)


def check(references: Sequence[str], hypotheses: Sequence[str], after: str = "") -> None:
    """Refuse what has no score. Errors: ScoreError naming the utterance whose reference is empty."""
    if len(references) != len(hypotheses):
        raise ScoreError(f"{len(references)} references but {len(hypotheses)} hypotheses")
    if not references:
        raise ScoreError("no utterances to score")
    for index, reference in enumerate(references):
        if not reference.strip():
            raise ScoreError(f"utterance {index}: the reference is empty{after}; a score needs a reference", index)
