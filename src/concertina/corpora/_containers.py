"""What a recording's file shows of itself before it is decoded: its format, and whether its end is missing.

A length in a header is not the truth: a program that was stopped, or that wrote into a pipe, never came back to correct
it, and compressed formats state none or an estimate. So a file counts as truncated only where its format proves it:
a chunk or box that is longer than what is there, a last page without its mark.
"""

import io
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

ENDLESS_BYTES = 0x7FFF0000  # from this on a size is a placeholder of a program that wrote into a pipe
FLAC_START = b"fLaC\x00\x00\x00\x22"  # the mark, and the header of the block that has to follow
KILOBITS = {  # of an MPEG frame of layer III by its index, in MPEG 1 and in MPEG 2 and 2.5
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # by MPEG version
UNFINISHED = "its header was never finished, as when a recorder is stopped by force"


class Container(NamedTuple):
    """The format of a file, and what is wrong with it.

    `name`: the format as a person calls it, or '' where it is not recognised; `demuxer`: what FFmpeg calls it, or ''
    where libsndfile reads it; `flaw`: why it cannot be used, or ''; `stated`: the samples that a header states of
    compressed sound, or 0; `endless`: whether the sound goes on to the end of the file, whatever its header says.
    """

    name: str = ""
    demuxer: str = ""
    flaw: str = ""
    stated: int = 0
    endless: bool = False


def inspect(file: BinaryIO, throughout: bool = True) -> Container:
    """Recognise the format of a file, which must be seekable, and look for what proves that it is not whole.

    `throughout`: whether all of the file is looked at, or its beginning alone where that takes long.
    """
    size = file.seek(0, os.SEEK_END)
    start = _read(file, 0, 16)
    if start[:4] in (b"RIFF", b"RIFX") and start[8:12] == b"WAVE":
        return _wav(file, size, "<" if start[:4] == b"RIFF" else ">")
    if start[:4] == b"FORM" and start[8:11] == b"AIF":
        return Container("AIFF", flaw=_sound(_chunks(file, size), b"SSND", size))
    if start[:4] == b"caff":
        return Container("CAF", flaw=_sound(_chunks(file, size, ">4sQ", 8), b"data", size))
    if start[:4] == b".snd":
        place, length = struct.unpack(">II", start[4:12])
        return Container("AU", flaw=_promised(length, place, size))
    if start[:4] == b"OggS":
        return _ogg(file, size) if throughout else Container("Ogg")
    if start[:4] == b"fLaC":
        return _flac(file, throughout)
    if start[4:8] == b"ftyp":
        return Container("MP4 (.m4a, .mp4)", "mov", _mp4(file, size))
    if start[:4] == b"\x1a\x45\xdf\xa3":
        return Container("Matroska or WebM", "matroska", _matroska(file, size))
    if start[:4] == b"\x30\x26\xb2\x75":
        return Container("Windows Media (.wma, .asf)", "asf")
    if start[:5] == b"#!AMR":
        return Container("AMR", "amr")
    if start[:1] == b"\xff" and start[1] & 0xF6 == 0xF0:
        return Container("AAC", "aac")
    if start.startswith(b"version http"):
        return Container("Git LFS pointer", flaw="the recording is not here; get it with `git lfs pull`")
    first = _first_frame(file)
    length = mpeg_bytes(_read(file, first, 4))
    if length and (start[:3] == b"ID3" or mpeg_bytes(_read(file, first + length, 4)) or first + length >= size):
        return mp3(file)
    return Container()


def mp3(file: BinaryIO) -> Container:
    """Describe an MP3. Its length is stated only where its first frame is a Xing, Info or VBRI header."""
    start = _read(file, _first_frame(file), 256)
    per_frame = 1152 if len(start) > 1 and start[1] & 8 else 576
    for mark, place in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        if (found := start.find(mark, 4)) > 0 and (mark == b"VBRI" or start[found + 7] & 1):
            frames = int.from_bytes(start[found + place : found + place + 4], "big")
            return Container("MP3", "mp3", stated=frames * per_frame)
    return Container("MP3", "mp3")


def mpeg_bytes(header: bytes) -> int:
    """Return how long an MPEG frame of layer III is, by its first four bytes; 0 where they are no such header."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, bits, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version not in RATES_HZ or bits in (0, 15) or rate == 3:
        return 0
    slots = 144_000 if version == 3 else 72_000
    return slots * KILOBITS[version == 3][bits] // RATES_HZ[version][rate] + (header[2] >> 1 & 1)


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _promised(promised: int, place: int, size: int) -> str:
    """Return what is wrong with sound of `promised` bytes at a place of a file; '' where it is all there."""
    if promised < ENDLESS_BYTES and place + promised > size:
        return f"truncated: its header promises {promised} bytes of sound, it holds {max(size - place, 0)}"
    return UNFINISHED if promised == 0 and size - place > 16 else ""


def _chunks(file: BinaryIO, size: int, head: str = ">4sI", place: int = 12) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, place of its content, length) of the chunks of a file, whose heads are of one form."""
    width = struct.calcsize(head)
    while place + width <= size:
        name, length = struct.unpack(head, _read(file, place, width))
        yield name, place + width, length
        place += width + length + length % (2 if width == 8 else 1)


def _wav(file: BinaryIO, size: int, order: str) -> Container:
    """Inspect a WAV. FFmpeg reads it to the end where more follows than its header counts, and that is no chunk."""
    for name, place, length in _chunks(file, size, f"{order}4sI"):
        if name == b"data":
            (whole,) = struct.unpack(f"{order}I", _read(file, 4, 4))
            after = _read(file, place + length + length % 2, 1 << 16) if length < ENDLESS_BYTES else b""
            if after[:4] in (b"RIFF", b"RIFX"):
                return Container("WAV", flaw=_attached("WAV"))
            if length == 0:
                unfinished = bool(after) and whole + 8 != size
                return Container("WAV", "wav" if unfinished else "", endless=unfinished)
            is_chunk = after[:4].isascii() and after[:4].decode("ascii").isprintable()
            if any(after) and not is_chunk:
                return Container("WAV", "wav", endless=True)
            return Container("WAV", flaw=_promised(length, place, size))
    return Container("WAV")


def _sound(chunks: Iterator[tuple[bytes, int, int]], wanted: bytes, size: int) -> str:
    """Return what is wrong with the chunk that holds the sound, or ''."""
    place, length = next(((place, length) for name, place, length in chunks if name == wanted), (size, 0))
    return _promised(length, place, size)


def _attached(name: str) -> str:
    return f"another {name} is attached to its end; separate the two, or join them with sox or ffmpeg"


def _ogg(file: BinaryIO, size: int) -> Container:
    """Inspect the pages of an Ogg file. FFmpeg reads those where one stream follows another."""
    place, links, running, expected = 0, 0, set[bytes](), dict[bytes, int]()
    while place < size:
        header = _read(file, place, 27)
        if header[:4] != b"OggS":
            break  # what follows is no Ogg, such as a tag that a player has put there
        lacing = file.read(header[26]) if len(header) == 27 else b""
        place += 27 + len(lacing) + sum(lacing)
        if len(header) < 27 or len(lacing) < header[26] or place > size:
            return Container("Ogg", flaw="truncated: its last page is incomplete")
        stream, number = header[14:18], int.from_bytes(header[18:22], "little")
        first, last = header[5] & 2, header[5] & 4
        if not first and expected.get(stream, number) != number:
            return Container("Ogg", flaw="corrupt: pages in its middle are missing")
        links += bool(first and not running)
        expected[stream] = number + 1
        (running.discard if last else running.add)(stream)
    missing = "truncated: its last page is missing" if running else ""
    return Container("Ogg", "ogg" if links > 1 else "", missing)


def _flac(file: BinaryIO, throughout: bool) -> Container:
    """Choose who reads a FLAC: FFmpeg where its length is not stated, or another FLAC is attached to its end."""
    samples = int.from_bytes(_read(file, 18, 8), "big") & ((1 << 36) - 1)
    by_ffmpeg = not samples or (throughout and _holds_after_start(file, FLAC_START))
    return Container("FLAC", "flac" if by_ffmpeg else "")


def _holds_after_start(file: BinaryIO, mark: bytes) -> bool:
    """Return whether a mark occurs in a file after its first byte."""
    file.seek(1)
    end = b""
    while block := file.read(io.DEFAULT_BUFFER_SIZE << 7):
        if mark in end + block:
            return True
        end = block[-len(mark) + 1 :]
    return False


def _mp4(file: BinaryIO, size: int) -> str:
    """Return what is wrong with the boxes of an MP4, or ''."""
    place, names = 0, list[bytes]()
    while place + 8 <= size:
        header = _read(file, place, 16)
        length, name = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        length = length or size - place  # 0: to the end of the file
        if length < 8 or not name.isascii():
            break
        if place + length > size:
            return f"truncated: its box {name.decode()} promises {length} bytes, it holds {size - place}"
        names.append(name)
        place += length
    if b"moov" not in names:
        return f"it has no index (moov): {UNFINISHED}"
    return _attached("MP4") if names.count(b"moov") > 1 else ""


def _matroska(file: BinaryIO, size: int) -> str:
    """Return what is wrong with the segments of a Matroska or WebM file, or ''."""
    place = 0
    while place < size:
        header = _read(file, place, 12)
        name, used = header[:4], 4
        marker = header[used] if len(header) > used else 0
        width = 9 - marker.bit_length() if marker else 1
        value = int.from_bytes(header[used : used + width], "big") & ((1 << 7 * width) - 1)
        if name not in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67") or value == (1 << 7 * width) - 1 or not marker:
            break  # nothing that has to be there, or a segment of unknown length, as it is streamed
        place += used + width + value
    return f"truncated: its header promises {place} bytes, it holds {size}" if place > size else ""


def _first_frame(file: BinaryIO) -> int:
    """Return where the content begins after an ID3 tag and zeros."""
    tag, place = _read(file, 0, 10), 0
    if tag[:3] == b"ID3" and len(tag) == 10:
        place = 10 + sum((byte & 0x7F) << 7 * power for power, byte in enumerate(reversed(tag[6:])))
    content = _read(file, place, 1 << 16)
    return place + len(content) - len(content.lstrip(b"\0"))
