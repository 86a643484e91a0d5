"""Compute the operations of a decoder layer, forward and backward, with as few passes over memory as possible.

Each gives the same result as the modules of transformers and peft that it replaces; where it does not apply (other
types, autocast, weights in 4 bits, dropout of an adapter's input), it calls those modules. The large matrix products
are the same either way; what it saves is passes over their results (benchmarks/steps.py).
Tensor names: N positions, D width of the input, E width of the output, R ranks of all adapters of an input, H heads.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class Projection(NamedTuple):
    """A frozen linear layer and the LoRA that is trained on it; without one, `a_RD` and `b_ER` are None."""

    weight_ED: Tensor
    bias_E: Tensor | None
    a_RD: Tensor | None
    b_ER: Tensor | None
    scale: float


def linears(x_ND: Tensor, modules: Sequence[nn.Module]) -> tuple[Tensor, ...]:
    """Apply several linear layers, with or without LoRA, to one input: returns [N, E] of each."""
    projections = [projection for module in modules if (projection := _projection(module)) is not None]
    autocast = torch.is_autocast_enabled(x_ND.device.type)
    if len(projections) < len(modules) or autocast or not all(_worthwhile(x_ND, p.weight_ED) for p in projections):
        return tuple(module(x_ND) for module in modules)
    tensors = [tensor for p in projections for tensor in p[:4]]
    outputs: tuple[Tensor, ...] = _Linears.apply(x_ND, [p.scale for p in projections], *tensors)
    return outputs


def _worthwhile(x_ND: Tensor, weight_ED: Tensor) -> bool:
    """Return whether there are enough positions to make adding up the weights cheaper than adding up the outputs.

    The sum of weights that is kept for the backward pass is then small beside the positions' own tensors.
    """
    width_out, width_in = weight_ED.shape
    return weight_ED.dtype == x_ND.dtype and len(x_ND) * (width_in + width_out) >= 2 * width_in * width_out


def _projection(module: Any) -> Projection | None:
    """Return a layer as a projection; None where it does more than one."""
    if type(module) is nn.Linear:
        return None if module.weight.requires_grad else Projection(module.weight, module.bias, None, None, 0.0)
    if not hasattr(module, "lora_A"):  # no isinstance: importing peft takes a second, also without LoRA
        return None
    base, active = module.base_layer, [name for name in module.active_adapters if name in module.lora_A]
    plain = type(base) is nn.Linear and not base.weight.requires_grad and len(active) == 1
    if not plain or module.disable_adapters or module.merged or module.lora_variant or module.fan_in_fan_out:
        return None
    a, b, dropout = (layers[active[0]] for layers in (module.lora_A, module.lora_B, module.lora_dropout))
    if a.weight.dtype != base.weight.dtype or b.bias is not None or not isinstance(dropout, nn.Identity):
        return None
    return Projection(base.weight, base.bias, a.weight, b.weight, module.scaling[active[0]])


class _Linears(torch.autograd.Function):
    """y = x (W + s B A)' + bias for several layers at once: adding up weights costs less than adding up outputs."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, scales: list[float], *tensors: Tensor | None) -> tuple[Tensor, ...]:
        outputs, saved, ranks = [], [], []
        for scale, (weight_ED, bias_E, a_RD, b_ER) in zip(scales, _by_layer(tensors), strict=True):
            assert weight_ED is not None
            if a_RD is not None and b_ER is not None:
                weight_ED = torch.addmm(weight_ED, b_ER, a_RD, alpha=scale)
            outputs.append(functional.linear(x_ND, weight_ED, bias_E))
            saved += [weight_ED, a_RD, b_ER]
            ranks.append(0 if a_RD is None else len(a_RD))
        ctx.scales, ctx.ranks = scales, ranks
        ctx.save_for_backward(x_ND, *saved)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads_NE: Tensor) -> tuple[Any, ...]:
        x_ND, *saved = ctx.saved_tensors
        layers = [saved[i : i + 3] for i in range(0, len(saved), 3)]
        x_grad_ND = None
        if ctx.needs_input_grad[0]:
            for grad_NE, (weight_ED, _, _) in zip(grads_NE, layers, strict=True):
                x_grad_ND = grad_NE @ weight_ED if x_grad_ND is None else x_grad_ND.addmm_(grad_NE, weight_ED)
        # The vectors between A and B, and their gradients, of all adapters lie side by side in one matrix, so that one
        # product replaces one for each adapter.
        adapters = [a_RD * scale for scale, (_, a_RD, _) in zip(ctx.scales, layers, strict=True) if a_RD is not None]
        inner_NR = x_ND @ torch.cat(adapters).t() if adapters else x_ND.new_empty(len(x_ND), 0)
        inner_grad_NR = torch.empty_like(inner_NR)
        b_grads: list[Tensor | None] = []
        slices = list(zip(inner_NR.split(ctx.ranks, 1), inner_grad_NR.split(ctx.ranks, 1), strict=True))
        for grad_NE, (_, _, b_ER), (inner_Nr, inner_grad_Nr) in zip(grads_NE, layers, slices, strict=True):
            b_grads.append(None if b_ER is None else grad_NE.t() @ inner_Nr)
            if b_ER is not None:
                torch.mm(grad_NE, b_ER, out=inner_grad_Nr)
        grads: list[Tensor | None] = []
        a_grads = (inner_grad_NR.t() @ x_ND).split(ctx.ranks)
        for scale, (_, a_RD, _), a_grad_RD, b_grad_ER in zip(ctx.scales, layers, a_grads, b_grads, strict=True):
            grads += [None, None, None if a_RD is None else a_grad_RD * scale, b_grad_ER]
        return x_grad_ND, None, *grads


