"""A Qwen2-Audio model to be trained from nothing, and its two losses.

Tensor names: B batch, T frames (25 a second), P positions of the language model, D width, V vocabulary.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from concertina.bases.scratch.examples import PHONEMES, Example, pad
from concertina.config import Section
from concertina.model import encoder
from concertina.units import FRAMES_PER_SECOND

SPECIALS = ["<|endoftext|>", "<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>", "<|transcribe|>", "<|translate|>"]
BLANK = 0  # CTC's blank is <|endoftext|>
IGNORED = -100
POSITION_SCALE, CONVOLUTION_SCALE = 0.25, 4.0  # sound above position at the start; their effect was not measured


class Shape(Section):
    """The dimensions of a model; see models/tiny/recipe.yaml."""

    vocabulary: int
    width: int
    encoder_layers: int
    llm_layers: int
    heads: int
    window_s: int


def create(
    folder: Path, shape: Shape, languages: list[str], seed: int, texts: list[str], extractor: WhisperFeatureExtractor
) -> None:
    """Write an untrained model in the hub's layout: tokenizer, processor, sinusoidal positions."""
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokens.decoder = decoders.ByteLevel()
    specials = SPECIALS + [f"<|{language}|>" for language in languages]
    tokens.train_from_iterator(
        sorted(set(texts)),
        trainers.BpeTrainer(
            vocab_size=shape.vocabulary, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token=SPECIALS[0], pad_token=SPECIALS[0])
    torch.manual_seed(seed)
    positions = shape.window_s * 2 * FRAMES_PER_SECOND
    config = Qwen2AudioConfig(
        audio_config={
            "num_mel_bins": extractor.feature_size,
            "d_model": shape.width,
            "encoder_layers": shape.encoder_layers,
            "encoder_attention_heads": shape.heads,
            "encoder_ffn_dim": 4 * shape.width,
            "max_source_positions": positions,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": shape.width,
            "num_hidden_layers": shape.llm_layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.heads,
            "intermediate_size": 4 * shape.width,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": BLANK,
            "pad_token_id": BLANK,
        },
        audio_token_index=SPECIALS.index("<|AUDIO|>"),
    )
    model = Qwen2AudioForConditionalGeneration(config)
    tower = model.model.audio_tower
    tower.embed_positions.weight.data = POSITION_SCALE * _sinusoids(positions, shape.width)
    for convolution in (tower.conv1, tower.conv2):
        convolution.weight.data *= CONVOLUTION_SCALE
    nn.init.eye_(model.model.multi_modal_projector.linear.weight)
    nn.init.zeros_(model.model.multi_modal_projector.linear.bias)
    nn.init.normal_(model.model.language_model.embed_tokens.weight, std=shape.width**-0.5)
    model.save_pretrained(folder)
    Qwen2AudioProcessor(extractor, tokenizer).save_pretrained(folder)


def _sinusoids(positions: int, width: int) -> torch.Tensor:
    """Return Whisper's position embeddings (arXiv 2212.04356), which an encoder does not learn from scratch."""
    rates = torch.exp(-math.log(10_000) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(positions)[:, None] * rates[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Learner(nn.Module):
    """The model and its two losses."""

    def __init__(self, folder: Path, prompts: dict[Any, str]) -> None:
        super().__init__()
        self.lalm = Qwen2AudioForConditionalGeneration.from_pretrained(folder, attn_implementation="eager")
        self.lalm.lm_head.weight = (
            self.lalm.model.language_model.embed_tokens.weight
        )  # tied here; the class itself never ties
        self.blank_bias = nn.Parameter(torch.zeros(()))
        width = self.lalm.model.audio_tower.embed_positions.embedding_dim
        self.phonemes = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, PHONEMES))
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.prompts = prompts

    def forward(self, examples: list[Example], joint: bool, ctc_weight: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a phase, and the CTC loss in it."""
        tower = self.lalm.model.audio_tower
        mel_BML, mel_lengths_B = pad([example.mel_LM for example in examples])
        outputs = list(encoder.layers(tower, mel_BML, mel_lengths_B))
        lengths_B = encoder.frame_lengths(mel_lengths_B)
        frames_BTD = encoder.frames(tower, outputs[-1])
        audio_BTD = self.lalm.model.multi_modal_projector(frames_BTD)
        ctc = self._ctc(audio_BTD, lengths_B, examples)
        if joint:
            return self._answer(audio_BTD, lengths_B, examples) + ctc_weight * ctc, ctc.detach()
        return ctc + self._phoneme(outputs[len(outputs) // 2], examples), ctc.detach()

    def _phoneme(self, hidden_BSD: torch.Tensor, examples: list[Example]) -> torch.Tensor:
        """Return the cross entropy of the phonemes, predicted at each position from the encoder's middle layer."""
        labels = [torch.from_numpy(example.phonemes_L[::2].astype(np.int64)) for example in examples]
        labels_BS = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED)
        logits_BSV = self.phonemes(hidden_BSD).float()
        return nn.functional.cross_entropy(logits_BSV.flatten(0, 1), labels_BS.flatten(), ignore_index=IGNORED)

    def _ctc(self, audio_BTD: torch.Tensor, lengths_B: torch.Tensor, examples: list[Example]) -> torch.Tensor:
        logits_BTV = self.ctc_logits(audio_BTD)
        targets = self.tokenizer([e.spoken for e in examples], add_special_tokens=False)["input_ids"]
        flat = torch.tensor([token for target in targets for token in target])
        counts_B = torch.tensor([len(target) for target in targets])
        logits_TBV = logits_BTV.float().log_softmax(-1).transpose(0, 1)
        losses_B = nn.functional.ctc_loss(
            logits_TBV, flat, lengths_B, counts_B, blank=BLANK, reduction="none", zero_infinity=True
        )
        return losses_B.sum() / counts_B.sum()

    def ctc_logits(self, audio_BTD: torch.Tensor) -> torch.Tensor:
        """Score tokens per frame: the language model's own embeddings are the classes."""
        logits_BTV = audio_BTD @ self.lalm.model.language_model.embed_tokens.weight.T
        bias_V = torch.zeros(logits_BTV.shape[-1]).index_fill(0, torch.tensor([BLANK]), 1) * self.blank_bias
        return logits_BTV + bias_V.to(logits_BTV.dtype)

    def _answer(self, audio_BTD: torch.Tensor, lengths_B: torch.Tensor, examples: list[Example]) -> torch.Tensor:
        """Return the cross entropy of the answers; the language model reads every frame."""
        embed = self.lalm.model.language_model.embed_tokens
        rows, labels = [], []
        for audio_TD, length, example in zip(audio_BTD, lengths_B.tolist(), examples, strict=True):
            before, after = (
                self.prompts[example.task].format(source=example.language, target=example.to).split("<|AUDIO|>")
            )
            head, prompt, answer = self.tokenizer([before, after, example.answer], add_special_tokens=False)[
                "input_ids"
            ]
            text = embed(torch.tensor(head + prompt + answer))
            rows.append(
                torch.cat(
                    [text[: len(head)].to(audio_TD.dtype), audio_TD[:length], text[len(head) :].to(audio_TD.dtype)]
                )
            )
            silent = len(head) + length + len(prompt) - 1
            labels.append(torch.tensor([IGNORED] * silent + answer + [BLANK]))
        inputs_BPD = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        labels_BP = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED)
        mask_BP = torch.arange(inputs_BPD.shape[1])[None] < torch.tensor([len(row) for row in rows])[:, None]
        hidden_BPD = self.lalm.model.language_model(inputs_embeds=inputs_BPD, attention_mask=mask_BP).last_hidden_state
        wanted_BP = labels_BP != IGNORED
        return nn.functional.cross_entropy(self.lalm.lm_head(hidden_BPD[wanted_BP]).float(), labels_BP[wanted_BP])
