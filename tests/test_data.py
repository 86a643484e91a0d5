"""The data stage, run as a user runs it: a manifest or a plug-in in, the same bytes and a list of rejects out."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from concertina import data
from concertina.store import sealing
from concertina.store.shards import Reader
from helpers.sound import tone

ROOT = Path(__file__).parent.parent
FILES = ("manifest.jsonl", "rejects.jsonl", "index.json", "shard-00000.safetensors", "seal.json")
PLUGIN = '''"""Beeps, to test that a corpus is one file and one line."""

import sys

import numpy as np

from concertina.config import Section
from concertina.corpora import Reject, Utterance

STATE = []


class Options(Section):
    loudness: float


def splits(options):
    return ["test"]


def parts(options, split):
    return 4


def read(options, split, part):
    assert not STATE, "a part is read in a fresh process"
    STATE.append(part)
    for i in range(3):
        hertz = 100 * (part * 3 + i + 1)
        sound = options.loudness * np.sin(2 * np.pi * hertz * np.arange(8000) / 8000)
        yield Utterance(f"beep-{part}-{i}", sound, 8000, "beep", "en", tags={"hertz": hertz})
    if part == 3:
        yield Reject("beep-3-3", "part 3 is short")
        yield Utterance("beep-0-0", sound, 8000, "beep", "en")
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the default config in it, to run in."""
    shutil.copy(ROOT / "config.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(project: Path, corpora: list[dict[str, Any]]) -> str:
    """An overlay that adds corpora to the default one."""
    default = {"name": "synthetic", "splits": {"clean": {"en": 1}}}
    path = project / "mine.yaml"
    path.write_text(json.dumps({"name": "test", "data": {"corpora": [default, *corpora]}}))
    return str(path)


def run(project: Path, rows: list[Any], jobs: int = 1) -> Path:
    """Run the stage in this process on a manifest of these rows; bytes are lines as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    (project / "mine.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    entry = {"name": "mine", "kind": "manifest", "splits": {"test": "mine.jsonl"}, "language": "en"}
    chosen = configure(project, [entry])
    command = ["--config", chosen, "--corpus", "mine", "--split", "test", "--jobs", str(jobs)]
    assert data.main(command) == 0
    sealing.verify(folder := Path("build/test/data/mine/test"))
    return folder


def rows_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def test_good_rows_are_kept_and_bad_ones_listed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "clips").mkdir()
    soundfile.write("clips/a.wav", tone(44_100), 44_100)
    soundfile.write("clips/b.flac", tone(8_000, 2.0), 8_000)
    soundfile.write("clips/empty.wav", np.zeros(0), 16_000)
    soundfile.write("clips/tiny.wav", tone(16_000, 0.02), 16_000)
    soundfile.write("clips/nan.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    Path("clips/text.wav").write_text("this is no audio at all")
    cut = Path("clips/a.wav").read_bytes()
    Path("clips/cut.wav").write_bytes(cut[: len(cut) // 2])
    folder = run(
        project,
        [
            {"audio_filepath": "clips/a.wav", "text": " Straße und 東京 ", "id": "a", "translation": {"de": "x"}},
            {"audio_filepath": "clips/empty.wav", "text": "nothing"},
            {"audio_filepath": "clips/tiny.wav", "text": "blip"},
            {"audio_filepath": "clips/nan.wav", "text": "not a number"},
            {"audio_filepath": "clips/text.wav", "text": "words"},
            {"audio_filepath": "clips/cut.wav", "text": "half"},
            {"audio_filepath": "clips/b.flac", "text": "  "},
            {"audio_filepath": "clips/b.flac", "text": "\ud800", "id": "lone surrogate"},
            {"audio_filepath": "clips/b.flac", "text": "words", "id": "half an emoji", "speaker": "anna \ud83d"},
            b'{"audio_filepath": "clips/b.flac", "text": "\xff"}',
            {"audio_filepath": "clips/b.flac", "text": "again", "id": "a"},
            {"audio_filepath": "clips/b.flac", "text": "good", "offset": 0.5, "duration": 1.0, "speaker": "s"},
        ],
    )
    kept = rows_of(folder, "manifest.jsonl")
    assert [(row["id"], row["text"], row["samples"]) for row in kept] == [
        ("a", "Straße und 東京", 16_000),
        ("clips/b.flac@0.5+1.0", "good", 16_000),
    ]
    assert kept[0]["translation"] == {"de": "x"}
    assert [row["speaker"] for row in kept] == [None, "s"]
    reader = Reader(folder)
    assert reader.ids == [row["id"] for row in kept]
    assert reader.lengths.tolist() == [row["samples"] for row in kept]
    reasons = [row["reason"] for row in rows_of(folder, "rejects.jsonl")]
    for line, (reason, told) in enumerate(
        zip(
            reasons,
            [
                "zero length",
                "20 ms",
                "NaN",
                "not audio",
                "truncated",
                "no text",
                "text is not valid Unicode",
                "speaker is not valid Unicode",
                "UTF-8",
                "duplicate id",
            ],
            strict=True,
        ),
        start=2,
    ):
        assert reason.startswith(f"mine.jsonl line {line}: ")
        assert told in reason
    shown = capsys.readouterr().err
    assert "rejected clips/empty.wav" in shown
    assert "5 more rejected" in shown
    assert "10 rejected: build/test/data/mine/test/rejects.jsonl" in shown


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_processes(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "src" / "concertina", tmp_path / "src" / "concertina")
    (tmp_path / "src/concertina/corpora/beeps.py").write_text(PLUGIN)
    chosen = configure(tmp_path, [{"name": "beeps", "loudness": 0.25}])
    contents = []
    for jobs in (1, 2):
        assert stage(tmp_path, chosen, "--jobs", str(jobs)).returncode == 0
        contents.append({name: (tmp_path / "build/test/data/beeps/test" / name).read_bytes() for name in FILES})
    assert contents[0] == contents[1]
    kept = rows_of(tmp_path / "build/test/data/beeps/test", "manifest.jsonl")
    assert [row["id"] for row in kept] == [f"beep-{part}-{i}" for part in range(4) for i in range(3)]
    assert kept[0]["tags"] == {"hertz": 100}
    assert [row["reason"] for row in rows_of(tmp_path / "build/test/data/beeps/test", "rejects.jsonl")] == [
        "part 3 is short",
        "duplicate id: an earlier row has it",
    ]


def stage(folder: Path, chosen: str, *more: str, corpus: str = "beeps") -> subprocess.CompletedProcess[str]:
    """Run the stage as a user does, with the copy of the package that is in `folder`."""
    command = [sys.executable, "-m", "concertina.data", "--config", chosen, "--corpus", corpus, "--split", "test"]
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    return subprocess.run([*command, *more], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("raise KeyError('the well is dry')", "part 0: KeyError: 'the well is dry'"),
        ("import os; os.kill(os.getpid(), 9)", "part 0: its process died with status -9"),
        ("yield 'not an utterance'", "Utterance or Reject, not str"),
    ],
)
def test_a_corpus_that_fails_is_named_and_leaves_nothing(project: Path, line: str, told: str) -> None:
    shutil.copytree(ROOT / "src" / "concertina", project / "src" / "concertina")
    broken = PLUGIN.replace("    STATE.append(part)\n", f"    {line}\n")
    (project / "src/concertina/corpora/beeps.py").write_text(broken)
    done = stage(project, configure(project, [{"name": "beeps", "loudness": 0.25}]), "--jobs", "1")
    assert done.returncode == 1
    assert told in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("error: corpus beeps, split test, ")
    assert not [path for path in (project / "build").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("entry", "split", "told"),
    [
        ({"name": "mine", "kind": "manifset"}, "test", r"manifset\.py \(did you mean 'manifest'"),
        ({"name": "mine", "kind": "manifest", "splitz": {"test": "x"}}, "test", "splitz .*did you mean 'splits'"),
        ({"name": "mine", "kind": "manifest", "splits": {"test": "x.jsonl"}}, "tset", "did you mean 'test'"),
        ({"name": "mine", "kind": "manifest", "splits": {"test": "x.jsonl"}}, "test", "x.jsonl: no such manifest"),
        ({"name": "mine", "kind": "manifest", "splits": {}}, "test", "splits"),
        ({"name": "mine", "kind": "manifest", "splits": {"test": "x"}, "language": "English"}, "test", "language"),
    ],
)
def test_a_corpus_that_is_configured_wrongly(
    project: Path, capsys: pytest.CaptureFixture[str], entry: dict[str, Any], split: str, told: str
) -> None:
    chosen = configure(project, [entry])
    assert data.main(["--config", chosen, "--corpus", "mine", "--split", split]) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert re.search(told, shown)


def test_a_manifest_with_no_usable_row_is_an_error(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.jsonl").write_text('{"audio_filepath": "nowhere.wav", "text": "hello"}\nnonsense\n')
    chosen = configure(project, [{"name": "mine", "kind": "manifest", "manifest": "mine.jsonl", "language": "en"}])
    assert data.main(["--config", chosen, "--corpus", "mine", "--split", "test"]) == 1
    shown = capsys.readouterr().err
    assert "line 1: nowhere.wav: no such file" in shown
    assert "error: corpus mine/test has no usable row: 2 rejected" in shown
    assert not [path for path in Path("build").rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_stage_runs_again_to_the_same_bytes(project: Path, how: signal.Signals) -> None:
    shutil.copytree(ROOT / "src" / "concertina", project / "src" / "concertina")
    slow = PLUGIN.replace("    for i in", "    import time; time.sleep(8 * (part == 2))\n    for i in")
    plugin = project / "src/concertina/corpora/beeps.py"
    plugin.write_text(slow)
    chosen = configure(project, [{"name": "beeps", "loudness": 0.25}])
    command = [sys.executable, "-m", "concertina.data", "--config", chosen, "--corpus", "beeps", "--split", "test"]
    environment = os.environ | {"PYTHONPATH": str(project / "src")}
    with open("console.txt", "w") as console:  # a pipe would stay open for as long as a reading process lives
        running = subprocess.Popen(
            [*command, "--jobs", "2"],
            env=environment,
            stderr=console,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores Ctrl-C
        )
    folder = project / "build/test/data/beeps"
    wait_until(lambda: any(folder.glob(".test.*/parts/00002")))
    running.send_signal(how)
    assert running.wait(timeout=60) == (-9 if how == signal.SIGKILL else 130)
    assert not (folder / "test").exists()
    if how != signal.SIGKILL:
        assert Path("console.txt").read_text().splitlines()[-1].startswith("interrupted")
        assert list(folder.iterdir()) == []

    plugin.write_text(PLUGIN)
    assert stage(project, chosen).returncode == 0
    again = {name: (folder / "test" / name).read_bytes() for name in FILES}
    assert [path.name for path in folder.iterdir()] == ["test"]
    shutil.rmtree(folder)
    assert stage(project, chosen).returncode == 0
    assert again == {name: (folder / "test" / name).read_bytes() for name in FILES}


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
