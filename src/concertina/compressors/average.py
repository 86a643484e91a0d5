"""Average: the mean of every window of `ratio` frames."""

from torch import Tensor

from concertina.compressors import _ragged
from concertina.compressors._segments import Segments


def segment(frames_TD: Tensor, lengths_B: Tensor, ratio: float, cues: dict[str, Tensor], seeds_B: Tensor) -> Segments:
    """Cut where a window begins; the last window of an utterance takes what is left."""
    return Segments.cut(_ragged.window_starts(lengths_B, ratio), lengths_B)
