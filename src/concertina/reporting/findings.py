"""The rows of the report's tables, one function per section.

Shapes: R rows, one per kind of utterance; K statistics of a metric.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from concertina import metrics
from concertina.config.values import UNCOMPRESSED, Cell, Ratio
from concertina.reporting import statistics, verdicts
from concertina.reporting.board import Board, System
from concertina.reporting.statistics import Interval
from concertina.reporting.verdicts import Judged

MANY, STEP = 8, 5  # a tag with more than MANY different numbers is shown in ranges of STEP


@dataclass(frozen=True)
class Row:
    """One line of the main table; `loops` and `cap_hits` are (zero-shot, adapted); `seeds` the adapted scores.

    `from_base` is the adapted score (or the zero-shot one where nothing was adapted) minus that of zero-shot `none`,
    `difference` the adapted score minus that of adapted `none`; `recovery` is None unless compression surely cost
    something and the reference is sound.
    """

    cell: Cell
    failed: str | None = None
    realised_ratio: float | None = None
    rate: Any = None
    zero_shot: Interval | None = None
    adapted: Interval | None = None
    from_base: Interval | None = None
    difference: Interval | None = None
    seeds: tuple[float, ...] = ()
    recovery: Interval | None = None
    best: bool = False
    loops: tuple[float | None, float | None] = (None, None)
    cap_hits: tuple[float | None, float | None] = (None, None)
    others: tuple[tuple[float | None, float | None], ...] = ()

    @property
    def is_reference(self) -> bool:
        """Whether this is the uncompressed cell."""
        return self.cell == UNCOMPRESSED

    @property
    def score(self) -> Interval | None:
        """The adapted score, or the zero-shot one where nothing was adapted."""
        return self.adapted or self.zero_shot


def main_rows(board: Board, grid: Sequence[Cell], train_set: str, failed: Mapping[Cell, str]) -> list[Row]:
    """Return the main table of one test set: a row per cell, the failed ones with their error."""
    best = _best_of_each_ratio(board, grid, train_set)
    rows = []
    for cell in grid:
        record, zero, adapted = board.record(cell), System(cell, None), System(cell, train_set)
        if record is None:
            rows.append(Row(cell, failed=failed.get(cell, "no result on this set")))
            continue
        runs = board.runs.get(adapted, [])
        rows.append(
            Row(
                cell,
                realised_ratio=record.realised_ratio,
                rate=record.audio_tokens_per_second,
                zero_shot=board.interval(zero),
                adapted=board.interval(adapted),
                from_base=board.difference(adapted if runs else zero, System(UNCOMPRESSED, None)),
                difference=board.difference(adapted, System(UNCOMPRESSED, train_set)),
                seeds=tuple(run.record.scores[board.metric.name].value for run in runs),
                recovery=_recovery(board, zero, adapted),
                best=cell in best,
                loops=(board.mean(zero, lambda r: r.loops), board.mean(adapted, lambda r: r.loops)),
                cap_hits=(board.mean(zero, lambda r: r.cap_hits), board.mean(adapted, lambda r: r.cap_hits)),
                others=tuple((read(zero), read(adapted)) for _, read in other_figures(board)),
            )
        )
    return rows


def _recovery(board: Board, zero: System, adapted: System) -> Interval | None:
    """Return the share of the zero-shot loss that is recovered, against adapted `none`.

    None where the interval of the loss includes zero, where the share has no interval, and where adapting made `none`
    itself surely worse: a reference that is damaged flatters what is compared with it.
    """
    reference, base = System(UNCOMPRESSED, adapted.train_set), System(UNCOMPRESSED, None)
    if not _surely_better(board, reference, zero) or _surely_better(board, base, reference):
        return None
    share = board.paired(
        lambda z, a, n: statistics.recoveries(z, a, n, board.metric.higher_is_better), zero, adapted, reference
    )
    return share if share and share.low is not None else None


def _surely_better(board: Board, system: System, other: System) -> bool:
    """Return whether a system's score is better than the other's with an interval that excludes zero."""
    gain = board.difference(system, other)
    return gain is not None and gain.value is not None and gain.excludes_zero and board.metric.better(gain.value)


def other_figures(board: Board) -> list[tuple[str, Callable[[System], float | None]]]:
    """Return the figures beside the headline: its capped form where it has one, and the set's further metrics."""

    def capped(record: Any) -> float | None:
        return record.scores[board.metric.name].counts.get("capped_value")

    figures: list[tuple[str, Callable[[System], float | None]]] = []
    if any(capped(result.record) is not None for runs in board.runs.values() for result in runs):
        figures.append((f"{board.metric.label} capped", lambda system: board.mean(system, capped)))
    for metric in board.metrics[1:]:
        figures.append((metric.label, lambda system, name=metric.name: board.value(system, name)))  # type: ignore[misc]
    return figures


