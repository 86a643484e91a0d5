"""Frames and segments in, tokens out: the only place where tensors are pooled.

Names end in their shape: B utterances, T frames and N tokens of all of them end to end, D width.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from concertina.compressors import ContractError, _ragged


@dataclass(frozen=True)
class Segments:
    """Where a batch of utterances is cut into tokens, and how frames weigh within them.

    A rule where to cut and a rule how to weigh combine freely: `Segments.cut(starts_T, lengths_B).weigh(scores_T)`.
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
        """Cut where tokens start: each is the mean of its frames, or weighted as `weigh` does by `scores_T`.

        `starts_T`: bool, true where a token starts (an utterance's first frame always does); `lengths_B`: frames
        of each utterance, int64; `peaks_T`: bool, which frames are peaks. Errors: ContractError.
        """
        first_T = _ragged.position(lengths_B) == 0
        if starts_T.shape != first_T.shape:
            raise ContractError(f"starts must say of each of {len(first_T)} frames whether a token starts there")
        starts_T = starts_T | first_T
        start_N = starts_T.nonzero()[:, 0]
        lengths_N = torch.diff(start_N, append=start_N.new_tensor([len(starts_T)]))
        utterance_T = _ragged.owner(lengths_B)
        counts_B = torch.bincount(utterance_T[start_N], minlength=len(lengths_B))
        peaks_B = None
        if peaks_T is not None:
            cut_at_peak_T = starts_T & peaks_T & ~first_T
            peaks_B = torch.bincount(utterance_T[cut_at_peak_T], minlength=len(lengths_B))
        means = cls(lengths_N, counts_B, _ragged.spread(1 / lengths_N.float(), lengths_N), peaks_B)
        return means if scores_T is None else means.weigh(scores_T)

    @classmethod
    def keep(cls, kept_T: Tensor, lengths_B: Tensor) -> "Segments":
        """Prune: every token is one kept frame, and a dropped frame joins, at weight 0, the kept one before it.

        Frames dropped before an utterance's first kept one join that; an utterance of which none is kept becomes
        the mean of its frames. `kept_T`: bool; `lengths_B`: frames of each utterance, int64.
        """
        utterance_T = _ragged.owner(lengths_B)
        kept_B = torch.bincount(utterance_T[kept_T], minlength=len(lengths_B))
        earlier_T = kept_T.cumsum(0) - kept_T.long() - _ragged.spread(kept_B.cumsum(0) - kept_B, lengths_B)
        return cls.cut(kept_T & (earlier_T > 0), lengths_B, scores_T=kept_T)

    def weigh(self, scores_T: Tensor) -> "Segments":
        """Weigh the frames of these tokens anew: each by its share of its token's scores.

        `scores_T`: at least 0, of any scale; true or false will do. Where all of a token's are 0, they weigh the same.
        Errors: ContractError when a score is negative, no number, or missing.
        """
        if scores_T.shape != self.weights_T.shape or not bool((scores_T >= 0).all()):
            raise ContractError("scores must have a number of at least 0 for each frame")
        token_T = _ragged.owner(self.lengths_N)
        scores_T = scores_T.double()
        sum_N = scores_T.new_zeros(len(self.lengths_N)).index_add_(0, token_T, scores_T)
        sum_T, mean_T = sum_N[token_T], 1 / _ragged.spread(self.lengths_N, self.lengths_N).float()
        return replace(self, weights_T=torch.where(sum_T > 0, (scores_T / sum_T).float(), mean_T))


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

    'renumber': 0, 1, 2 ...; 'keep': the mean index of the token's frames, weighted as they are pooled. A frame that is
    kept alone so keeps its own index.
    """
    lengths_N, counts_B = segments.lengths_N.long(), segments.counts_B.long()
    if mode == "renumber":
        return _ragged.position(counts_B).float()
    start_N = lengths_N.cumsum(0) - lengths_N
    ends_B = counts_B.cumsum(0)
    before_N = torch.cat([start_N, lengths_N.sum()[None]])  # one more, for an utterance without tokens at the end
    first_N = _ragged.spread(before_N[ends_B - counts_B], counts_B)
    weights_T, zeros_N = segments.weights_T.double(), torch.zeros(len(lengths_N), dtype=torch.double)
    token_T, within_T = _ragged.owner(lengths_N), _ragged.position(lengths_N).double()
    weighed_N = zeros_N.index_add(0, token_T, weights_T * within_T) / zeros_N.index_add(0, token_T, weights_T)
    return ((start_N - first_N) + weighed_N).float()
