"""Random: cuts at places drawn by lot, the mean between them. What clever cuts must beat."""

from torch import Tensor

from concertina.compressors import _ragged
from concertina.compressors._segments import Segments


def segment(frames_TD: Tensor, lengths_B: Tensor, ratio: float, cues: dict[str, Tensor], seeds_B: Tensor) -> Segments:
    """Give every frame a lot and cut before those with the highest; an utterance's seed alone decides its lots."""
    position_T = _ragged.position(lengths_B)
    lot_T = scramble(_ragged.spread(seeds_B, lengths_B), position_T)
    counts_B = _ragged.token_counts(lengths_B, ratio)
    return Segments.cut(_ragged.first_in_each(counts_B, lengths_B, position_T == 0, lot_T), lengths_B)


def scramble(seeds_T: Tensor, index_T: Tensor) -> Tensor:
    """The `index`-th number that the generator splitmix64 (Steele et al., 2014) draws from each seed: int64 [T].

    A number by its index, not by its turn: neither batch nor order matters, and no two indices draw the same.
    """
    state_T = seeds_T + (index_T + 1) * _signed(0x9E3779B97F4A7C15)
    state_T = (state_T ^ _shift_right(state_T, 30)) * _signed(0xBF58476D1CE4E5B9)
    state_T = (state_T ^ _shift_right(state_T, 27)) * _signed(0x94D049BB133111EB)
    return state_T ^ _shift_right(state_T, 31)


def _shift_right(bits_T: Tensor, places: int) -> Tensor:
    return (bits_T >> places) & ((1 << (64 - places)) - 1)  # >> alone would drag the sign along


def _signed(bits: int) -> int:
    return bits - (1 << 64)
