"""Audio of any length to frames: windows, batches of like lengths, and the frozen encoder over them.

Tensor names: T frames, D width, B batch, M mel bins, L mel frames.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from concertina import console
from concertina.model import encoder
from concertina.model.lalm import Lalm

SHORTEST_SAMPLES = 4 * encoder.SAMPLES_PER_MEL  # one frame: what is shorter is followed by silence


def encode(
    model: Lalm, waves: Sequence[np.ndarray], budget_samples: int, progress: console.Progress | None = None
) -> list[np.ndarray]:
    """Frames [T, D] (float32) of each utterance, given as int16 samples at 16 kHz.

    Audio longer than the encoder's window is encoded window by window and its frames joined. Batches are of like
    lengths and hold at most `budget_samples`, padding included; they depend on nothing but the lengths.
    """
    window = encoder.window_samples(model.encoder)
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
    """Indices by rising length, in groups whose padded size (members times the longest) is at most `budget`."""
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
    """int16 samples as float32 in [-1, 1), with silence after what is too short for one frame."""
    wave = samples.astype(np.float32) / 32768
    return np.pad(wave, (0, max(0, SHORTEST_SAMPLES - len(wave))))
