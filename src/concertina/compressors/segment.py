"""Segment: cut where neighbouring frames differ most, and take the mean between cuts.

The difference is d_t = 1 - cos(z_t, z_{t+1}). At the ratio 'natural' every peak of d is a cut (arXiv 2511.20973,
after the detector of Bhati et al., 2021, arXiv 2106.02170); at a number, the largest peaks are, and where peaks
run out the largest other differences.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from concertina.compressors import _ragged
from concertina.compressors._segments import Segments
from concertina.compressors._utterances import Utterances

reads = ("frames",)
natural = True


def cut(speech: Utterances, ratio: float | Literal["natural"]) -> Segments:
    """Cut at peaks of the difference, the largest first; ties go to the earlier frame."""
    lengths_B = speech.lengths_B
    jump_T = jumps(speech.frames_TD, lengths_B)
    edge_T = jump_T.new_full((1,), math.inf)
    peak_T = (jump_T > torch.cat([edge_T, jump_T[:-1]])) & (jump_T > torch.cat([jump_T[1:], edge_T]))
    starts_T = peak_T | jump_T.isinf()
    if ratio != "natural":
        starts_T = _ragged.first_in_each(_ragged.token_counts(lengths_B, ratio), lengths_B, starts_T, jump_T)
    return Segments.cut(starts_T, lengths_B, peaks_T=peak_T)


def jumps(frames_TD: Tensor, lengths_B: Tensor) -> Tensor:
    """1 - cos of each frame and the one before it, float64 [T]; infinite at an utterance's first frame.

    A zero vector counts as cos = 1. Each row by itself in a fixed order, so the batch decides no tie.
    """
    power_T = _ragged.dots(frames_TD, frames_TD).double()
    dot_T = _ragged.dots(frames_TD[1:], frames_TD[:-1]).double()
    scale_T = (power_T[1:] * power_T[:-1]).sqrt()
    cosine_T = torch.where(scale_T > 0, dot_T / scale_T, 1.0)
    jump_T = torch.cat([power_T[:1], (1 - cosine_T).clamp(min=0)])  # one for the first frame, masked below
    return jump_T.masked_fill(_ragged.position(lengths_B) == 0, math.inf)
