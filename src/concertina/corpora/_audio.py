"""Any recording -> 16 kHz mono 16-bit samples: reading through libsndfile, mixing down, resampling.

Shapes: T samples, C channels. Everything here is deterministic: the same file gives the same bytes.
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
BLOCK_FRAMES = 1 << 20  # read at a time
TOLERANCE_S = 0.5  # a duration may be longer than its file by so much: manifests round
ENDLESS_BYTES = 0x7FFF0000  # what programs that write into a pipe put for a size they do not know


class AudioError(ValueError):
    """A recording that cannot be used; the message names it and says why."""


def mono(
    audio: np.ndarray | bytes | str | Path,
    rate_hz: int = RATE_HZ,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    name: str = "",
) -> np.ndarray:
    """Samples [T] or [T, C], or a file or its bytes (anything libsndfile reads) -> int16 [T] at 16 kHz.

    `rate_hz` is the rate of samples given as an array; a file says its own. `offset_s` and `duration_s` choose a
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
    """Samples at `rate_hz` -> float64 samples at 16 kHz: flat to 0.9 of the band, -90 dB beyond it.

    A polyphase filter: outputs whose times fall alike between two inputs share their taps, so that one product
    makes them all.
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
    """A Kaiser-windowed sinc that passes 0.9 of the lower rate's band: [phase, tap], and inputs reached to each side.

    Source: Crochiere and Rabiner, Multirate Digital Signal Processing (1983), chapter 4.
    """
    half = 64 * factor
    sinc = np.sinc(0.95 / factor * np.arange(-half, half + 1)) * np.kaiser(2 * half + 1, 9.0)
    reach = -(-half // up) + 1
    padded = np.zeros((2 * reach + 1) * up)
    padded[reach * up - half : reach * up + half + 1] = sinc * (up / sinc.sum())
    return np.ascontiguousarray(padded.reshape(-1, up).T[:, ::-1]), reach


def _floats(samples: np.ndarray, name: str) -> np.ndarray:
    """[T] or [T, C], int16 or float -> float32 or float64 [T]."""
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not samples.shape[1]):
        raise AudioError(f"{name}: audio is [T] or [T, channels], not of shape {list(samples.shape)}")
    if samples.dtype == np.int16:
        samples = samples / np.float32(32768)
    if samples.dtype not in (np.float32, np.float64):
        raise AudioError(f"{name}: samples are int16, float32 or float64, not {samples.dtype}")
    return samples if samples.ndim == 1 else samples.mean(axis=1)


def _span(length: int, rate_hz: int, offset_s: float, duration_s: float | None, name: str) -> tuple[int, int]:
    """(first sample, number of samples) of a part of `length` samples."""
    if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
        raise AudioError(f"{name}: a sample rate of {rate_hz} Hz is outside {RATES_HZ[0]} to {RATES_HZ[1]} Hz")
    start, seconds = round(offset_s * rate_hz), length / rate_hz
    if offset_s and start >= length:
        raise AudioError(f"{name}: offset {offset_s:g} s is beyond its end at {seconds:.3f} s")
    if duration_s is None:
        return start, length - start
    if offset_s + duration_s > seconds + TOLERANCE_S:
        wanted = f"{offset_s:g} s + {duration_s:g} s" if offset_s else f"{duration_s:g} s"
        raise AudioError(f"{name}: {wanted} was asked for and it ends at {seconds:.3f} s: truncated?")
    return start, min(round(duration_s * rate_hz), length - start)


def _read(audio: bytes | str | Path, offset_s: float, duration_s: float | None, name: str) -> tuple[np.ndarray, int]:
    """A part of a file -> (int16 or float32 [T], its rate in Hz)."""
    if not isinstance(audio, bytes) and not Path(audio).is_file():
        raise AudioError(f"{name}: no such file")
    try:
        with soundfile.SoundFile(io.BytesIO(audio) if isinstance(audio, bytes) else str(audio)) as file:
            if cut := _cut_short(file, audio):
                raise AudioError(f"{name}: truncated: {cut}")
            start, count = _span(file.frames, file.samplerate, offset_s, duration_s, name)
            if start:
                file.seek(start)
            exact = file.subtype == "PCM_16" and file.channels == 1
            blocks, left = [np.zeros(0, dtype=np.int16 if exact else np.float32)], count
            while left > 0 and len(block := file.read(min(left, BLOCK_FRAMES), "int16" if exact else "float32")):
                blocks.append(block if block.ndim == 1 else block.mean(axis=1))
                left -= len(block)
            if left > 0:
                raise AudioError(
                    f"{name}: truncated or corrupt: {count} samples are announced, {count - left} are there"
                )
            return np.concatenate(blocks), file.samplerate
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name}: corrupt, truncated or not audio: {error.error_string}") from None
    except (OSError, TypeError) as error:
        raise AudioError(f"{name}: cannot be read: {error}") from None


def _cut_short(file: soundfile.SoundFile, audio: bytes | str | Path) -> str:
    """What shows that the end of a file is missing, where its format tells; libsndfile itself plays what is left."""
    sizes = re.search(r"\b(?:data|SSND) : (\d+) \(should be (\d+)\)", file.extra_info)
    if sizes and int(sizes[2]) < int(sizes[1]) < ENDLESS_BYTES:
        return f"its header announces {sizes[1]} bytes of sound, {sizes[2]} are there"
    if file.format == "OGG":
        end = audio[-(1 << 17) :] if isinstance(audio, bytes) else _end_of(Path(audio), 1 << 17)
        page = end[max(end.rfind(b"OggS"), 0) :]
        if len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
            return "its last page is incomplete"
    return ""


def _end_of(path: Path, count: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(path.stat().st_size - count, 0))
        return file.read()
