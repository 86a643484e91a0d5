"""Where a loss comes from: uncompressed to kept positions is lost audio, kept to renumbered is the positions' cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from concertina.config.values import UNCOMPRESSED, Cell
from concertina.reporting.board import Board, System
from concertina.reporting.statistics import Interval


@dataclass(frozen=True)
class Split:
    """The parts of a cell's loss, as paired differences of scores; `cuts`: the cell without positions.

    Zero-shot: `audio` is kept minus uncompressed, `positions` renumbered minus kept. What LoRA adds to each:
    `lora_keep` and `lora_renumber`, adapted minus zero-shot; `lora_none` is the same of uncompressed speech.
    """

    board: Board
    cuts: Cell
    uncompressed: Interval | None
    audio: Interval | None
    positions: Interval | None
    lora_none: Interval | None
    lora_keep: Interval | None
    lora_renumber: Interval | None


def splits(board: Board, grid: Sequence[Cell], train_set: str) -> list[Split]:
    """Split the loss of every cell that was decoded zero-shot under both positions."""
    none, rows = System(UNCOMPRESSED, None), []
    for cuts in {cell.cuts.name: cell.cuts for cell in grid}.values():
        placed = [System(cell, None) for cell in cuts.placed(["keep", "renumber"])]
        if len(placed) < 2 or not set(placed) <= board.runs.keys():
            continue
        keep, renumber = placed
        gains = [_gain(board, system, train_set) for system in (none, keep, renumber)]
        audio, positions = board.difference(keep, none), board.difference(renumber, keep)
        rows.append(Split(board, cuts, board.interval(none), audio, positions, *gains))
    return rows


def _gain(board: Board, zero: System, train_set: str) -> Interval | None:
    """Return what an adapter adds to a cell: its score minus the zero-shot one; None where there is no adapter."""
    return board.difference(System(zero.cell, train_set), zero)
