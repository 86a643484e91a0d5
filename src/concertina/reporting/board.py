"""The board holds the results of one test set, with every system scored on the same resamples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from concertina import metrics
from concertina.config import Cell, TestSet, language_name
from concertina.reporting import statistics
from concertina.reporting.scores import Result
from concertina.reporting.statistics import Bootstrap, Interval, Resampled


class System(NamedTuple):
    """A cell in one condition: zero-shot where `train_set` is None. `seeds`: those that are pooled, by default all."""

    cell: Cell
    train_set: str | None
    seeds: tuple[int | None, ...] | None = None

    @property
    def name(self) -> str:
        """The cell with its condition: 'average-3-keep zero-shot', 'average-3-keep adapted on english'."""
        return f"{self.cell} {f'adapted on {self.train_set}' if self.train_set else 'zero-shot'}"


@dataclass(frozen=True)
class Measure:
    """A metric as the report shows it."""

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
        """Which scores are better: 'higher' or 'lower'."""
        return "higher" if self.higher_is_better else "lower"

    def better(self, difference: float) -> bool:
        """Return whether a change of the metric by this difference is an improvement."""
        return difference != 0 and (difference > 0) == self.higher_is_better


def measure(name: str) -> Measure:
    """Return a metric by name, as its file describes it."""
    metric = metrics.load(name)
    return Measure(name, metric.label, metric.unit, metric.higher_is_better)


def set_title(test_set: TestSet) -> str:
    """Return a test set's title, such as 'clean: English transcription'."""
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
        self.n_utterances, self.blocked = len(self.predictions), bootstrap.label == statistics.BLOCKED
        self._bootstrap = bootstrap
        self._scores: dict[System, Resampled] = {}
        self._score(list(self.runs))

    @property
    def label(self) -> str:
        """What the intervals hold for: 'blocked by speaker' where they do for other speakers, and what they do not."""
        given = "this base" if self.blocked else "this base and these voices"
        enough = [len(runs) >= statistics.SEEDS_TO_SPREAD for system, runs in self.runs.items() if system.train_set]
        seeds = "" if all(enough) else "; where a cell has fewer than three seeds, on those too"
        return f"{'blocked by speaker, ' * self.blocked}conditional on {given}{seeds}"

    def _score(self, systems: Sequence[System]) -> None:
        """Score systems on the test set and on its resamples, all of them in one matrix product."""
        name = self.metric.name
        self._scores |= self._bootstrap.resampled({system: (name, self.statistics(system)) for system in systems})

    def shared_seeds(self, *systems: System) -> tuple[int | None, ...]:
        """Return the LoRA seeds that all adapted ones of the systems have; zero-shot ones have none to share."""
        each = [[run.record.seed for run in self.runs[system]] for system in systems if system.train_set is not None]
        return tuple(seed for seed in (each[0] if each else ()) if all(seed in seeds for seeds in each))

    def limited(self, system: System, seeds: Sequence[int | None]) -> System:
        """Return a system with these seeds alone; as it is where it is zero-shot, has no others, or none is given."""
        runs = [run for run in self.runs[system] if run.record.seed in seeds]
        if len(runs) in (0, len(self.runs[system])):
            return system
        fewer = system._replace(seeds=tuple(seeds))
        if fewer not in self.runs:
            self.runs[fewer] = runs
            self._score([fewer])
        return fewer

    def statistics(self, system: System, metric: str | None = None) -> np.ndarray:
        """Return stats_UK of a system, seeds pooled."""
        return statistics.pool([r.predictions.statistics(metric or self.metric.name) for r in self.runs[system]])

    def score(self, system: System) -> float:
        """Return the score, by the headline metric, of a system that has results, seeds pooled."""
        return self._scores[system].value

    def interval(self, system: System) -> Interval | None:
        """Return the score of a system with its interval; None when it has no result."""
        return self.paired(lambda value: value, system)

    def paired(self, function: Callable[..., Any], *systems: System) -> Interval | None:
        """Return `function` of the systems' scores with its paired interval; None when a system has no result.

        Adapted systems are limited to the seeds that all of them have, so that like is compared with like.
        """
        found = self.tested(function, *systems)
        return found and replace(found, values_S=np.empty(0))  # a report holds thousands of intervals

    def tested(self, function: Callable[..., Any], *systems: System) -> Interval | None:
        """Return the same as `paired`, with its resampled values, of which a p can be taken."""
        if any(system not in self.runs for system in systems):
            return None
        seeds = self.shared_seeds(*systems)
        chosen = [self._scores[self.limited(system, seeds)] for system in systems]
        alone = [[self._scores[self.limited(system, (seed,))] for system in systems] for seed in seeds]
        return self._bootstrap.paired(function, *chosen, seeds=alone)

    def difference(self, system: System, other: System) -> Interval | None:
        """Return a system's score minus the other's; None when one has no result."""
        return self.paired(np.subtract, system, other)

    def value(self, system: System, metric: str) -> float | None:
        """Return the score of a system by any of the metrics, seeds pooled; None when it has no result."""
        if system not in self.runs:
            return None
        return float(metrics.load(metric).combine(self.statistics(system, metric).sum(0)[None])[0])

    def mean(self, system: System, fact: Callable[[Any], float | None]) -> float | None:
        """Return the mean over seeds of a number in the records; None when no record has it."""
        facts = [fact(result.record) for result in self.runs.get(system, [])]
        known = [number for number in facts if number is not None]
        return sum(known) / len(known) if known else None

    def record(self, cell: Cell) -> Any:
        """Return any record of a cell here, or None; rates and lengths do not depend on the adapter."""
        return next((runs[0].record for system, runs in self.runs.items() if system.cell == cell), None)

    def rate(self, cell: Cell) -> float:
        """Return the audio tokens per second of a cell that has a result, in the mean over utterances."""
        return float(self.record(cell).audio_tokens_per_second.mean)

    def best(self, systems: Sequence[System]) -> list[System]:
        """Return the systems with the best score; several when they tie exactly."""
        values = {system: self.score(system) for system in systems}
        top = (max if self.metric.higher_is_better else min)(values.values(), default=None)
        return [system for system, value in values.items() if value == top]

    def against_curve(
        self, cell: Cell, curve: Sequence[Cell], train_set: str | None
    ) -> tuple[float | None, Interval | None]:
        """Return a curve's score, read at the realised rate of a cell, and the cell's score minus it with its interval.

        Both are None when the rate is outside the curve.
        """
        system = System(cell, train_set)
        points = [c for c in curve if System(c, train_set) in self.runs]
        rates, rate = [self.rate(c) for c in points], self.rate(cell)
        systems = [System(c, train_set) for c in points]
        seeds = self.shared_seeds(system, *systems)
        value = statistics.interpolate(rates, [self.score(self.limited(s, seeds)) for s in systems], rate)
        if value is None:
            return None, None

        def above(own: Any, *others: Any) -> Any:
            return own - statistics.interpolate(rates, others, rate)

        return value, self.paired(above, system, *systems)
