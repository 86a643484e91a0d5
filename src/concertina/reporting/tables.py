"""Tables of texts, for the page and the documentation: verdicts on claims, parts of losses, the paper's figures."""

from collections.abc import Sequence

from concertina.config.claims import Claim, Published
from concertina.config.values import Ratio
from concertina.reporting.board import Board, System
from concertina.reporting.parts import Table
from concertina.reporting.prose import Table as MainTable
from concertina.reporting.prose import bounds, number, signed
from concertina.reporting.statistics import Interval
from concertina.reporting.verdicts import UNDECIDED, Finding, Judged

BENCH = "This experiment is a test bench: it decides no claim of the paper."
NOT_HERE = "not judged here"


def claims(judged: Sequence[Judged], bench: bool) -> list[Table]:
    """Return the verdict on every claim, and every test that it rests on."""
    if not judged:
        return []
    rows = []
    for one in judged:
        verdicts = [finding.verdict for finding in one.findings]
        counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
        about = f"{one.claim.statement} ({one.claim.source})" + f" Here: {one.claim.note}." * bool(one.claim.note)
        verdict = _shown(one.claim, one.verdict, bench) if verdicts else NOT_HERE
        rows.append([about, verdict, counts or "its cells or test sets are not in this experiment"])
    note = "A claim is contradicted where any of its tests is, supported where all are, and otherwise undecided."
    note += f" {BENCH}" * bench
    tables = [Table("Claims", note, ["Claim", "Verdict", "Tests"], rows)]
    found = [_tested(one.claim, finding, bench) for one in judged for finding in one.findings]
    if found:
        tables.append(Table("What the verdicts rest on", _how(judged), DETAILS, found))
    return tables


DETAILS = ["Claim", "Test set", "Verdict", "Is it so?", "Effect", "Limit", "p", "Each seed"]


def _how(judged: Sequence[Judged]) -> str:
    decided = {(str(f.test), f.board.name) for one in judged for f in one.findings if f.p is not None}
    return (
        "Effect: the loss, less the loss that it is compared with, in points of the metric; above zero is worse. Its "
        "interval is paired, over utterances and, where anything is adapted, over LoRA seeds, and conditional as the "
        "main tables' are. p: of the effect being at the limit, by Holm's method over the "
        f"{len(decided)} tests that could be decided here. Each seed: its effect, and the exact p of their signs. "
        "Undecided: what would decide it, if the effect is as large as it looks."
    )


def _tested(claim: Claim, finding: Finding, bench: bool) -> list[str]:
    effect, seeds = finding.effect, finding.effect.per_seed if finding.effect else ()
    signs = "" if finding.signs_p is None or len(seeds) < 2 else f" (p {finding.signs_p:.2g})"
    each = ", ".join(map(signed, seeds)) + signs
    p = "–" if finding.p is None else "< 0.001" if finding.p < 0.001 else f"{finding.p:.2g}"
    why = f": {finding.why}" if finding.why else ""
    return [
        claim.id,
        f"{finding.board.name}, {finding.board.metric.heading}",
        f"{_shown(claim, finding.verdict, bench)}{why}",
        str(finding.test),
        difference(effect),
        number(finding.limit),
        p,
        each or "–",
    ]


def _shown(claim: Claim, verdict: str, bench: bool) -> str:
    """Write a verdict; one on a claim of the paper from a test bench says so."""
    return f"{verdict}, on a bench only" if bench and claim.paper and verdict != UNDECIDED else verdict


def difference(interval: Interval | None) -> str:
    """Write a difference with its interval: '+1.5 [+0.4, +2.8]'."""
    return signed(interval.value) + bounds(interval, signed) if interval else "–"


def losses(tables: Sequence[MainTable], ratio: Ratio | None = None) -> list[Table]:
    """Return the parts of the zero-shot loss of each cell (of a ratio), and what LoRA adds, by test set and cell."""
    rows = []
    for split in (s for table in tables for s in table.splits if ratio in (None, s.cuts.ratio)):
        where = f"{split.board.name}: {split.board.metric.heading}"
        uncompressed = number(split.uncompressed.value if split.uncompressed else None)
        lora = (split.lora_none, split.lora_keep, split.lora_renumber)
        rows.append([where, split.cuts.name, uncompressed, *map(difference, (split.audio, split.positions, *lora))])
    heads = ["Test set", "Cell", "Uncompressed", "Lost audio: kept − uncompressed"]
    heads += [
        "Positions: renumbered − kept",
        *(f"LoRA adds: {what}" for what in ("uncompressed", "kept", "renumbered")),
    ]
    note = (
        "Zero-shot, compression costs two things: audio that is lost, and positions that are not where the model "
        "expects them. Differences of scores, paired; what LoRA adds is adapted minus zero-shot. Audio tokens, prefill "
        "and cache are the same under both positions."
    )
    return [Table("Where the loss comes from", note, heads, rows)] if rows else []


def paper(figures: Sequence[Published], boards: Sequence[Board], train_set: str) -> list[Table]:
    """Return the paper's figures that a reader has typed in, beside ours where this experiment has the cell and set."""
    rows = []
    for figure in figures:
        board = next((board for board in boards if board.name == figure.set), None)
        side, ours = figure.side, None
        if board:
            wanted = (side.train_set or train_set) if side.adapted else None
            cells = [s for s in board.runs if s.cell.name == side.cell and s == System(s.cell, wanted)]
            ours = board.value(cells[0], figure.metric) if cells else None
        off = None if ours is None else ours - figure.value
        rows.append(
            [str(side), figure.set, figure.metric, number(figure.value), number(ours), signed(off), figure.where]
        )
    heads = ["Cell", "Test set", "Metric", "The paper", "Ours", "Ours − the paper", "Where in the paper"]
    note = "Typed in from the paper by a reader; a dash where this experiment has no such result."
    return [Table("Beside the paper's figures", note, heads, rows)] if rows else []
