"""Encode audio of any length: cut it into windows, batch similar lengths, and run the frozen encoder.

Tensor names: T frames, D width, B batch, M mel bins, L mel frames.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from concertina import console
from concertina.model import encoder
from concertina.model.lalm import Lalm

SHORTEST_SAMPLES = 4 * encoder.SAMPLES_PER_MEL  # of one frame; shorter audio is padded with silence


def encode(
    model: Lalm, waves: Sequence[np.ndarray], budget_samples: int, progress: console.Progress | None = None
) -> list[np.ndarray]:
    """Return the frames [T, D] (float32) of each utterance, given as int16 samples at 16 kHz.

    Audio longer than the encoder's window is encoded window by window and its frames are joined. Batches hold similar
    lengths and at most `budget_samples`, padding included; they depend on nothing but the lengths.
    """
    window = encoder.window_samples(model.encoder)
    # A piece is an utterance and the sample at which one of its windows starts. An empty utterance has one piece too,
    # so that every utterance has at least one frame.
    pieces = [(i, start) for i, wave in enumerate(waves) for start in range(0, max(len(wave), 1), window)]
    lengths = [min(len(waves[i]) - start, window) for i, start in pieces]
    done: dict[int, np.ndarray] = {}
    for batch in batches(lengths, budget_samples):
        cut = [_wave(waves[pieces[p][0]][pieces[p][1] :][:window]) for p in batch]
        for p, frames_TD in zip(batch, _encode_batch(model, cut, window), strict=True):
            done[p] = frames_TD
        if progress:
            progress.add(sum(pieces[p][1] == 0 for p in batch))
    joined: list[list[np.ndarray]] = [[] for _ in waves]
    for p, (i, _) in enumerate(pieces):
        joined[i].append(done.pop(p))
    return [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in joined]


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield groups of indices by rising length, each of a padded size (members times the longest) within `budget`."""
    group: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if group and (len(group) + 1) * lengths[i] > budget:
            yield group
            group = []
        group.append(i)
    if group:
        yield group


@torch.inference_mode()
def _encode_batch(model: Lalm, waves: list[np.ndarray], window: int) -> list[np.ndarray]:
    mel_BML, lengths_B = encoder.log_mel(model.feature_extractor, waves, window)
    frames_BTD, counts_B = encoder.encode(model.encoder, mel_BML.to(model.device), lengths_B)
    frames = frames_BTD.float().cpu().numpy()
    return [frames[b, :count].copy() for b, count in enumerate(counts_B.tolist())]


def _wave(samples: np.ndarray) -> np.ndarray:
    """Convert int16 samples to float32 in [-1, 1), and pad audio that is too short for one frame with silence."""
    wave = samples.astype(np.float32) / 32768
    return np.pad(wave, (0, max(0, SHORTEST_SAMPLES - len(wave))))
