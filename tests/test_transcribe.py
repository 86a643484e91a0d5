"""`concertina transcribe`: any length, any format, the adapter's own compressor, and clear errors."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from concertina import cli
from helpers import tiny_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a base (window 5 s), an adapter for average at 3, and recordings."""
    from concertina import train

    folder = tmp_path_factory.mktemp("use")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        overlay = tiny_run.write(folder, train={"steps": 4})
        tiny_run.split(overlay, "train", 12, seed=1)
        tiny_run.split(overlay, "dev", 4, seed=2)
        assert train.main(tiny_run.train_arguments(overlay)) == 0
    rng = np.random.default_rng(0)
    soundfile.write(folder / "short.wav", rng.normal(0, 0.1, 16_000 * 2), 16_000)
    soundfile.write(folder / "long.flac", rng.normal(0, 0.1, (44_100 * 13, 2)), 44_100)
    return folder


@pytest.fixture(autouse=True)
def _there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)


ADAPTER = ["--adapter", "build/t/train/english/average-3-keep/seed0"]


def run(*arguments: str) -> int:
    return cli.main(["transcribe", *arguments, "--config", "t.yaml"])


def test_text_and_saved_tokens_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("short.wav", "--compressor", "average", "--ratio", "3") == 0
    text, saved = capsys.readouterr().out.splitlines()
    assert text
    assert "17 audio tokens instead of 50, 66 % saved by average at 3, kept; 2.0 s" in saved


def test_long_stereo_audio_at_another_rate_is_read_in_windows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("long.flac", "short.wav") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("long.flac: ")
    assert re.search(r"\(3\d\d audio tokens instead of 3\d\d, 0 % saved by none; 13.0 s in [3-5] windows\)", out[1])
    assert out[2].startswith("short.wav: ")


def test_an_adapter_brings_its_compressor(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("short.wav", *ADAPTER, "--task", "translate", "--to", "de") == 0
    assert "17 audio tokens instead of 50" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*ADAPTER, "--ratio", "2"], "trained with ratio 3"),
        (["--adapter", "."], "no compressor.json"),
        (["--compressor", "average"], "wants a --ratio"),
        (["--compressor", "average", "--ratio", "0.5"], "at least 1"),
        (["--compressor", "average", "--ratio", "many"], "a number"),
        (["--compressor", "averag", "--ratio", "3"], "did you mean 'average'"),
        (["--compressor", "average", "--ratio", "natural"], "natural"),
        (["--task", "translate"], "--to"),
        (["--language", "xx"], "no token <|xx|>"),
    ],
)
def test_what_cannot_be_done_is_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("short.wav", *arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_it_works_from_any_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["transcribe", str(root / "short.wav"), "--compressor", "average", "--ratio", "2.5"]) == 0
    assert "20 audio tokens instead of 50" in capsys.readouterr().out


def test_a_config_and_an_adapter_are_found_from_any_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(root / "short.wav", tmp_path / "mine.wav")
    monkeypatch.chdir(tmp_path)
    adapter = os.path.relpath(root / ADAPTER[1])
    asked = ["mine.wav", "--config", str(root / "t.yaml"), "--adapter", adapter, "--ratio", "3.0"]
    assert cli.main(["transcribe", *asked]) == 0
    assert "17 audio tokens instead of 50" in capsys.readouterr().out
    assert Path.cwd() == tmp_path


def test_a_file_that_cannot_be_heard_does_not_stop_the_others(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (root / "broken.wav").write_bytes(b"RIFF nothing")
    soundfile.write(root / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(root / "tiny.wav", np.ones(1), 16_000)
    os.mkfifo(root / "pipe")
    odd = os.fsdecode(b"\xff\x1b[31m.wav")
    shutil.copy(root / "short.wav", odd)
    heard_not = ["broken.wav", "nowhere.wav", "silent.wav", "tiny.wav", "pipe", "build", "-", "/dev/zero", "x" * 999]
    assert run(*heard_not, odd, "short.wav") == 1
    out, error = capfd.readouterr()
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    wanted = ["not audio", "no such file", "silent", "too short", "a pipe", "a folder", "alone", "a device", "too long"]
    assert [told in line for told, line in zip(wanted, lines, strict=True)] == [True] * len(wanted)
    assert out.splitlines()[0].startswith(r"\udcff\x1b[31m.wav: ")
    assert out.splitlines()[2].startswith("short.wav: ")
