"""How a step is divided: packed or padded, in micro-batches; its gradients are the same."""

from pathlib import Path

import peft
import pytest
import torch

from concertina import config, train
from concertina.config import Config
from concertina.model import batching
from concertina.model.batching import Item
from concertina.model.lalm import Lalm, load
from concertina.training import gradients
from helpers import tiny_run


@pytest.fixture
def overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tiny_run.prepared(tmp_path)


def gradients_of(chosen: Config, queries_per_key: int = 1) -> tuple[float, dict[str, torch.Tensor]]:
    """One step's loss and LoRA gradients, from the same start."""
    torch.manual_seed(0)
    model = load(chosen.base, encoder=False, llm=True)
    if queries_per_key > 1:
        _group(model, queries_per_key)
    cached = tiny_run.speech("train")
    items = [i for part in chosen.train.sets[0].parts for i in batching.items(model, chosen, part, cached)][:13]
    gradients.ready(model, chosen)
    adapted = peft.get_peft_model(model.model, train.lora(chosen, model))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    adapted.train()
    trainable = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    loss = gradients.gradients(model, chosen, items)
    return loss, {name: p.grad for name, p in trainable.items() if p.grad is not None}


def _group(model: Lalm, queries_per_key: int) -> None:
    """Leave each layer fewer keys and values than queries."""
    for layer in model.llm.layers:
        attention = layer.self_attn
        attention.num_key_value_groups = queries_per_key
        for name in ("k_proj", "v_proj"):
            linear = getattr(attention, name)
            kept = linear.out_features // queries_per_key
            smaller = torch.nn.Linear(linear.in_features, kept, bias=linear.bias is not None)
            smaller.weight.data = linear.weight.data[:kept].clone()
            if linear.bias is not None:
                smaller.bias.data = linear.bias.data[:kept].clone()
            setattr(attention, name, smaller.requires_grad_(False))


@pytest.mark.parametrize("queries_per_key", [1, 2])
@pytest.mark.parametrize(
    "how",
    [
        {"layout": "packed"},
        {"layout": "padded", "batch_tokens": 60},
        {"layout": "packed", "batch_tokens": 45},
        {"layout": "padded", "gradient_checkpointing": True},
        {"layout": "packed", "gradient_checkpointing": True},
    ],
    ids=str,
)
def test_gradients_are_those_of_the_plain_padded_path(
    overlay: Path, how: dict[str, object], queries_per_key: int
) -> None:
    loss, plain = gradients_of(config.load(tiny_run.change(overlay, layout="padded")), queries_per_key)
    other_loss, found = gradients_of(config.load(tiny_run.change(overlay, **how)), queries_per_key)
    assert other_loss == pytest.approx(loss, rel=1e-5)
    assert found.keys() == plain.keys()
    assert len(plain) > 10
    assert max(float(g.abs().max()) for g in plain.values()) > 1e-3
    for name, gradient in plain.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=2e-6), name


def test_microbatches_hold_the_budget_and_every_item_once(overlay: Path) -> None:
    chosen = config.load(overlay)
    model = load(chosen.base, encoder=False, llm=True)
    cached = tiny_run.speech("train")
    items: list[Item] = batching.items(model, chosen, chosen.train.sets[0].parts[0], cached)
    for budget in (1, 50, 120, None):
        groups = list(gradients.microbatches(items, budget, gradients.positions))
        assert [id(item) for group in groups for item in group] == [id(item) for item in items]
        if budget is not None:
            sizes = [len(group) * max(map(gradients.positions, group)) for group in groups]
            assert all(size <= budget or len(group) == 1 for size, group in zip(sizes, groups, strict=True))
    assert len(groups) == 1


def test_packed_batches_in_bfloat16_are_padded_ones_to_its_precision(overlay: Path) -> None:
    padded, _ = gradients_of(config.load(tiny_run.change(overlay, precision="bfloat16")))
    packed, found = gradients_of(config.load(tiny_run.change(overlay, layout="packed")))
    assert packed == pytest.approx(padded, rel=1e-2)
    assert all(gradient.isfinite().all() for gradient in found.values())


def test_a_batch_out_of_two_splits_has_the_items_order(overlay: Path) -> None:
    experiment = config.load(overlay)
    model = load(experiment.base, encoder=False, llm=True)
    items = []
    for split in ("train", "dev"):
        part = experiment.train.sets[0].parts[0].model_copy(update={"split": split})
        items += batching.items(model, experiment, part, tiny_run.speech(split), 4)
    mixed = [items[i] for i in (0, 5, 1, 4, 5)]  # one of them twice
    inputs = batching.batch(model, experiment, mixed, answers=True)
    for b, item in enumerate(mixed):
        alone = batching.batch(model, experiment, [item], answers=True)
        size = alone.mask_BS.shape[1]
        assert int(inputs.mask_BS[b].sum()) == size
        assert torch.equal(inputs.labels_BS[b, :size], alone.labels_BS[0])
        torch.testing.assert_close(inputs.embeds_BSD[b, :size], alone.embeds_BSD[0])
