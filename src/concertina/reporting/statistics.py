"""Uncertainty: a percentile bootstrap over the utterances or the speakers of one set, and over LoRA seeds.

The resamples depend on a fixed seed and the order of the utterances alone, so that all systems on the same utterances
have the same resamples: differences are paired by construction. Seeds are too few to be drawn with replacement, which
gives intervals that are too narrow for three that differ much; see Bootstrap.paired for what is done instead, and
benchmarks/coverage.py for how often the intervals hold the truth.
Shapes: U utterances, K statistics of a metric, M = K of several systems side by side, S resamples, N seeds,
G drawn units (utterances or speakers), P points of a curve.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from scipy.special import chdtri, ndtri

from concertina import metrics

SEED = 20251120
SAMPLES = 2000
CONFIDENCE_PERCENT = 95.0
SPEAKERS_TO_BLOCK = 40  # with fewer, an interval over speakers is too narrow
SEEDS_TO_SPREAD = 3  # with fewer, an interval says nothing about other seeds
BLOCKED = "blocked by speaker"
CONDITIONAL = "conditional on these voices"
_WEIGHTS_AT_ONCE = 2**22  # bounds memory: 32 MiB of float64 weights per chunk

System = TypeVar("System", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A value with its percentile interval.

    `value` is None where it is undefined; `low` and `high` are None where any resample is undefined. `per_seed`: the
    value of each LoRA seed by itself, where seeds are part of it. `values_S`: the resampled values, and `errors` their
    standard error, from utterances and from seeds.
    """

    value: float | None
    low: float | None
    high: float | None
    per_seed: tuple[float, ...] = field(default=(), compare=False)
    values_S: np.ndarray = field(default_factory=lambda: np.empty(0), compare=False, repr=False)
    errors: tuple[float, float] = field(default=(0.0, 0.0), compare=False)

    @property
    def excludes_zero(self) -> bool:
        """Whether zero is outside the interval, so that the sign of the value is reliable."""
        return self.low is not None and self.high is not None and self.low * self.high > 0

    @property
    def spreads(self) -> bool:
        """Whether the interval holds for other seeds too, as there are enough of them."""
        return len(self.per_seed) >= SEEDS_TO_SPREAD

    def p(self, threshold: float = 0.0) -> float:
        """Return the two-sided p of the value being the threshold: of the resamples, the share on its other side.

        It is 1 where the value or any resample is undefined. Errors: ValueError where the resamples are not kept.
        """
        if self.low is None or self.value is None:
            return 1.0
        if not len(self.values_S):
            raise ValueError("a p is taken of resampled values, which this interval does not hold")
        smaller = min(np.count_nonzero(self.values_S <= threshold), np.count_nonzero(self.values_S >= threshold))
        return min(1.0, 2 * (1 + int(smaller)) / (1 + len(self.values_S)))


@dataclass(frozen=True)
class Resampled:
    """The score of one system: on the test set, and on each resample of it."""

    value: float
    values_S: np.ndarray


