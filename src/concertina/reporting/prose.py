"""The findings in words: headline sentences, the console summary, and what it all rests on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from concertina.config.values import UNCOMPRESSED, Cell, Ratio
from concertina.reporting.board import Board, measure
from concertina.reporting.evidence import Evidence
from concertina.reporting.findings import Contrast, Row
from concertina.reporting.statistics import BLOCKED, Interval
from concertina.store.records import Run

MINUS, NO_BREAK = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Table:
    """A test set with its main table and contrasts."""

    board: Board
    rows: tuple[Row, ...]
    contrasts: tuple[Contrast, ...]

    def row(self, cell: Cell) -> Row:
        """A cell's line; an empty one where the cell is not scored on this set."""
        return next((row for row in self.rows if row.cell == cell), Row(cell))


def number(value: float | None, digits: int = 1) -> str:
    """`6.66` -> '6.7'; an en dash for what is not there."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 1) -> str:
    """`0.52` -> '+0.5', with a true minus sign; zero has no sign."""
    if value is None:
        return "–"
    text = f"{value:+.{digits}f}".replace("-", MINUS)
    return text[1:] if float(f"{value:.{digits}f}") == 0 else text


def percent(value: float | None) -> str:
    """A share as percent: `0.934` -> '93 %', kept on one line."""
    return "–" if value is None else f"{100 * value:.0f}{NO_BREAK}%".replace("-", MINUS)


def bounds(interval: Interval | None, write: Callable[[float], str] = number) -> str:
    """' [5.9, 7.6]', or nothing."""
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f" [{write(interval.low)}, {write(interval.high)}]"


def headlines(tables: Sequence[Table], grid: Sequence[Cell]) -> list[str]:
    """The findings in brief, at the ratio where most compressors meet, for the first two test sets."""
    ratio = meeting_ratio(grid)
    sentences = []
    for table in tables[:2]:
        if best := _best_sentence(table, ratio):
            sentences.append(" ".join([*best, *_contrast_sentence(table, ratio)]))
    return sentences or ["No adapted cell has been scored yet; the zero-shot scores are below."]


def meeting_ratio(grid: Sequence[Cell]) -> Ratio:
    """The ratio at which most compressors can be compared; the larger of equals."""
    ratios = [cell.ratio for cell in grid if cell != UNCOMPRESSED and not cell.ratio.natural]
    return max(ratios, key=lambda ratio: (ratios.count(ratio), ratio), default=UNCOMPRESSED.ratio)


def best_of(board: Board, rows: Sequence[Row]) -> list[Row]:
    """The rows with the best score, adapted where there is one; several where they tie exactly."""
    scores = [row.score.value for row in rows if row.score and row.score.value is not None]
    top = (max if board.metric.higher_is_better else min)(scores, default=None)
    return [row for row in rows if row.score and row.score.value == top]


def _best_sentence(table: Table, ratio: Ratio) -> list[str]:
    """Which compressor is best at a ratio, adapted; nothing where none was adapted."""
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
        text += f". LoRA wins back {recovered(first.recovery)} of what compression costs zero-shot"
    return [text + "."]


def recovered(recovery: Interval | None) -> str:
    """A recovery with its interval: '93 % [88, 97]'; a dash where nothing was surely lost."""
    value = _value(recovery)
    return "–" if value is None else percent(value) + bounds(recovery, lambda share: number(round(100 * share), 0))


def _joined(names: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _contrast_sentence(table: Table, ratio: Ratio) -> list[str]:
    """Which compressors the grid's first can be distinguished from, adapted, and which not."""
    here = [c for c in table.contrasts if c.ratio == ratio and c.adapted and c.adapted.value is not None]
    groups: dict[str, list[str]] = {}
    for contrast in here:
        phrase = "is better than" if contrast.better == contrast.first else "is worse than"
        phrase = phrase if contrast.better else "cannot be distinguished from"
        difference = f"{signed(_value(contrast.adapted))}{bounds(contrast.adapted, signed)}"
        groups.setdefault(phrase, []).append(f"{contrast.second.compressor} ({difference})")
    phrases = "; it ".join(f"{phrase} {_joined(names)}" for phrase, names in groups.items())
    return [f"There, paired over utterances, {here[0].first.compressor} {phrases}."] if here else []


PARTIAL = "The run did not finish: cells that it had not reached show the results of an earlier run, or none."


