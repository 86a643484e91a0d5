"""Turn any recording into 16 kHz mono 16-bit samples: read it through libsndfile, average channels, resample.

Shapes: T samples, C channels. All functions are deterministic: the same file gives the same bytes.
"""

import functools
import io
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile

from concertina.units import RATE_HZ

RATES_HZ = (1_000, 1_000_000)  # outside these a file does not hold speech
BLOCK_FRAMES = 1 << 20  # frames that are read at a time
TOLERANCE_S = 0.5  # how much longer than its file a duration may be, since manifests round
ENDLESS_BYTES = 0x7FFF0000  # from this on a size is a placeholder of a program that wrote into a pipe


class AudioError(ValueError):
    """A recording cannot be used; the message names it and gives the reason."""


def mono(
    audio: np.ndarray | bytes | str | Path,
    rate_hz: int = RATE_HZ,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    name: str = "",
) -> np.ndarray:
    """Convert samples [T] or [T, C], or a file or its bytes (anything libsndfile reads), to int16 [T] at 16 kHz.

    `rate_hz` is the rate of samples given as an array; a file contains its own. `offset_s` and `duration_s` select a
    part. Channels are averaged; float samples beyond -1..1 are clipped. Errors: AudioError, naming `name`.
    """
    name = name or (str(audio) if isinstance(audio, str | Path) else "audio")
    if not isinstance(audio, np.ndarray):
        samples, rate_hz = _read(audio, offset_s, duration_s, name)
    else:
        start, count = _span(len(audio), rate_hz, offset_s, duration_s, name)
        samples = audio[start : start + count]
    if samples.dtype == np.int16 and samples.ndim == 1 and rate_hz == RATE_HZ:
        return np.ascontiguousarray(samples)
    samples_T = _floats(samples, name)
    if unusable := np.count_nonzero(~np.isfinite(samples_T)):
        raise AudioError(f"{name}: {unusable} of its samples are NaN or infinite")
    return np.clip(np.rint(resample(samples_T, rate_hz) * 32768), -32768, 32767).astype(np.int16)


def resample(samples_T: np.ndarray, rate_hz: int) -> np.ndarray:
    """Resample float samples [T] at `rate_hz` to float64 at 16 kHz: flat to 0.9 of the band, -90 dB beyond it.

    This is a polyphase filter: all outputs at the same phase between two inputs have the same taps, so that one
    matrix product computes them together.
    """
    samples_T = samples_T.astype(np.float64)
    if rate_hz == RATE_HZ or not len(samples_T):
        return samples_T
    ratio = Fraction(RATE_HZ, rate_hz).limit_denominator(5000)
    up, down = ratio.numerator, ratio.denominator
    taps, reach = _low_pass(max(up, down), up)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(samples_T, reach), 2 * reach + 1)
    resampled = np.empty(-(-len(samples_T) * up // down))
    for first in range(min(up, len(resampled))):
        input_before, phase = divmod(first * down, up)
        same_phase = windows[input_before::down][: len(resampled[first::up])]
        resampled[first::up] = np.einsum("ij,j->i", same_phase, taps[phase])
    return resampled


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


def _floats(samples: np.ndarray, name: str) -> np.ndarray:
    """Convert int16 or float samples [T] or [T, C] to float32 or float64 [T], by averaging the channels."""
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not samples.shape[1]):
        raise AudioError(f"{name}: audio must have shape [T] or [T, channels], not {list(samples.shape)}")
    if samples.dtype == np.int16:
        samples = samples / np.float32(32768)
    if samples.dtype not in (np.float32, np.float64):
        raise AudioError(f"{name}: samples must be int16, float32 or float64, not {samples.dtype}")
    return samples if samples.ndim == 1 else samples.mean(axis=1)


def _span(length: int, rate_hz: int, offset_s: float, duration_s: float | None, name: str) -> tuple[int, int]:
    """Return (first sample, number of samples) of a part of `length` samples. Errors: AudioError."""
    if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
        raise AudioError(f"{name}: a sample rate of {rate_hz} Hz is outside {RATES_HZ[0]} to {RATES_HZ[1]} Hz")
    start, seconds = round(offset_s * rate_hz), length / rate_hz
    if offset_s and start >= length:
        raise AudioError(f"{name}: offset {offset_s:g} s is beyond its end at {seconds:.3f} s")
    if duration_s is None:
        return start, length - start
    if offset_s + duration_s > seconds + TOLERANCE_S:
        wanted = f"{offset_s:g} s + {duration_s:g} s" if offset_s else f"{duration_s:g} s"
        raise AudioError(f"{name}: {wanted} is beyond its end at {seconds:.3f} s; is it truncated?")
    return start, min(round(duration_s * rate_hz), length - start)


def _read(audio: bytes | str | Path, offset_s: float, duration_s: float | None, name: str) -> tuple[np.ndarray, int]:
    """Read a part of a file: (int16 or float32 samples [T], their rate in Hz). Errors: AudioError."""
    if not isinstance(audio, bytes) and not Path(audio).is_file():
        raise AudioError(f"{name}: no such file")
    try:
        with soundfile.SoundFile(io.BytesIO(audio) if isinstance(audio, bytes) else str(audio)) as file:
            if reason := _truncated(file, audio):
                raise AudioError(f"{name}: truncated: {reason}")
            start, count = _span(file.frames, file.samplerate, offset_s, duration_s, name)
            if start:
                file.seek(start)
            # Only 16-bit mono is kept as it is; all else is averaged and rounded later, which takes floats.
            exact = file.subtype == "PCM_16" and file.channels == 1
            blocks, left = [np.zeros(0, dtype=np.int16 if exact else np.float32)], count
            while left > 0 and len(block := file.read(min(left, BLOCK_FRAMES), "int16" if exact else "float32")):
                blocks.append(block if block.ndim == 1 else block.mean(axis=1))
                left -= len(block)
            if left > 0:
                raise AudioError(
                    f"{name}: truncated or corrupt: its header promises {count} samples, it holds {count - left}"
                )
            return np.concatenate(blocks), file.samplerate
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name}: corrupt, truncated or not audio: {error.error_string}") from None
    except (OSError, TypeError) as error:
        raise AudioError(f"{name}: cannot be read: {error}") from None


def _truncated(file: soundfile.SoundFile, audio: bytes | str | Path) -> str:
    """Return how a file shows that its end is missing, or ''. libsndfile would read the rest without an error."""
    sizes = re.search(r"\b(?:data|SSND) : (\d+) \(should be (\d+)\)", file.extra_info)
    if sizes and int(sizes[2]) < int(sizes[1]) < ENDLESS_BYTES:
        return f"its header promises {sizes[1]} bytes of sound, it holds {sizes[2]}"
    if file.format == "OGG":
        end = audio[-(1 << 17) :] if isinstance(audio, bytes) else _end_of(Path(audio), 1 << 17)
        page = end[max(end.rfind(b"OggS"), 0) :]
        if len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
            return "its last page is incomplete"
    return ""


def _end_of(path: Path, count: int) -> bytes:
    """Return the last bytes of a file, `count` of them at most."""
    with open(path, "rb") as file:
        file.seek(max(path.stat().st_size - count, 0))
        return file.read()
