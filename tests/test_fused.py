"""What a training step computes in fewer passes equals the modules of transformers and peft, gradients included."""

from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm, apply_rotary_pos_emb

from concertina.model import fused, lalm, packed_decoder
from concertina.model.inputs import IGNORED, Inputs, pack
from concertina.model.lalm import Lalm
from helpers import tiny_model

N, D, E = 96, 32, 48  # positions, and widths in and out


class Layers(nn.Module):
    """Three linear layers on one input, of which two are adapted."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(D, E), nn.Linear(D, D, bias=False), nn.Linear(D, E)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def adapted(dropout: float = 0.0) -> list[nn.Module]:
    layers = Layers().requires_grad_(False)
    model = peft.get_peft_model(
        layers, peft.LoraConfig(r=4, lora_alpha=12, lora_dropout=dropout, target_modules=["first", "third"])
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return [layers.first, layers.second, layers.third]


def with_gradients(
    compute: Callable[..., tuple[Tensor, ...]], inputs: list[Tensor], parameters: list[nn.Parameter]
) -> list[Tensor]:
    """Outputs, and the gradients of a weighted sum of them: of the inputs and the parameters."""
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    outputs = compute(*leaves)
    weighted = sum((output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum() for output in outputs)
    assert isinstance(weighted, Tensor)
    return [*(output.detach() for output in outputs), *torch.autograd.grad(weighted, [*leaves, *parameters])]


def assert_same(ours: list[Tensor], plain: list[Tensor]) -> None:
    assert len(ours) == len(plain)
    for one, other in zip(ours, plain, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("positions", [3, N])
def test_linear_layers_with_and_without_adapters(positions: int) -> None:
    modules = adapted()
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    assert len(parameters) == 4
    x = [torch.randn(positions, D)]
    plain = with_gradients(lambda x_ND: tuple(module(x_ND) for module in modules), x, parameters)
    assert_same(with_gradients(lambda x_ND: fused.linears(x_ND, modules), x, parameters), plain)


def test_an_input_without_gradient_gets_none_and_adapters_get_theirs() -> None:
    modules = adapted()
    x_ND = torch.randn(N, D)
    for output in (fused.linears(x_ND, modules)[0], modules[0](x_ND)):
        output.square().sum().backward()
    parameter = next(p for p in modules[0].parameters() if p.requires_grad)
    assert parameter.grad is not None
    twice = parameter.grad.clone()
    parameter.grad = None
    modules[0](x_ND).square().sum().backward()
    assert parameter.grad is not None
    assert torch.allclose(twice, 2 * parameter.grad, rtol=1e-4, atol=1e-3)


def test_dropout_of_an_adapter_is_the_modules_own() -> None:
    modules = adapted(dropout=0.5)
    x_ND = torch.randn(N, D)
    torch.manual_seed(1)
    plain = [module(x_ND) for module in modules]
    torch.manual_seed(1)
    assert all(torch.equal(one, other) for one, other in zip(fused.linears(x_ND, modules), plain, strict=True))
    assert not torch.equal(modules[0](x_ND), plain[0])


def test_weights_that_learn_get_their_gradients() -> None:
    linear = nn.Linear(D, E)
    fused.linears(torch.randn(N, D), [linear])[0].sum().backward()
    assert linear.weight.grad is not None


def test_normalisation() -> None:
    norm = Qwen2RMSNorm(D, eps=1e-3).requires_grad_(False)
    norm.weight.normal_()
    x = [torch.randn(N, D) * torch.linspace(0.01, 5, N)[:, None]]
    plain = with_gradients(lambda x_ND: (norm(x_ND),), x, [])
    assert_same(with_gradients(lambda x_ND: (fused.rms_norm(norm, x_ND),), x, []), plain)


def test_gated_feed_forward() -> None:
    x = [torch.randn(N, E), torch.randn(N, E)]
    plain = with_gradients(lambda gate_NE, up_NE: (nn.functional.silu(gate_NE) * up_NE,), x, [])
    assert_same(with_gradients(lambda gate_NE, up_NE: (fused.gated(gate_NE, up_NE),), x, []), plain)


def test_rotation() -> None:
    angle_NF = torch.rand(N, 4) * 6
    whole = torch.cat([angle_NF, angle_NF], -1)[None]

    def transformers(x_NE: Tensor) -> tuple[Tensor, ...]:
        heads = x_NE.view(1, N, -1, 8)
        return (apply_rotary_pos_emb(heads, heads, whole.cos(), whole.sin(), unsqueeze_dim=2)[0].reshape(N, -1),)

    x = [torch.randn(N, 24)]
    ours = with_gradients(lambda x_NE: (fused.rotate(x_NE, angle_NF.cos(), angle_NF.sin()),), x, [])
    assert_same(ours, with_gradients(transformers, x, []))


def batch(model: Lalm, pad_left: bool) -> Inputs:
    """Three utterances of unlike lengths; the last has no answer."""
    return lalm.embed(
        model,
        [([1, 3], [4]), ([1], [4, 5]), ([1], [4])],
        torch.randn(11, 64),
        [2, 6, 3],
        torch.arange(11) * 0.5,
        [3, 6, 3],
        [[7, 8, 9], [6, 0], []],
        pad_left,
    )


@pytest.mark.parametrize("pad_left", [False, True])
def test_states_of_labels_are_those_of_the_padded_batch(tmp_path: Path, pad_left: bool) -> None:
    model = lalm.load(tiny_model.make(tmp_path / "base"), encoder=False, llm=True)
    inputs = batch(model, pad_left)
    row, packing = pack(inputs)
    padded_LV, labels_L = lalm.label_logits(model, inputs)
    packed_LV, packed_labels_L = lalm.label_logits(model, row, packing)
    assert packed_labels_L.tolist() == labels_L.tolist() == [7, 8, 9, 6, 0]
    assert torch.allclose(packed_LV, padded_LV, rtol=1e-4, atol=1e-4)
    assert lalm.loss(model, row, packing) == pytest.approx(float(lalm.loss(model, inputs)), rel=1e-5)


def test_a_row_ends_where_no_label_follows(tmp_path: Path) -> None:
    model = lalm.load(tiny_model.make(tmp_path / "base"), encoder=False, llm=True)
    inputs = batch(model, pad_left=False)
    row, packing = pack(inputs)
    lengths = [2 + 2 + 1 + 2, 1 + 6 + 2 + 1]  # without the last token of each answer; nothing of what has no answer
    assert row.embeds_BSD.shape == (1, sum(lengths), 64)
    assert row.positions_BS[0, :7].tolist() == inputs.positions_BS[0, :7].tolist()
    assert packing.predicts_L.tolist() == [4, 5, 6, 15, 16]
    assert packed_decoder.label_states(model.llm, row, packing).shape == (5, 64)


def test_a_batch_without_labels_is_refused(tmp_path: Path) -> None:
    model = lalm.load(tiny_model.make(tmp_path / "base"), encoder=False, llm=True)
    inputs = batch(model, pad_left=False)
    with pytest.raises(ValueError, match="without a label"):
        pack(Inputs(inputs.embeds_BSD, inputs.mask_BS, inputs.positions_BS, torch.full_like(inputs.mask_BS, IGNORED)))
