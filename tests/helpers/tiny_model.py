"""Make a random Qwen2-Audio checkpoint of a few hundred kilobytes, in the hub's layout, from the real classes."""

from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from concertina.config import Base
from concertina.store.sealing import sha256

SPECIAL = ["<|endoftext|>", "<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>", "<|transcribe|>", "<|translate|>"]
LANGUAGES = ["<|en|>", "<|de|>", "<|fr|>"]
PROMPTS: dict[Literal["transcribe", "translate"], str] = {
    "transcribe": "<|audio_bos|><|AUDIO|><|audio_eos|><|transcribe|><|{source}|>",
    "translate": "<|audio_bos|><|AUDIO|><|audio_eos|><|translate|><|{source}|><|{target}|>",
}


def make(
    folder: Path, width: int = 64, layers: int = 2, window_s: int = 10, seed: int = 0, inner: int | None = None
) -> Base:
    """Write the checkpoint and return the config section that pins it."""
    tokenizer = _tokenizer()
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=window_s)
    end, audio = (tokenizer.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|AUDIO|>"))
    assert isinstance(audio, int)
    shared: dict[str, Any] = {"tie_word_embeddings": True, "initializer_range": 0.1}  # not declared in transformers
    config = Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "d_model": width,
            "encoder_layers": layers,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 2 * width,
            "num_mel_bins": 80,
            "max_source_positions": 50 * window_s,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": inner or 2 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 1024,
            "tie_word_embeddings": True,
            "eos_token_id": end,
            "pad_token_id": end,
        },
        audio_token_index=audio,
        **shared,
    )
    torch.manual_seed(seed)
    model = Qwen2AudioForConditionalGeneration(config)
    with torch.no_grad():  # with the small default spread every prompt would give the same text
        for name, value in model.named_parameters():
            if value.dim() > 1 and "embed_positions" not in name:
                value.normal_(0.0, 0.15)
        model.lm_head.weight.copy_(model.model.language_model.embed_tokens.weight)  # transformers does not tie them
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = end
    model.save_pretrained(folder)
    Qwen2AudioProcessor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
    return Base(model=str(folder), sha256=sha256(folder / "model.safetensors"), prompts=PROMPTS)


def _tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of bytes, a few merges and the special tokens."""
    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("e", "r"), ("a", "n"), ("o", "n"), ("Ġ", "a")]
    words = [*characters, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in [*SPECIAL, *LANGUAGES]])
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=end)