def _best_of_each_ratio(board: Board, grid: Sequence[Cell], train_set: str) -> set[Cell]:
    """Return the best cells of each ratio, ties included, where several were adapted; natural rates are no ratio."""
    best: set[Cell] = set()
    for ratio in {cell.ratio for cell in grid if not cell.ratio.natural}:
        systems = [System(cell, train_set) for cell in grid if cell.ratio == ratio]
        rivals = [system for system in systems if system in board.runs]
        if len(rivals) > 1:
            best |= {system.cell for system in board.best(rivals)}
    return best


@dataclass(frozen=True)
class Contrast:
    """One compressor's score minus another's at the same ratio, paired. `is_first`: the pair's first row.

    `relation`: what may be said of the adapted scores, such as 'is lower in this run than'; empty where there are none.
    """

    first: Cell
    second: Cell
    zero_shot: Interval | None
    adapted: Interval | None
    is_first: bool
    relation: str

    @property
    def ratio(self) -> Ratio:
        """The ratio that both cells have."""
        return self.second.ratio


def contrasts(board: Board, grid: Sequence[Cell], train_set: str, judged: Sequence[Judged] = ()) -> list[Contrast]:
    """Compare the grid's first compressor with every other, at each ratio and under the positions that they share."""
    pivot, rows = pivot_of(grid), list[Contrast]()
    for name in dict.fromkeys(
        cell.compressor for cell in grid if cell.compressor not in (UNCOMPRESSED.compressor, pivot)
    ):
        for second in (cell for cell in grid if cell.compressor == name):
            first = next((c for c in grid if _matches(c, pivot, second)), None)
            if first is None:
                continue
            zero = board.paired(np.subtract, System(first, None), System(second, None))
            systems = System(first, train_set), System(second, train_set)
            adapted = board.difference(*systems)
            if zero or adapted:
                opens = not rows or rows[-1].second.compressor != name
                relation = _relation(adapted, verdicts.is_better(judged, board, *systems))
                rows.append(Contrast(first, second, zero, adapted, opens, relation))
    return rows


def _matches(cell: Cell, compressor: str, other: Cell) -> bool:
    """Return whether a cell is a compressor's at the ratio of another cell, with tokens at the same positions."""
    return (cell.compressor, cell.ratio, cell.positions) == (compressor, other.ratio, other.positions)


def pivot_of(grid: Iterable[Cell]) -> str:
    """Return the compressor that the others are compared with: the grid's first."""
    return next((cell.compressor for cell in grid if cell.compressor != UNCOMPRESSED.compressor), "")


def _relation(difference: Interval | None, better: bool | None) -> str:
    """Say how two adapted cells compare: 'better' and 'worse' are for what the claims' tests have decided."""
    if difference is None or difference.value is None:
        return ""
    if better is not None:
        return f"is {'better' if better else 'worse'} (adjusted for all claims judged) than"
    if difference.value == 0:
        return "ties with"
    if not difference.excludes_zero:
        return "cannot be distinguished from"
    return f"is {'lower' if difference.value < 0 else 'higher'} in this run than"


@dataclass(frozen=True)
class KindRow:
    """The scores of one cell by kind of utterance."""

    cell: Cell
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Kinds:
    """Scores by a tag of the utterances; `kinds`: each value of the tag and how many utterances have it."""

    board: Board
    condition: str
    kinds: tuple[tuple[str, int], ...]
    rows: tuple[KindRow, ...]


