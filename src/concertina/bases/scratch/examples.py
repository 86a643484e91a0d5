"""Training examples for a base model: synthetic clips as log-mels, joined, mixed with noise and masked on the fly.

Noise is added in the power-mel domain, so that every draw of a clip is a new one without storing audio. The
synthesiser says when each phoneme begins, so every mel frame has a phoneme, 0 where there is none.
Tensor names: B batch, L mel frames (100 a second), M mel bins.
"""

import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator, default_rng
from safetensors import safe_open
from safetensors.numpy import save_file
from transformers import WhisperFeatureExtractor

from concertina.console import Progress
from concertina.corpora import Reject, synthetic
from concertina.corpora.synthesis import noise
from concertina.model import encoder
from concertina.store import sealing
from concertina.units import RATE_HZ

PHONEMES = 256  # more than the three languages have together; 0 is none
TRANSLATIONS = {"en": ("de", "fr"), "de": ("en",), "fr": ("en",)}
SILENCE = -1.5  # Whisper's normalised log-mel of digital silence
NOISE_SECONDS = 60
GROUP = 8  # parts per process: importing torch takes longer than speaking one part


@dataclass(frozen=True)
class Clip:
    """Where one utterance's mels are, how loud it was, and what it says in each language."""

    start: int
    length: int
    power: float
    language: str
    texts: dict[str, str]


@dataclass(frozen=True)
class Example:
    """One row of a batch: mels and their phonemes, the words spoken, and the answer to learn."""

    mel_LM: np.ndarray
    phonemes_L: np.ndarray
    spoken: str
    task: str
    language: str
    to: str
    answer: str


class Pool:
    """All clips of the base corpus, their mels memory-mapped; draws examples from them."""

    def __init__(self, folder: Path) -> None:
        rows = json.loads((folder / "clips.json").read_text(encoding="utf-8"))
        self.clips = [Clip(**row) for row in rows]
        self.by_language = {
            language: np.array([i for i, clip in enumerate(self.clips) if clip.language == language])
            for language in sorted({clip.language for clip in self.clips})
        }
        with safe_open(folder / "mels.safetensors", "numpy") as file:
            self.mel_LM = file.get_tensor("mel")
            self._phonemes_L = file.get_tensor("phonemes")
            self._noise_KLM = file.get_tensor("noise").astype(np.float32)

    def example(self, draw: Generator, mix: "Mix", limit: int) -> Example:
        """Draw an example of at most `limit` mel frames: joined clips, noise, masks, a task."""
        language = str(draw.choice(list(mix.languages), p=list(mix.languages.values())))
        clips: list[Clip] = []
        room = limit
        for _ in range(int(draw.choice(len(mix.joined), p=mix.joined)) + 1):
            clip = self.clips[draw.choice(self.by_language[language])]
            if clips and clip.length + 40 > room:
                break
            clips.append(clip)
            room -= clip.length + 40
        mel_LM, phonemes_L = self._join(clips, draw)
        power = float(np.mean([clip.power for clip in clips]))
        snr_db = draw.uniform(0, 20) if draw.random() < mix.noisy else draw.uniform(20, 40)
        mel_LM = self._noisy(mel_LM, power * 10 ** (-snr_db / 10), draw)
        if mix.mask:
            mel_LM = _masked(mel_LM, draw)
        to = language if draw.random() < mix.transcribe else str(draw.choice(TRANSLATIONS[language]))
        task = "transcribe" if to == language else "translate"
        spoken, answer = (" ".join(clip.texts[code] for clip in clips) for code in (language, to))
        return Example(mel_LM, phonemes_L, spoken, task, language, to, answer)

    def _join(self, clips: list[Clip], draw: Generator) -> tuple[np.ndarray, np.ndarray]:
        mels: list[np.ndarray] = []
        phonemes: list[np.ndarray] = []
        for clip in clips:
            if mels:
                pause = int(draw.integers(5, 40))
                mels.append(np.full((pause, self.mel_LM.shape[1]), SILENCE, np.float32))
                phonemes.append(np.zeros(pause, np.int16))
            mels.append(self.mel_LM[clip.start : clip.start + clip.length].astype(np.float32))
            phonemes.append(self._phonemes_L[clip.start : clip.start + clip.length])
        return np.concatenate(mels), np.concatenate(phonemes)

    def _noisy(self, mel_LM: np.ndarray, power: float, draw: Generator) -> np.ndarray:
        bank_LM = self._noise_KLM[draw.integers(len(self._noise_KLM))]
        start = draw.integers(len(bank_LM) - len(mel_LM))
        gain = 10 ** draw.uniform(-0.6, 0.6)
        sound_LM = np.float32(gain) * (
            10 ** (4 * mel_LM - 4) + np.float32(power) * 10 ** (4 * bank_LM[start : start + len(mel_LM)] - 4)
        )
        log_LM = np.log10(np.maximum(sound_LM, 1e-10))
        return (np.maximum(log_LM, log_LM.max() - 8) + 4) / 4


@dataclass(frozen=True)
class Mix:
    """What examples are made of: shares of languages, of 1, 2, ... joined clips, of noise, of transcription."""

    languages: dict[str, float]
    joined: list[float]
    noisy: float
    transcribe: float
    mask: bool = True


