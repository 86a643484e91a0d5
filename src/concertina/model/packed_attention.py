"""Batches without padding: the positions of all utterances in one row, and attention within each of them alone.

Linear layers, norms and the head see no padding; attention alone lays the utterances side by side, causal, where the
padding comes last and so is never looked at.
Tensor names: N positions of all utterances end to end, B utterances, S positions of the longest, H heads, D width.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface

from concertina.model.lalm import IGNORED, Inputs

NAME = "packed"


@dataclass(frozen=True)
class Packing:
    """Where the positions of each utterance are in the row (0 in padding), and which are not padding."""

    at_BS: torch.Tensor
    valid_BS: torch.Tensor


def pack(inputs: Inputs) -> tuple[Inputs, Packing]:
    """A padded batch as one row. The first label of an utterance is IGNORED, so that none predicts the next one's."""
    valid_BS = inputs.mask_BS.bool()
    order_BS = valid_BS.argsort(dim=1, descending=True, stable=True)  # what is padded on the left moves to the right
    valid_right_BS = valid_BS.gather(1, order_BS)
    numbers_BS = torch.zeros_like(order_BS)
    numbers_BS[valid_right_BS] = torch.arange(int(valid_BS.sum()), device=order_BS.device)
    labels_BS = inputs.labels_BS.clone()
    labels_BS.scatter_(1, valid_BS.long().argmax(1, keepdim=True), IGNORED)
    row = Inputs(
        inputs.embeds_BSD[valid_BS][None],
        inputs.mask_BS[valid_BS][None],
        inputs.positions_BS[valid_BS][None],
        labels_BS[valid_BS][None],
    )
    longest = int(valid_BS.sum(1).max())
    return row, Packing(numbers_BS[:, :longest], valid_right_BS[:, :longest])


def attention(
    module: torch.nn.Module,
    query_1HND: torch.Tensor,
    key_1HND: torch.Tensor,
    value_1HND: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    packing: Packing,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention over one packed row: [1, N, H, D]. `attention_mask` is not needed."""
    groups = query_1HND.shape[1] // key_1HND.shape[1]
    query, key, value = (t[0][:, packing.at_BS].transpose(0, 1) for t in (query_1HND, key_1HND, value_1HND))
    if groups > 1:
        key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    drops = dropout if module.training else 0.0
    if query.is_cuda:
        out_BHSD = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, dropout_p=drops, is_causal=True, scale=scaling
        )
    else:
        out_BHSD = _plain(query, key, value, scaling or 1 / math.sqrt(query.shape[-1]), drops)
    return out_BHSD.transpose(1, 2)[packing.valid_BS][None], None


def _plain(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, dropout: float) -> torch.Tensor:
    """Attention by matrix products: forward and backward are faster so on a CPU than torch's own kernel."""
    longest = query.shape[2]
    later_SS = torch.ones(longest, longest, dtype=torch.bool, device=query.device).triu(1)
    scores_BHSS = query @ key.transpose(-1, -2) * scaling  # of autocast's type, which may be narrower than the query's
    scores_BHSS = scores_BHSS.masked_fill(later_SS, torch.finfo(scores_BHSS.dtype).min)
    weights_BHSS = scores_BHSS.softmax(-1, dtype=torch.float32).to(query.dtype)
    return torch.nn.functional.dropout(weights_BHSS, dropout) @ value


AttentionInterface.register(NAME, attention)
