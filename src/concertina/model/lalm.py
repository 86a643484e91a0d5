"""Use the speech language model: load it, project and embed its inputs, compute its loss, generate texts.

The model is transformers' own Qwen2AudioForConditionalGeneration, a few million parameters or seven billion. The audio
tokens are passed end to end with their counts, so the places in the prompt cannot disagree with the number of tokens.

Tensor names: B batch, N audio tokens of the batch end to end, P positions of the batch end to end, S positions of the
padded batch, D width, V vocabulary, L positions that predict a label.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoProcessor, BitsAndBytesConfig, Qwen2AudioForConditionalGeneration
from transformers.utils import logging as transformers_logging

from concertina.artefacts import tags
from concertina.config import Base, ConfigError, prompts
from concertina.model import broken_releases, devices, packed_decoder
from concertina.model.inputs import IGNORED, Inputs, Packing
from concertina.store import sealing

AUDIO = "<|AUDIO|>"
Prompt = tuple[list[int], list[int]]
IN_FULL = ("model.audio_tower", "model.multi_modal_projector", "lm_head")  # never in 4 bits; names from the root


@dataclass(frozen=True)
class Lalm:
    """A loaded model with what prepares its inputs. peft adds adapters in place, so `model` has them."""

    model: Any  # Qwen2AudioForConditionalGeneration
    tokenizer: Any
    feature_extractor: Any
    stop_ids: tuple[int, ...]

    @property
    def device(self) -> torch.device:
        return self.model.lm_head.weight.device

    @property
    def llm(self) -> Any:
        return self.model.model.language_model

    @property
    def encoder(self) -> Any:
        return self.model.model.audio_tower


@dataclass(frozen=True)
class Generated:
    """A decoded answer: `ids` are without the end token; `capped` is true when the cap cut it off."""

    ids: list[int]
    text: str
    capped: bool


def check_library(version: str = transformers.__version__) -> None:
    """Refuse a transformers that is known to read the model wrongly. Errors: ConfigError naming it and the remedy."""
    for package, harm in broken_releases.among({"transformers": version}):
        raise ConfigError(f"{package} {version}: {harm}; `make setup` installs the version that constraints.txt pins")


def in_four_bits(device: str) -> BitsAndBytesConfig:
    """Return how to hold the LLM in 4 bits; encoder, projector and head keep their type. Errors: ConfigError."""
    if device == "cpu" or importlib.util.find_spec("bitsandbytes") is None:
        needed = "a CUDA GPU" if device == "cpu" else "the package bitsandbytes (pip install bitsandbytes)"
        raise ConfigError(f"base.four_bit: it needs {needed}; set it to false on this machine")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=list(IN_FULL),
    )


def load(base: Base, *, encoder: bool, llm: bool, dtype: str = "float32", device: str | None = None) -> Lalm:
    """Load the checkpoint in evaluation mode, without the encoder's or the LLM's layers where they are not needed.

    Errors: ConfigError (the folder holds no checkpoint), DamagedError (the files are not those that the config pins, or
    the head is not tied as the model's config says).
    """
    check_library()
    folder = base.folder
    if base.made_here:
        sealing.verify(folder)
    if not (folder / "config.json").exists():
        raise ConfigError(f"base.model: {folder} holds no checkpoint (no config.json); `make base` makes the tiny one")
    if base.sha256 and fingerprint(folder) != base.sha256:
        raise sealing.DamagedError(f"{folder}: its weights are not those that base.sha256 pins ({base.sha256[:12]}...)")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    config = AutoConfig.from_pretrained(folder)
    if not encoder:
        config.audio_config.encoder_layers = 0
    if not llm:
        config.text_config.num_hidden_layers = 0
        config.text_config.layer_types = []
    device = device or devices.device()
    quantized: dict[str, Any] = {}
    if base.four_bit and llm:
        quantized = {"quantization_config": in_four_bits(device), "device_map": {"": device}}
    loaded: Any = Qwen2AudioForConditionalGeneration.from_pretrained(
        folder,
        config=config,
        dtype=getattr(torch, dtype),
        attn_implementation="eager" if device == "cpu" else "sdpa",  # on CPU training is 1.5 times faster so
        output_loading_info=True,
        **quantized,
    )
    model, facts = loaded
    _tie_head(model, folder, "lm_head.weight" in facts["missing_keys"])
    if missing := sorted(set(facts["missing_keys"]) - {"lm_head.weight"}):
        raise sealing.DamagedError(f"{folder}: the checkpoint lacks {', '.join(missing[:3])}")
    model.requires_grad_(False).eval()
    if not quantized:
        model.to(device)
    processor = AutoProcessor.from_pretrained(folder)
    stop = model.generation_config.eos_token_id
    stop_ids = {processor.tokenizer.eos_token_id, *(stop if isinstance(stop, list) else [stop])} - {None}
    return Lalm(model, processor.tokenizer, processor.feature_extractor, tuple(sorted(stop_ids)))


def held_in(base: Base, precision: str) -> str:
    """Return the type in which training holds the frozen weights: bfloat16 if they are stored so, otherwise float32.

    Autocast computes in `precision` either way. Large checkpoints are stored in bfloat16 and fit only in that type.
    """
    stored = AutoConfig.from_pretrained(base.folder).dtype
    return "bfloat16" if precision == "bfloat16" and stored == torch.bfloat16 else "float32"


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 of model.safetensors; for several files, that of their hashes in the order of names."""
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise sealing.DamagedError(f"{folder} holds no model.safetensors")
    hashes = [sealing.sha256(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _tie_head(model: Any, folder: Path, head_is_missing: bool) -> None:
    """Tie the head to the embeddings where the LLM's config says so; transformers does not tie it in this class."""
    embeddings = model.model.language_model.embed_tokens.weight
    tied = model.config.text_config.tie_word_embeddings
    if not tied and head_is_missing:
        raise sealing.DamagedError(f"{folder}: the checkpoint lacks lm_head.weight, and its config does not tie it")
    if tied and not head_is_missing and not torch.equal(model.lm_head.weight, embeddings):
        raise sealing.DamagedError(f"{folder}: lm_head differs from embed_tokens although the config ties them")
    if tied:
        model.lm_head.weight = embeddings
        assert model.lm_head.weight is model.model.language_model.embed_tokens.weight


def prompt_ids(lalm: Lalm, base: Base, task: str, source: str, target: str | None) -> Prompt:
    """Return the prompt of a task as token ids: those before the audio tokens, and those after them."""
    text = prompts.text(base, task, source, target)
    for token in prompts.tokens(text):
        if token not in lalm.tokenizer.get_vocab():
            raise ConfigError(tags.unknown(f"base.prompts.{task}", base.model, token))
    parts = text.split(AUDIO)
    if len(parts) != 2:
        raise ConfigError(f"base.prompts.{task}: the prompt must contain {AUDIO} exactly once")
    before, after = (text_ids(lalm, part) for part in parts)
    return before, after


def text_ids(lalm: Lalm, text: str) -> list[int]:
    """Return the tokens of a text without special ones around it."""
    return list(lalm.tokenizer(text, add_special_tokens=False).input_ids)


def answer_ids(lalm: Lalm, text: str) -> list[int]:
    """Return the token ids that the model should generate: the text's, then the end token."""
    return [*text_ids(lalm, text), lalm.tokenizer.eos_token_id]


def project(lalm: Lalm, vectors_ND: torch.Tensor) -> torch.Tensor:
    """Project vectors from the encoder's space into the LLM's: [N, encoder width] to [N, LLM width]."""
    weight = lalm.model.model.multi_modal_projector.linear.weight
    return lalm.model.model.multi_modal_projector(vectors_ND.to(weight.device, weight.dtype))


def embed(
    lalm: Lalm,
    prompts: Sequence[Prompt],
    tokens_ND: torch.Tensor,
    counts_B: Sequence[int],
    positions_N: torch.Tensor,
    spans_B: Sequence[int],
    answers: Sequence[list[int]] | None = None,
    pad_left: bool = False,
) -> Inputs:
    """Join prompts, audio tokens and answers into a padded batch of embedded positions.

    tokens_ND: projected audio tokens of the batch, end to end; counts_B: how many each utterance has;
    positions_N: their positions within their audio, from 0; spans_B: how many positions the audio takes up, after
    which the text continues. Labels are the answers' tokens, IGNORED elsewhere.
    """
    if len(tokens_ND) != sum(counts_B) or len(prompts) != len(counts_B):
        raise ValueError(f"{len(tokens_ND)} tokens for counts that sum to {sum(counts_B)}; {len(prompts)} prompts")
    befores_B, afters_B = zip(*prompts, strict=True)
    answers_B = answers or [[] for _ in prompts]
    before_B, after_B, answer_B = (np.array([len(ids) for ids in each]) for each in (befores_B, afters_B, answers_B))
    audio_B = np.asarray(counts_B)
    sizes_B = before_B + audio_B + after_B + answer_B
    shape = len(prompts), int(sizes_B.max())
    # All utterances are first laid end to end (P), so that each step is one numpy operation for the whole batch instead
    # of one per utterance. line_P is the utterance of a position, within_P its index in the utterance: text before
    # the audio, audio, text after it, answer.
    line_P = np.arange(len(prompts)).repeat(sizes_B)
    within_P = np.arange(len(line_P)) - (sizes_B.cumsum() - sizes_B)[line_P]
    is_audio_P = (within_P >= before_B[line_P]) & (within_P < (before_B + audio_B)[line_P])
    text = [[*before, *after, *answer] for (before, after), answer in zip(prompts, answers_B, strict=True)]
    ids_P = np.full(len(line_P), lalm.stop_ids[0])
    ids_P[~is_audio_P] = [token for ids in text for token in ids]
    labels_P = np.where(within_P >= (sizes_B - answer_B)[line_P], ids_P, IGNORED)
    follows_P = within_P >= (before_B + audio_B)[line_P]
    places_P = (within_P + follows_P * (np.asarray(spans_B) - audio_B)[line_P]).astype(np.float32)
    places_P[is_audio_P] = before_B.repeat(audio_B) + positions_N.cpu().float().numpy()
    column_P = within_P + (shape[1] - sizes_B)[line_P] if pad_left else within_P

    def padded(values_P: np.ndarray, fill: int) -> torch.Tensor:
        values_BS = np.full(shape, fill, dtype=values_P.dtype)
        values_BS[line_P, column_P] = values_P
        return torch.from_numpy(values_BS)

    ids_BS, labels_BS = padded(ids_P, lalm.stop_ids[0]), padded(labels_P, IGNORED)
    mask_BS, positions_BS = padded(np.ones_like(ids_P), 0), padded(places_P, 0)
    at_B, at_S = (torch.from_numpy(index[is_audio_P]) for index in (line_P, column_P))
    device = lalm.device
    embeds_BSD = lalm.model.get_input_embeddings()(ids_BS.to(device))
    embeds_BSD = embeds_BSD.index_put((at_B.to(device), at_S.to(device)), tokens_ND.to(device, embeds_BSD.dtype))
    return Inputs(embeds_BSD, mask_BS.to(device), positions_BS.to(device), labels_BS.to(device))


def hidden(lalm: Lalm, inputs: Inputs) -> torch.Tensor:
    """Return the LLM's last hidden states [B, S, D] of a padded batch."""
    return lalm.llm(
        inputs_embeds=inputs.embeds_BSD,
        attention_mask=inputs.mask_BS,
        position_ids=inputs.positions_BS,
        use_cache=False,
    ).last_hidden_state


def label_logits(lalm: Lalm, inputs: Inputs, packing: Packing | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply the vocabulary head only at the positions that predict a label: returns logits_LV and labels_L.

    `packing`: how to read `inputs` if they are a packed row instead of a padded batch.
    """
    if packing is not None:
        states_LD, labels_L = packed_decoder.label_states(lalm.llm, inputs, packing), packing.labels_L
    else:
        predicts_BS = inputs.labels_BS[:, 1:] != IGNORED
        states_LD, labels_L = hidden(lalm, inputs)[:, :-1][predicts_BS], inputs.labels_BS[:, 1:][predicts_BS]
    return lalm.model.lm_head(states_LD), labels_L


def loss(lalm: Lalm, inputs: Inputs, packing: Packing | None = None) -> torch.Tensor:
    """Return the mean cross entropy over the batch's label tokens, in nats; `packing` as for `label_logits`."""
    logits_LV, labels_L = label_logits(lalm, inputs, packing)
    return torch.nn.functional.cross_entropy(logits_LV.float(), labels_L)


@torch.inference_mode()
def generate(lalm: Lalm, inputs: Inputs, caps_B: Sequence[int]) -> list[Generated]:
    """Decode greedily (inputs padded on the left); each utterance gets at most its own cap of new tokens."""
    # The next token needs the logits of the last position alone. transformers' forward of this class computes them for
    # every position of the prompts: 5.6 GB for 20 prompts of 900 positions and a vocabulary of 156,032 in bfloat16.
    last_alone = lalm.model.lm_head.register_forward_pre_hook(lambda _, states: (states[0][:, -1:],))
    try:
        out_BS = lalm.model.generate(
            inputs_embeds=inputs.embeds_BSD,
            attention_mask=inputs.mask_BS,
            position_ids=inputs.positions_BS,
            max_new_tokens=max(caps_B),
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            eos_token_id=list(lalm.stop_ids),
            pad_token_id=lalm.stop_ids[0],
        )
    finally:
        last_alone.remove()
    results = []
    for ids, cap in zip(out_BS.tolist(), caps_B, strict=True):
        end = next((i for i, token in enumerate(ids[:cap]) if token in lalm.stop_ids), None)
        answer = ids[:cap] if end is None else ids[:end]
        text = lalm.tokenizer.decode(answer, skip_special_tokens=True).strip()
        results.append(Generated(answer, text, end is None))
    return results
