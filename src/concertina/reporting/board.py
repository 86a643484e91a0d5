"""The results of one test set, every system scored on the same resamples.

A system is a cell in one condition: (compressor, ratio, train set), the train set None for zero-shot; its seeds are
pooled. Shapes: U utterances, K statistics of a metric, S resamples, P points of a curve.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from concertina import metrics
from concertina.config import Config, TestSet, ratio_text
from concertina.reporting import statistics
from concertina.reporting.scores import Result
from concertina.reporting.statistics import Interval
from concertina.store.sealing import DamagedError

UNTOUCHED = "none"
LANGUAGES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "zh": "Chinese"}
LABELS = {"wer": "WER, %", "cer": "CER, %", "bleu": "BLEU", "chrf": "chrF"}

System = tuple[str, str, str | None]


@dataclass(frozen=True)
class Cell:
    """A compressor at a ratio; `colour` counts the compressors from 0 (None: untouched), `first` of its compressor."""

    compressor: str
    ratio: str
    colour: int | None
    first: bool

    def system(self, train_set: str | None) -> System:
        return self.compressor, self.ratio, train_set

    def __str__(self) -> str:
        if self.compressor == UNTOUCHED:
            return UNTOUCHED
        return f"{self.compressor}, natural rate" if self.ratio == "natural" else f"{self.compressor} at {self.ratio}"


@dataclass(frozen=True)
class Measure:
    """A metric as the reader sees it."""

    name: str
    label: str
    higher_is_better: bool

    @property
    def direction(self) -> str:
        return "higher" if self.higher_is_better else "lower"

    def better(self, difference: float) -> bool:
        """Whether this much more of the metric is better."""
        return (difference > 0) == self.higher_is_better


def cells(config: Config) -> list[Cell]:
    """The grid in the config's order."""
    names = list(dict.fromkeys(name for name, _ in config.cells if name != UNTOUCHED))
    found: list[Cell] = []
    for name, ratio in config.cells:
        first = not found or found[-1].compressor != name
        found.append(Cell(name, ratio_text(ratio), None if name == UNTOUCHED else names.index(name), first))
    return found


def measure(name: str) -> Measure:
    """A metric by name; a metric file may set its own `label`."""
    metric = metrics.load(name)
    return Measure(name, getattr(metric, "label", LABELS.get(name, name.upper())), metric.higher_is_better)


def set_title(test_set: TestSet) -> str:
    """Such as 'clean: English transcription'."""
    language = LANGUAGES.get(test_set.language, test_set.language)
    if test_set.to is None:
        return f"{test_set.name}: {language} transcription"
    return f"{test_set.name}: {language} to {LANGUAGES.get(test_set.to, test_set.to)}"


