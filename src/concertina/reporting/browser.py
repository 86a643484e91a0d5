"""The browser of predictions: which utterances to show, and how a hypothesis differs from its reference.

Shapes: U utterances, K statistics of a metric.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import jiwer
import numpy as np

from concertina import metrics
from concertina.config.values import UNCOMPRESSED, Cell
from concertina.reporting.board import Board, System
from concertina.reporting.findings import condition_of


@dataclass(frozen=True)
class Part:
    """A stretch of words: 'equal', 'ins' (in the hypothesis alone) or 'del' (in the reference alone)."""

    op: str
    text: str


@dataclass(frozen=True)
class Hypothesis:
    """What one cell decoded for an utterance, as differences from the reference, with the utterance's own score."""

    cell: Cell
    value: float
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Example:
    """One utterance with the hypothesis of each cell."""

    id: str
    kind: str | None
    reference: str
    hypotheses: tuple[Hypothesis, ...]


def examples(board: Board, grid: Sequence[Cell], train_set: str, count: int) -> list[Example]:
    """Select the utterances whose score differs most from the uncompressed one's, one from each cell in turn.

    Adapted cells are shown with their first seed, or zero-shot where nothing was adapted.
    """
    condition = condition_of(board, train_set)
    shown = [cell for cell in grid if System(cell, condition) in board.runs]
    predictions = {cell: board.runs[System(cell, condition)][0].predictions for cell in shown}
    combine = metrics.load(board.metric.name).combine
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {cell: np.nan_to_num(combine(p.statistics(board.metric.name))) for cell, p in predictions.items()}
    uncompressed = values.get(UNCOMPRESSED, np.zeros(board.n_utterances))
    choices = []
    for cell in shown:
        difference_U = np.abs(values[cell] - uncompressed)
        order = np.argsort(-difference_U, kind="stable")
        choices.append([int(u) for u in order if difference_U[u] > 0])
    turns = (u for u in chain.from_iterable(zip_longest(*choices)) if u is not None)
    return [
        Example(
            board.predictions["id"][u],
            board.predictions["tags"][u].get("kind"),
            board.predictions["reference"][u],
            tuple(
                Hypothesis(c, float(values[c][u]), differences(board.predictions["reference"][u], p["hypothesis"][u]))
                for c, p in predictions.items()
            ),
        )
        for u in list(dict.fromkeys(turns))[:count]
    ]


def differences(reference: str, hypothesis: str) -> tuple[Part, ...]:
    """Return the hypothesis with its differences from the reference, by words without case and punctuation."""
    expected, decoded = reference.split(), hypothesis.split()
    if not expected or not decoded:
        return (Part("ins", hypothesis),) if decoded else (Part("del", reference),) if expected else ()
    chunks: list[Any] = jiwer.process_words(_keys(expected), _keys(decoded)).alignments[0]
    parts = []
    for chunk in chunks:
        missing = " ".join(expected[chunk.ref_start_idx : chunk.ref_end_idx])
        present = " ".join(decoded[chunk.hyp_start_idx : chunk.hyp_end_idx])
        if chunk.type == "equal":
            parts.append(Part("equal", present))
        else:
            parts += [Part(op, text) for op, text in (("ins", present), ("del", missing)) if text]
    return tuple(parts)


def _keys(words: list[str]) -> str:
    """Return the words without case and punctuation, joined by spaces; a word of punctuation alone is kept as it is."""
    return " ".join("".join(ch for ch in word.casefold() if ch.isalnum()) or word for word in words)