def _masked(mel_LM: np.ndarray, draw: Generator) -> np.ndarray:
    """Mask up to two bands and a few short stretches with the mean (SpecAugment, arXiv 1904.08779)."""
    mean = mel_LM.mean()
    for _ in range(2):
        width, low = draw.integers(0, 9), draw.integers(0, mel_LM.shape[1] - 9)
        mel_LM[:, low : low + width] = mean
    for _ in range(1 + len(mel_LM) // 200):
        width, start = draw.integers(0, 13), draw.integers(0, max(1, len(mel_LM) - 13))
        mel_LM[start : start + width] = mean
    return mel_LM


def batches(pool: Pool, mix: Mix, draw: Generator, batch_mel: int, limit: int) -> Iterator[list[Example]]:
    """Yield endless batches of similar lengths, each of at most `batch_mel` mel frames, padding included."""
    while True:
        shelf = sorted((pool.example(draw, mix, limit) for _ in range(256)), key=lambda e: len(e.mel_LM))
        packed: list[list[Example]] = [[]]
        for example in shelf:
            if (len(packed[-1]) + 1) * len(example.mel_LM) > batch_mel:
                packed.append([])
            packed[-1].append(example)
        for index in draw.permutation(len(packed)):
            yield packed[index]


def pad(mels: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack mels_LM to mel_BML, padded with each one's own floor, and lengths_B."""
    lengths_B = torch.tensor([len(mel) for mel in mels])
    longest = int(lengths_B.max()) + encoder.CONTEXT_MEL
    mel_BLM = np.stack([np.pad(m, ((0, longest - len(m)), (0, 0)), constant_values=m.min()) for m in mels])
    return torch.from_numpy(mel_BLM).transpose(1, 2).contiguous(), lengths_B


# ---- making the pool


def make_pool(folder: Path, extractor: WhisperFeatureExtractor, counts: dict[str, int], seed: int, jobs: int) -> None:
    """Speak the base corpus in `jobs` processes and write its log-mels, clip list and noise bank to `folder`."""
    options = synthetic.Options(seed=seed, splits={"base": counts})
    n_parts = synthetic.parts(options, "base")
    folder.mkdir(parents=True, exist_ok=True)
    mels, phonemes, clips, end = [], [], [], 0
    numbers: dict[str, int] = {}
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(jobs, maxtasksperchild=1) as pool, Progress(sum(counts.values()), "clips") as progress:
        tasks = ((options, range(part, min(part + GROUP, n_parts)), extractor) for part in range(0, n_parts, GROUP))
        for part_mels, part_phonemes, part_clips in pool.imap(_speak_parts, tasks):
            for mel_LM, starts, clip in zip(part_mels, part_phonemes, part_clips, strict=True):
                clips.append({"start": end, "length": len(mel_LM), **clip})
                phonemes.append(_per_mel_frame(starts, len(mel_LM), numbers))
                end += len(mel_LM)
            mels += part_mels
            progress.add(len(part_clips))
    bank_KLM = np.stack([_noise_mel(kind, take, seed, extractor) for kind in noise.TRAINING for take in range(6)])
    tensors = {"mel": np.concatenate(mels), "phonemes": np.concatenate(phonemes), "noise": bank_KLM.astype(np.float16)}
    # safetensors writes an array's memory as it lies, so a transposed one would be read back scrambled
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / "mels.safetensors")
    sealing.write_json(folder / "clips.json", clips)  # last: a pool that has it is whole


def _per_mel_frame(starts: list[tuple[int, str]], length: int, numbers: dict[str, int]) -> np.ndarray:
    """Return the number of the phoneme in each of `length` mel frames; new phonemes are added to `numbers`."""
    phonemes_L = np.zeros(length, np.int16)
    for start_ms, name in starts:  # each lasts until the next one begins
        name = name.strip("',_:")
        phonemes_L[round(start_ms / 10) :] = numbers.setdefault(name, len(numbers) + 1) if name else 0
    return phonemes_L


Task = tuple[synthetic.Options, range, WhisperFeatureExtractor]


def _speak_parts(task: Task) -> tuple[list[np.ndarray], list[list[tuple[int, str]]], list[dict[str, object]]]:
    torch.set_num_threads(1)
    options, parts, extractor = task
    read = (u for part in parts for u in synthetic.read(options, "base", part))
    spoken = [u for u in read if not isinstance(u, Reject)]
    mels: list[np.ndarray] = []
    for several in (spoken[i : i + 50] for i in range(0, len(spoken), 50)):
        waves = [np.asarray(u.audio, np.float32) / 32768 for u in several]
        mel_BML, lengths_B = encoder.log_mel(extractor, waves, window=extractor.n_samples)
        mels += [m[:, :n].T.astype(np.float16) for m, n in zip(mel_BML.numpy(), lengths_B.tolist(), strict=True)]
    clips: list[dict[str, object]] = [
        {
            "power": float(np.mean(np.square(np.asarray(u.audio, np.float64) / 32768))),
            "language": u.language,
            "texts": {u.language: u.text, **u.translation},
        }
        for u in spoken
    ]
    return mels, [u.tags["phonemes"] for u in spoken], clips


def _noise_mel(kind: str, take: int, seed: int, extractor: WhisperFeatureExtractor) -> np.ndarray:
    samples = NOISE_SECONDS * RATE_HZ
    wave = 0.02 * noise.make(kind, samples, default_rng([seed, take, *kind.encode()]))
    mel_BML, _ = encoder.log_mel(extractor, [wave], window=samples)
    return mel_BML[0].T.numpy() + np.log10(1 / 0.02) / 2  # back to unit power: (log10 p + 4) / 4, p grows by 0.02^-2
