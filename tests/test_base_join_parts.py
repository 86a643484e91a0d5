"""What joins a base: Whisper in the format of CTranslate2, the alignment of speech and tokens, a divided step."""

from pathlib import Path

import pytest
import torch
from transformers import (
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from concertina.bases import join
from concertina.bases.joined import alignment, ctranslate2, finetuning, heard, joined, pretrained
from concertina.config import Pretrained
from concertina.store import sealing
from concertina.training import gradients
from helpers.small_parts import RECIPE, as_ctranslate2, small_llm, small_whisper


def test_a_whisper_in_ctranslate2s_format_is_the_same_whisper(tmp_path: Path) -> None:
    model = small_whisper().half().float()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/model.bin").write_bytes(as_ctranslate2(model))
    read = pretrained.whisper(Pretrained(model=str(tmp_path)))
    mel, ids = torch.randn(2, 80, 1000), torch.tensor([[1, 2, 3]] * 2)
    with torch.inference_mode():
        expected, found = (m(input_features=mel, decoder_input_ids=ids).logits for m in (model, read))
    assert expected.std() > 0.01
    assert torch.allclose(expected, found, atol=1e-5)


@pytest.mark.parametrize("harm", [lambda b: b[:-900], lambda b: b"x" * 40, lambda b: b + b"more", lambda b: b""])
def test_a_model_that_is_cut_or_something_else_is_damaged(tmp_path: Path, harm: object) -> None:
    (tmp_path / "model.bin").write_bytes(harm(as_ctranslate2(small_whisper())))  # type: ignore[operator]
    with pytest.raises(sealing.DamagedError, match=r"model\.bin is not a Whisper model"):
        ctranslate2.read(tmp_path / "model.bin")


def test_alignment_finds_the_tokens_that_are_spoken() -> None:
    torch.manual_seed(0)
    model = joined.join(small_whisper(), *_llm())
    aligner = alignment.Aligner(model, ["ab", "ba"])
    projector = aligner.projector.requires_grad_(True)
    spoken = {"ab": torch.randn(12, 64), "ba": torch.randn(12, 64)}
    batch = [heard.Heard(frames.half(), text, ([], []), []) for text, frames in spoken.items()]
    optimiser = torch.optim.AdamW(aligner.parameters(), lr=0.03)
    for _ in range(60):
        optimiser.zero_grad()
        aligner(batch).backward()
        optimiser.step()
    for text, frames_TD in spoken.items():
        best = aligner.scores(frames_TD[None])[0].argmax(-1).unique_consecutive().tolist()
        assert model.tokenizer.decode([aligner.tokens[k - 1] for k in best if k]).strip() == text
    aligner.rescale(batch)
    lengths = (projector(torch.cat(list(spoken.values()))) - aligner.mean_D).norm(dim=-1)
    assert float(lengths.mean().detach()) == pytest.approx(aligner.norm, rel=1e-3)


def test_a_step_that_is_divided_has_the_gradients_of_the_whole() -> None:
    torch.manual_seed(0)
    model = joined.join(small_whisper(), *_llm())
    recipe = {**RECIPE["finetuning"], "batch_tokens": 45}  # type: ignore[dict-item]
    chosen = join.read_recipe({**RECIPE, "finetuning": recipe}, 2).finetuning
    batch = [heard.Heard(torch.randn(n, 64).half(), "", ([1], [2, 3]), list(range(4, 4 + n))) for n in (3, 9, 5, 11)]
    projector, llm = finetuning.learners(model)
    for parameter in (*projector, *llm):
        parameter.requires_grad_(True)
    finetuning.loss(model, batch).backward()
    whole = [p.grad.clone() for p in (*projector, *llm) if p.grad is not None]
    model.model.zero_grad()
    parts = list(gradients.divided(batch, chosen.batch_tokens, finetuning.positions))
    for part, share in parts:
        (finetuning.loss(model, part) * share).backward()
    divided = [p.grad for p in (*projector, *llm) if p.grad is not None]
    assert [len(part) for part, _ in parts] == [2, 1, 1]
    assert len(whole) == len(divided) > 10
    for ours, theirs in zip(divided, whole, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def _llm() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        small_llm(Path(folder))
        return pretrained.llm(Pretrained(model=folder))
