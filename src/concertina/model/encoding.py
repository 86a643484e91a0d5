"""Encode audio of any length: cut it into windows in its pauses, batch similar lengths, and run the frozen encoder.

Tensor names: T frames, D width, B batch, M mel bins, L mel frames.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from concertina import console
from concertina.model import encoder
from concertina.model.lalm import Lalm
from concertina.units import RATE_HZ

HUSH_SAMPLES = RATE_HZ // 5  # a place to cut is the quietest stretch of this length
SHORTEST_SAMPLES = 4 * encoder.SAMPLES_PER_MEL  # of one frame; shorter audio is padded with silence


def encode(
    model: Lalm, waves: Sequence[np.ndarray], budget_samples: int, progress: console.Progress | None = None
) -> list[np.ndarray]:
    """Return the frames [T, D] (float32) of each utterance, given as int16 samples at 16 kHz.

    Audio longer than the encoder's window is cut by `windows`, and the frames of its pieces are joined. Batches hold
    similar lengths and at most `budget_samples`, padding included; they depend on nothing but the lengths.
    """
    window = encoder.window_samples(model.encoder)
    # A piece is an utterance and the samples between which one of its windows lies. An empty utterance has one piece
    # too, so that every utterance has at least one frame.
    pieces = [(i, start, stop) for i, wave in enumerate(waves) for start, stop in windows(wave, window)]
    lengths = [stop - start for _, start, stop in pieces]
    done: dict[int, np.ndarray] = {}
    for batch in batches(lengths, budget_samples):
        cut = [_wave(waves[i][start:stop]) for i, start, stop in (pieces[p] for p in batch)]
        for p, frames_TD in zip(batch, _encode_batch(model, cut, window), strict=True):
            done[p] = frames_TD
        if progress:
            progress.add(sum(pieces[p][1] == 0 for p in batch))
    joined: list[list[np.ndarray]] = [[] for _ in waves]
    for p, (i, _, _) in enumerate(pieces):
        joined[i].append(done.pop(p))
    return [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in joined]


def windows(samples_T: np.ndarray, longest: int) -> list[tuple[int, int]]:
    """Cut audio into pieces (start, stop) of at most `longest` samples, each cut in the middle of the quietest stretch.

    It is looked for in the second half of what a piece may hold, so that pieces do not become short. This is the one
    rule for audio that is longer than the encoder's window, by whichever door it comes.
    """
    spans = []
    start = 0
    while len(samples_T) - start > longest:
        low, high = start + longest // 2, start + longest
        start_next = low + _quietest(samples_T[low:high])
        spans.append((start, start_next))
        start = start_next
    return [*spans, (start, len(samples_T))]


def frame_lengths(samples: Sequence[int]) -> torch.Tensor:
    """Return the frames of audio of so many samples, each at most the encoder's window: int64 [B]."""
    return encoder.frame_lengths(encoder.mel_lengths(torch.tensor(samples).clamp(min=SHORTEST_SAMPLES)))


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


def _quietest(samples_T: np.ndarray) -> int:
    """The middle of the stretch of HUSH_SAMPLES with the least energy; the first of equals."""
    hush = min(HUSH_SAMPLES, len(samples_T))
    energy_T = np.concatenate([[0.0], np.cumsum(samples_T.astype(np.float64) ** 2)])
    return int(np.argmin(energy_T[hush:] - energy_T[:-hush])) + hush // 2
