"""Judge the claims of reference/claims.yaml by the results of one experiment: supported, contradicted or undecided.

For each test of a claim and each test set that it is judged on:
1. its effect: the loss that it names, less the loss that it is compared with, if any, in points of the metric (above
   zero is worse), with its paired interval over utterances, and over LoRA seeds where anything is adapted;
2. its limit: zero, or a number of points such as the margin that the config has set for the metric;
3. its p: of the effect being at the limit, two-sided, adjusted by Holm over all that are judged in this experiment;
4. its verdict: where p is small enough, 'supported' if the effect is below the limit and 'contradicted' if above;
   otherwise 'undecided', with the reason and with what would decide. Adapted cells need three seeds on both sides.
A claim is contradicted where any of its tests is, supported where all are, and otherwise undecided.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from concertina.config import Config
from concertina.config.claims import Claim, Loss, Side, Test
from concertina.config.values import UNCOMPRESSED, Cell
from concertina.reporting import deciding, statistics
from concertina.reporting.board import Board, System
from concertina.reporting.statistics import SEEDS_TO_SPREAD, Interval

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"


@dataclass(frozen=True)
class Finding:
    """One test on one test set: its effect, limit and adjusted p, the verdict with its reason, the rows it rests on."""

    test: Test
    board: Board
    effect: Interval | None
    limit: float | None
    p: float | None
    verdict: str
    why: str
    rows: tuple[System, ...]

    @property
    def signs_p(self) -> float | None:
        """The exact p of the signs of the seeds' effects, less the limit; None where there are no seeds."""
        if self.effect is None or self.limit is None or not self.effect.per_seed:
            return None
        return deciding.sign_flip_p([effect - self.limit for effect in self.effect.per_seed])


@dataclass(frozen=True)
class Judged:
    """A claim with its findings; none where the experiment has not the cells or the test sets of any of its tests."""

    claim: Claim
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        """The verdict on the claim as a whole."""
        verdicts = {finding.verdict for finding in self.findings}
        if CONTRADICTED in verdicts:
            return CONTRADICTED
        return SUPPORTED if verdicts == {SUPPORTED} else UNDECIDED


def is_better(judged: Sequence[Judged], board: Board, first: System, second: System) -> bool | None:
    """Return whether the first was judged better than the second on a test set, either way; None if undecided."""
    for finding in (finding for one in judged for finding in one.findings if finding.board is board):
        ranks = finding.test.below == 0 and len(finding.rows) == 2 and {first, second} == set(finding.rows)
        if ranks and finding.verdict != UNDECIDED:
            return (finding.verdict == SUPPORTED) == (finding.rows[0] == first)
    return None


@dataclass(frozen=True)
class _Measured:
    """A test on a test set before its p is adjusted; `open`: why no p could decide it, or ''."""

    test: Test
    board: Board
    effect: Interval | None
    limit: float | None
    rows: tuple[System, ...]
    open: str


def judge(config: Config, claims: Sequence[Claim], boards: Sequence[Board]) -> list[Judged]:
    """Judge every claim by the results of an experiment."""
    asked = [
        (claim, test, board) for claim in claims for test in claim.tests for board in _boards(config, test, boards)
    ]
    measured = {(str(test), board.name): _measure(config, test, board) for _, test, board in asked}  # each counts once
    judged = {key: one for key, one in measured.items() if not one.open}
    p_values = deciding.holm([_p(one) for one in judged.values()])
    adjusted = dict(zip(judged, p_values, strict=True))
    alpha = 1 - config.report.confidence_percent / 100
    found = {key: _verdict(one, adjusted.get(key), alpha, len(judged)) for key, one in measured.items()}
    return [
        Judged(claim, tuple(found[str(test), board.name] for of, test, board in asked if of is claim))
        for claim in claims
    ]


def _boards(config: Config, test: Test, boards: Sequence[Board]) -> Iterator[Board]:
    """Yield the test sets on which an experiment judges a test; none where it has not all of its cells."""
    wanted = test.sets or [test_set.name for test_set in config.judged_sets]
    for board in boards:
        if board.name in wanted and all(_systems(config, side, board.name) for side in test.sides):
            yield board


def _systems(config: Config, side: Side, test_set: str) -> list[System]:
    """Return what a side reads of an experiment on a test set: one system, the points of a curve, or nothing."""
    cells = [cell for cell in config.cells if config.test_set(test_set) in config.test_sets(cell)]
    named = _on_curve if side.curve else _is_called
    chosen = [cell for cell in cells if named(cell, side.cell, config.segments.positions[0])]
    if not side.adapted:
        return [System(cell, None) for cell in chosen]
    train_set = side.train_set or config.train.sets[0].name
    adapted = [cell for cell in chosen if train_set in {adapter.train_set for adapter in config.adapters(cell)}]
    return [System(cell, train_set) for cell in adapted]


def _is_called(cell: Cell, name: str, usual: str) -> bool:
    """Return whether a cell is called 'average-3-keep', or 'average-3' and has the experiment's usual positions."""
    return cell.name == name or (cell.cuts.name == name and cell.positions == usual)


