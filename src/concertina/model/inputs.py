"""Hold what the language model reads: a padded batch of embedded positions, or the same batch packed into one row.

Tensor names: B utterances, S positions of the longest, N positions of all utterances end to end, D width, H heads,
L positions that predict a label, A of them in the utterance that has most.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED = -100


@dataclass(frozen=True)
class Inputs:
    """A padded batch; positions are floats, because a token's may be the mean of its frames' indices."""

    embeds_BSD: Tensor
    mask_BS: Tensor
    positions_BS: Tensor
    labels_BS: Tensor


@dataclass(frozen=True)
class Grid:
    """The way from a packed row to a grid with one line for each utterance, as attention needs it, and back.

    `at_BS`: for each place of the grid, which entry of the row stands there (padding, which comes last, has any);
    `place_N`: for each entry of the row, its place in the flattened grid.
    """

    at_BS: Tensor
    place_N: Tensor

    def of_heads(self, heads: int) -> tuple[Tensor, Tensor]:
        """Return the same for vectors of heads: entries are numbered as [N, H], places as [B, H, S]; both flattened."""
        head_H = torch.arange(heads, device=self.at_BS.device)
        at_BHS = self.at_BS[:, None] * heads + head_H[:, None]
        longest = self.at_BS.shape[1]
        line_N, column_N = self.place_N // longest, self.place_N % longest
        place_NH = (line_N[:, None] * heads + head_H) * longest + column_N[:, None]
        return at_BHS.flatten(), place_NH.flatten()


@dataclass(frozen=True)
class Packing:
    """How to read a packed row: the grid of all its positions, and which of them predict a label.

    `predicts_L`: the positions of the row that predict a label; `labels_L`: these labels; `queries`: the grid of these
    positions alone; `columns_BA`: the column of each of them in the grid of all positions (0 in padding).
    """

    grid: Grid
    predicts_L: Tensor
    labels_L: Tensor
    queries: Grid
    columns_BA: Tensor


def pack(inputs: Inputs) -> tuple[Inputs, Packing]:
    """Pack a padded batch into one row, without padding and without what follows the last label's prediction.

    Labels are shifted before packing, so that no position predicts the first one of the next utterance.
    Errors: ValueError where there is no label.
    """
    # A position predicts the label after it. One is read if it, or a later one of its utterance, predicts a label:
    # the sum from the right counts these.
    valid_BS = inputs.mask_BS.bool()
    predicts_BS = torch.zeros_like(valid_BS)
    predicts_BS[:, :-1] = (inputs.labels_BS[:, 1:] != IGNORED) & valid_BS[:, :-1]
    read_BS = valid_BS & predicts_BS.flip(1).cumsum(1).flip(1).bool()
    lengths_B = read_BS.sum(1)
    if not len(lengths_B) or not bool(predicts_BS.any()):
        raise ValueError("a packed batch without a label: nothing would be learned from it")
    row = Inputs(
        inputs.embeds_BSD[read_BS][None],
        inputs.mask_BS[read_BS][None],
        inputs.positions_BS[read_BS][None],
        inputs.labels_BS[read_BS][None],
    )
    # Attention needs two grids: of every position, as key and value, and of those that predict a label, as queries.
    # A query must know its column among all positions, since it sees the keys up to there.
    utterance_N = torch.arange(len(lengths_B), device=lengths_B.device).repeat_interleave(lengths_B)
    grid, column_N = _grid(utterance_N, lengths_B)
    predicts_L = predicts_BS[read_BS].nonzero()[:, 0]
    queries, _ = _grid(utterance_N[predicts_L], predicts_BS.sum(1))
    columns_BA = torch.zeros_like(queries.at_BS)
    columns_BA.view(-1)[queries.place_N] = column_N[predicts_L]
    labels_L = inputs.labels_BS[:, 1:][predicts_BS[:, :-1]]
    return row, Packing(grid, predicts_L, labels_L, queries, columns_BA)


def _grid(utterance_N: Tensor, lengths_B: Tensor) -> tuple[Grid, Tensor]:
    """Return the grid of entries, given the utterance of each in ascending order, and the column of each entry."""
    entry_N = torch.arange(len(utterance_N), device=utterance_N.device)
    column_N = entry_N - (lengths_B.cumsum(0) - lengths_B)[utterance_N]
    longest = int(lengths_B.max())
    place_N = utterance_N * longest + column_N
    at_BS = torch.zeros(len(lengths_B), longest, dtype=torch.long, device=utterance_N.device)
    at_BS.view(-1)[place_N] = entry_N
    return Grid(at_BS, place_N), column_N
