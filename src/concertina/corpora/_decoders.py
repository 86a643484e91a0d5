"""Decode recordings block by block: libsndfile where a header states the length exactly, FFmpeg (PyAV) for the rest.

Shapes: T samples, C channels. Nothing is held in memory but one block, and only regular files are opened.
"""

import contextlib
import io
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import soundfile

from concertina.corpora import _containers
from concertina.corpora._containers import Container
from concertina.store.regular import open_regular

BLOCK_FRAMES = 1 << 18  # samples of each channel that are decoded at a time
LOST_SAMPLES = 5 * 1152  # of an MP3, at most, that its header states and a decoder leaves out: padding, the first frame
HEADERLESS = (".raw", ".pcm", ".s16", ".sw")  # ends of names under which samples without a header are kept
SECOND = {"WAV": "wav", "AIFF": "aiff", "CAF": "caf", "AU": "au", "Ogg": "ogg"}  # FFmpeg's turn where libsndfile fails
LEAST_BYTES_PER_S = 60  # of a recording, about: digital silence in FLAC
UNSTATED_BYTES_PER_S = 16_000  # of a recording whose header states no length: FLAC at 16 kHz, about


class AudioError(ValueError):
    """A recording cannot be used; the message names it and gives the reason."""


class Sound(Protocol):
    """An open recording. `length`: its samples as a header states them, or as `blocks` has counted them at its end."""

    rate_hz: int
    length: int

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        """Yield its samples from the sample `start` on, float32 [T, C] in -1..1. Errors: AudioError."""


@contextlib.contextmanager
def opened(audio: bytes | str | Path, name: str, throughout: bool = True) -> Iterator[Sound]:
    """Open a file, or the bytes of one. Errors: AudioError naming it as `name`, also when it is proven truncated.

    `throughout`: see _containers.inspect.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_source(audio, name))
        container = _containers.inspect(file, throughout)
        if container.flaw:
            raise AudioError(f"{name}: {_named(container)}{container.flaw}{_advice(container, name)}")
        file.seek(0)
        if not container.demuxer:
            try:
                exact = stack.enter_context(_sndfile(file, name))
            except AudioError:  # a codec that it does not know, such as Speex
                if container.name not in SECOND:
                    raise
                container = container._replace(demuxer=SECOND[container.name])
            else:
                if not exact.subtype.startswith("MPEG"):
                    yield _Exact(exact, name)
                    return
                in_box = container.name in SECOND  # such as an MP3 in a WAV
                container = container._replace(demuxer=SECOND[container.name]) if in_box else _containers.mp3(file)
        file.seek(0)
        yield stack.enter_context(_ffmpeg(file, container, name))


def about_s(path: Path) -> float | None:
    """Estimate the seconds of a recording from its headers and its size; None where it cannot be opened."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, io.SEEK_END)
        with opened(path, str(path), throughout=False) as sound:
            return min(longest_s(size), sound.length / sound.rate_hz or size / UNSTATED_BYTES_PER_S)
    except (AudioError, OSError):
        return None


def longest_s(size_bytes: int) -> float:
    """Return how long a recording of so many bytes can be, about."""
    return size_bytes / LEAST_BYTES_PER_S


class _Exact:
    """A recording whose header states its length exactly."""

    def __init__(self, file: soundfile.SoundFile, name: str) -> None:
        self.rate_hz, self.length = file.samplerate, file.frames
        self._file, self._name = file, name

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        place = min(start, self.length)
        try:
            if place:
                self._file.seek(place)
            while place < self.length and len(block := self._file.read(BLOCK_FRAMES, "float32", always_2d=True)):
                place += len(block)
                yield block
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{self._name}: truncated or corrupt: {error.error_string}") from None
        if place < self.length:
            raise AudioError(f"{self._name}: truncated: its header promises {self.length} samples, it holds {place}")


