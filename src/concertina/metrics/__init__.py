"""Metrics: each file in this folder is a metric, and its name is the metric's name in the config.

`Metric` describes what such a file contains. CONTRIBUTING.md has a complete example.
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
    """Texts cannot be scored; `index` is the number of the utterance that is the cause, if there is one."""

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


@dataclass(frozen=True)
class Score:
    """A corpus score with its evidence.

    `signature` names everything besides the texts that decides the value; `counts` are corpus totals;
    `stats_UK` holds the sufficient statistics of each utterance, named by `columns`. Its type is int64 if all of them
    are whole numbers, otherwise float64.
    """

    value: float
    signature: str
    counts: dict[str, float]
    columns: tuple[str, ...]
    stats_UK: np.ndarray


class Metric(Protocol):
    """The contract of a file in this folder; all of it is required."""

    label: str
    """The name of the metric in a report, such as 'WER'."""

    unit: str
    """'%', or '' for a bare number."""

    higher_is_better: bool
    """Whether a higher score is better."""

    tolerance: Literal["wer_points", "bleu_points"]
    """The key of the config's gate that limits, in points, how far the score may be from a published one."""

    columns: tuple[str, ...]
    """The names of the K sufficient statistics of an utterance, which are added up over utterances."""

    score: Callable[[list[str], list[str], str], Score]
    """score(references, hypotheses, language): the corpus score with its evidence."""

    combine: Callable[[np.ndarray], np.ndarray]
    """combine(sums_RK): the scores_R of R rows of added-up statistics. It makes a bootstrap one matrix product."""


def names() -> list[str]:
    """Return the names of all metrics: the files of this folder."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def load(name: str) -> Metric:
    """Import the metric in `metrics/<name>.py`.

    Errors: ScoreError naming the missing file and the nearest metric, or what is missing in the file.
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
    """Make a Score of per-utterance statistics [U, K]; the totals of all statistics are added to its counts."""
    stats_UK = np.asarray(stats_UK, dtype=np.float64)
    if (stats_UK == np.rint(stats_UK)).all():
        stats_UK = stats_UK.astype(np.int64)
    sums_K = stats_UK.sum(0)
    totals = dict(zip(columns, sums_K.tolist(), strict=True))
    return Score(float(combine(sums_K[None])[0]), signature, totals | counts, columns, stats_UK)


def check(references: Sequence[str], hypotheses: Sequence[str], after: str = "") -> None:
    """Check that texts can be scored. Errors: ScoreError naming the utterance whose reference is empty.

    `after`: what was done to the texts before, to be named in the message.
    """
    if len(references) != len(hypotheses):
        raise ScoreError(f"{len(references)} references but {len(hypotheses)} hypotheses")
    if not references:
        raise ScoreError("no utterances to score")
    for index, reference in enumerate(references):
        if not reference.strip():
            raise ScoreError(f"utterance {index}: the reference is empty{after}; a score needs a reference", index)
