"""Turn any recording into 16 kHz mono 16-bit samples: decode it block by block, average channels, resample.

Shapes: T samples, C channels. All functions are deterministic: the same file gives the same bytes. What is too short,
silent or has channels that cancel each other is refused here, so that every door has one rule.
"""

import contextlib
import functools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from concertina.corpora import _decoders
from concertina.corpora._decoders import BLOCK_FRAMES, AudioError
from concertina.units import RATE_HZ

__all__ = ["MIN_SAMPLES", "AudioError", "mono", "resample"]
RATES_HZ = (1_000, 1_000_000)  # outside these a file does not hold speech
TOLERANCE_S = 0.5  # how much longer than its file a duration may be, since manifests round
MIN_SAMPLES = 321  # with fewer, a Whisper-style encoder has no frame: it needs a third hop of 160 samples
STILL = 2  # steps of 16 bits that the samples of silence may lie apart: a constant, with the noise of dithering
CANCELLED = 0.01  # share of the channels' energy that is left in their mean where one is the other's inverse, at most


def mono(
    audio: np.ndarray | bytes | str | Path,
    rate_hz: int = RATE_HZ,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    name: str = "",
) -> np.ndarray:
    """Convert samples [T] or [T, C], or a file or its bytes (see _decoders.py), to int16 [T] at 16 kHz.

    `rate_hz` is the rate of samples given as an array; a file contains its own. `offset_s` and `duration_s` select a
    part. Channels are averaged; float samples beyond -1..1 are clipped.
    Errors: AudioError, naming `name`, also where the result is too short, silent, or channels cancel each other.
    """
    name = name or (str(audio) if isinstance(audio, str | Path) else "audio")
    opened = _Samples(audio, rate_hz, name) if isinstance(audio, np.ndarray) else _decoders.opened(audio, name)
    with opened as sound:
        if not RATES_HZ[0] <= sound.rate_hz <= RATES_HZ[1]:
            told = f"a sample rate of {sound.rate_hz} Hz is outside {RATES_HZ[0]} to {RATES_HZ[1]} Hz"
            raise AudioError(f"{name}: {told}")
        mixed, resampled = _Mix(name), Resampler(sound.rate_hz)
        samples = bytearray()  # grows in place, so that a long recording is not copied when it is complete
        for block in _part(sound, offset_s, duration_s, name):
            samples += _int16(resampled.add(mixed.add(block)))
        samples += _int16(resampled.rest())
    samples_T = np.frombuffer(samples, dtype=np.int16)
    if len(samples_T) < MIN_SAMPLES:
        length = f"{1000 * len(samples_T) / RATE_HZ:.3g} ms" if len(samples_T) else "zero length"
        raise AudioError(f"{name}: {length}: too short, less than one frame of the encoder")
    mixed.check()
    return samples_T


def resample(samples_T: np.ndarray, rate_hz: int) -> np.ndarray:
    """Resample float samples [T] at `rate_hz` to float64 at 16 kHz: flat to 0.9 of the band, -90 dB beyond it."""
    resampler = Resampler(rate_hz)
    return np.concatenate([resampler.add(samples_T), resampler.rest()])


