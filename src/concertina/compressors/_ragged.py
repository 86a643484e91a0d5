"""Arithmetic on packed batches: the frames of many utterances end to end, and no loop over any of them.

Names end in their shape: B utterances, T frames of all of them end to end, D width.
Everything here gives the same bits for an utterance alone, in any batch, in any order and on any machine.
"""

from fractions import Fraction

import torch
from torch import Tensor

CACHED_VALUES = 2**18  # of float32, 1 MiB


def spread(values_B: Tensor, lengths_B: Tensor) -> Tensor:
    """Repeat each utterance's value for each of its frames: [B] -> [T]."""
    return values_B.repeat_interleave(lengths_B)


def owner(lengths_B: Tensor) -> Tensor:
    """Number the utterances, once for each of their frames: int64 [T]."""
    return spread(torch.arange(len(lengths_B), device=lengths_B.device), lengths_B)


def position(lengths_B: Tensor) -> Tensor:
    """Number the frames of each utterance from 0: int64 [T]."""
    first_B = lengths_B.cumsum(0) - lengths_B
    return torch.arange(int(lengths_B.sum()), device=lengths_B.device) - spread(first_B, lengths_B)


def places(chosen_B: Tensor, lengths_B: Tensor) -> Tensor:
    """Where the items of the chosen utterances stand in a packed row with `lengths_B` items each: int64 [T]."""
    first_B = (lengths_B.cumsum(0) - lengths_B)[chosen_B]
    return spread(first_B, lengths_B[chosen_B]) + position(lengths_B[chosen_B])


def token_counts(lengths_B: Tensor, ratio: float) -> Tensor:
    """ceil(T / ratio) tokens for each utterance: int64 [B]."""
    frames, tokens = _fraction(ratio)
    return (lengths_B * tokens + frames - 1) // frames


def window_starts(lengths_B: Tensor, ratio: float) -> Tensor:
    """Mark the first frame of each window, bool [T]: window j of ceil(T / ratio) begins at frame ceil(j * ratio).

    At a fractional ratio the last of these can fall on T, one past the end (13 frames at 2.5: 0, 3, 5, 8, 10, 13);
    then the last windows begin earlier, by as little as leaves each a frame (0, 3, 5, 8, 10, 12).
    """
    frames, tokens = _fraction(ratio)
    counts_B = token_counts(lengths_B, ratio)
    window_N = position(counts_B)
    latest_N = spread(lengths_B - counts_B, counts_B) + window_N
    start_N = torch.minimum((window_N * frames + tokens - 1) // tokens, latest_N)
    starts_T = torch.zeros(int(lengths_B.sum()), dtype=torch.bool, device=lengths_B.device)
    starts_T[spread(lengths_B.cumsum(0) - lengths_B, counts_B) + start_N] = True
    return starts_T


def first_in_each(counts_B: Tensor, lengths_B: Tensor, preferred_T: Tensor, key_T: Tensor) -> Tensor:
    """Mark, in each utterance, the first `counts_B` frames by falling key, preferred ones before all others: bool [T].

    `preferred_T`: bool. What ties goes to the earlier frame.
    """
    utterance_T = owner(lengths_B)
    by_key_T = key_T.argsort(descending=True, stable=True)
    group_T = 2 * utterance_T + ~preferred_T
    order_T = by_key_T[group_T[by_key_T].argsort(stable=True)]
    marked_T = torch.zeros_like(preferred_T)
    marked_T[order_T] = position(lengths_B) < spread(counts_B, lengths_B)
    return marked_T


def lots(seeds_B: Tensor, lengths_B: Tensor) -> Tensor:
    """Draw a number for every frame by lot; the seed of an utterance alone decides those of its frames: int64 [T].

    Frame t gets the t-th number of the generator splitmix64 (Steele et al., 2014), computed from its index, so that
    batch and order do not matter; all the numbers of an utterance differ.
    """
    state_T = spread(seeds_B, lengths_B) + (position(lengths_B) + 1) * _signed(0x9E3779B97F4A7C15)
    state_T = (state_T ^ _shift_right(state_T, 30)) * _signed(0xBF58476D1CE4E5B9)
    state_T = (state_T ^ _shift_right(state_T, 27)) * _signed(0x94D049BB133111EB)
    return state_T ^ _shift_right(state_T, 31)


def dots(left_TD: Tensor, right_TD: Tensor) -> Tensor:
    """The dot product of each row of `left` with the same row of `right`: [T].

    By halving the products, so that the order of additions depends on D alone; `sum` and matrix products leave it
    to the shape of the batch and to the machine. So many rows at a time as stay in a core's cache, in one buffer.
    """
    rows = max(CACHED_VALUES // max(left_TD.shape[1], 1), 1)
    buffer_RD = torch.empty_like(left_TD[:rows])
    dots_T = left_TD.new_empty(len(left_TD))
    for left_RD, right_RD, dots_R in zip(left_TD.split(rows), right_TD.split(rows), dots_T.split(rows), strict=True):
        products_RD = torch.mul(left_RD, right_RD, out=buffer_RD[: len(left_RD)])
        width = products_RD.shape[1]
        while width > 1:
            half = (width + 1) // 2
            products_RD[:, : width - half].add_(products_RD[:, half:width])  # += would also copy them
            width = half
        dots_R.copy_(products_RD[:, 0])
    return dots_T


def _fraction(ratio: float) -> tuple[int, int]:
    """A ratio as whole numbers (frames, tokens), so that 1.1 is 11 frames to 10 tokens and windows are exact."""
    return Fraction(ratio).limit_denominator(10**6).as_integer_ratio()


def _shift_right(bits_T: Tensor, places: int) -> Tensor:
    return (bits_T >> places) & ((1 << (64 - places)) - 1)  # >> alone would drag the sign along


def _signed(bits: int) -> int:
    return bits - (1 << 64)