class _Estimated:
    """A recording that is decoded to its end, since a header states no length or an estimate."""

    def __init__(self, container: Any, kind: Container, name: str) -> None:
        if not container.streams.audio:
            raise AudioError(f"{name}: {_named(kind)}it holds no sound track")
        self._container, self._kind, self._name = container, kind, name
        self._stream = container.streams.audio[0]
        self.rate_hz = int(self._stream.rate or 0)
        stream_s = float((self._stream.duration or 0) * (self._stream.time_base or 0))
        self.length = round((stream_s or (container.duration or 0) / 1e6) * self.rate_hz)

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        place, gathered = 0, list[np.ndarray]()
        for frame in self._frames():
            place += frame.samples
            if place <= start:
                continue
            samples_TC = _floats(frame)[-(place - start) :]
            if gathered and samples_TC.shape[1] != gathered[0].shape[1]:
                yield np.concatenate(gathered)
                gathered = []
            gathered.append(samples_TC)
            if sum(map(len, gathered)) >= BLOCK_FRAMES:
                yield np.concatenate(gathered)
                gathered = []
        if gathered:
            yield np.concatenate(gathered)
        if self._kind.stated - place > LOST_SAMPLES:
            raise self._error(f"truncated: its header promises {self._kind.stated} samples, it holds {place}")
        self.length = place

    def _frames(self) -> Iterator[Any]:
        """Yield the decoded frames. Errors: AudioError."""
        import av

        packets, last = 0, b""
        try:
            for packet in self._container.demux(self._stream):
                packets += 1
                content = bytes(packet) if self._kind.name == "MP3" else b""
                last = content or last
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    if any(tag in content for tag in (b"ID3", b"TAG", b"APETAGEX")):
                        continue  # a player's tag between two files that were put end to end
                    raise
                for frame in frames:
                    if frame.sample_rate != self.rate_hz:
                        told = f"its sample rate changes from {self.rate_hz} to {frame.sample_rate} Hz; split it there"
                        raise self._error(told)
                    yield frame
        except av.error.FFmpegError:
            raise self._error(f"truncated or corrupt after {packets} packets") from None
        if _containers.mpeg_bytes(last) > len(last):
            raise self._error("truncated: its last frame is incomplete")

    def _error(self, told: str) -> AudioError:
        return AudioError(f"{self._name}: {_named(self._kind)}{told}{_advice(self._kind, self._name)}")


def _source(audio: bytes | str | Path, name: str) -> BinaryIO:
    """Open a recording's bytes as a file. Errors: AudioError."""
    if isinstance(audio, bytes):
        return io.BytesIO(audio)
    try:
        return open_regular(audio, buffering=0)  # so that libsndfile and Python agree on the place in it
    except FileNotFoundError:
        raise AudioError(f"{name}: no such file") from None
    except OSError as error:
        raise AudioError(f"{name}: {error.strerror or error}") from None
    except ValueError as error:
        raise AudioError(f"{name}: {error}") from None


def _sndfile(file: BinaryIO, name: str) -> soundfile.SoundFile:
    """Open a file by libsndfile. Errors: AudioError."""
    try:
        # Of an open file it takes only the descriptor: by a name that ends in .raw it would ask for the sample rate.
        return soundfile.SoundFile(file if isinstance(file, io.BytesIO) else file.fileno(), closefd=False)
    except soundfile.LibsndfileError as error:
        told = f"corrupt, truncated or not audio: {error.error_string.rstrip('.')}"
        raise AudioError(f"{name}: {told}{_advice(Container(), name)}") from None


@contextlib.contextmanager
def _ffmpeg(file: BinaryIO, container: Container, name: str) -> Iterator[_Estimated]:
    """Open a file by FFmpeg, as the format that it was recognised to be. Errors: AudioError."""
    import av

    options = {"ignore_length": "1"} if container.endless else {}
    try:
        opened = av.open(file, format=container.demuxer, options=options)
    except (av.error.FFmpegError, ValueError):
        told = f"{name}: {_named(container)}corrupt, truncated or without sound"
        raise AudioError(f"{told}{_advice(container, name)}") from None
    with opened:
        yield _Estimated(opened, container, name)


def _floats(frame: Any) -> np.ndarray:
    """Return the samples of a decoded frame as float32 [T, C] in -1..1."""
    samples = frame.to_ndarray()
    samples_TC = samples.T if frame.format.is_planar else samples.reshape(frame.samples, -1)
    if samples_TC.dtype == np.uint8:
        return (samples_TC.astype(np.float32) - 128) / 128
    if samples_TC.dtype.kind == "i":
        return (samples_TC / -float(np.iinfo(samples_TC.dtype).min)).astype(np.float32)
    return samples_TC.astype(np.float32)


def _named(container: Container) -> str:
    return f"{container.name}: " if container.name else ""


def _advice(container: Container, name: str) -> str:
    """Return how to convert a recording that is in a format of many kinds, or in none that is recognised."""
    if container.name and not container.demuxer:
        return ""
    if not container.name and name.lower().endswith(HEADERLESS):
        told = "; samples without a header have to be told their form and rate, such as"
        return f"{told} ffmpeg -f s16le -ar 16000 -ac 1 -i {shlex.quote(name)} {shlex.quote(f'{name}.wav')}"
    return f"; if another program plays it, convert it: ffmpeg -i {shlex.quote(name)} {shlex.quote(f'{name}.wav')}"