def summary(
    name: str, tables: Sequence[Table], n_failed: int, skipped: Mapping[str, str], path: str, partial: bool = False
) -> str:
    """What the console shows when a run ends: the best cell per ratio and what it costs against `none`."""
    lines = [f"{name}: {len(tables[0].rows) if tables else 0} cells on {len(tables)} test sets"]
    for table in tables:
        metric, reference = table.board.metric, next((row for row in table.rows if row.is_reference), None)
        untouched = reference.score if reference else None
        lines += ["", f"{table.board.title} ({metric.heading}, {metric.direction} is better)"]
        if reference and untouched:
            head = _summary_head(reference.cell.compressor, untouched.value)
            lines.append(f"{head}{'':9}{number(reference.rate.mean):>8} audio tokens/s")
        for ratio in dict.fromkeys(row.cell.ratio for row in table.rows if not row.is_reference):
            rows = [row for row in table.rows if row.cell.ratio == ratio and row.score]
            if rows:
                lines.append(_summary_line(table, rows, untouched))
    if n_failed:
        lines += ["", f"{n_failed} without a result: see the report"]
    lines += ["", PARTIAL] if partial else []
    lines += [f"{test_set} was skipped: {reason}" for test_set, reason in skipped.items()]
    return "\n".join([*lines, "", f"report: {path}", ""]).replace(NO_BREAK, " ")


def _summary_line(table: Table, rows: Sequence[Row], untouched: Interval | None) -> str:
    """The best of the rows, which have a ratio in common, the adapted ones where there are any."""
    best = best_of(table.board, [row for row in rows if row.adapted] or rows)
    first, names = best[0], ", ".join(row.cell.compressor for row in best)
    value, before = _value(first.score), _value(untouched)
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


def whisper(record: Run | None, metrics: Sequence[str]) -> list[str]:
    """What the base's encoder is worth with its own decoder, in a sentence; nothing where it has none."""
    if record is None:
        return []
    name, scores = metrics[0], []
    for test_set, fact in record.facts.items():
        score = fact["scores"][name]
        interval = Interval(score["value"], score["low"], score["high"])
        scores.append(f"{measure(name).label} {number(interval.value)}{bounds(interval)} on {test_set}")
    return [f"The base's encoder with its own decoder, Whisper itself, on the same audio: {'; '.join(scores)}."]


def took(evidence: Evidence) -> list[str]:
    """The median time of an adapter and a decoded set, and that of the base; nothing where none is known."""
    adapters = [training.record.seconds for training in evidence.trainings]
    decoded = [result.record.seconds for result in evidence.results]
    times = [f"{median(adapters):,.0f} s per adapter"] if adapters else []
    times += [f"{median(decoded):,.0f} s per test set"] if decoded else []
    sentences = [f"Median time: {', '.join(times)}."] if times else []
    if evidence.assembled:
        sentences.append(f"Joining the base took {evidence.assembled.seconds:,.0f} s.")
    return sentences


def gate(record: Run | None) -> list[str]:
    """How the uncompressed base compares with published figures, in sentences."""
    if record is None:
        return []
    figures = "; ".join(_figure(test_set, fact) for test_set, fact in record.facts.items())
    sentences = [f"The uncompressed base against published figures: {figures}."]
    return sentences + ([f"The gate was overridden: {record.override}"] if record.override else [])


def _figure(test_set: str, fact: Mapping[str, Any]) -> str:
    """One published figure and ours: 'clean: WER 1.85 [1.6, 2.1], published 1.7, within the tolerance of 0.2'."""
    interval = Interval(fact["value"], fact["low"], fact["high"])
    words = {"pass": "within", "warn": "a warning, beyond", "stop": "beyond"}[fact["verdict"]]
    ours = f"{measure(fact['metric']).label} {number(interval.value, 2)}{bounds(interval)}"
    return f"{test_set}: {ours}, published {fact['published']:g}, {words} the tolerance of {fact['tolerance']:g}"


def conditions(
    tables: Sequence[Table], seeds: Sequence[int], base: str, synthetic: Sequence[str], skipped: Mapping[str, str]
) -> list[str]:
    """What the numbers are conditional on, in plain words. `synthetic`: the test sets that a machine speaks."""
    sentences = [
        f"One base model ({base}). Another base may rank the compressors differently: how an encoder was trained "
        "decides how much neighbouring frames share."
    ]
    if {table.board.label for table in tables} == {BLOCKED}:
        sentences.append("The intervals resample whole speakers, so they speak for other speakers of the same kind.")
    else:
        sentences.append(
            "The intervals resample utterances, not speakers, where a set has fewer than 40 of them: they say how sure "
            "the score is for these voices, not for others."
        )
    if not seeds:
        sentences.append("Nothing was adapted: every score is zero-shot.")
    elif len(seeds) == 1:
        sentences.append(
            f"One LoRA seed ({seeds[0]}). Another moves a score too, and the intervals do not contain that."
        )
    else:
        sentences.append(
            f"{len(seeds)} LoRA seeds where several are listed. Their spread stands beside the interval and is never "
            "mixed into it."
        )
    sentences += [
        "Every adapted cell had the same training pairs, order, batch, steps, schedule, rank and targets; a learning "
        "rate chosen for some cells may favour them.",
        "Tokens are counted at the rate that each test set realised. Differences are paired over utterances and "
        "not adjusted for how many were looked at.",
    ]
    if synthetic:
        sentences.append(
            f"The speech of {_joined(synthetic)} is synthetic: it shows how the methods behave under controlled "
            "conditions, and decides nothing about recorded speech or large models."
        )
    return [*sentences, *(f"The test set {name} was skipped: {reason}." for name, reason in skipped.items())]
