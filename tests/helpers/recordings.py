"""Make recordings of every format, whole and damaged, as other programs write them."""

import io
from typing import Any

import av
import numpy as np
import soundfile

from concertina.corpora import _containers
from helpers.sound import tone

OGG_HEADER = 27


def by_libsndfile(format: str, seconds: float = 2.0, rate_hz: int = 16_000, **how: Any) -> bytes:
    """A tone that swells, as libsndfile writes it."""
    file = io.BytesIO()
    swell_T = tone(rate_hz, seconds) * np.linspace(0.01, 1.0, round(seconds * rate_hz), dtype=np.float32)
    soundfile.write(file, swell_T, rate_hz, format=format, **how)
    return file.getvalue()


def by_ffmpeg(format: str, codec: str, seconds: float = 2.0, rate_hz: int = 48_000, **options: str) -> bytes:
    """A tone, as FFmpeg writes it."""
    file = io.BytesIO()
    with av.open(file, "w", format=format, options=options) as container:
        stream: Any = container.add_stream(codec, rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(rate_hz, seconds)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, 0
        resampler = av.AudioResampler(format=stream.codec_context.format.name, layout="mono", rate=rate_hz)
        queue = av.AudioFifo()
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            queue.write(piece)
        while (taken := queue.read(stream.codec_context.frame_size or 1024, partial=True)) is not None:
            container.mux(stream.encode(taken))
        container.mux(stream.encode(None))
    return file.getvalue()


def mp3_without_header(content: bytes) -> bytes:
    """An MP3 without its first frame, in which libsndfile states the length, behind a tag as Common Voice has it."""
    tag = b"ID3\x04\0\0\0\0\0\x23TSSE\0\0\0\x0f\0\0\x03Lavf54.20.4\0".ljust(10 + 0x23, b"\0")
    return tag + content[_containers.mpeg_bytes(content[:4]) :]


def pages(content: bytes) -> list[bytes]:
    """The pages of an Ogg file."""
    found = []
    while content:
        lacing = content[OGG_HEADER : OGG_HEADER + content[26]]
        length = OGG_HEADER + len(lacing) + sum(lacing)
        found.append(content[:length])
        content = content[length:]
    return found
