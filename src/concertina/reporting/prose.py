"""The findings in words: headline sentences, the console summary, and what it all rests on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from concertina.reporting.board import UNTOUCHED, Board, Cell, excludes_zero
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


def meeting_ratio(grid: Sequence[Cell]) -> str:
    """The ratio at which most compressors can be compared; the larger of equals."""
    ratios = [cell.ratio for cell in grid if cell.compressor != UNTOUCHED and cell.ratio != "natural"]
    return max(ratios, key=lambda r: (ratios.count(r), float(r)), default="1")


def _best_sentence(table: Table, ratio: str) -> list[str]:
    rows = [row for row in table.rows if row.cell.ratio == ratio and row.adapted and not row.is_reference]
    reference = next((row for row in table.rows if row.is_reference and row.adapted), None)
    if not rows:
        return []
    sign = 1 if table.board.metric.higher_is_better else -1
    best = max(rows, key=lambda row: sign * (row.adapted.value or 0.0))  # type: ignore[union-attr]
    unit = table.board.metric.label.replace(", %", "")
    per_cent = f"{NO_BREAK}%" if "%" in table.board.metric.label else ""
    text = f"On {table.board.name}, at {ratio} frames per token, {best.cell.compressor} does best: "
    text += f"{unit} {number(best.adapted.value)}{per_cent}{bounds(best.adapted)} adapted"  # type: ignore[union-attr]
    if best.zero_shot:
        text += f" ({number(best.zero_shot.value)}{per_cent} zero-shot)"
    if reference and reference.adapted:
        text += f", against {number(reference.adapted.value)}{per_cent} uncompressed; "
        text += f"{number(best.rate.mean)} audio tokens per second instead of {number(reference.rate.mean)}"
    if best.recovery and best.recovery.value is not None:
        text += f". LoRA wins back {percent(best.recovery.value)} of what compression costs zero-shot"
    return [text + "."]


def _contrast_sentence(table: Table, ratio: str) -> list[str]:
    """Which compressors the pivot was told apart from, adapted, and which it was not."""
    found = [c for c in table.contrasts if c.ratio == ratio and c.adapted and c.adapted.value is not None]
    groups: dict[str, list[str]] = {}
    for contrast in found:
        told = "is better than" if contrast.verdict == contrast.first else "is worse than"
        phrase = told if excludes_zero(contrast.adapted) else "is not told apart from"
        difference = f"{signed(contrast.adapted.value)}{bounds(contrast.adapted, signed)}"  # type: ignore[union-attr]
        groups.setdefault(phrase, []).append(f"{contrast.second} ({difference})")
    said = "; it ".join(f"{phrase} {' and '.join(names)}" for phrase, names in groups.items())
    return [f"There, paired over utterances, {found[0].first} {said}."] if found else []


PARTIAL = "The run did not finish: cells that it had not reached show the results of an earlier run, or none."


def summary(
    name: str, tables: Sequence[Table], n_failed: int, skipped: Mapping[str, str], path: str, partial: bool = False
) -> str:
    """What the console shows when a run ends: the best cell per ratio and what it costs against `none`."""
    lines = [f"{name}: {len(tables[0].rows) if tables else 0} cells on {len(tables)} test sets"]
    for table in tables:
        metric, reference = table.board.metric, next((row for row in table.rows if row.is_reference), None)
        untouched = reference.adapted or reference.zero_shot if reference else None
        lines += ["", f"{table.board.title} ({metric.label}, {metric.direction} is better)"]
        if reference and untouched:
            head = _summary_head(reference, untouched.value)
            lines.append(f"{head}{'':9}{number(reference.rate.mean):>8} audio tokens/s")
        for ratio in dict.fromkeys(row.cell.ratio for row in table.rows if not row.is_reference):
            rows = [row for row in table.rows if row.cell.ratio == ratio and (row.adapted or row.zero_shot)]
            if rows:
                lines.append(_summary_line(table, rows, untouched))
    if n_failed:
        lines += ["", f"{n_failed} without a result: see the report"]
    lines += ["", PARTIAL] if partial else []
    lines += [f"{test_set} was skipped: {reason}" for test_set, reason in skipped.items()]
    return "\n".join([*lines, "", f"report: {path}", ""]).replace(NO_BREAK, " ")


def _summary_line(table: Table, rows: Sequence[Row], untouched: Interval | None) -> str:
    sign = 1 if table.board.metric.higher_is_better else -1
    adapted = [row for row in rows if row.adapted]
    best = max(adapted or rows, key=lambda row: sign * (_value(row.adapted or row.zero_shot) or 0.0))
    value = _value(best.adapted or best.zero_shot)
    before = _value(untouched)
    cost = "–" if value is None or before is None else signed(value - before)
    recovered = "" if _value(best.recovery) is None else f", recovers {percent(_value(best.recovery))}"
    condition = "" if best.adapted else ", zero-shot"
    return f"{_summary_head(best, value)} ({cost:>6}){number(best.rate.mean):>8} audio tokens/s{recovered}{condition}"


def _summary_head(row: Row, value: float | None) -> str:
    label = row.cell.compressor if row.is_reference else f"{row.cell.ratio} {row.cell.compressor}"
    return f"  {label:<18} {number(value):>6}"


def _value(interval: Interval | None) -> float | None:
    return interval.value if interval else None


def whisper(record: Run | None, metrics: Sequence[str]) -> list[str]:
    """What the base's encoder is worth with its own decoder, in a sentence; nothing where it has none."""
    if record is None:
        return []
    told = []
    for name, fact in record.facts.items():
        scores = {metric: fact["scores"][metric] for metric in metrics[:1]}
        told += [
            f"{metric.upper()} {number(score['value'])} [{number(score['low'])}, {number(score['high'])}] on {name}"
            for metric, score in scores.items()
        ]
    return [f"The base's encoder with its own decoder, Whisper itself, on the same audio: {'; '.join(told)}."]


def took(found: Evidence) -> list[str]:
    """The seconds that the base, an adapter and a decoded set took, in a sentence; nothing where none is known."""
    adapters = [training.record.seconds for training in found.trainings]
    decoded = [result.record.seconds for result in found.results]
    told = [f"the base {found.assembled.seconds:,.0f}"] if found.assembled else []
    told += [f"an adapter {median(adapters):,.0f}"] if adapters else []
    told += [f"a set decoded {median(decoded):,.0f}"] if decoded else []
    return [f"Seconds (medians): {', '.join(told)}."] if told else []


def gate(record: Run | None) -> list[str]:
    """How the uncompressed base stood against published figures, in sentences."""
    if record is None:
        return []
    told = [f"Against published figures, uncompressed: {'; '.join(fact['told'] for fact in record.facts.values())}."]
    return told + ([f"The gate was overridden: {record.override}"] if record.override else [])


def conditions(
    tables: Sequence[Table], seeds: Sequence[int], base: str, synthetic: bool, skipped: Mapping[str, str]
) -> list[str]:
    """What the numbers are conditional on, in plain words."""
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
            "The speech is synthetic: it shows how the methods behave under controlled conditions, and decides nothing "
            "about recorded speech or large models. Another encoder may rank the compressors otherwise: "
            "configs/small.yaml asks it of Whisper tiny.en's frames."
        )
    return [*sentences, *(f"The test set {name} was skipped: {reason}." for name, reason in skipped.items())]
