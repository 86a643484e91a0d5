"""Uncertainty: bootstrap intervals over utterances or speakers, paired comparisons, and what is derived from scores.

Every draw comes from a fixed seed and depends on the utterances' order alone, so that two systems on the same
utterances meet the same resamples: differences are paired by construction.
Shapes: U utterances, K statistics, S resamples, P points of a curve, G drawn units (utterances or speakers).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SEED = 20251120
SAMPLES = 2000
CONFIDENCE_PERCENT = 95.0
SPEAKERS_TO_BLOCK = 40  # with fewer, a blocked percentile interval is too narrow
BLOCKED = "blocked by speaker"
CONDITIONAL = "conditional on these voices"
_WEIGHTS_AT_ONCE = 2**22  # bounds memory: 32 MiB of float64 weights per chunk

Combine = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Units:
    """What is drawn with replacement: `unit_U` is each utterance's unit, 0 .. count - 1; `label` says which kind."""

    unit_U: np.ndarray
    count: int
    label: str


@dataclass(frozen=True)
class Interval:
    """A value with a percentile interval; `p` is the two-sided bootstrap p-value of 'the value is 0'.

    `value` is None where it is undefined; `low`, `high` and `p` where any resample is.
    """

    value: float | None
    low: float | None
    high: float | None
    p: float | None
    label: str


def units(speakers: Sequence[Hashable | None]) -> Units:
    """Speakers as units where the set has at least 40, all known; otherwise utterances."""
    known = {speaker for speaker in speakers if speaker is not None}
    if len(known) < SPEAKERS_TO_BLOCK or any(speaker is None for speaker in speakers):
        return Units(np.arange(len(speakers)), len(speakers), CONDITIONAL)
    number = {speaker: i for i, speaker in enumerate(dict.fromkeys(speakers))}
    return Units(np.array([number[speaker] for speaker in speakers]), len(number), BLOCKED)


