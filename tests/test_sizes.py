"""The memory that `make plan` states agrees with what is measured."""

from pathlib import Path

import peft
import pytest
import torch
from transformers import Qwen2AudioForConditionalGeneration

from concertina import config, train
from concertina.artefacts.sizes import Model, kept
from concertina.model import lalm
from concertina.model.inputs import IGNORED, Inputs, pack
from concertina.model.lalm import Lalm
from helpers import tiny_model

UTTERANCES, LENGTH, ANSWER = 6, 40, 12


def saved_bytes(model: Lalm) -> int:
    """Return the bytes that autograd saves in the forward pass of a packed batch, parameters aside."""
    hidden = model.llm.config.hidden_size
    labels_BS = torch.full((UTTERANCES, LENGTH), IGNORED)
    labels_BS[:, -ANSWER:] = 1
    embeds_BSD = torch.randn(UTTERANCES, LENGTH, hidden)
    positions_BS = torch.arange(LENGTH).float().repeat(UTTERANCES, 1)
    row, packing = pack(Inputs(embeds_BSD, torch.ones(UTTERANCES, LENGTH, dtype=torch.long), positions_BS, labels_BS))
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.model.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        lalm.loss(model, row, packing)
    return sum(tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in parameters)


def test_what_a_training_keeps_is_what_is_estimated(tmp_path: Path) -> None:
    """Of a model of Qwen2-Audio's proportions; the difference of two depths is that of the inner layers alone."""
    settings = config.load(Path(__file__).parent.parent / "configs/paper.yaml")
    measured, estimated = [], []
    for layers in (2, 4):
        base = tiny_model.make(tmp_path / str(layers), width=512, layers=layers, inner=1376)
        model = lalm.load(base, encoder=False, llm=True, dtype="bfloat16", device="cpu")
        small = settings.model_copy(update={"base": base})
        lora = settings.train.lora.model_copy(update={"rank": 8, "alpha": 16})
        small = small.model_copy(update={"train": settings.train.model_copy(update={"lora": lora})})
        peft.get_peft_model(model.model, train.lora(small, model))
        measured.append(saved_bytes(model))
        estimated.append(kept(Model(base), small, UTTERANCES * LENGTH))
    assert estimated[1] - estimated[0] == pytest.approx(measured[1] - measured[0], rel=0.1)


def test_decoding_computes_the_logits_of_the_last_position_alone(tmp_path: Path) -> None:
    base = tiny_model.make(tmp_path)
    model = lalm.load(base, encoder=False, llm=True, device="cpu")
    assert isinstance(model.model, Qwen2AudioForConditionalGeneration)
    shapes: list[tuple[int, ...]] = []
    model.model.lm_head.register_forward_hook(lambda _, inputs, logits: shapes.append(tuple(logits.shape)))
    mask_BS = torch.ones(3, 30, dtype=torch.long)
    mask_BS[1, :20] = 0
    embeds_BSD = torch.randn(3, 30, model.llm.config.hidden_size, generator=torch.Generator().manual_seed(0))
    positions_BS = (mask_BS.cumsum(1) - 1).clamp(min=0).float()
    inputs = Inputs(embeds_BSD, mask_BS, positions_BS, torch.full((3, 30), IGNORED))
    generated = lalm.generate(model, inputs, [5, 5, 5])
    assert {shape[1] for shape in shapes} == {1}
    with torch.inference_mode():
        first_B = model.model.lm_head(lalm.hidden(model, inputs))[:, -1].argmax(-1).tolist()
    assert [answer.ids[0] if answer.ids else model.stop_ids[0] for answer in generated] == first_B