class Resampler:
    """Resamples a recording that comes block by block, to the same samples as if it came at once.

    This is a polyphase filter: all outputs at the same phase between two inputs have the same taps, so that one
    matrix product computes them together.
    """

    def __init__(self, rate_hz: int) -> None:
        ratio = Fraction(RATE_HZ, rate_hz).limit_denominator(5000)
        self._up, self._down = ratio.numerator, ratio.denominator
        self._same = rate_hz == RATE_HZ
        self._taps, self._reach = _low_pass(max(self._up, self._down), self._up)
        self._held = np.zeros(self._reach)  # inputs that later outputs still need, of which the first is at _place
        self._place, self._came, self._made = -self._reach, 0, 0

    def add(self, samples_T: np.ndarray) -> np.ndarray:
        """Take the next inputs [T], and return the outputs that need no later ones, float64."""
        samples_T = samples_T.astype(np.float64)
        if self._same:
            return samples_T
        self._held = np.concatenate([self._held, samples_T])
        self._came += len(samples_T)
        inputs = self._came - self._reach  # an output between inputs i and i + 1 needs all before i + 1 + reach
        return self._until(max(self._made, -(-inputs * self._up // self._down)))

    def rest(self) -> np.ndarray:
        """Return the last outputs, as if silence followed."""
        if self._same or not self._came:
            return np.zeros(0)
        self._held = np.concatenate([self._held, np.zeros(self._reach)])
        return self._until(-(-self._came * self._up // self._down))

    def _until(self, end: int) -> np.ndarray:
        """Return the outputs from the last one on to `end`, and let go of the inputs that no other needs."""
        resampled = np.empty(end - self._made)
        if not len(resampled):
            return resampled
        windows = np.lib.stride_tricks.sliding_window_view(self._held, 2 * self._reach + 1)
        for first in range(min(self._up, len(resampled))):
            input_before, phase = divmod((self._made + first) * self._down, self._up)
            same_phase = windows[input_before - self._reach - self._place :: self._down]
            same_phase = same_phase[: len(resampled[first :: self._up])]
            resampled[first :: self._up] = np.einsum("ij,j->i", same_phase, self._taps[phase])
        self._made = end
        unneeded = end * self._down // self._up - self._reach - self._place
        self._held, self._place = self._held[unneeded:], self._place + unneeded
        return resampled


class _Mix:
    """The mean of the channels, block by block; it knows whether they cancel each other, and whether all is silent."""

    def __init__(self, name: str) -> None:
        self._name, self._left, self._whole = name, 0.0, 0.0
        self._lowest, self._highest = np.inf, -np.inf

    def add(self, samples: np.ndarray) -> np.ndarray:
        """Convert int16 or float samples [T] or [T, C] to float32 or float64 [T]. Errors: AudioError."""
        name = self._name
        if samples.ndim not in (1, 2) or (samples.ndim == 2 and not samples.shape[1]):
            raise AudioError(f"{name}: audio must have shape [T] or [T, channels], not {list(samples.shape)}")
        if samples.dtype == np.int16:
            samples = samples / np.float32(32768)
        if samples.dtype not in (np.float32, np.float64):
            raise AudioError(f"{name}: samples must be int16, float32 or float64, not {samples.dtype}")
        samples_T = samples if samples.ndim == 1 else samples.mean(axis=1)
        if unusable := np.count_nonzero(~np.isfinite(samples_T)):
            raise AudioError(f"{name}: {unusable} of its samples are NaN or infinite")
        self._lowest = min(self._lowest, samples_T.min(initial=np.inf))
        self._highest = max(self._highest, samples_T.max(initial=-np.inf))
        if samples.ndim == 2 and samples.shape[1] > 1:
            self._left += float(np.square(samples_T, dtype=np.float64).sum())
            self._whole += float(np.square(samples, dtype=np.float64).sum()) / samples.shape[1]
        return samples_T

    def check(self) -> None:
        """Check that something is left of the channels, and is not silent. Errors: AudioError."""
        if self._left < CANCELLED * self._whole:
            told = "its channels cancel each other (one is inverted); keep one: ffmpeg -i IN -af 'pan=mono|c0=c0' OUT"
            raise AudioError(f"{self._name}: {told}")
        if self._highest - self._lowest <= STILL / 32768:
            raise AudioError(f"{self._name}: silent: all of its samples are alike")


class _Samples(contextlib.nullcontext["_Samples"]):
    """Samples in memory, as a recording that is open."""

    def __init__(self, samples: np.ndarray, rate_hz: int, name: str) -> None:
        super().__init__(self)
        self.rate_hz, self.length, self._samples = rate_hz, len(samples), samples

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        for first in range(start, self.length, BLOCK_FRAMES):
            yield self._samples[first : first + BLOCK_FRAMES]


def _part(sound: _decoders.Sound, offset_s: float, duration_s: float | None, name: str) -> Iterator[np.ndarray]:
    """Yield a part of a recording in blocks. Errors: AudioError where it reaches beyond the end."""
    start = round(offset_s * sound.rate_hz)
    wanted = None if duration_s is None else round(duration_s * sound.rate_hz)
    got = 0
    for block in sound.blocks(start):
        if wanted is not None and got + len(block) >= wanted:
            yield block[: wanted - got]
            return
        got += len(block)
        yield block
    seconds = sound.length / sound.rate_hz
    if offset_s and start >= sound.length:
        raise AudioError(f"{name}: offset {offset_s:g} s is beyond its end at {seconds:.3f} s")
    if duration_s is not None and offset_s + duration_s > seconds + TOLERANCE_S:
        asked = f"{offset_s:g} s + {duration_s:g} s" if offset_s else f"{duration_s:g} s"
        raise AudioError(f"{name}: {asked} is beyond its end at {seconds:.3f} s; is it truncated?")


def _int16(samples_T: np.ndarray) -> bytes:
    return np.clip(np.rint(samples_T * 32768), -32768, 32767).astype(np.int16).tobytes()


@functools.lru_cache(maxsize=8)
def _low_pass(factor: int, up: int) -> tuple[np.ndarray, int]:
    """Design a Kaiser-windowed sinc that passes 0.9 of the lower rate's band: (taps [phase, tap], inputs on each side).

    Source: Crochiere and Rabiner, Multirate Digital Signal Processing (1983), chapter 4.
    """
    half = 64 * factor
    sinc = np.sinc(0.95 / factor * np.arange(-half, half + 1)) * np.kaiser(2 * half + 1, 9.0)
    reach = -(-half // up) + 1
    padded = np.zeros((2 * reach + 1) * up)
    padded[reach * up - half : reach * up + half + 1] = sinc * (up / sinc.sum())
    return np.ascontiguousarray(padded.reshape(-1, up).T[:, ::-1]), reach
