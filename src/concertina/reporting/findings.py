"""What the results say: the rows of the report's tables, one function per section.

Shapes: R rows, one per kind of utterance; K statistics of a metric.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from concertina import metrics
from concertina.reporting import statistics
from concertina.reporting.board import UNTOUCHED, Board, Cell, System, excludes_zero
from concertina.reporting.statistics import Interval

MANY, STEP = 8, 5  # a tag with more numbers than MANY is shown in steps


@dataclass(frozen=True)
class Row:
    """One line of the main table; `loops` and `cap_hits` are (zero-shot, adapted); `seeds` the adapted scores."""

    cell: Cell
    failed: str | None = None
    realised_ratio: float | None = None
    rate: Any = None
    zero_shot: Interval | None = None
    adapted: Interval | None = None
    seeds: tuple[float, ...] = ()
    recovery: Interval | None = None
    best: bool = False
    loops: tuple[float | None, float | None] = (None, None)
    cap_hits: tuple[float | None, float | None] = (None, None)
    others: tuple[tuple[float | None, float | None], ...] = ()

    @property
    def is_reference(self) -> bool:
        return self.cell.compressor == UNTOUCHED


def main_rows(
    board: Board, grid: Sequence[Cell], train_set: str | None, failed: dict[tuple[str, str], str]
) -> list[Row]:
    """The main table of one test set: a row per cell, the failed ones with their error."""
    reference = (UNTOUCHED, "1", train_set)
    best = _best_of_each_ratio(board, grid, train_set)
    rows = []
    for cell in grid:
        record, zero, adapted = board.record(cell), cell.system(None), cell.system(train_set)
        if record is None:
            rows.append(Row(cell, failed=failed.get((cell.compressor, cell.ratio), "no result on this set")))
            continue
        recovery = board.paired(
            lambda z, a, n: statistics.recoveries(z, a, n, board.metric.higher_is_better),
            zero,
            adapted,
            board.matched(reference, adapted),
        )
        rows.append(
            Row(
                cell,
                realised_ratio=record.realised_ratio,
                rate=record.audio_tokens_per_second,
                zero_shot=board.interval(zero),
                adapted=board.interval(adapted) if train_set else None,
                seeds=tuple(r.record.scores[board.metric.name].value for r in board.runs.get(adapted, []) if train_set),
                recovery=recovery if train_set else None,
                best=cell in best,
                loops=(board.mean(zero, lambda r: r.loops), board.mean(adapted, lambda r: r.loops)),
                cap_hits=(board.mean(zero, lambda r: r.cap_hits), board.mean(adapted, lambda r: r.cap_hits)),
                others=tuple((read(zero), read(adapted)) for _, read in other_figures(board)),
            )
        )
    return rows


def other_figures(board: Board) -> list[tuple[str, Callable[[System], float | None]]]:
    """The figures beside the headline: its capped form where it has one, and the set's further metrics."""

    def capped(record: Any) -> float | None:
        return record.scores[board.metric.name].counts.get("capped_value")

    figures: list[tuple[str, Callable[[System], float | None]]] = []
    if any(capped(result.record) is not None for runs in board.runs.values() for result in runs):
        figures.append((f"{board.metric.name.upper()} capped", lambda system: board.mean(system, capped)))
    for metric in board.metrics[1:]:
        figures.append((metric.label.split(",")[0], lambda system, name=metric.name: board.value(system, name)))  # type: ignore[misc]
    return figures


def _best_of_each_ratio(board: Board, grid: Sequence[Cell], train_set: str | None) -> list[Cell]:
    """At each number ratio where several cells were adapted, the best of them."""
    sign = 1 if board.metric.higher_is_better else -1
    best = []
    for ratio in dict.fromkeys(cell.ratio for cell in grid if cell.ratio != "natural"):
        rivals = [c for c in grid if c.ratio == ratio and train_set and c.system(train_set) in board.runs]
        if len(rivals) > 1:
            best.append(max(rivals, key=lambda c: sign * board.values[c.system(train_set)]))
    return best


@dataclass(frozen=True)
class Contrast:
    """The score of one compressor minus another's at the same ratio, paired."""

    first: str
    second: str
    ratio: str
    zero_shot: Interval | None
    adapted: Interval | None
    verdict: str
    is_first: bool


