"""A header's length is not the truth: what is whole is read to its end, what is proven broken off is named."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from concertina.corpora import _audio, _decoders
from helpers.recordings import by_ffmpeg, by_libsndfile, mp3_without_header, pages
from helpers.sound import tone

WEBM_UNKNOWN = b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff"


def flac_of_unknown_length() -> bytes:
    content = by_libsndfile("FLAC")
    return content[:21] + bytes([content[21] & 0xF0]) + bytes(4) + content[26:]


def wav(riff: bytes, data: bytes, more: bytes = b"") -> bytes:
    """A WAV whose sizes are replaced."""
    content = by_libsndfile("WAV", subtype="PCM_16")
    return content[:4] + riff + content[8:40] + data + content[44:] + more


def variable_mp3() -> bytes:
    return by_libsndfile("MP3", bitrate_mode="VARIABLE", compression_level=0.3)


WHOLE: dict[str, Callable[[], bytes]] = {
    "an MP3 of constant rate that states no length": lambda: mp3_without_header(by_libsndfile("MP3")),
    "an MP3 of variable rate": variable_mp3,
    "an MP3 of variable rate that states no length": lambda: mp3_without_header(variable_mp3()),
    "a FLAC that was written into a pipe": flac_of_unknown_length,
    "a WAV that was written into a pipe": lambda: wav(b"\xff" * 4, b"\xff" * 4),
    "a WAV whose header was never finished": lambda: wav(bytes(4), bytes(4)),
    "a WAV whose header counts the first half": lambda: wav(
        (32_036).to_bytes(4, "little"), (32_000).to_bytes(4, "little")
    ),
    "a WAV with a chunk after its sound": lambda: wav(b"\x40\xfa\0\0", b"\0\xfa\0\0", b"LIST\x04\0\0\0INFO"),
    "an AU of unknown length": lambda: (au := by_libsndfile("AU", subtype="PCM_16"))[:8] + b"\xff" * 4 + au[12:],
    "an Ogg with a tag at its end": lambda: by_libsndfile("OGG") + b"TAG" + bytes(125),
    "an M4A": lambda: by_ffmpeg("mp4", "aac"),
    "an M4A in fragments": lambda: by_ffmpeg("mp4", "aac", movflags="frag_keyframe+empty_moov"),
    "a WebM": lambda: by_ffmpeg("webm", "libopus"),
    "Opus in Matroska, as it is streamed": lambda: by_ffmpeg("matroska", "libopus", live="1"),
    "AAC in no container": lambda: by_ffmpeg("adts", "aac"),
    "an MP3 in a WAV": lambda: by_ffmpeg("wav", "libmp3lame"),
    "a WAV of a codec that libsndfile lacks": lambda: by_ffmpeg("wav", "adpcm_g726", rate_hz=8_000),
    "an MP3 behind a player's padding": lambda: bytes(700) + by_libsndfile("MP3"),
    "Opus in Ogg": lambda: by_ffmpeg("ogg", "libopus"),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("door", ["path", "bytes"])
def test_what_is_whole_is_read_to_its_end(tmp_path: Path, kind: str, door: str) -> None:
    (tmp_path / "x").write_bytes(WHOLE[kind]())
    sound = _audio.mono(tmp_path / "x" if door == "path" else WHOLE[kind](), name="x")
    assert len(sound) / 16_000 == pytest.approx(2.0, abs=0.13)  # an encoder of a compressed format pads its ends
    loud = sound[22_000:28_000] / 32768
    assert np.abs(np.fft.rfft(loud)).argmax() == round(440 * len(loud) / 16_000)


@pytest.mark.parametrize("format", ["MP3", "OGG", "FLAC"])
def test_files_that_were_put_end_to_end_are_all_read(format: str) -> None:
    one, two = by_libsndfile(format), by_libsndfile(format, 1.0)
    assert len(_audio.mono(one + two)) / 16_000 == pytest.approx(3.0, abs=0.3)
    if format == "MP3":
        assert len(_audio.mono(mp3_without_header(one) + mp3_without_header(two))) / 16_000 == pytest.approx(
            3.0, abs=0.2
        )


def webm_broken_off() -> bytes:
    content = by_ffmpeg("webm", "libopus")
    assert WEBM_UNKNOWN not in content
    return content[: len(content) * 2 // 3]


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "Ogg without its last page": (lambda: b"".join(pages(by_libsndfile("OGG", 20.0))[:-1]), "truncated: its last page"),
    "Ogg without a page": (
        lambda: b"".join(pages(by_libsndfile("OGG", 20.0))[:3] + pages(by_libsndfile("OGG", 20.0))[4:]),
        "missing",
    ),
    "MP3, header": (lambda: variable_mp3()[: len(variable_mp3()) // 2], "truncated"),
    "MP3, frame": (lambda: mp3_without_header(by_libsndfile("MP3"))[:-100], "truncated: its last frame is incomplete"),
    "FLAC of unknown length": (lambda: flac_of_unknown_length()[:-2000], "truncated or corrupt"),
    "FLAC": (lambda: by_libsndfile("FLAC")[:-2000], "truncated|corrupt"),
    "AU": (lambda: by_libsndfile("AU")[:-2000], "truncated: its header promises"),
    "CAF": (lambda: by_libsndfile("CAF")[:-2000], "truncated"),
    "M4A": (lambda: by_ffmpeg("mp4", "aac", movflags="frag_keyframe+empty_moov")[:-500], "truncated: its box mdat"),
    "M4A that was never finished": (
        lambda: (mp4 := by_ffmpeg("mp4", "aac"))[: mp4.index(b"moov") - 4],
        "never finished",
    ),
    "WebM": (webm_broken_off, "Matroska or WebM: truncated: its header promises"),
    "AIFF that was never finished": (
        lambda: (a := by_libsndfile("AIFF"))[: a.index(b"SSND") + 4] + bytes(4) + a[a.index(b"SSND") + 8 :],
        "never finished",
    ),
    "two WAVs": (lambda: by_libsndfile("WAV") * 2, "another WAV is attached"),
    "two M4As": (lambda: by_ffmpeg("mp4", "aac") * 2, "another MP4 is attached"),
    "two rates": (
        lambda: by_libsndfile("MP3") + by_libsndfile("MP3", rate_hz=24_000),
        "rate changes from 16000 to 24000",
    ),
    "an empty M4A": (lambda: b"\0\0\0\x18ftypM4A \0\0\0\0isomiso2" + b"\0\0\0\x10mdat" + bytes(8), "MP4 .*ffmpeg -i"),
    "an empty WebM": (lambda: b"\x1a\x45\xdf\xa3\x9f" + bytes(31) + WEBM_UNKNOWN + bytes(99), "WebM.*ffmpeg -i"),
    "a pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "no audio": (lambda: b"this is no audio at all" * 9, "not audio.*ffmpeg .*-i"),
    "samples without a header": (lambda: tone(16_000).tobytes(), "not audio.*ffmpeg .*-i"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_named_with_its_format(tmp_path: Path, kind: str) -> None:
    content, told = BROKEN[kind]
    (tmp_path / "x.raw").write_bytes(content())
    with pytest.raises(_audio.AudioError, match=rf"x\.raw: .*{told}"):
        _audio.mono(tmp_path / "x.raw")


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, told in ((tmp_path / "pipe", "a pipe"), (Path("/dev/zero"), "a device"), (tmp_path, "a folder")):
        with pytest.raises(_audio.AudioError, match=f"{path}: it is {told}, not a file"):
            _audio.mono(path)
        assert _decoders.about_s(path) is None


def test_an_estimate_is_of_the_right_size_and_bounded_by_the_file(tmp_path: Path) -> None:
    for kind, make in WHOLE.items():
        (tmp_path / "x").write_bytes(make())
        seconds = _decoders.about_s(tmp_path / "x")
        assert seconds is not None, kind
        assert 0.5 < seconds < 20, kind
    lying = bytearray(by_libsndfile("FLAC"))
    lying[21:26] = bytes([lying[21] | 0x0F]) + b"\xff" * 4  # 2^36 samples: 50 days
    (tmp_path / "x").write_bytes(lying)
    assert (_decoders.about_s(tmp_path / "x") or 0) < 20 * 60