class Board:
    """Every result on one test set, scored by its headline metric on resamples that all systems share."""

    def __init__(self, test_set: TestSet, results: Sequence[Result], config: Config) -> None:
        self.name, self.title = test_set.name, set_title(test_set)
        self.metrics = [measure(name) for name in config.evaluate.metrics[test_set.task]]
        self.metric = self.metrics[0]
        self.confidence_percent = config.report.confidence_percent
        self.runs: dict[System, list[Result]] = {}
        for result in sorted(results, key=lambda r: -1 if r.record.seed is None else r.record.seed):
            record = result.record
            self.runs.setdefault((record.compressor, record.ratio, record.train_set), []).append(result)
        self._check_utterances(results)
        self.predictions = results[0].predictions
        self._drawn, self._samples = statistics.units(self.predictions["speaker"]), config.report.bootstrap_samples
        self.label, self.n_utterances = self._drawn.label, len(self.predictions)
        self.values: dict[System, float] = {}
        self.resampled: dict[System, np.ndarray] = {}
        self._score(list(self.runs))

    def _score(self, systems: Sequence[System]) -> None:
        """Score systems on the resamples, which are the same at every call."""
        stats = {system: self.statistics(system) for system in systems}
        sums_SM = statistics.resampled_sums(np.hstack([*stats.values()]), self._drawn, self._samples)
        width, combine = len(metrics.load(self.metric.name).columns), metrics.load(self.metric.name).combine
        for i, (system, stats_UK) in enumerate(stats.items()):
            self.values[system] = float(combine(stats_UK.sum(0)[None])[0])
            self.resampled[system] = combine(sums_SM[:, i * width : (i + 1) * width])

    def matched(self, system: System, other: System) -> System:
        """A system with those of its seeds alone that the other system has too, so that like is compared with like."""
        runs, seeds = self.runs.get(system, []), {run.record.seed for run in self.runs.get(other, [])}
        shared = [run for run in runs if run.record.seed in seeds]
        if len(shared) in (0, len(runs)):
            return system
        narrowed = (system[0], system[1], f"{system[2]}, seeds {', '.join(str(run.record.seed) for run in shared)}")
        if narrowed not in self.runs:
            self.runs[narrowed] = shared
            self._score([narrowed])
        return narrowed

    def _check_utterances(self, results: Sequence[Result]) -> None:
        for result in results:
            if result.predictions["id"] != results[0].predictions["id"]:
                where = f"{result.record.compressor}-{result.record.ratio}"
                raise DamagedError(f"{where} was scored on other utterances of {self.name}; run `make reproduce`")

    def statistics(self, system: System, metric: str | None = None) -> np.ndarray:
        """stats_UK of a system, seeds pooled."""
        return statistics.pool([r.predictions.statistics(metric or self.metric.name) for r in self.runs[system]])

    def paired(self, function: Callable[..., Any], *systems: System) -> Interval | None:
        """`function` of the systems' scores with its paired interval; None where a system has no result."""
        if any(system not in self.runs for system in systems):
            return None
        value = float(function(*(np.float64(self.values[s]) for s in systems)))
        return self._percentile(value, function(*(self.resampled[s] for s in systems)))

    def interval(self, system: System) -> Interval | None:
        return self.paired(lambda value: value, system)

    def value(self, system: System, metric: str) -> float | None:
        """The score of a system by any of its metrics, seeds pooled."""
        if system not in self.runs:
            return None
        return float(metrics.load(metric).combine(self.statistics(system, metric).sum(0)[None])[0])

    def mean(self, system: System, fact: Callable[[Any], float | None]) -> float | None:
        """A number of the records, averaged over seeds."""
        facts = [fact(result.record) for result in self.runs.get(system, [])]
        known = [x for x in facts if x is not None]
        return sum(known) / len(known) if known else None

    def record(self, cell: Cell) -> Any:
        """Any record of a cell here (rates and lengths do not depend on the adapter), or None."""
        return next(
            (runs[0].record for (c, r, _), runs in self.runs.items() if (c, r) == (cell.compressor, cell.ratio)), None
        )

    def against_curve(
        self, cell: Cell, curve: Sequence[Cell], train_set: str | None
    ) -> tuple[float | None, Interval | None]:
        """A curve's score read at the realised rate of a cell, and the cell's score minus it."""
        system = cell.system(train_set)
        points = [c for c in curve if c.system(train_set) in self.runs]
        rates = [self.record(c).audio_tokens_per_second.mean for c in points]
        rate = self.record(cell).audio_tokens_per_second.mean
        systems = [self.matched(c.system(train_set), system) for c in points]
        value = statistics.interpolate(rates, [self.values[s] for s in systems], rate)
        if value is None:
            return None, None
        values_S = statistics.interpolate(rates, [self.resampled[s] for s in systems], rate)
        return value, self._percentile(self.values[system] - value, self.resampled[system] - values_S)

    def _percentile(self, value: float, values_S: np.ndarray) -> Interval:
        return statistics.percentile(value, np.asarray(values_S), self.label, self.confidence_percent)


def excludes_zero(interval: Interval | None) -> bool:
    return (
        interval is not None
        and interval.low is not None
        and interval.high is not None
        and interval.low * interval.high > 0
    )
