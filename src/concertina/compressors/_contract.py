"""What every compressor's answer must satisfy; an answer that does not is refused by name and rule.

Names end in their shape: B utterances, T frames and N tokens of all of them end to end, D width.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from concertina.compressors import _ragged
from concertina.compressors._segments import Segments, select

TOLERANCE = 1e-5  # of weights; cuts are exact


class ContractError(RuntimeError):
    """A compressor broke its contract; the message names it and the rule."""


def check(
    segments: Segments, lengths_B: Tensor, ratio: float | Literal["natural"], name: str, exact: bool = True
) -> None:
    """See that an answer cuts the utterances whole. `exact`: ceil(T / ratio) tokens. Errors: ContractError."""
    if not isinstance(segments, Segments):
        raise _broken(name, f"segment returns Segments, not {type(segments).__name__}")
    lengths_N, counts_B, weights_T = segments.lengths_N, segments.counts_B, segments.weights_T
    for tensor, label in ((lengths_N, "lengths_N"), (counts_B, "counts_B")):
        if tensor.dim() != 1 or tensor.is_floating_point() or tensor.dtype == torch.bool:
            raise _broken(name, f"{label} is a row of whole numbers, not {_kind(tensor)}")
    if weights_T.dim() != 1 or not weights_T.is_floating_point():
        raise _broken(name, f"weights_T is a row of floating-point numbers, not {_kind(weights_T)}")
    peaks_B = segments.peaks_B
    if peaks_B is not None and (peaks_B.shape != counts_B.shape or peaks_B.is_floating_point()):
        raise _broken(name, f"peaks_B is None or a whole number per utterance, not {_kind(peaks_B)}")
    if len(counts_B) != len(lengths_B) or bool((counts_B < 0).any()) or int(counts_B.sum()) != len(lengths_N):
        raise _broken(name, "counts_B says for each utterance how many of lengths_N are its own")
    if bool((lengths_N < 1).any()):
        raise _broken(name, "every token has at least one frame")
    if not torch.equal(_sums(lengths_N.long(), counts_B), lengths_B):
        raise _broken(name, "the lengths of an utterance's tokens sum to its frames")
    if len(weights_T) != int(lengths_B.sum()):
        raise _broken(name, "every frame has a weight")
    off_N = (_sums(weights_T.double(), lengths_N) - 1).abs()
    if not bool((off_N <= TOLERANCE).all()):
        raise _broken(name, f"the weights of a token's frames sum to 1; here one is off by {float(off_N.max()):g}")
    if exact and ratio != "natural":
        right_B = _ragged.token_counts(lengths_B, ratio)
        if bool((counts_B != right_B).any()):
            worst = int((counts_B != right_B).nonzero()[0])
            right, frames, tokens = int(right_B[worst]), int(lengths_B[worst]), int(counts_B[worst])
            rule = f"ceil(T / ratio) tokens, {right} for {frames} frames, not {tokens}"
            raise _broken(name, f"{rule} (if that is meant, say `exact = False` in its file)")


def check_company(
    decide: Callable[[Tensor, Tensor, Tensor], Segments],
    frames_TD: Tensor,
    lengths_B: Tensor,
    seeds_B: Tensor,
    together: Segments,
    name: str,
) -> None:
    """See that an answer is the same in another order, and alone for the first, last, shortest and longest utterance.

    `decide` takes frames_TD, lengths_B, seeds_B; `together` is its answer for all. Errors: ContractError.
    """
    if not len(lengths_B):
        return
    backwards_B = torch.arange(len(lengths_B)).flip(0)
    picks = {0, len(lengths_B) - 1, int(lengths_B.argmin()), int(lengths_B.argmax())}
    for chosen_B in (backwards_B, *(torch.tensor([pick]) for pick in sorted(picks))):
        frames_T = _ragged.places(chosen_B, lengths_B)
        answer = decide(frames_TD[frames_T], lengths_B[chosen_B], seeds_B[chosen_B])
        expected = select(together, lengths_B, chosen_B)
        same = torch.equal(answer.counts_B.long(), expected.counts_B.long())
        same = same and torch.equal(answer.lengths_N.long(), expected.lengths_N.long())
        if not same or not torch.allclose(answer.weights_T, expected.weights_T, rtol=0, atol=TOLERANCE):
            raise _broken(name, "an utterance is cut and weighed alike alone, in any batch and in any order")


def _sums(values: Tensor, counts: Tensor) -> Tensor:
    """Sums of consecutive runs of `counts` values."""
    owner = _ragged.spread(torch.arange(len(counts), device=counts.device), counts.long())
    return values.new_zeros(len(counts)).index_add_(0, owner, values)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {list(tensor.shape)}"


def _broken(name: str, rule: str) -> ContractError:
    return ContractError(f"compressor {name} breaks its contract: {rule}")
