"""Run the LLM over a packed row up to the last hidden states of the positions that predict a label.

The last layer needs the other positions only as keys and values, so it computes queries and the feed-forward network
just where a label is predicted. The results, and their gradients, equal those of transformers' own forward.
Tensor names: N positions of all utterances end to end, L of them that predict a label, D width, F half of a head's.
"""

from functools import partial
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from concertina.model import fused, packed_attention
from concertina.model.inputs import Inputs, Packing
from concertina.model.packed_attention import Lines

Angles = tuple[Tensor, Tensor]  # their cosines and sines, [N, F]


def label_states(llm: Any, row: Inputs, packing: Packing) -> Tensor:
    """Return the last hidden states [L, D] of a packed row. `llm`: transformers' Qwen2Model, or one with its layers."""
    cos_1NE, sin_1NE = llm.rotary_emb(row.embeds_BSD, row.positions_BS)
    half = cos_1NE.shape[-1] // 2  # the second half repeats the first
    angles = cos_1NE[0, :, :half].contiguous(), sin_1NE[0, :, :half].contiguous()
    heads = llm.config.num_attention_heads
    last = len(llm.layers) - 1
    states = row.embeds_BSD[0]
    key_heads = heads // llm.layers[0].self_attn.num_key_value_groups
    everywhere = packed_attention.lines(packing, heads, key_heads)
    at_labels = packed_attention.lines(packing, heads, key_heads, labels_alone=True)
    for number, layer in enumerate(llm.layers):
        predicts_L = packing.predicts_L if number == last else None
        run = partial(
            _layer, layer, angles=angles, lines=at_labels if number == last else everywhere, predicts_L=predicts_L
        )
        if llm.gradient_checkpointing and llm.training:
            states = checkpoint(run, states, use_reentrant=False)
        else:
            states = run(states)
    return fused.rms_norm(llm.norm, states)


def _layer(layer: Any, states_ND: Tensor, angles: Angles, lines: Lines, predicts_L: Tensor | None) -> Tensor:
    """Run one decoder layer: returns [N, D], or [L, D] for the positions `predicts_L` alone."""
    attention = layer.self_attn
    width, training = attention.head_dim, attention.training
    normed_ND = fused.rms_norm(layer.input_layernorm, states_ND)
    if predicts_L is None:
        query_angles = angles
        query, key, value = fused.linears(normed_ND, (attention.q_proj, attention.k_proj, attention.v_proj))
    else:
        states_ND, normed_LD = states_ND[predicts_L], normed_ND[predicts_L]
        query_angles = angles[0][predicts_L], angles[1][predicts_L]
        (query,) = fused.linears(normed_LD, (attention.q_proj,))
        key, value = fused.linears(normed_ND, (attention.k_proj, attention.v_proj))
    attended = packed_attention.attention(
        fused.rotate(query, *query_angles),
        fused.rotate(key, *angles),
        value,
        lines,
        width,
        attention.scaling,
        attention.attention_dropout if training else 0.0,
    )
    states_ND = states_ND + fused.linears(attended, (attention.o_proj,))[0]
    return states_ND + _feed_forward(layer.mlp, fused.rms_norm(layer.post_attention_layernorm, states_ND))


def _feed_forward(mlp: Any, normed_ND: Tensor) -> Tensor:
    gate_NE, up_NE = fused.linears(normed_ND, (mlp.gate_proj, mlp.up_proj))
    silu = mlp.config.hidden_act in ("silu", "swish")
    inner_NE = fused.gated(gate_NE, up_NE) if silu else mlp.act_fn(gate_NE) * up_NE
    return fused.linears(inner_NE, (mlp.down_proj,))[0]
