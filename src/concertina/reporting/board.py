"""The results of one test set, every system scored on the same resamples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from concertina import metrics
from concertina.config import Cell, TestSet, language_name
from concertina.reporting import statistics
from concertina.reporting.scores import Result
from concertina.reporting.statistics import Bootstrap, Interval, Resampled


class System(NamedTuple):
    """A cell in one condition: zero-shot where `train_set` is None; `seeds`: of its adapters, None: all pooled."""

    cell: Cell
    train_set: str | None
    seeds: tuple[int | None, ...] | None = None


@dataclass(frozen=True)
class Measure:
    """A metric as the reader sees it."""

    name: str
    label: str
    unit: str
    higher_is_better: bool

    @property
    def heading(self) -> str:
        """The label with the unit, where there is one: 'WER, %'."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    @property
    def direction(self) -> str:
        return "higher" if self.higher_is_better else "lower"

    def better(self, difference: float) -> bool:
        """Whether a change of the metric by this difference is an improvement."""
        return difference != 0 and (difference > 0) == self.higher_is_better


def measure(name: str) -> Measure:
    """A metric by name, as its file describes it."""
    metric = metrics.load(name)
    return Measure(name, metric.label, metric.unit, metric.higher_is_better)


def set_title(test_set: TestSet) -> str:
    """Such as 'clean: English transcription'."""
    language = language_name(test_set.language)
    if test_set.to is None:
        return f"{test_set.name}: {language} transcription"
    return f"{test_set.name}: {language} to {language_name(test_set.to)}"


class Board:
    """Every result on one test set, scored by its headline metric on resamples that all systems share.

    `names` are its metrics, the headline first. Shapes: U utterances, K statistics of a metric.
    """

    def __init__(
        self, test_set: TestSet, results: Sequence[Result], bootstrap: Bootstrap, names: Sequence[str]
    ) -> None:
        self.name, self.title = test_set.name, set_title(test_set)
        self.metrics = [measure(name) for name in names]
        self.metric = self.metrics[0]
        self.runs: dict[System, list[Result]] = {}
        for result in sorted(results, key=lambda r: -1 if r.record.seed is None else r.record.seed):
            self.runs.setdefault(System(result.cell, result.record.train_set), []).append(result)
        self.predictions = results[0].predictions
        self.label, self.n_utterances = bootstrap.label, len(self.predictions)
        self._bootstrap = bootstrap
        self._scores: dict[System, Resampled] = {}
        self._score(list(self.runs))

    def _score(self, systems: Sequence[System]) -> None:
        name = self.metric.name
        self._scores |= self._bootstrap.resampled({system: (name, self.statistics(system)) for system in systems})

    def matched(self, system: System, other: System) -> System:
        """A system with those of its seeds alone that the other system has too, so that like is compared with like."""
        runs, seeds = self.runs.get(system, []), {run.record.seed for run in self.runs.get(other, [])}
        shared = [run for run in runs if run.record.seed in seeds]
        if len(shared) in (0, len(runs)):
            return system
        narrowed = system._replace(seeds=tuple(run.record.seed for run in shared))
        if narrowed not in self.runs:
            self.runs[narrowed] = shared
            self._score([narrowed])
        return narrowed

    def statistics(self, system: System, metric: str | None = None) -> np.ndarray:
        """stats_UK of a system, seeds pooled."""
        return statistics.pool([r.predictions.statistics(metric or self.metric.name) for r in self.runs[system]])

    def score(self, system: System) -> float:
        """The score of a system that has results by the headline metric, seeds pooled."""
        return self._scores[system].value

    def interval(self, system: System) -> Interval | None:
        """The score of a system with its interval; None where it has no result."""
        return self.paired(lambda value: value, system)

    def paired(self, function: Callable[..., Any], *systems: System) -> Interval | None:
        """`function` of the systems' scores with its paired interval; None where a system has no result."""
        if any(system not in self.runs for system in systems):
            return None
        return self._bootstrap.paired(function, *(self._scores[system] for system in systems))

    def difference(self, system: System, other: System) -> Interval | None:
        """The score of a system minus the other's, over the seeds that both have; None where one has no result."""
        return self.paired(np.subtract, self.matched(system, other), self.matched(other, system))

    def value(self, system: System, metric: str) -> float | None:
        """The score of a system by any of its metrics, seeds pooled; None where it has no result."""
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
        return next((runs[0].record for system, runs in self.runs.items() if system.cell == cell), None)

    def best(self, systems: Sequence[System]) -> list[System]:
        """The systems with the best score; several where they tie exactly."""
        values = {system: self.score(system) for system in systems}
        top = (max if self.metric.higher_is_better else min)(values.values(), default=None)
        return [system for system, value in values.items() if value == top]

    def against_curve(
        self, cell: Cell, curve: Sequence[Cell], train_set: str | None
    ) -> tuple[float | None, Interval | None]:
        """A curve's score read at the realised rate of a cell, and the cell's score minus it."""
        system = System(cell, train_set)
        points = [c for c in curve if System(c, train_set) in self.runs]
        rates = [self.record(c).audio_tokens_per_second.mean for c in points]
        rate = self.record(cell).audio_tokens_per_second.mean
        systems = [self.matched(System(c, train_set), system) for c in points]
        value = statistics.interpolate(rates, [self.score(s) for s in systems], rate)
        if value is None:
            return None, None

        def above(own: Any, *others: Any) -> Any:
            return own - statistics.interpolate(rates, others, rate)

        return value, self.paired(above, system, *systems)