class Bootstrap:
    """The resamples of one set of utterances: drawn once, and the same for every system that is scored on them.

    Speakers are drawn where all are known and there are at least 40; utterances otherwise. `label` says which.
    """

    def __init__(
        self,
        speakers: Sequence[Hashable | None],
        samples: int = SAMPLES,
        confidence_percent: float = CONFIDENCE_PERCENT,
        seed: int = SEED,
    ) -> None:
        self._tail = (1 - confidence_percent / 100) / 2
        self._unit_U, self._n_units, self.label = _units(speakers)
        generator = np.random.default_rng(seed)
        chunks = [_draw(generator, size, self._n_units) for size in _sizes(samples, self._n_units)]
        # how many times each unit occurs, instead of the drawn indices: a resample's sums are then a matrix product
        self._times_SG = np.concatenate(chunks)
        generator = np.random.default_rng(seed + 1)
        self._rank_S, self._other_rank_S = ((generator.permutation(samples) + 0.5) / samples for _ in range(2))

    def resampled(self, systems: Mapping[System, tuple[str, np.ndarray]]) -> dict[System, Resampled]:
        """Score systems on the utterances and on each resample.

        `systems`: for each, a metric's name and stats_UK, rows in the order of the utterances.
        Errors: ValueError when the statistics are of another number of utterances.
        """
        if not systems:
            return {}
        for system, (metric, stats_UK) in systems.items():
            if len(stats_UK) != len(self._unit_U):
                raise ValueError(
                    f"{metric} of {system}: {len(stats_UK)} utterances are scored, but {len(self._unit_U)} resampled; "
                    "systems are compared on the same utterances"
                )
        # a metric's statistics add up over utterances: resampling needs their sums alone, for all systems at once
        sums_SM = self._sums(np.hstack([stats_UK for _, stats_UK in systems.values()]))
        scored, start = {}, 0
        for system, (metric, stats_UK) in systems.items():
            combine, end = metrics.load(metric).combine, start + stats_UK.shape[1]
            value = float(combine(stats_UK.sum(0)[None])[0])
            scored[system] = Resampled(value, combine(sums_SM[:, start:end]))
            start = end
        return scored

    def interval(self, system: Resampled) -> Interval:
        """Return a system's score with its interval."""
        return self.percentile(system.value, system.values_S)

    def paired(
        self, function: Callable[..., Any], *systems: Resampled, seeds: Sequence[Sequence[Resampled]] = ()
    ) -> Interval:
        """Return `function` of several systems' scores with its interval; all systems share each resample.

        `function` takes one array of scores per system and returns an array of that shape, NaN where it is undefined.
        `seeds`: for each seed, the systems with that seed alone. From three on, the interval is over seeds too: each
        resample is moved by a normal draw of the seeds' standard error, and all are stretched as Student's t is.
        """
        value = float(function(*(np.float64(system.value) for system in systems)))
        values_S = np.asarray(function(*(system.values_S for system in systems)))
        per_seed = tuple(float(function(*(np.float64(system.value) for system in seed))) for seed in seeds)
        errors = float(np.std(values_S)), 0.0
        if len(seeds) >= SEEDS_TO_SPREAD:
            alone_NS = np.stack([function(*(system.values_S for system in seed)) for seed in seeds])
            errors = errors[0], _seeds_error(np.array(per_seed), alone_NS)
            values_S = value + self._stretched(values_S - value, errors, np.array(per_seed))
        return replace(self.percentile(value, values_S), per_seed=per_seed, errors=errors)

    def percentile(self, value: float, values_S: np.ndarray) -> Interval:
        """Return a value with the percentile interval of its resampled values.

        A resample with an undefined value (NaN) could be anywhere, so there is no interval if any is undefined.
        """
        low = high = None
        if not np.isnan(values_S).any():
            low, high = map(float, np.quantile(values_S, [self._tail, 1 - self._tail]))
        return Interval(None if np.isnan(value) else value, low, high, values_S=values_S)

    def _stretched(self, away_S: np.ndarray, errors: tuple[float, float], per_seed_N: np.ndarray) -> np.ndarray:
        """Return resampled values, less the value, over seeds too: moved by the seeds' error, stretched for their few.

        The degrees of freedom are Satterthwaite's: near N - 1 where seeds decide, many where utterances do.
        """
        total, seeds = errors[0] ** 2 + errors[1] ** 2, len(per_seed_N)
        between = np.var(per_seed_N, ddof=1) / seeds
        if not total * between > 0:  # nothing varies, or a value is undefined
            return away_S
        freedom = (seeds - 1) * (total / between) ** 2
        stretch_S = np.sqrt(freedom / chdtri(freedom, self._other_rank_S))
        return np.asarray((away_S + errors[1] * ndtri(self._rank_S)) * stretch_S)

    def _sums(self, stats_UM: np.ndarray) -> np.ndarray:
        """Add up statistics over each resample: sums_SM, float64 and exact for counts."""
        # a speaker is drawn with all utterances, so those are summed first
        stats_GM = np.zeros((self._n_units, stats_UM.shape[1]))
        np.add.at(stats_GM, self._unit_U, stats_UM)
        sums, start = [], 0
        for size in _sizes(len(self._times_SG), self._n_units):
            sums.append(self._times_SG[start : start + size].astype(float) @ stats_GM)
            start += size
        return np.concatenate(sums)


