"""Load the parts of a joined base as transformers' own models: a Whisper, and a causal LLM with its tokenizer."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from concertina.bases.joined import ctranslate2
from concertina.config import ConfigError, Pretrained
from concertina.store import sealing

HEAD_WIDTH = 64  # of the attention heads of every Whisper
SIDES = ("encoder", "decoder")


def verified(part: Pretrained) -> Path:
    """Return a part's folder, verified where it has a seal. Errors: ConfigError (no such folder), DamagedError."""
    if part.fetched:
        sealing.verify(part.folder)
    elif not part.folder.is_dir():
        raise ConfigError(f"base.assembled: there is no folder {part.folder}; give a hub id its `revision`")
    return part.folder


def whisper(part: Pretrained) -> WhisperForConditionalGeneration:
    """Load Whisper, encoder and decoder, in float32 and evaluation mode. Errors: ConfigError, DamagedError."""
    folder = verified(part)
    files = sorted(folder.rglob("model.bin"))
    if not files:
        return WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    state = ctranslate2.whisper_state(ctranslate2.read(files[0]))
    model = WhisperForConditionalGeneration(_whisper_config(state)).eval()
    missing, unexpected = model.model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise sealing.DamagedError(f"{files[0]} is not a whole Whisper: {[*missing, *unexpected][:3]}")
    model.tie_weights()
    return model


def _whisper_config(state: dict[str, torch.Tensor]) -> WhisperConfig:
    """Read the dimensions of a Whisper off its tensors."""
    layers = {side: 1 + max(int(n.split(".")[2]) for n in state if f"{side}.layers." in n) for side in SIDES}
    width, bins, _ = state["encoder.conv1.weight"].shape
    return WhisperConfig(
        vocab_size=len(state["decoder.embed_tokens.weight"]),
        num_mel_bins=bins,
        d_model=width,
        encoder_layers=layers["encoder"],
        decoder_layers=layers["decoder"],
        encoder_attention_heads=width // HEAD_WIDTH,
        decoder_attention_heads=width // HEAD_WIDTH,
        encoder_ffn_dim=len(state["encoder.layers.0.fc1.weight"]),
        decoder_ffn_dim=len(state["decoder.layers.0.fc1.weight"]),
        max_source_positions=len(state["encoder.embed_positions.weight"]),
        max_target_positions=len(state["decoder.embed_positions.weight"]),
        pad_token_id=None,  # the tokenizer decides these
        bos_token_id=None,
        eos_token_id=None,
        decoder_start_token_id=0,
    )


def whisper_tokenizer(part: Pretrained) -> PreTrainedTokenizerFast:
    """Load Whisper's tokenizer."""
    (file,) = sorted(part.folder.rglob("tokenizer.json"))[:1]
    return PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def feature_extractor(model: WhisperForConditionalGeneration) -> WhisperFeatureExtractor:
    """Return the extractor of Whisper's log-mels, over windows as long as its encoder takes."""
    seconds = model.config.max_source_positions // 50
    return WhisperFeatureExtractor(feature_size=model.config.num_mel_bins, chunk_length=seconds)


def llm(part: Pretrained) -> tuple[Any, Any]:
    """Load a causal LLM in float32 and its tokenizer; weights in a GGUF file are dequantised. Errors: as `whisper`."""
    folder = verified(part)
    files = sorted(folder.rglob("*.gguf"))
    if not files:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return model.eval(), AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        files[0].parent,
        gguf_file=files[0].name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    return model.eval(), AutoTokenizer.from_pretrained(files[0].parent, gguf_file=files[0].name)
