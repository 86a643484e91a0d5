"""Run the audio encoder at true length: the result equals transformers' on a padded window, with less work.

Tensor names: B batch, L mel frames (100 a second), M mel bins, S encoder positions (50 a second),
T frames (25 a second), D width.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn
from transformers import WhisperFeatureExtractor
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from concertina.units import RATE_HZ

SAMPLES_PER_MEL = 160
CONTEXT_MEL = 4  # mel frames past the end that the convolutions see; a multiple of their joint stride


def mel_lengths(samples_B: torch.Tensor) -> torch.Tensor:
    """Return the mel frames of audio of so many samples, as the feature extractor's attention mask counts them."""
    return (samples_B + SAMPLES_PER_MEL - 1) // SAMPLES_PER_MEL


def position_lengths(mel_lengths_B: torch.Tensor) -> torch.Tensor:
    """Return the positions in the encoder's layers: the second convolution halves the rate."""
    return (mel_lengths_B - 1) // 2 + 1


def frame_lengths(mel_lengths_B: torch.Tensor) -> torch.Tensor:
    """Return the frames that come out: average pooling halves the rate again and drops an odd position."""
    return (position_lengths(mel_lengths_B) - 2) // 2 + 1


def window_samples(encoder: Qwen2AudioEncoder) -> int:
    """Return the longest audio, in samples, that the encoder takes at once."""
    return encoder.config.max_source_positions * 2 * SAMPLES_PER_MEL


def log_mel(
    extractor: WhisperFeatureExtractor, audio: Sequence[np.ndarray], window: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute log-mel spectrograms, padded with silence just past the longest.

    audio: float32 in [-1, 1] at 16 kHz, each at most `window` samples.
    Returns mel_BML and its true lengths_B.
    """
    samples_B = torch.tensor([len(wave) for wave in audio])
    lengths_B = mel_lengths(samples_B)
    padded = min(int(lengths_B.max() + CONTEXT_MEL) * SAMPLES_PER_MEL, window)
    features = extractor(
        list(audio),
        sampling_rate=RATE_HZ,
        padding="max_length",
        max_length=padded,
        truncation=False,
        return_tensors="pt",
    )
    return features["input_features"], lengths_B


def encode(
    encoder: Qwen2AudioEncoder, mel_BML: torch.Tensor, lengths_B: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the encoder over the true length of each utterance.

    Equals `encoder(padded_mel, attention_mask)` at the valid frames. Returns frames_BTD and its lengths_B; frames
    past an utterance's length are meaningless.
    """
    *_, hidden_BSD = layers(encoder, mel_BML, lengths_B)
    return frames(encoder, hidden_BSD), frame_lengths(lengths_B)


def frames(encoder: Qwen2AudioEncoder, hidden_BSD: torch.Tensor) -> torch.Tensor:
    """Turn the last layer's output into frames_BTD: average pairs of positions, then normalise."""
    return encoder.layer_norm(encoder.avg_pooler(hidden_BSD.transpose(1, 2)).transpose(1, 2))


def layers(encoder: Qwen2AudioEncoder, mel_BML: torch.Tensor, lengths_B: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the input of the first layer and the output of each: hidden_BSD, at 50 positions a second."""
    positions_B = position_lengths(lengths_B)
    hidden_BDS = nn.functional.gelu(encoder.conv1(mel_BML.to(encoder.conv1.weight.dtype)))
    hidden_BDS = nn.functional.gelu(encoder.conv2(hidden_BDS))
    hidden_BSD = hidden_BDS[:, :, : int(positions_B.max())].transpose(1, 2)
    hidden_BSD = hidden_BSD + encoder.embed_positions.weight[: hidden_BSD.shape[1]]
    mask_B11S = _padding_mask(positions_B, hidden_BSD)
    yield hidden_BSD
    for layer in encoder.layers:
        hidden_BSD = layer(hidden_BSD, mask_B11S)
        yield hidden_BSD


def _padding_mask(positions_B: torch.Tensor, hidden_BSD: torch.Tensor) -> torch.Tensor | None:
    """Return an additive mask over keys past the end, or None where nothing is padded."""
    n_positions = hidden_BSD.shape[1]
    if bool((positions_B == n_positions).all()):
        return None
    padding_BS = torch.arange(n_positions)[None] >= positions_B[:, None]
    mask_BS = torch.zeros(padding_BS.shape, dtype=hidden_BSD.dtype).masked_fill(
        padding_BS, torch.finfo(hidden_BSD.dtype).min
    )
    return mask_BS[:, None, None].to(hidden_BSD.device)
