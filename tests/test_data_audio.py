"""Recordings of every kind become 16 kHz mono; what is truncated or no sound is an error that names it."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from concertina.corpora import _audio, _decoders
from helpers.sound import tone


def stereo(folder: Path) -> None:
    left, right = tone(44_100), tone(44_100, hertz=880)
    soundfile.write(folder / "x.wav", np.stack([left, right], axis=1), 44_100, subtype="PCM_16")


KINDS: dict[str, Callable[[Path], None]] = {
    "x.wav 44.1 kHz stereo": stereo,
    "x.wav 8 kHz": lambda folder: soundfile.write(folder / "x.wav", tone(8_000), 8_000, subtype="ULAW"),
    "x.wav 24 bit": lambda folder: soundfile.write(folder / "x.wav", tone(48_000), 48_000, subtype="PCM_24"),
    "x.wav float": lambda folder: soundfile.write(folder / "x.wav", tone(16_000), 16_000, subtype="FLOAT"),
    "x.flac": lambda folder: soundfile.write(folder / "x.flac", tone(22_050), 22_050),
    "x.ogg": lambda folder: soundfile.write(folder / "x.ogg", tone(32_000), 32_000),
    "x.mp3": lambda folder: soundfile.write(folder / "x.mp3", tone(44_100), 44_100),
    "x.aiff odd rate": lambda folder: soundfile.write(folder / "x.aiff", tone(12_345), 12_345),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_recording_becomes_16_khz_mono(tmp_path: Path, kind: str) -> None:
    KINDS[kind](tmp_path)
    sound = _audio.mono(tmp_path / kind.split()[0])
    assert sound.dtype == np.int16
    assert abs(len(sound) - 16_000) <= 1
    wanted = tone(16_000) if "stereo" not in kind else (tone(16_000) + tone(16_000, hertz=880)) / 2
    middle = slice(2_000, 14_000)  # edges ring, and lossy formats smear them
    error = sound[middle] / 32768 - wanted[middle]
    noise = np.sqrt(np.mean(error**2)) / np.sqrt(np.mean(wanted[middle] ** 2))
    assert noise < (0.02 if any(lossy in kind for lossy in ("mp3", "ogg", "8 kHz")) else 2e-4)


def test_resampling_lets_nothing_alias() -> None:
    for rate_hz in (44_100, 48_000, 22_050):
        above = _audio.resample(tone(rate_hz, hertz=9_000), rate_hz)[2_000:-2_000]
        assert np.abs(above).max() < 0.5 * 10 ** (-80 / 20)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
def test_resampling_in_blocks_gives_the_same_samples(rate_hz: int) -> None:
    rng = np.random.default_rng(rate_hz)
    noise_T = rng.normal(0, 0.1, rate_hz + 7)
    places = [0, *sorted(rng.integers(0, len(noise_T), 9).tolist()), len(noise_T)]
    resampler = _audio.Resampler(rate_hz)
    blocks = [resampler.add(noise_T[start:stop]) for start, stop in itertools.pairwise(places)]
    assert np.array_equal(np.concatenate([*blocks, resampler.rest()]), _audio.resample(noise_T, rate_hz))


def test_a_recording_longer_than_a_block_is_resampled_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise_TC = np.random.default_rng(0).normal(0, 0.1, (44_100, 2))
    for suffix in ("wav", "mp3"):
        soundfile.write(tmp_path / f"x.{suffix}", noise_TC, 44_100)
        whole = _audio.mono(tmp_path / f"x.{suffix}")
        monkeypatch.setattr(_decoders, "BLOCK_FRAMES", 5_000)
        assert np.array_equal(_audio.mono(tmp_path / f"x.{suffix}"), whole)
        monkeypatch.undo()


def test_a_part_of_a_file_is_that_part_of_it(tmp_path: Path) -> None:
    noise = (np.random.default_rng(0).standard_normal(32_000) * 3000).astype(np.int16)
    for suffix in ("wav", "flac"):
        soundfile.write(tmp_path / f"x.{suffix}", noise, 16_000)
        assert np.array_equal(_audio.mono(tmp_path / f"x.{suffix}"), noise)
        part = _audio.mono(tmp_path / f"x.{suffix}", offset_s=0.5, duration_s=0.25)
        assert np.array_equal(part, noise[8_000:12_000])
        assert np.array_equal(_audio.mono((tmp_path / f"x.{suffix}").read_bytes(), offset_s=1.5), noise[24_000:])
    assert np.array_equal(_audio.mono(noise, 16_000, 0.5, 0.25), noise[8_000:12_000])
    soundfile.write(tmp_path / "x.mp3", noise, 16_000)  # which is decoded from its start, as a seek would guess
    decoded = _audio.mono(tmp_path / "x.mp3")
    assert np.array_equal(_audio.mono(tmp_path / "x.mp3", offset_s=0.5, duration_s=0.25), decoded[8_000:12_000])
    with pytest.raises(_audio.AudioError, match=r"beyond its end at 2\.000 s"):
        _audio.mono(tmp_path / "x.mp3", offset_s=0.5, duration_s=2.5)


@pytest.mark.parametrize(("offset_s", "duration_s", "told"), [(2.0, None, "beyond its end"), (1.5, 1.5, "truncated")])
def test_a_part_beyond_the_end_is_an_error(
    tmp_path: Path, offset_s: float, duration_s: float | None, told: str
) -> None:
    soundfile.write(tmp_path / "x.wav", tone(16_000, 2.0), 16_000)
    with pytest.raises(_audio.AudioError, match=rf"x\.wav: .*{told}"):
        _audio.mono(tmp_path / "x.wav", offset_s=offset_s, duration_s=duration_s)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 44_100 * 2), 44_100)
    whole = path.read_bytes()
    path.write_bytes(whole[: round(keep * len(whole))])
    with pytest.raises(_audio.AudioError, match=rf"x\.{suffix}: .*(truncated|corrupt)"):
        _audio.mono(path)
    with pytest.raises(_audio.AudioError, match=r"(truncated|corrupt)"):
        _audio.mono(path.read_bytes())


def test_a_wav_of_unknown_length_is_not_truncated(tmp_path: Path) -> None:
    """What a program writes that streams into a pipe: sizes of 0xFFFFFFFF."""
    soundfile.write(tmp_path / "x.wav", tone(16_000), 16_000, subtype="PCM_16")
    content = bytearray((tmp_path / "x.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "x.wav").write_bytes(content)
    assert len(_audio.mono(tmp_path / "x.wav")) == 16_000


@pytest.mark.parametrize(
    ("sound", "rate_hz", "told"),
    [
        (np.zeros((2, 2, 2), dtype=np.float32), 16_000, "shape"),
        (np.zeros(9, dtype=np.int64), 16_000, "int64"),
        (np.full(9, np.nan, dtype=np.float32), 16_000, "NaN"),
        (np.zeros(9, dtype=np.float32), 0, "rate"),
        (np.ones(1, dtype=np.int16), 16_000, "0.0625 ms: too short"),
        (np.zeros(0, dtype=np.int16), 16_000, "zero length: too short"),
        (np.zeros(16_000, dtype=np.int16), 16_000, "silent"),
        (np.full(16_000, 0.1), 44_100, "silent"),
        (np.random.default_rng(0).integers(-1, 2, 16_000).astype(np.int16), 16_000, "silent"),
        (np.stack([tone(16_000), -tone(16_000)], axis=1), 16_000, "channels cancel each other"),
        (np.stack([tone(16_000), -0.9 * tone(16_000)], axis=1), 16_000, "channels cancel each other"),
    ],
)
def test_samples_that_are_not_sound(sound: np.ndarray, rate_hz: int, told: str) -> None:
    with pytest.raises(_audio.AudioError, match=f"it: .*{told}"):
        _audio.mono(sound, rate_hz, name="it")
