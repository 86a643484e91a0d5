"""The findings in words: headline sentences, the console summary, and the conditions of the numbers."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from concertina.config.values import POSITIONS, UNCOMPRESSED, Cell, Ratio
from concertina.reporting.board import Board
from concertina.reporting.findings import Contrast, Row
from concertina.reporting.losses import Split
from concertina.reporting.statistics import Interval
from concertina.reporting.verdicts import Judged

MINUS, NO_BREAK = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Table:
    """A test set with its main table, its contrasts and the parts of its losses."""

    board: Board
    rows: tuple[Row, ...]
    contrasts: tuple[Contrast, ...]
    splits: tuple[Split, ...]

    def row(self, cell: Cell) -> Row:
        """Return a cell's row; an empty one where the cell is not scored on this set."""
        return next((row for row in self.rows if row.cell == cell), Row(cell))


def number(value: float | None, digits: int = 1) -> str:
    """Write a number: 6.66 as '6.7', None as an en dash."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 1) -> str:
    """Write a number with its sign: 0.52 as '+0.5', zero without a sign."""
    if value is None:
        return "–"
    text = f"{value:+.{digits}f}".replace("-", MINUS)
    return text[1:] if float(f"{value:.{digits}f}") == 0 else text


def percent(value: float | None) -> str:
    """Write a share as percent: 0.934 as '93 %', without a line break inside."""
    return "–" if value is None else f"{100 * value:.0f}{NO_BREAK}%".replace("-", MINUS)


def bounds(interval: Interval | None, write: Callable[[float], str] = number) -> str:
    """Write an interval's bounds as ' [5.9, 7.6]', or nothing where it has none."""
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f" [{write(interval.low)}, {write(interval.high)}]"


def headlines(tables: Sequence[Table], grid: Sequence[Cell], judged: Sequence[Judged], bench: bool) -> list[str]:
    """Write the findings in brief: of the first two test sets at the ratio that most cells share, and the verdicts."""
    ratio = meeting_ratio(grid)
    sentences = []
    for table in tables[:2]:
        found = [*_split_sentence(table, ratio), *_best_sentence(table, ratio), *_contrast_sentence(table, ratio)]
        if found:
            sentences.append(" ".join(found))
    if not any(row.adapted for table in tables for row in table.rows):
        sentences.append("No adapted cell has been scored; the scores are zero-shot.")
    return [*sentences, *verdict_sentence(judged, bench)]


def verdict_sentence(judged: Sequence[Judged], bench: bool) -> list[str]:
    """Count the verdicts on the claims that were judged, the paper's and ours."""
    sentences = []
    for whose, paper in (("of the paper", True), ("of ours", False)):
        counts = Counter(one.verdict for one in judged if one.findings and one.claim.paper == paper)
        if counts:
            words = joined([f"{counts[verdict]} {verdict}" for verdict in sorted(counts)])
            on = " on this test bench, which decides none of them" if paper and bench else ""
            sentences.append(f"Claims {whose}: {words}{on}.")
    return [" ".join(sentences)] if sentences else []


def short(cell: Cell) -> str:
    """Name a cell where its ratio is clear, by its compressor and positions: 'average (kept)'."""
    return f"{cell.compressor} ({POSITIONS[cell.positions]})" if cell.positions else cell.compressor


def meeting_ratio(grid: Sequence[Cell]) -> Ratio:
    """Return the ratio at which most compressors can be compared, the larger one of several."""
    ratios = [cell.ratio for cell in grid if cell != UNCOMPRESSED and not cell.ratio.natural]
    return max(ratios, key=lambda ratio: (ratios.count(ratio), ratio), default=UNCOMPRESSED.ratio)


