"""Put a Whisper encoder and a causal LLM into one Qwen2-Audio checkpoint, with an untrained projector."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperForConditionalGeneration,
)

from concertina.bases.joined import pretrained
from concertina.model.lalm import AUDIO, Lalm


def join(whisper: WhisperForConditionalGeneration, llm: Any, tokenizer: Any) -> Lalm:
    """Return the joined model in float32, with `llm`'s own weights; its head is tied if the LLM's is."""
    tokenizer.add_tokens([AUDIO], special_tokens=True)
    if len(tokenizer) > llm.config.vocab_size:
        llm.resize_token_embeddings(len(tokenizer))
    encoder_config = whisper.config
    config = Qwen2AudioConfig(
        audio_config={
            "num_mel_bins": encoder_config.num_mel_bins,
            "d_model": encoder_config.d_model,
            "encoder_layers": encoder_config.encoder_layers,
            "encoder_attention_heads": encoder_config.encoder_attention_heads,
            "encoder_ffn_dim": encoder_config.encoder_ffn_dim,
            "max_source_positions": encoder_config.max_source_positions,
        },
        text_config=llm.config.to_dict(),
        audio_token_index=tokenizer.convert_tokens_to_ids(AUDIO),
    )
    with torch.device("meta"):
        model = Qwen2AudioForConditionalGeneration(config)
    encoder = whisper.model.encoder.state_dict()
    model.model.audio_tower.load_state_dict(encoder, assign=True)
    model.model.language_model = llm.model
    model.lm_head = llm.lm_head
    projector = torch.nn.Linear(encoder_config.d_model, llm.config.hidden_size)
    model.model.multi_modal_projector.linear = projector
    if llm.config.tie_word_embeddings:
        model.lm_head.weight = model.model.language_model.embed_tokens.weight
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id or tokenizer.eos_token_id
    extractor = pretrained.feature_extractor(whisper)
    return Lalm(model.requires_grad_(False).eval(), tokenizer, extractor, (tokenizer.eos_token_id,))


def save(lalm: Lalm, folder: Path) -> None:
    """Write the checkpoint in the hub's layout; a tied head is written once."""
    tied = lalm.model.lm_head.weight is lalm.llm.embed_tokens.weight
    state = {n: t for n, t in lalm.model.state_dict().items() if not (tied and n == "lm_head.weight")}
    lalm.model.save_pretrained(folder, state_dict=state)
    Qwen2AudioProcessor(lalm.feature_extractor, lalm.tokenizer).save_pretrained(folder)