def contrasts(board: Board, grid: Sequence[Cell], train_set: str | None) -> list[Contrast]:
    """`average` (or the grid's first compressor) minus every other, at each ratio they share."""
    names = list(dict.fromkeys(cell.compressor for cell in grid if cell.compressor != UNTOUCHED))
    pivot = pivot_of(grid)
    found: list[Contrast] = []
    for other in (name for name in names if name != pivot):
        ratios = [
            c.ratio
            for c in grid
            if c.compressor == other and (pivot, c.ratio) in {(x.compressor, x.ratio) for x in grid}
        ]
        for ratio in ratios:
            zero = board.paired(np.subtract, (pivot, ratio, None), (other, ratio, None))
            both = (pivot, ratio, train_set), (other, ratio, train_set)
            alike = board.matched(*both), board.matched(*reversed(both))
            adapted = board.paired(np.subtract, *alike) if train_set else None
            if zero or adapted:
                new = not found or found[-1].second != other
                found.append(Contrast(pivot, other, ratio, zero, adapted, _verdict(board, pivot, other, adapted), new))
    return found


def pivot_of(grid: Iterable[Cell]) -> str:
    """The compressor that the others are compared with: `average`, or the first of a grid without it."""
    names = [cell.compressor for cell in grid if cell.compressor != UNTOUCHED]
    return "average" if "average" in names or not names else names[0]


def _verdict(board: Board, first: str, second: str, difference: Interval | None) -> str:
    if difference is None or difference.value is None or difference.low is None:
        return "–"
    if not excludes_zero(difference):
        return "not told apart"
    return first if board.metric.better(difference.value) else second


def kinds(board: Board, grid: Sequence[Cell], train_set: str | None, tag: str) -> dict[str, Any] | None:
    """Scores by a tag of the utterances: adapted, or zero-shot where nothing was adapted."""
    labels = _labels([tags.get(tag) for tags in board.predictions["tags"]])
    names = sorted({label for label in labels if label is not None}, key=_order)
    if len(names) < 2:
        return None
    condition = train_set if any(s[2] == train_set for s in board.runs) else None
    rows = []
    for cell in grid:
        if (system := cell.system(condition)) in board.runs:
            stats_UK, combine = board.statistics(system), metrics.load(board.metric.name).combine
            sums_RK = np.array([stats_UK[[label == name for label in labels]].sum(0) for name in names])
            rows.append({"cell": cell, "scores": [float(value) for value in combine(sums_RK)]})
    counts = [{"name": name, "n": labels.count(name)} for name in names]
    title = "adapted" if condition else "zero-shot"
    return {"title": board.title, "metric": board.metric, "condition": title, "kinds": counts, "rows": rows}


def _labels(values: Sequence[Any]) -> list[str | None]:
    """One label per utterance: the value itself, or for numbers of many values the step of 5 that it lies in."""
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


def natural_rates(board: Board, grid: Sequence[Cell], train_set: str | None) -> list[dict[str, Any]]:
    """Every cell at its natural rate, beside the pivot's curve (with `none` as its ratio 1) read at that rate."""
    pivot = pivot_of(grid)
    curve = [cell for cell in grid if cell.compressor in (UNTOUCHED, pivot) and cell.ratio != "natural"]
    rows = []
    for cell in (cell for cell in grid if cell.ratio == "natural"):
        for condition, name in ((None, "zero-shot"), (train_set, "adapted")):
            if cell.system(condition) not in board.runs or (name == "adapted" and condition is None):
                continue
            record = board.record(cell)
            interpolated, difference = board.against_curve(cell, curve, condition)
            rows.append(
                {
                    "title": f"{board.name}, {board.metric.label}", "cell": cell, "condition": name, "curve": pivot,
                    "realised_ratio": record.realised_ratio, "rate": record.audio_tokens_per_second.mean,
                    "value": board.values[cell.system(condition)],
                    "interpolated": interpolated, "difference": difference,
                }
            )  # fmt: skip
    return rows


def transfer(board: Board, grid: Sequence[Cell], train_sets: Sequence[str]) -> dict[str, Any]:
    """Adapters of every training set on one test set."""
    rows = []
    for cell in grid:
        zero = board.interval(cell.system(None))
        adapted = [board.interval(cell.system(name)) for name in train_sets]
        if zero or any(adapted):
            rows.append({"cell": cell, "zero_shot": zero, "adapted": adapted})
    return {"title": board.title, "metric": board.metric, "train_sets": list(train_sets), "rows": rows}
