"""The numbers of a comparison: both scores, their paired difference, what a swap test says, and who got worse.

Shapes: U utterances, K statistics of a metric, G units that are swapped (utterances or speakers), S swaps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from concertina import metrics
from concertina.comparison.files import InputError
from concertina.comparison.pairs import Pairs
from concertina.metrics import Metric, ScoreError, _edits
from concertina.reporting.statistics import BLOCKED, SEED, Bootstrap, Interval

SIGNIFICANT = 0.05
SWAPS = 9_999
ENUMERATED = 13  # with at most so many units every swap is tried, and p is exact
HALF_PERCENT = 50.0
TAIL = 0.05  # the share of the worst utterances that the tail cuts off
SHOWN = 200  # letters of a text in a message
_SAME = 1e-9  # points: differences below this come of rounding
_SWAPS_AT_ONCE = 2**22  # bounds memory: 32 MiB of float64 per chunk

Verdict = Literal["better", "worse", "tie", "undecided"]


@dataclass(frozen=True)
class System:
    """One file's score. `values_U`: each utterance's own; `tail`: their 95th percentile (5th where higher is better).

    `above_half`: the share of utterances with an error rate above 50 %; None for what is no error rate, as are the
    `counts` of substitutions, deletions, insertions and the reference's length.
    """

    score: Interval
    values_U: np.ndarray
    tail: float
    above_half: float | None
    counts: dict[str, int] | None


@dataclass(frozen=True)
class Comparison:
    """What was found on U utterances. `difference` is B minus A, `p` its swap test's; `drawn` labels the intervals.

    `gaps_U`: by how much B does worse on each utterance, in errors where the metric counts them, else in points.
    `left_out`: the names of utterances whose reference holds nothing that can be scored.
    """

    metric_name: str
    metric: Metric
    language: str
    signature: str
    pairs: Pairs
    left_out: list[str]
    a: System
    b: System
    difference: Interval
    p: float
    drawn: str
    gaps_U: np.ndarray

    @property
    def verdict(self) -> Verdict:
        """What B is: better or worse only where neither the interval nor the swap test leaves room for chance."""
        value = self.difference.value
        if value is not None and abs(value) < _SAME:
            return "tie"
        if value is None or not self.difference.excludes_zero or self.p >= SIGNIFICANT:
            return "undecided"
        return "better" if (value > 0) == self.metric.higher_is_better else "worse"

    @property
    def counts_errors(self) -> bool:
        """Whether the metric is an error rate over words or characters."""
        return self.a.counts is not None


def compare(pairs: Pairs, metric_name: str, language: str) -> Comparison:
    """Score A and B on the utterances that can be scored, and compare. Errors: InputError, ScoreError."""
    metric = metrics.load(metric_name)
    pairs, left_out, a = _scorable(pairs, metric, language)
    _check_seconds(pairs, metric, language)
    b = metric.score(pairs.references, pairs.b, language)
    drawn = Bootstrap(pairs.speakers)
    resampled = drawn.resampled({"a": (metric_name, a.stats_UK), "b": (metric_name, b.stats_UK)})
    systems = {n: _system(metric, score, drawn.interval(resampled[n])) for n, score in (("a", a), ("b", b))}
    gaps_U = systems["b"].values_U - systems["a"].values_U
    if metric.columns == _edits.COLUMNS:
        gaps_U = (b.stats_UK - a.stats_UK)[:, : _edits.LENGTH].sum(1)
    blocks = pairs.speakers if drawn.label == BLOCKED else range(len(gaps_U))
    unit_U = np.unique(np.array(blocks), return_inverse=True)[1]
    return Comparison(
        metric_name,
        metric,
        language,
        a.signature,
        pairs,
        left_out,
        systems["a"],
        systems["b"],
        drawn.paired(np.subtract, resampled["b"], resampled["a"]),
        swap_test(a.stats_UK, b.stats_UK, unit_U, metric.combine),
        drawn.label,
        -gaps_U if metric.higher_is_better else gaps_U,
    )


def swap_test(
    a_UK: np.ndarray, b_UK: np.ndarray, unit_U: np.ndarray, combine: Callable[[np.ndarray], np.ndarray]
) -> float:
    """Return p of no difference: how often swapping the systems at random in each unit makes a difference as large.

    `unit_U`: the number of each utterance's unit; units in which both systems have the same statistics do not count.
    With at most 13 others every swap is tried; otherwise 9,999 are drawn, and the observed one counts too.
    Source: approximate randomisation, Noreen 1989; Riezler & Maxwell 2005.
    """
    change_GK = np.zeros((unit_U.max() + 1, a_UK.shape[1]))
    np.add.at(change_GK, unit_U, (b_UK - a_UK).astype(float))
    change_GK = change_GK[(change_GK != 0).any(1)]
    units = len(change_GK)
    a_K, b_K = a_UK.sum(0), b_UK.sum(0)

    def as_large(swaps_SG: np.ndarray) -> int:
        moved_SK = swaps_SG.astype(float) @ change_GK
        gaps_S = np.abs(combine(b_K - moved_SK) - combine(a_K + moved_SK))
        return int((gaps_S >= observed - _SAME).sum())

    observed = float(abs(combine(b_K[None]) - combine(a_K[None]))[0])
    if units <= ENUMERATED:
        return as_large(np.arange(2**units)[:, None] >> np.arange(units) & 1) / 2**units
    generator = np.random.default_rng(SEED)
    rows = max(1, _SWAPS_AT_ONCE // units)
    sizes = [min(rows, SWAPS - start) for start in range(0, SWAPS, rows)]
    counted = sum(as_large(generator.integers(2, size=(size, units), dtype=np.int8)) for size in sizes)
    return (1 + counted) / (1 + SWAPS)


def most_different(found: Comparison, most: int) -> list[int]:
    """The utterances with the widest gaps between A and B, widest first; none on which they are equal."""
    order = np.argsort(-np.abs(found.gaps_U), kind="stable")[:most]
    return [int(i) for i in order if found.gaps_U[i]]


def _system(metric: Metric, score: metrics.Score, interval: Interval) -> System:
    values_U = metric.combine(score.stats_UK)
    tail = float(np.quantile(values_U, TAIL if metric.higher_is_better else 1 - TAIL))
    if metric.columns != _edits.COLUMNS:
        return System(interval, values_U, tail, None, None)
    counts = dict(zip(metric.columns, score.stats_UK.sum(0).tolist(), strict=True))
    return System(interval, values_U, tail, float((values_U > HALF_PERCENT).mean()), counts)


def _scorable(pairs: Pairs, metric: Metric, language: str) -> tuple[Pairs, list[str], metrics.Score]:
    """The pairs with a reference that the metric can use, the names of the others, and A's score."""
    kept = [i for i, text in enumerate(pairs.references) if text.strip()]
    while kept:
        some = pairs.only(kept)
        try:
            score = metric.score(some.references, some.a, language)
        except ScoreError as error:
            if error.index is None:
                raise
            del kept[error.index]  # words such as '[laughter]' are gone after normalisation
            continue
        left = sorted(set(range(len(pairs.names))) - set(kept))
        _check_unscored(pairs.only(left), metric, language)
        return some, [pairs.names[i] for i in left], score
    raise InputError("no utterance can be scored: every reference is empty")