def _units(speakers: Sequence[Hashable | None]) -> tuple[np.ndarray, int, str]:
    """Return the unit of each utterance that is drawn with replacement, 0 .. count - 1, their count, and the label."""
    known = {speaker for speaker in speakers if speaker is not None}
    if len(known) < SPEAKERS_TO_BLOCK or any(speaker is None for speaker in speakers):
        return np.arange(len(speakers)), len(speakers), CONDITIONAL
    number = {speaker: i for i, speaker in enumerate(dict.fromkeys(speakers))}
    return np.array([number[speaker] for speaker in speakers]), len(number), BLOCKED


def _sizes(samples: int, n_units: int) -> Iterator[int]:
    """Yield the sizes of the chunks in which resamples are drawn and added up, which bounds the memory."""
    rows = max(1, _WEIGHTS_AT_ONCE // n_units)
    yield from (min(rows, samples - start) for start in range(0, samples, rows))


def _draw(generator: np.random.Generator, size: int, n_units: int) -> np.ndarray:
    """Draw `size` resamples and count how many times each unit occurs in each: times_SG."""
    picks_SG = generator.integers(n_units, size=(size, n_units))
    # every resample gets a range of numbers of its own, so that one bincount counts them all
    picks_SG += n_units * np.arange(size)[:, None]
    times_SG = np.bincount(picks_SG.ravel(), minlength=size * n_units).reshape(size, n_units)
    return times_SG.astype(np.uint16 if n_units < 2**16 else np.uint32)


def _seeds_error(per_seed_N: np.ndarray, alone_NS: np.ndarray) -> float:
    """Return the standard error of the mean of seeds, without what is due to few utterances.

    Seeds differ because they are seeds, and because each has its own luck with these utterances; the second is in the
    resamples already. `alone_NS`: the resampled values of each seed, which differ by that luck twice.
    """
    between = float(np.var(per_seed_N, ddof=1))
    luck = float(np.mean(np.var(alone_NS, axis=0, ddof=1))) - between
    return float(np.sqrt(max(0.0, between - luck) / len(per_seed_N)))


def pool(seeds: Sequence[np.ndarray]) -> np.ndarray:
    """Pool the runs of one system over several seeds: their statistics summed per utterance, stats_UK.

    Errors: ValueError when they are of different utterances.
    """
    if len({run.shape for run in seeds}) != 1:
        raise ValueError(
            f"seeds are pooled over the same utterances; these have the shapes {[run.shape for run in seeds]}"
        )
    return np.sum(seeds, axis=0)


def recoveries(zero_shot: Any, adapted: Any, adapted_none: Any, higher_is_better: bool = False) -> np.ndarray:
    """Return the share of the zero-shot loss that the adapter recovers: 1 is as good as adapted `none`.

    NaN where the denominator, zero-shot error minus adapted `none` error, is not positive: nothing was lost.
    """
    sign = -1.0 if higher_is_better else 1.0
    lost = sign * (np.asarray(zero_shot, dtype=float) - adapted_none)
    recovered = sign * (np.asarray(zero_shot, dtype=float) - adapted)
    return np.where(lost > 0, recovered / np.where(lost > 0, lost, 1), np.nan)


def interpolate(rates: Sequence[float], values: Any, rate: float) -> Any:
    """Read a quality-rate curve, linear between its points, at a realised rate.

    `rates`: P rates (such as audio tokens per second), any order; `values`: P scores, or [P, S] resampled ones.
    Returns a float, or an array [S]; None outside the curve: nothing is extrapolated.
    """
    order = np.argsort(rates, kind="stable")
    rates_P, values_P = np.asarray(rates, dtype=float)[order], np.asarray(values, dtype=float)[order]
    if not len(rates_P) or not rates_P[0] <= rate <= rates_P[-1]:
        return None
    right = int(np.searchsorted(rates_P, rate))
    if rates_P[right] == rate:
        read = values_P[right]
    else:
        share = (rate - rates_P[right - 1]) / (rates_P[right] - rates_P[right - 1])
        read = (1 - share) * values_P[right - 1] + share * values_P[right]
    return float(read) if np.ndim(read) == 0 else read
