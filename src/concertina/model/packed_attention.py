"""Compute causal attention over a packed row: within each utterance, and with as few queries as are needed.

Linear layers, norms and the head see the row, which has no padding. Attention alone needs a grid with one line for each
utterance. There the padding comes last, so the causal mask already hides it from every real position.
Tensor names: N positions of all utterances end to end, Q of them that are queries, B utterances, S positions of the
longest, A queries of the utterance that has most, H heads, D width of a head.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention

from concertina.model.fused import move
from concertina.model.inputs import Grid, Packing


@dataclass(frozen=True)
class Lines:
    """How attention lays out a row as a grid: the same in every layer, so it is made once for a batch.

    `asking` (for queries) and `asked` (for keys and values): the vector in the row of each place and head of the grid,
    and the way back; `hidden`: which keys a query does not see, true for those after it, [B or 1, 1, A, S];
    `all_ask`: whether every position is a query.
    """

    shape_BAS: tuple[int, int, int]
    asking: tuple[Tensor, Tensor]
    asked: tuple[Tensor, Tensor]
    hidden: Tensor
    all_ask: bool


def lines(packing: Packing, heads: int, key_heads: int, labels_alone: bool = False) -> Lines:
    """Return the layout in which every position is a query, or only those that predict a label."""
    grid: Grid = packing.queries if labels_alone else packing.grid
    utterances, longest = packing.grid.at_BS.shape
    column_S = torch.arange(longest, device=grid.at_BS.device)
    of_query = packing.columns_BA[:, None, :, None] if labels_alone else column_S[None, None, :, None]
    shape = utterances, grid.at_BS.shape[1], longest
    hidden = column_S > of_query
    return Lines(shape, grid.of_heads(heads), packing.grid.of_heads(key_heads), hidden, not labels_alone)


def attention(
    query_QE: Tensor, key_NE: Tensor, value_NE: Tensor, lines: Lines, width: int, scale: float, dropout: float = 0.0
) -> Tensor:
    """Return what each query reads, [Q, H * D]; `width`: D; key and value may have fewer heads than the query."""
    utterances, queries, longest = lines.shape_BAS
    query = move(query_QE.view(-1, width), *lines.asking).view(utterances, -1, queries, width)
    key, value = (
        move(tensor.view(-1, width), *lines.asked).view(utterances, -1, longest, width) for tensor in (key_NE, value_NE)
    )
    if (groups := query.shape[1] // key.shape[1]) > 1:
        key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    if query.is_cuda:
        mask = None if lines.all_ask else ~lines.hidden
        out_BHAD = scaled_dot_product_attention(
            query, key, value, mask, dropout_p=dropout, is_causal=lines.all_ask, scale=scale
        )
    else:
        out_BHAD = _plain(query, key, value, lines.hidden, scale, dropout)
    return out_BHAD.reshape(-1, width).index_select(0, lines.asking[1]).view(query_QE.shape)


def _plain(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor, scale: float, dropout: float) -> Tensor:
    """Compute attention by matrix products, which on a CPU is faster than torch's kernel, forward and backward."""
    scores_BHAS = (query * scale) @ key.transpose(-1, -2)
    scores_BHAS = scores_BHAS.masked_fill(hidden, torch.finfo(scores_BHAS.dtype).min)
    weights_BHAS = scores_BHAS.softmax(-1, dtype=torch.float32).to(value.dtype)
    return drop(weights_BHAS, dropout) @ value if dropout else weights_BHAS @ value