def best_of(board: Board, rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the best score, adapted where there is one; several when they tie exactly."""
    scores = [row.score.value for row in rows if row.score and row.score.value is not None]
    top = (max if board.metric.higher_is_better else min)(scores, default=None)
    return [row for row in rows if row.score and row.score.value == top]


def _split_sentence(table: Table, ratio: Ratio) -> list[str]:
    """Say what the first compressor's zero-shot loss consists of."""
    split = next((split for split in table.splits if split.cuts.ratio == ratio), None)
    if split is None or not split.audio or not split.positions:
        return []
    audio, positions = (f"{signed(part.value)}{bounds(part, signed)}" for part in (split.audio, split.positions))
    return [
        f"On {table.board.name}, zero-shot, {split.cuts.compressor} at {ratio} frames per token changes "
        f"{table.board.metric.label} by {audio} with kept positions; renumbering them changes it by {positions} more."
    ]


def _best_sentence(table: Table, ratio: Ratio) -> list[str]:
    """Say which cell has the best score at a ratio, adapted; nothing where none was adapted."""
    rows = [row for row in table.rows if row.cell.ratio == ratio and row.adapted and not row.is_reference]
    reference = next((row for row in table.rows if row.is_reference), None)
    best = best_of(table.board, rows)
    if not best:
        return []
    first, metric = best[0], table.board.metric
    unit = f"{NO_BREAK}{metric.unit}" if metric.unit else ""
    names = joined([short(row.cell) for row in best])
    extreme = "highest" if metric.higher_is_better else "lowest"
    verb = f"tie for the {extreme}" if best[1:] else f"has the {extreme}"
    text = f"Adapted, at {ratio} frames per token, {names} {verb} {metric.label} on {table.board.name} in this run: "
    text += f"{number(_value(first.adapted))}{unit}{'' if best[1:] else bounds(first.adapted)}"
    if first.zero_shot and not best[1:]:
        text += f" ({number(first.zero_shot.value)}{unit} zero-shot)"
    if reference and reference.rate:
        scores = (reference.zero_shot, "zero-shot"), (reference.adapted, "adapted")
        text += f", against {joined([f'{number(s.value)}{unit} {how}' for s, how in scores if s])} uncompressed; "
        text += f"{number(first.rate.mean)} audio tokens per second instead of {number(reference.rate.mean)}"
    if _value(first.recovery) is not None and not best[1:]:
        text += f". LoRA recovers {recovered(first.recovery)} of what compression costs zero-shot"
    return [text + "."]


def recovered(recovery: Interval | None) -> str:
    """Write a recovery with its interval, such as '93 % [88, 97]'; a dash unless compression surely cost something."""
    value = _value(recovery)
    return "–" if value is None else percent(value) + bounds(recovery, lambda share: number(round(100 * share), 0))


def joined(names: Sequence[str]) -> str:
    """Join names as 'a', 'a and b' or 'a, b and c'."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _contrast_sentence(table: Table, ratio: Ratio) -> list[str]:
    """Say how the grid's first compressor compares with the others, adapted, under the first positions that has it."""
    here = [c for c in table.contrasts if c.ratio == ratio and c.relation]
    groups: dict[str, list[str]] = {}
    for contrast in (c for c in here if c.first == here[0].first):
        difference = f"{signed(_value(contrast.adapted))}{bounds(contrast.adapted, signed)}"
        groups.setdefault(contrast.relation, []).append(f"{contrast.second.compressor} ({difference})")
    phrases = "; it ".join(f"{phrase} {joined(names)}" for phrase, names in groups.items())
    return [f"There, paired, {short(here[0].first)} {phrases}."] if here else []


PARTIAL = "The run did not finish: cells that it did not reach show the results of an earlier run, or none."


def summary(
    name: str, tables: Sequence[Table], verdicts: Sequence[str], n_failed: int, skipped: Mapping[str, str], path: str,
    partial: bool = False,
) -> str:  # fmt: skip
    """Write what the console shows at the end of a run: the best cell of each ratio, and its cost against `none`."""
    lines = [f"{name}: {len(tables[0].rows) if tables else 0} cells on {len(tables)} test sets"]
    for table in tables:
        metric, reference = table.board.metric, next((row for row in table.rows if row.is_reference), None)
        uncompressed = reference.score if reference else None
        lines += ["", f"{table.board.title} ({metric.heading}, {metric.direction} is better)"]
        if reference and uncompressed:
            head = _summary_head(reference.cell.compressor, uncompressed.value)
            lines.append(f"{head}{'':9}{number(reference.rate.mean):>8} audio tokens/s")
        for ratio in dict.fromkeys(row.cell.ratio for row in table.rows if not row.is_reference):
            rows = [row for row in table.rows if row.cell.ratio == ratio and row.score]
            if rows:
                lines.append(_summary_line(table, rows, uncompressed))
    if verdicts:
        lines += ["", *verdicts]
    if n_failed:
        lines += ["", f"{n_failed} without a result: see the report"]
    lines += ["", PARTIAL] if partial else []
    lines += [f"{test_set} was skipped: {reason}" for test_set, reason in skipped.items()]
    return "\n".join([*lines, "", f"report: {path}", ""]).replace(NO_BREAK, " ")


def _summary_line(table: Table, rows: Sequence[Row], uncompressed: Interval | None) -> str:
    """Write the line of one ratio: the best of its rows, among the adapted ones where there are any."""
    best = best_of(table.board, [row for row in rows if row.adapted] or rows)
    first, names = best[0], "; ".join(short(row.cell) for row in best)
    value, before = _value(first.score), _value(uncompressed)
    cost = "–" if value is None or before is None else signed(value - before)
    condition = "" if first.adapted else ", zero-shot"
    if _value(first.recovery) is not None and len(best) == 1:
        condition += f", recovers {recovered(first.recovery)}"
    head = _summary_head(f"{first.cell.ratio} {names}", value)
    return f"{head} ({cost:>6}){number(first.rate.mean):>8} audio tokens/s{condition}"


def _summary_head(label: str, value: float | None) -> str:
    return f"  {label:<22} {number(value):>6}"


def _value(interval: Interval | None) -> float | None:
    return interval.value if interval else None
