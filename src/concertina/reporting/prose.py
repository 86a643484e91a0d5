"""The findings in words: headline sentences, the console summary, and the conditions of the numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from concertina.config.values import UNCOMPRESSED, Cell, Ratio
from concertina.reporting.board import Board
from concertina.reporting.evidence import Evidence
from concertina.reporting.findings import Contrast, Row
from concertina.reporting.statistics import BLOCKED, SEEDS_TO_SPREAD, Interval

MINUS, NO_BREAK = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Table:
    """A test set with its main table and contrasts."""

    board: Board
    rows: tuple[Row, ...]
    contrasts: tuple[Contrast, ...]

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


def headlines(tables: Sequence[Table], grid: Sequence[Cell]) -> list[str]:
    """Write the findings in brief, for the first two test sets at the ratio that most compressors share."""
    ratio = meeting_ratio(grid)
    sentences = []
    for table in tables[:2]:
        if best := _best_sentence(table, ratio):
            sentences.append(" ".join([*best, *_contrast_sentence(table, ratio)]))
    return sentences or ["No adapted cell has been scored yet; the zero-shot scores are below."]


def meeting_ratio(grid: Sequence[Cell]) -> Ratio:
    """Return the ratio at which most compressors can be compared, the larger one of several."""
    ratios = [cell.ratio for cell in grid if cell != UNCOMPRESSED and not cell.ratio.natural]
    return max(ratios, key=lambda ratio: (ratios.count(ratio), ratio), default=UNCOMPRESSED.ratio)


def best_of(board: Board, rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the best score, adapted where there is one; several when they tie exactly."""
    scores = [row.score.value for row in rows if row.score and row.score.value is not None]
    top = (max if board.metric.higher_is_better else min)(scores, default=None)
    return [row for row in rows if row.score and row.score.value == top]


def _best_sentence(table: Table, ratio: Ratio) -> list[str]:
    """Say which compressor is best at a ratio, adapted; nothing where none was adapted."""
    rows = [row for row in table.rows if row.cell.ratio == ratio and row.adapted and not row.is_reference]
    reference = next((row for row in table.rows if row.is_reference and row.adapted), None)
    best = best_of(table.board, rows)
    if not best:
        return []
    first, metric = best[0], table.board.metric
    unit = f"{NO_BREAK}{metric.unit}" if metric.unit else ""
    names = _joined([row.cell.compressor for row in best])
    text = f"On {table.board.name}, at {ratio} frames per token, {names} {'tie for best' if best[1:] else 'is best'}: "
    text += f"{metric.label} {number(_value(first.adapted))}{unit}{'' if best[1:] else bounds(first.adapted)} adapted"
    if first.zero_shot and not best[1:]:
        text += f" ({number(first.zero_shot.value)}{unit} zero-shot)"
    if reference and reference.adapted:
        text += f", against {number(reference.adapted.value)}{unit} uncompressed; "
        text += f"{number(first.rate.mean)} audio tokens per second instead of {number(reference.rate.mean)}"
    if _value(first.recovery) is not None and not best[1:]:
        text += f". LoRA recovers {recovered(first.recovery)} of what compression costs zero-shot"
    return [text + "."]


def recovered(recovery: Interval | None) -> str:
    """Write a recovery with its interval, such as '93 % [88, 97]'; a dash unless compression surely cost something."""
    value = _value(recovery)
    return "–" if value is None else percent(value) + bounds(recovery, lambda share: number(round(100 * share), 0))


def _joined(names: Sequence[str]) -> str:
    """Join names as 'a', 'a and b' or 'a, b and c'."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _contrast_sentence(table: Table, ratio: Ratio) -> list[str]:
    """Say from which compressors the grid's first can be distinguished, adapted, and from which it cannot."""
    here = [c for c in table.contrasts if c.ratio == ratio and c.adapted and c.adapted.value is not None]
    groups: dict[str, list[str]] = {}
    for contrast in here:
        phrase = "is better than" if contrast.better == contrast.first else "is worse than"
        phrase = phrase if contrast.better else "cannot be distinguished from"
        difference = f"{signed(_value(contrast.adapted))}{bounds(contrast.adapted, signed)}"
        groups.setdefault(phrase, []).append(f"{contrast.second.compressor} ({difference})")
    phrases = "; it ".join(f"{phrase} {_joined(names)}" for phrase, names in groups.items())
    return [f"There, paired over utterances, {here[0].first.compressor} {phrases}."] if here else []


