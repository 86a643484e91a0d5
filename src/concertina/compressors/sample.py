"""Sample: one frame of every window of `ratio` frames stands for all of it."""

from torch import Tensor

from concertina.compressors import _ragged
from concertina.compressors._segments import Segments
from concertina.compressors._utterances import Utterances

reads = ()
allowed = {"phase": "0 <= phase < ratio"}  # a rule for an option's value; a plan that breaks it is refused


def cut(speech: Utterances, ratio: float, *, phase: int = 0) -> Segments:
    """Cut into windows as `average` does; the frame at `phase` (0: the window's first) has all the weight."""
    windows = Segments.cut(_ragged.window_starts(speech.lengths_B, ratio), speech.lengths_B)
    return windows.weigh(one_frame(windows, phase))


def one_frame(segments: Segments, phase: int) -> Tensor:
    """Score the frame at `phase` in each token 1, and all others 0; in a shorter token its last frame: bool [T]."""
    lengths_N = segments.lengths_N
    scored_N = (lengths_N - 1).clamp(max=phase)
    return _ragged.position(lengths_N) == _ragged.spread(scored_N, lengths_N)