def resampled_sums(stats_UK: np.ndarray, drawn: Units, samples: int = SAMPLES, seed: int = SEED) -> np.ndarray:
    """Statistics added up over each of `samples` resamples: sums_SK, float64 and exact for counts.

    Several systems on the same utterances are cheapest side by side, as columns of one `stats_UK`.
    """
    if len(stats_UK) != len(drawn.unit_U):
        raise ValueError(f"statistics of {len(stats_UK)} utterances, but units of {len(drawn.unit_U)}")
    stats_GK = np.zeros((drawn.count, stats_UK.shape[1]))
    np.add.at(stats_GK, drawn.unit_U, stats_UK)
    generator = np.random.default_rng(seed)
    rows = max(1, _WEIGHTS_AT_ONCE // drawn.count)
    sums = []
    for start in range(0, samples, rows):
        size = min(rows, samples - start)
        picks_SG = generator.integers(drawn.count, size=(size, drawn.count))
        picks_SG += drawn.count * np.arange(size)[:, None]
        weights_SG = np.bincount(picks_SG.ravel(), minlength=size * drawn.count).reshape(size, drawn.count)
        sums.append(weights_SG.astype(float) @ stats_GK)
    return np.concatenate(sums)


def interval(
    combine: Combine,
    stats_UK: np.ndarray,
    drawn: Units,
    samples: int = SAMPLES,
    confidence_percent: float = CONFIDENCE_PERCENT,
    seed: int = SEED,
) -> Interval:
    """One system's score with its percentile interval."""
    return paired(lambda value: value, combine, [stats_UK], drawn, samples, confidence_percent, seed)


def difference(
    combine: Combine,
    stats_UK: np.ndarray,
    other_UK: np.ndarray,
    drawn: Units,
    samples: int = SAMPLES,
    confidence_percent: float = CONFIDENCE_PERCENT,
    seed: int = SEED,
) -> Interval:
    """Score minus the other's score on the same utterances, paired. Pool seeds with `pool` first."""
    return paired(np.subtract, combine, [stats_UK, other_UK], drawn, samples, confidence_percent, seed)


def paired(
    function: Callable[..., Any],
    combine: Combine,
    systems: Sequence[np.ndarray],
    drawn: Units,
    samples: int = SAMPLES,
    confidence_percent: float = CONFIDENCE_PERCENT,
    seed: int = SEED,
) -> Interval:
    """`function` of several systems' scores, each resample shared by all of them.

    `systems`: one stats_UK each, rows in the same order of utterances. `function` takes one array of scores per
    system and returns an array of that shape, NaN where it is undefined.
    """
    if len({system.shape for system in systems}) != 1:
        raise ValueError(f"paired systems need the same utterances; shapes {[system.shape for system in systems]}")
    width = systems[0].shape[1]
    stats_UM = np.hstack([*systems])
    points = stats_UM.sum(0, dtype=float)[None]
    sums_SM = resampled_sums(stats_UM, drawn, samples, seed)
    both = [np.atleast_1d(function(*_scores(combine, sums, width))) for sums in (points, sums_SM)]
    return percentile(float(both[0][0]), both[1], drawn.label, confidence_percent)


def percentile(
    value: float, values_S: np.ndarray, label: str = "", confidence_percent: float = CONFIDENCE_PERCENT
) -> Interval:
    """The percentile interval of resampled values.

    A resample whose value is undefined (NaN) could lie anywhere: with any of those there is no interval.
    """
    tail = (1 - confidence_percent / 100) / 2
    low = high = p = None
    if not np.isnan(values_S).any():
        low, high = map(float, np.quantile(values_S, [tail, 1 - tail]))
        nearer = min(np.count_nonzero(values_S <= 0), np.count_nonzero(values_S >= 0))
        p = min(1.0, 2 * (nearer + 1) / (len(values_S) + 1))
    return Interval(None if np.isnan(value) else value, low, high, p, label)


def pool(seeds: Sequence[np.ndarray]) -> np.ndarray:
    """One system's runs over several seeds, on the same utterances, as one: statistics summed per utterance."""
    if len({run.shape for run in seeds}) != 1:
        raise ValueError(f"pooled seeds need the same utterances; shapes {[run.shape for run in seeds]}")
    return np.sum(seeds, axis=0)


def spread(values: Sequence[float]) -> float | None:
    """How far seeds lie apart, largest minus smallest; None for a single seed. Never mixed into an interval."""
    return float(max(values) - min(values)) if len(values) > 1 else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values, in the order given (Holm 1979)."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(value) for value in adjusted]


def recovery(zero_shot: float, adapted: float, adapted_none: float, higher_is_better: bool = False) -> float | None:
    """Share of the zero-shot loss that the adapter wins back: 1 is as good as adapted `none`.

    None where the denominator, zero-shot error minus adapted `none` error, is not positive: nothing was lost.
    """
    value = float(recoveries(np.float64(zero_shot), np.float64(adapted), np.float64(adapted_none), higher_is_better))
    return None if np.isnan(value) else value


def recoveries(zero_shot: Any, adapted: Any, adapted_none: Any, higher_is_better: bool = False) -> np.ndarray:
    """`recovery` for arrays, NaN where it is None: for `paired`."""
    sign = -1.0 if higher_is_better else 1.0
    lost = sign * (np.asarray(zero_shot, dtype=float) - adapted_none)
    won = sign * (np.asarray(zero_shot, dtype=float) - adapted)
    return np.where(lost > 0, won / np.where(lost > 0, lost, 1), np.nan)


def interpolate(rates: Sequence[float], values: Any, rate: float) -> Any:
    """A quality-rate curve, linear between its points, read at a realised rate.

    `rates`: P rates (such as audio tokens per second), any order; `values`: P scores, or [P, S] resampled ones.
    Returns a float, or an array [S]; None outside the curve: nothing is extrapolated.
    """
    order = np.argsort(rates, kind="stable")
    rates_P, values_P = np.asarray(rates, dtype=float)[order], np.asarray(values, dtype=float)[order]
    if not len(rates_P) or not rates_P[0] <= rate <= rates_P[-1]:
        return None
    right = int(np.searchsorted(rates_P, rate))
    if rates_P[right] == rate:
        found = values_P[right]
    else:
        share = (rate - rates_P[right - 1]) / (rates_P[right] - rates_P[right - 1])
        found = (1 - share) * values_P[right - 1] + share * values_P[right]
    return float(found) if np.ndim(found) == 0 else found


def _scores(combine: Combine, sums_RM: np.ndarray, width: int) -> list[np.ndarray]:
    """Each system's scores [R] from sums that hold the systems side by side, `width` columns each."""
    return [combine(sums_RM[:, i : i + width]) for i in range(0, sums_RM.shape[1], width)]
