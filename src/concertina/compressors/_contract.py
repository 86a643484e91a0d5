"""What every compressor's answer must satisfy; an answer that does not is refused by name and rule.

Names end in their shape: B utterances, T frames and N tokens of all of them end to end.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from concertina.compressors import ContractError, _ragged
from concertina.compressors._segments import Segments, select
from concertina.compressors._utterances import Utterances

TOLERANCE = 1e-5  # of weights; cuts are exact


@contextmanager
def named(compressor: str) -> Iterator[None]:
    """Put the compressor's name before the rule that is broken within. Errors: ContractError."""
    try:
        yield
    except ContractError as error:
        raise ContractError(f"compressor {compressor} breaks its contract: {error}") from None


def check(segments: Segments, lengths_B: Tensor, ratio: float | Literal["natural"], exact: bool = True) -> None:
    """See that an answer cuts the utterances whole and weighs every frame. Errors: ContractError with the rule.

    `lengths_B`: frames of each utterance, int64; `exact`: the method gives ceil(T / ratio) tokens at a number.
    """
    if not isinstance(segments, Segments):
        raise ContractError(f"its `cut` must return Segments, not {type(segments).__name__}")
    lengths_N, counts_B, weights_T = segments.lengths_N, segments.counts_B, segments.weights_T
    for tensor, label in ((lengths_N, "lengths_N"), (counts_B, "counts_B")):
        if tensor.dim() != 1 or tensor.is_floating_point() or tensor.dtype == torch.bool:
            raise ContractError(f"{label} must be a row of whole numbers, not {_kind(tensor)}")
    if weights_T.dim() != 1 or not weights_T.is_floating_point():
        raise ContractError(f"weights_T must be a row of floating-point numbers, not {_kind(weights_T)}")
    peaks_B = segments.peaks_B
    if peaks_B is not None and (peaks_B.shape != counts_B.shape or peaks_B.is_floating_point()):
        raise ContractError(f"peaks_B must be None or a whole number per utterance, not {_kind(peaks_B)}")
    _check_cuts(lengths_N, counts_B, lengths_B)
    _check_weights(weights_T, lengths_N)
    if exact and ratio != "natural":
        _check_counts(counts_B, lengths_B, ratio)


def check_company(
    decide: Callable[[Utterances], Segments], speech: Utterances, together: Segments, compressor: str
) -> None:
    """See that an answer is the same in another order, and alone for the first, last, shortest and longest utterance.

    `together` is the answer of `decide` for all of `speech`. Errors: ContractError naming the compressor.
    """
    lengths_B = speech.lengths_B
    if not len(lengths_B):
        return
    backwards_B = torch.arange(len(lengths_B)).flip(0)
    picks = {0, len(lengths_B) - 1, int(lengths_B.argmin()), int(lengths_B.argmax())}
    for chosen_B in (backwards_B, *(torch.tensor([pick]) for pick in sorted(picks))):
        answer = decide(speech.pick(chosen_B))
        expected = select(together, lengths_B, chosen_B)
        same = torch.equal(answer.counts_B.long(), expected.counts_B.long())
        same = same and torch.equal(answer.lengths_N.long(), expected.lengths_N.long())
        if not same or not torch.allclose(answer.weights_T, expected.weights_T, rtol=0, atol=TOLERANCE):
            with named(compressor):
                raise ContractError("an utterance must be cut and weighed the same alone, in any batch and any order")


def _check_cuts(lengths_N: Tensor, counts_B: Tensor, lengths_B: Tensor) -> None:
    """See that every utterance is cut into whole tokens. Errors: ContractError."""
    if len(counts_B) != len(lengths_B):
        raise ContractError(f"counts_B must have one number per utterance, {len(lengths_B)}, not {len(counts_B)}")
    if bool((counts_B < 0).any()) or int(counts_B.sum()) != len(lengths_N):
        raise ContractError(f"counts_B must sum to the {len(lengths_N)} tokens of lengths_N, not {int(counts_B.sum())}")
    if bool((lengths_N < 1).any()):
        raise ContractError(f"every token must have at least one frame; here one has {int(lengths_N.min())}")
    sums_B = _sums(lengths_N.long(), counts_B)
    if (wrong := _first(sums_B != lengths_B)) is not None:
        frames, cut = int(lengths_B[wrong]), int(sums_B[wrong])
        raise ContractError(f"an utterance's tokens must have all of its frames, here {frames}, not {cut}")


def _check_weights(weights_T: Tensor, lengths_N: Tensor) -> None:
    """See that every frame has a weight from 0 to 1, and those of a token sum to 1. Errors: ContractError."""
    if len(weights_T) != int(lengths_N.sum()):
        raise ContractError(f"every frame must have a weight: {int(lengths_N.sum())} weights, not {len(weights_T)}")
    if (wrong := _first(~(weights_T >= 0))) is not None:
        raise ContractError(f"weights must lie between 0 and 1; here one is {float(weights_T[wrong]):g}")
    sums_N = _sums(weights_T.double(), lengths_N)
    if (wrong := _first(~((sums_N - 1).abs() <= TOLERANCE))) is not None:
        raise ContractError(f"the weights of a token's frames must sum to 1; here they sum to {float(sums_N[wrong]):g}")


def _check_counts(counts_B: Tensor, lengths_B: Tensor, ratio: float) -> None:
    """See that each utterance has ceil(T / ratio) tokens. Errors: ContractError."""
    right_B = _ragged.token_counts(lengths_B, ratio)
    if (wrong := _first(counts_B != right_B)) is not None:
        frames, right, tokens = int(lengths_B[wrong]), int(right_B[wrong]), int(counts_B[wrong])
        rule = (
            f"{frames} frames at ratio {ratio:g} must become ceil({frames} / {ratio:g}) = {right} tokens, not {tokens}"
        )
        raise ContractError(f"{rule} (a method that makes other numbers says `exact = False` in its file)")


def _sums(values: Tensor, counts: Tensor) -> Tensor:
    """Sums of consecutive runs of `counts` values."""
    return values.new_zeros(len(counts)).index_add_(0, _ragged.owner(counts.long()), values)


def _first(wrong: Tensor) -> int | None:
    """The first place where a row is true."""
    return int(wrong.nonzero()[0]) if bool(wrong.any()) else None


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {list(tensor.shape)}"