def _on_curve(cell: Cell, name: str, usual: str) -> bool:
    """Return whether a cell is a point of the curve of 'average' or 'average-keep'; uncompressed speech is on all."""
    if cell == UNCOMPRESSED or cell.ratio.natural or cell.options:
        return cell == UNCOMPRESSED
    return f"{cell.compressor}-{cell.positions}" == name or (cell.compressor == name and cell.positions == usual)


def _measure(config: Config, test: Test, board: Board) -> _Measured:
    """Return the effect and the limit of a test on a test set, and why it is open where no p could decide it."""
    groups = [_systems(config, side, board.name) for side in test.sides]
    systems = list(dict.fromkeys(system for group in groups for system in group))
    limit = config.report.margins.get(board.metric.name) if test.below == "margin" else test.below
    limit = 0.0 if isinstance(limit, Loss) else limit
    if missing := [system for system in systems if system not in board.runs]:
        return _Measured(test, board, None, limit, tuple(systems), f"no result of {missing[0].name}")
    effect = board.tested(_effect(board, test.sides, groups, systems), *systems)
    return _Measured(test, board, effect, limit, tuple(systems), _open(effect, limit, board, systems))


def _effect(
    board: Board, sides: Sequence[Side], groups: Sequence[Sequence[System]], systems: Sequence[System]
) -> Callable[..., Any]:
    """Return the function of the systems' scores that is a test's effect: one loss, or one loss less another."""
    sign = -1.0 if board.metric.higher_is_better else 1.0
    place = {system: i for i, system in enumerate(systems)}
    rate = board.rate(groups[0][0].cell)

    def effect(*scores: Any) -> Any:
        read = []
        for side, group in zip(sides, groups, strict=True):
            own = [scores[place[system]] for system in group]
            rates = [board.rate(system.cell) for system in group]
            value = statistics.interpolate(rates, np.stack(own), rate) if side.curve else own[0]
            read.append(np.full_like(own[0], np.nan) if value is None else value)
        losses = [sign * (of - against) for of, against in zip(read[::2], read[1::2], strict=True)]
        return losses[0] - losses[1] if len(losses) > 1 else losses[0]

    return effect


def _open(effect: Interval | None, limit: float | None, board: Board, systems: Sequence[System]) -> str:
    """Return why no p could decide a test, or ''."""
    if limit is None:
        return f"report.margins has none for {board.metric.name}"
    if effect is None or effect.value is None or effect.low is None:
        return "the effect is not defined: a rate outside the curve, or an undefined score"
    adapted = any(system.train_set for system in systems)
    if adapted and not effect.spreads:
        seeds = len(effect.per_seed)
        return f"{seeds or 'no'} LoRA seed{'s' * (seeds != 1)} on both sides; {SEEDS_TO_SPREAD} are needed"
    return ""


def _p(measured: _Measured) -> float:
    assert measured.effect is not None
    assert measured.limit is not None
    return measured.effect.p(measured.limit)


def _verdict(measured: _Measured, p: float | None, alpha: float, compared: int) -> Finding:
    """Return the finding: the verdict by the adjusted p, or why there is none."""
    test, board, effect, limit, rows = (
        measured.test, measured.board, measured.effect, measured.limit, measured.rows
    )  # fmt: skip
    if p is None or effect is None or effect.value is None or limit is None:
        return Finding(test, board, effect, limit, None, UNDECIDED, measured.open, rows)
    if p < alpha:
        return Finding(test, board, effect, limit, p, SUPPORTED if effect.value < limit else CONTRADICTED, "", rows)
    needed = deciding.would_decide(effect, limit, alpha / compared, board.n_utterances)
    return Finding(test, board, effect, limit, p, UNDECIDED, needed, rows)


def text(judged: Sequence[Judged]) -> str:
    """Write the verdicts as JSON: each claim with its tests, their effects and the results that they rest on."""
    claims = [
        {
            "claim": one.claim.id,
            "statement": one.claim.statement,
            "paper": one.claim.paper,
            "verdict": one.verdict if one.findings else None,
            "tests": [_fields(finding) for finding in one.findings],
        }
        for one in judged
    ]
    return json.dumps(claims, indent=1, ensure_ascii=False) + "\n"


def _fields(finding: Finding) -> dict[str, Any]:
    effect = finding.effect or Interval(None, None, None)
    numbers = {"effect": effect.value, "low": effect.low, "high": effect.high, "limit": finding.limit, "p": finding.p}
    return {
        "test_set": finding.board.name,
        "metric": finding.board.metric.name,
        "test": str(finding.test),
        **{name: None if value is None else round(value, 4) for name, value in numbers.items()},
        "per_seed": [round(value, 4) for value in effect.per_seed],
        "signs_p": finding.signs_p,
        "verdict": finding.verdict,
        "why": finding.why,
        "rests_on": [system.name for system in finding.rows],
    }