def _check_seconds(pairs: Pairs, metric: Metric, language: str) -> None:
    """Refuse references of B that the metric reads otherwise than A's; what it normalises away may differ."""
    seconds = pairs.seconds or pairs.references
    odd = [i for i, text in enumerate(seconds) if text != pairs.references[i]]
    if not odd:
        return
    firsts, others = [pairs.references[i] for i in odd], [seconds[i] for i in odd]
    same_UK, stats_UK = (metric.score(firsts, texts, language).stats_UK for texts in (firsts, others))
    for number, same_K, stats_K in zip(odd, same_UK, stats_UK, strict=True):
        if (same_K != stats_K).any():
            raise _differs(pairs, number)


def _check_unscored(pairs: Pairs, metric: Metric, language: str) -> None:
    """Refuse a reference of B where A has none."""
    for number, second in enumerate(pairs.seconds or []):
        try:
            metric.score([second], [second], language)
        except ScoreError:
            continue
        raise _differs(pairs, number)


def _differs(pairs: Pairs, number: int) -> InputError:
    a, b = pairs.references[number], (pairs.seconds or pairs.references)[number]
    return InputError(
        f"{pairs.names[number]}: the references differ: A has {a[:SHOWN]!r}, B {b[:SHOWN]!r}; "
        "if they are the same utterances, say which references count with --references FILE"
    )
