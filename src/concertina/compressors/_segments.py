"""Frames and segments in, tokens out: the only place where tensors are pooled.

Names end in their shape: B utterances, T frames and N tokens of all of them end to end, D width.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from concertina.compressors import _ragged


@dataclass(frozen=True)
class Segments:
    """Where a batch of utterances is cut into tokens, and how frames weigh within them.

    `lengths_N`: frames of each token, int64; `counts_B`: tokens of each utterance, int64; `weights_T`: of each
    frame, float32, summing to 1 within each token; `peaks_B`: how many of an utterance's cuts are peaks, where that
    means something.
    """

    lengths_N: Tensor
    counts_B: Tensor
    weights_T: Tensor
    peaks_B: Tensor | None = None

    @classmethod
    def cut(
        cls, starts_T: Tensor, lengths_B: Tensor, peaks_T: Tensor | None = None, scores_T: Tensor | None = None
    ) -> "Segments":
        """Tokens that are the means of their frames, or weighted means.

        `starts_T`: bool, true where a token begins (an utterance's first frame always does); `lengths_B`: frames
        of each utterance, int64; `peaks_T`: bool, which frames are peaks; `scores_T`: how much each frame counts
        beside the others of its token, at least 0 (where all of a token's are 0, they count the same).
        """
        first_T = _ragged.position(lengths_B) == 0
        starts_T = starts_T | first_T
        start_N = starts_T.nonzero()[:, 0]
        lengths_N = torch.diff(start_N, append=start_N.new_tensor([len(starts_T)]))
        utterance_T = _ragged.spread(torch.arange(len(lengths_B), device=lengths_B.device), lengths_B)
        counts_B = torch.bincount(utterance_T[start_N], minlength=len(lengths_B))
        weights_T = _ragged.spread(1 / lengths_N.float(), lengths_N)
        if scores_T is not None:
            token_T = _ragged.spread(torch.arange(len(lengths_N), device=lengths_N.device), lengths_N)
            sum_N = torch.zeros_like(lengths_N, dtype=torch.float32).index_add_(0, token_T, scores_T.float())
            sum_T = _ragged.spread(sum_N, lengths_N)
            weights_T = torch.where(sum_T > 0, scores_T.float() / sum_T, weights_T)
        peaks_B = None
        if peaks_T is not None:
            cut_at_peak_T = starts_T & peaks_T & ~first_T
            peaks_B = torch.bincount(utterance_T[cut_at_peak_T], minlength=len(lengths_B))
        return cls(lengths_N, counts_B, weights_T, peaks_B)


def pool(frames_TD: Tensor, segments: Segments) -> Tensor:
    """The weighted sum of each token's frames: [N, D], in the frames' dtype, summed in float32 or wider.

    Differentiable in frames and weights; frame after frame, so a token does not depend on its batch.
    """
    dtype = torch.promote_types(frames_TD.dtype, torch.float32)
    lengths_N = segments.lengths_N.long()
    tokens_ND = embedding_bag(  # a bag is a token, its entries are frames
        torch.arange(len(frames_TD), device=frames_TD.device),
        frames_TD.to(dtype),
        lengths_N.cumsum(0) - lengths_N,
        mode="sum",
        per_sample_weights=segments.weights_T.to(dtype),
    )
    return tokens_ND.to(frames_TD.dtype)


def select(segments: Segments, lengths_B: Tensor, chosen_B: Tensor) -> Segments:
    """The segments of some of the utterances, in the order asked for; `lengths_B`: frames of each, int64."""
    tokens_N = _ragged.places(chosen_B, segments.counts_B.long())
    frames_T = _ragged.places(chosen_B, lengths_B)
    peaks_B = None if segments.peaks_B is None else segments.peaks_B[chosen_B]
    return Segments(segments.lengths_N[tokens_N], segments.counts_B[chosen_B], segments.weights_T[frames_T], peaks_B)


def positions(segments: Segments, mode: Literal["renumber", "keep"]) -> Tensor:
    """Where each token stands in its utterance: float32 [N].

    'renumber': 0, 1, 2 ...; 'keep': the mean index of the token's frames.
    """
    lengths_N, counts_B = segments.lengths_N.long(), segments.counts_B.long()
    if mode == "renumber":
        return _ragged.position(counts_B).float()
    start_N = lengths_N.cumsum(0) - lengths_N
    ends_B = counts_B.cumsum(0)
    before_N = torch.cat([start_N, lengths_N.sum()[None]])  # one more, for an utterance without tokens at the end
    first_N = _ragged.spread(before_N[ends_B - counts_B], counts_B)
    return (start_N - first_N) + (lengths_N - 1) / 2
