"""Sample: one frame of every window of `ratio` frames stands for all of it."""

from dataclasses import replace

from torch import Tensor

from concertina.compressors import _ragged
from concertina.compressors._segments import Segments
from concertina.config import ConfigError


def segment(
    frames_TD: Tensor, lengths_B: Tensor, ratio: float, cues: dict[str, Tensor], seeds_B: Tensor, *, phase: int = 0
) -> Segments:
    """Give the frame at `phase` (0: the window's first) all the weight; in a shorter window, its last frame.

    Errors: ConfigError when no window has a frame at `phase`.
    """
    if not (isinstance(phase, int) and 0 <= phase < ratio):
        raise ConfigError(f"compressor sample: phase is a frame of a window, from 0 to below {ratio:g}; got {phase!r}")
    windows = Segments.cut(_ragged.window_starts(lengths_B, ratio), lengths_B)
    kept_N = (windows.lengths_N - 1).clamp(max=phase)
    kept_T = _ragged.position(windows.lengths_N) == _ragged.spread(kept_N, windows.lengths_N)
    return replace(windows, weights_T=kept_T.float())