def _by_layer(tensors: Sequence[Tensor | None]) -> list[Sequence[Tensor | None]]:
    return [tensors[i : i + 4] for i in range(0, len(tensors), 4)]


def rms_norm(module: nn.Module, x_ND: Tensor) -> Tensor:
    """Apply the module: normalise each vector to a mean square of 1, and multiply it by the weights."""
    weight_D, epsilon = module.weight, module.variance_epsilon
    if x_ND.dtype != torch.float32 or weight_D.dtype != torch.float32 or weight_D.requires_grad:
        return module(x_ND)
    normed_ND: Tensor = _RmsNorm.apply(x_ND, weight_D, epsilon)
    return normed_ND


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        mean_N1 = torch.linalg.vector_norm(x_ND, dim=-1, keepdim=True).square_().div_(x_ND.shape[-1])
        factor_N1 = mean_N1.add_(epsilon).rsqrt_()
        ctx.save_for_backward(x_ND, weight_D, factor_N1)
        return (x_ND * factor_N1).mul_(weight_D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, out_grad_ND: Tensor) -> tuple[Any, ...]:
        x_ND, weight_D, factor_N1 = ctx.saved_tensors
        grad_ND = out_grad_ND * weight_D
        along_N1 = (grad_ND * x_ND).sum(-1, keepdim=True).mul_(factor_N1.pow(3)).div_(-x_ND.shape[-1])
        return grad_ND.mul_(factor_N1).addcmul_(x_ND, along_N1), None, None


def gated(gate_NE: Tensor, up_NE: Tensor) -> Tensor:
    """Return silu(gate) * up."""
    product_NE: Tensor = _Gated.apply(gate_NE, up_NE)
    return product_NE


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_NE: Tensor, up_NE: Tensor) -> Tensor:
        activated_NE = functional.silu(gate_NE)
        ctx.save_for_backward(gate_NE, up_NE, activated_NE)
        return activated_NE * up_NE

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NE: Tensor) -> tuple[Tensor, Tensor]:
        gate_NE, up_NE, activated_NE = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad_NE * up_NE, gate_NE), grad_NE * activated_NE


def rotate(x_NE: Tensor, cos_NF: Tensor, sin_NF: Tensor) -> Tensor:
    """Turn each head's vector by its position: [N, H * 2F]; cosine and sine of the angles [N, F]."""
    turned_NE: Tensor = _Rotate.apply(x_NE, cos_NF, sin_NF)
    return turned_NE


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NE: Tensor, cos_NF: Tensor, sin_NF: Tensor) -> Tensor:
        ctx.save_for_backward(cos_NF, sin_NF)
        return _turn(x_NE, cos_NF, sin_NF, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NE: Tensor) -> tuple[Any, ...]:
        cos_NF, sin_NF = ctx.saved_tensors
        return _turn(grad_NE, cos_NF, sin_NF, -1), None, None


def _turn(x_NE: Tensor, cos_NF: Tensor, sin_NF: Tensor, sign: int) -> Tensor:
    """Rotate by `sign` times the angles; the two halves of a head's vector are the two coordinates of its planes."""
    turned_NE = torch.empty_like(x_NE)
    halves = (tensor.view(len(x_NE), -1, 2, cos_NF.shape[1]).unbind(2) for tensor in (x_NE, turned_NE))
    (first, second), (turned_first, turned_second) = halves
    cos_N1F, sin_N1F = cos_NF[:, None], sin_NF[:, None]
    torch.mul(first, cos_N1F, out=turned_first).addcmul_(second, sin_N1F, value=-sign)
    torch.mul(second, cos_N1F, out=turned_second).addcmul_(first, sin_N1F, value=sign)
    return turned_NE


def move(rows_ND: Tensor, to_M: Tensor, back_N: Tensor) -> Tensor:
    """Copy rows to other places: output m is row `to_M[m]`, [M, D].

    `back_N`: for each row, the only output whose gradient is not zero, so that the backward pass adds nothing up.
    """
    moved_MD: Tensor = _Move.apply(rows_ND, to_M, back_N)
    return moved_MD


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_ND: Tensor, to_M: Tensor, back_N: Tensor) -> Tensor:
        ctx.save_for_backward(back_N)
        return rows_ND.index_select(0, to_M)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_MD: Tensor) -> tuple[Any, ...]:
        return grad_MD.index_select(0, ctx.saved_tensors[0]), None, None