def kinds(board: Board, grid: Sequence[Cell], train_set: str, tag: str) -> Kinds | None:
    """Score by a tag's values: adapted, or zero-shot where nothing was adapted; None where the tag does not vary."""
    labels = _labels([tags.get(tag) for tags in board.predictions["tags"]])
    names = sorted({label for label in labels if label is not None}, key=_order)
    if len(names) < 2:
        return None
    condition = condition_of(board, train_set)
    rows = []
    for cell in grid:
        if (system := System(cell, condition)) in board.runs:
            stats_UK, combine = board.statistics(system), metrics.load(board.metric.name).combine
            sums_RK = np.array([stats_UK[[label == name for label in labels]].sum(0) for name in names])
            rows.append(KindRow(cell, tuple(float(value) for value in combine(sums_RK))))
    counts = tuple((name, labels.count(name)) for name in names)
    return Kinds(board, "adapted" if condition else "zero-shot", counts, tuple(rows))


def condition_of(board: Board, train_set: str) -> str | None:
    """Return the training set, or None (zero-shot) where none of its adapters has a result here."""
    return train_set if any(system.train_set == train_set for system in board.runs) else None


def _labels(values: Sequence[Any]) -> list[str | None]:
    """Return a label per utterance: its value, or the range of 5 around it where there are many different numbers."""
    numbers = all(isinstance(value, int | float) for value in values if value is not None)
    if not numbers or len(set(values)) <= MANY:
        return [None if value is None else f"{value:g}" if numbers else str(value) for value in values]
    lows = [None if value is None else int(value // STEP) * STEP for value in values]
    return [None if low is None else f"{low} to {low + STEP}" for low in lows]


def _order(label: str) -> tuple[float, str]:
    head = label.split(" ")[0]
    try:
        return float(head), label
    except ValueError:
        return float("inf"), label


@dataclass(frozen=True)
class NaturalRate:
    """A cell at its natural rate beside the pivot's curve read at that rate."""

    board: Board
    cell: Cell
    condition: str
    curve: str
    realised_ratio: float
    rate: float
    value: float
    interpolated: float | None
    difference: Interval | None


def natural_rates(board: Board, grid: Sequence[Cell], train_set: str) -> list[NaturalRate]:
    """Compare every cell at its natural rate with the pivot's curve (`none` is its ratio 1), read at that rate."""
    pivot = pivot_of(grid)
    rows = []
    for cell in (cell for cell in grid if cell.ratio.natural):
        curve = [c for c in grid if _on_curve(c, pivot, cell)]
        for condition, name in ((None, "zero-shot"), (train_set, "adapted")):
            if (system := System(cell, condition)) in board.runs:
                record = board.record(cell)
                interpolated, difference = board.against_curve(cell, curve, condition)
                ratio, rate = record.realised_ratio, record.audio_tokens_per_second.mean
                value = board.score(system)
                rows.append(NaturalRate(board, cell, name, pivot, ratio, rate, value, interpolated, difference))
    return rows


def _on_curve(cell: Cell, pivot: str, other: Cell) -> bool:
    """Return whether a cell is a point of the pivot's curve, under the positions of another cell."""
    if cell == UNCOMPRESSED:
        return True
    return cell.compressor == pivot and cell.positions == other.positions and not cell.ratio.natural


@dataclass(frozen=True)
class TransferRow:
    """One cell zero-shot, and with the adapters of each training set."""

    cell: Cell
    zero_shot: Interval | None
    adapted: tuple[Interval | None, ...]


@dataclass(frozen=True)
class Transfer:
    """Adapters of every training set on one test set."""

    board: Board
    train_sets: tuple[str, ...]
    rows: tuple[TransferRow, ...]


def transfer(board: Board, grid: Sequence[Cell], train_sets: Sequence[str]) -> Transfer:
    """Score the adapters of every training set on one test set, over the seeds that all of a cell's have."""
    rows = []
    for cell in grid:
        zero, systems = board.interval(System(cell, None)), [System(cell, name) for name in train_sets]
        seeds = board.shared_seeds(*(system for system in systems if system in board.runs))
        adapted = tuple(board.interval(board.limited(s, seeds)) if s in board.runs else None for s in systems)
        if zero or any(adapted):
            rows.append(TransferRow(cell, zero, adapted))
    return Transfer(board, tuple(train_sets), tuple(rows))