PARTIAL = "The run did not finish: cells that it did not reach show the results of an earlier run, or none."


def summary(
    name: str, tables: Sequence[Table], n_failed: int, skipped: Mapping[str, str], path: str, partial: bool = False
) -> str:
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
    if n_failed:
        lines += ["", f"{n_failed} without a result: see the report"]
    lines += ["", PARTIAL] if partial else []
    lines += [f"{test_set} was skipped: {reason}" for test_set, reason in skipped.items()]
    return "\n".join([*lines, "", f"report: {path}", ""]).replace(NO_BREAK, " ")


def _summary_line(table: Table, rows: Sequence[Row], uncompressed: Interval | None) -> str:
    """Write the line of one ratio: the best of its rows, among the adapted ones where there are any."""
    best = best_of(table.board, [row for row in rows if row.adapted] or rows)
    first, names = best[0], ", ".join(row.cell.compressor for row in best)
    value, before = _value(first.score), _value(uncompressed)
    cost = "–" if value is None or before is None else signed(value - before)
    condition = "" if first.adapted else ", zero-shot"
    if _value(first.recovery) is not None and len(best) == 1:
        condition += f", recovers {recovered(first.recovery)}"
    head = _summary_head(f"{first.cell.ratio} {names}", value)
    return f"{head} ({cost:>6}){number(first.rate.mean):>8} audio tokens/s{condition}"


def _summary_head(label: str, value: float | None) -> str:
    return f"  {label:<18} {number(value):>6}"


def _value(interval: Interval | None) -> float | None:
    return interval.value if interval else None


def took(evidence: Evidence) -> list[str]:
    """Give the median time of an adapter and of a decoded set, and the time of the base, where they are known."""
    adapters = [training.record.seconds for training in evidence.trainings]
    decoded = [result.record.seconds for result in evidence.results]
    times = [f"{median(adapters):,.0f} s per adapter"] if adapters else []
    times += [f"{median(decoded):,.0f} s per test set"] if decoded else []
    sentences = [f"Median time: {', '.join(times)}."] if times else []
    if evidence.assembled:
        sentences.append(f"Joining the base took {evidence.assembled.seconds:,.0f} s.")
    return sentences


def conditions(
    tables: Sequence[Table], seeds: Sequence[int], base: str, synthetic: Sequence[str], skipped: Mapping[str, str]
) -> list[str]:
    """Say what the numbers are conditional on. `synthetic`: the test sets with synthetic speech."""
    sentences = [
        f"One base model ({base}). Another base may rank the compressors differently: how an encoder was trained "
        "decides how redundant neighbouring frames are."
    ]
    if {table.board.label for table in tables} == {BLOCKED}:
        sentences.append("The intervals resample whole speakers, so they extend to other speakers of that kind.")
    else:
        sentences.append(
            "Where a test set has fewer than 40 speakers, the intervals resample utterances: they hold for "
            "these voices and do not extend to others."
        )
    if not seeds:
        sentences.append("Nothing was adapted: every score is zero-shot.")
    elif len(seeds) < SEEDS_TO_SPREAD:
        listed = f"One LoRA seed ({seeds[0]})" if len(seeds) == 1 else f"{len(seeds)} LoRA seeds"
        sentences.append(f"{listed}. Another seed changes a score too; the intervals do not include that.")
    else:
        sentences.append(
            f"{len(seeds)} LoRA seeds where several are listed. Intervals of what has three seeds or more are over "
            "seeds too; those of what has fewer are not."
        )
    sentences += [
        "Every adapted cell had the same training pairs, order, batch, steps, schedule, rank and targets; a learning "
        "rate tuned on some cells may favour them.",
        "Tokens are counted at the rate that each test set realised. Differences are paired over utterances and "
        "not adjusted for multiple comparisons.",
    ]
    if synthetic:
        sentences.append(
            f"The speech of {_joined(synthetic)} is synthetic: it shows how the methods behave under controlled "
            "conditions, and does not show how they compare on recorded speech or with large models."
        )
    return [*sentences, *(f"The test set {name} was skipped: {reason}." for name, reason in skipped.items())]
