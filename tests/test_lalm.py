"""The model's seams against transformers' own path, and what batches, padding and positions must not change."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.quantizers.quantizers_utils import should_convert_module

from concertina.config import Base, ConfigError
from concertina.model import encoder, lalm
from concertina.model.lalm import Lalm
from concertina.store.sealing import DamagedError, sha256
from helpers import tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    torch.set_num_threads(1)
    return tiny_model.make(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def model(base: Base) -> Lalm:
    return lalm.load(base, encoder=True, llm=True, device="cpu")


def noise(seconds: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * 16_000)).astype(np.float32)


@torch.inference_mode()
def tokens_of(model: Lalm, audio: list[np.ndarray]) -> tuple[torch.Tensor, list[int]]:
    """Uncompressed audio tokens, projected: [N, D], and how many each utterance has."""
    mel_BML, lengths_B = encoder.log_mel(model.feature_extractor, audio, encoder.window_samples(model.encoder))
    frames_BTD, counts_B = encoder.encode(model.encoder, mel_BML, lengths_B)
    frames_TD = torch.cat([frames_BTD[b, :count] for b, count in enumerate(counts_B.tolist())])
    return lalm.project(model, frames_TD), counts_B.tolist()


def inputs_of(model: Lalm, base: Base, audio: list[np.ndarray], pad_left: bool = True) -> lalm.Inputs:
    tokens_ND, counts = tokens_of(model, audio)
    prompt = lalm.prompt_ids(model, base, "transcribe", "en", None)
    positions_N = torch.cat([torch.arange(n) for n in counts])
    return lalm.embed(model, [prompt] * len(audio), tokens_ND, counts, positions_N, counts, pad_left=pad_left)


def test_logits_equal_the_standard_path(base: Base, model: Lalm) -> None:
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(base.model)
    audio = noise(3.21, 1)
    text = base.prompts["transcribe"].format(source="en")
    stock = processor(text=text, audio=audio, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        expected_SV = model.model(**stock).logits[0]
        ours_SV = model.model.lm_head(lalm.hidden(model, inputs_of(model, base, [audio])))[0]
    assert ours_SV.shape == expected_SV.shape
    assert (ours_SV - expected_SV).abs().max() < 1e-4


@pytest.mark.parametrize("pad_left", [True, False])
def test_padding_changes_no_logits(base: Base, model: Lalm, pad_left: bool) -> None:
    audio = [noise(s, i) for i, s in enumerate([1.0, 4.2, 0.5])]
    with torch.inference_mode():
        together = inputs_of(model, base, audio, pad_left)
        batch_BSD = lalm.hidden(model, together)
        for b, one in enumerate(audio):
            alone_SD = lalm.hidden(model, inputs_of(model, base, [one]))[0]
            assert (batch_BSD[b][together.mask_BS[b].bool()] - alone_SD).abs().max() < 1e-4


def test_a_batch_of_one_and_of_many_give_the_same_text(base: Base, model: Lalm) -> None:
    audio = [noise(s, i) for i, s in enumerate([0.6, 2.0, 3.7, 1.1, 5.0])]
    caps = [4, 20, 12, 6, 9]
    together = lalm.generate(model, inputs_of(model, base, audio), caps)
    alone = [lalm.generate(model, inputs_of(model, base, [a]), [c])[0] for a, c in zip(audio, caps, strict=True)]
    assert together == alone
    assert len({result.text for result in together}) > 1
    assert all(len(result.ids) == cap for result, cap in zip(together, caps, strict=True) if result.capped)


def test_kept_positions_reach_the_rotary_embedding_and_the_text_goes_on_after_the_last_frame(
    base: Base, model: Lalm
) -> None:
    prompt = lalm.prompt_ids(model, base, "transcribe", "en", None)
    tokens_ND = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    arguments = (model, [prompt], tokens_ND, [2])
    renumbered = lalm.embed(*arguments, torch.tensor([0.0, 1.0]), [2], pad_left=True)
    kept = lalm.embed(*arguments, torch.tensor([1.5, 5.0]), [7], pad_left=True)
    assert renumbered.positions_BS.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert kept.positions_BS.tolist() == [[0, 2.5, 6, 8, 9, 10]]
    with torch.inference_mode():
        difference = (lalm.hidden(model, kept) - lalm.hidden(model, renumbered)).abs().max()
    assert difference > 1e-3
    assert len(lalm.generate(model, kept, [5])[0].ids) <= 5


def test_generation_continues_from_kept_positions(base: Base, model: Lalm) -> None:
    """The cached steps of generate equal one full forward over the text so far."""
    prompt = lalm.prompt_ids(model, base, "transcribe", "en", None)
    tokens_ND = torch.randn(3, 64, generator=torch.Generator().manual_seed(3))
    arguments = (model, [prompt], tokens_ND, [3], torch.tensor([1.0, 4.5, 9.0]), [11])
    ids = lalm.generate(model, lalm.embed(*arguments, pad_left=True), [8])[0].ids
    with torch.inference_mode():
        full = lalm.hidden(model, lalm.embed(*arguments, answers=[ids]))
    greedy = model.model.lm_head(full)[0, -len(ids) - 1 : -1].argmax(-1)
    assert greedy.tolist() == ids


def test_one_token_per_audio_works(base: Base, model: Lalm) -> None:
    prompt = lalm.prompt_ids(model, base, "translate", "en", "de")
    inputs = lalm.embed(model, [prompt] * 2, torch.randn(2, 64), [1, 1], torch.zeros(2), [1, 1], answers=[[3], [4, 5]])
    assert torch.isfinite(lalm.loss(model, inputs))


def test_labels_cover_the_answer_and_its_end_only(base: Base, model: Lalm) -> None:
    prompt = lalm.prompt_ids(model, base, "transcribe", "de", None)
    answers = [lalm.answer_ids(model, "the end"), lalm.answer_ids(model, "a")]
    inputs = lalm.embed(model, [prompt] * 2, torch.randn(5, 64), [2, 3], torch.arange(5.0), [2, 3], answers=answers)
    for labels_S, answer in zip(inputs.labels_BS, answers, strict=True):
        assert labels_S[labels_S != lalm.IGNORED].tolist() == answer
        assert answer[-1] == model.tokenizer.eos_token_id
    logits_LV, labels_L = lalm.label_logits(model, inputs)
    assert len(logits_LV) == len(labels_L) == sum(map(len, answers))


def test_counts_that_disagree_with_the_tokens_are_refused(base: Base, model: Lalm) -> None:
    prompt = lalm.prompt_ids(model, base, "transcribe", "de", None)
    with pytest.raises(ValueError, match="5 tokens"):
        lalm.embed(model, [prompt], torch.randn(5, 64), [4], torch.arange(4.0), [4])


def test_without_the_encoder_the_llm_is_the_same(base: Base, model: Lalm) -> None:
    small = lalm.load(base, encoder=False, llm=True, device="cpu")
    assert sum(p.numel() for p in small.encoder.parameters()) < sum(p.numel() for p in model.encoder.parameters())
    inputs = inputs_of(model, base, [noise(1.0, 5)])
    with torch.inference_mode():
        assert torch.equal(lalm.hidden(small, inputs), lalm.hidden(model, inputs))
    blind = lalm.load(base, encoder=True, llm=False, device="cpu")
    assert len(blind.llm.layers) == 0
    assert len(blind.encoder.layers) == 2


def test_the_head_is_tied_when_the_config_says_so(model: Lalm) -> None:
    assert model.model.lm_head.weight is model.llm.embed_tokens.weight


def test_a_head_that_disagrees_with_the_tie_is_refused(base: Base, tmp_path: Path) -> None:
    other = tiny_model.make(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    head = next(name for name in weights if name.endswith("lm_head.weight"))
    weights[head] = weights[head] + 1
    save_file(weights, file, metadata={"format": "pt"})
    pinned = other.model_copy(update={"sha256": sha256(file)})
    with pytest.raises(DamagedError, match="ties"):
        lalm.load(pinned, encoder=False, llm=True)


def test_weights_other_than_the_pinned_are_refused(base: Base) -> None:
    with pytest.raises(DamagedError, match="pins"):
        lalm.load(base.model_copy(update={"sha256": "0" * 64}), encoder=False, llm=True)
    with pytest.raises(ConfigError, match="make base"):
        lalm.load(base.model_copy(update={"model": "models/nowhere"}), encoder=False, llm=True)


def test_a_prompt_without_its_place_for_audio_is_refused(base: Base, model: Lalm) -> None:
    blind = base.model_copy(update={"prompts": {"transcribe": "no audio here"}})
    with pytest.raises(ConfigError, match="exactly once"):
        lalm.prompt_ids(model, blind, "transcribe", "en", None)


def test_four_bits_need_a_gpu_and_say_so(tmp_path: Path) -> None:
    base = tiny_model.make(tmp_path).model_copy(update={"four_bit": True})
    with pytest.raises(ConfigError, match=r"base\.four_bit: it needs a CUDA GPU"):
        lalm.load(base, encoder=False, llm=True, device="cpu")
    assert lalm.load(base, encoder=True, llm=False, device="cpu")  # the encoder is never in 4 bits


def test_four_bits_are_for_the_llms_layers_alone(tmp_path: Path) -> None:
    model = lalm.load(tiny_model.make(tmp_path), encoder=True, llm=True).model
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    converted = {name for name in linear if should_convert_module(name, list(lalm.IN_FULL))}
    assert converted == {name for name in linear if name.startswith("model.language_model.layers.")}
    assert len(converted) == 2 * 7


def test_a_release_that_reads_the_model_wrongly_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"transformers 5\.10\.2: it ties Qwen2-Audio"):
        lalm.check_library("5.10.2")
    lalm.check_library("5.10.4")
