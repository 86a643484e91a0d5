"""Bring your own speech: what a manifest's rows become, and why some become nothing."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from concertina import corpora
from concertina.artefacts import keys
from concertina.config import Config, ConfigError, Corpus, load
from concertina.corpora import Reject, Utterance, manifest
from helpers import recordings

ROOT = Path(__file__).parent.parent


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recording of two seconds, to run in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my" / "clips").mkdir(parents=True)
    soundfile.write(tmp_path / "my/clips/a.wav", np.sin(np.arange(32_000) / 9), 16_000)
    os.mkfifo(tmp_path / "my/clips/pipe")
    return tmp_path / "my"


def entry(**keys: Any) -> manifest.Options:
    chosen = corpora.options(Corpus.model_validate({"name": "mine", "kind": "manifest", **keys}))
    assert isinstance(chosen, manifest.Options)
    return chosen


def read(clips: Path, rows: list[Any], language: str | None = "en") -> list[Utterance | Reject]:
    lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
    (clips / "test.jsonl").write_bytes(b"\n".join(lines))
    options = entry(splits={"test": "my/test.jsonl"}, language=language)
    return [item for part in range(manifest.parts(options, "test")) for item in manifest.read(options, "test", part)]


def test_every_field_arrives(clips: Path) -> None:
    row = {
        "audio_filepath": "clips/a.wav",
        "text": "Guten Tag",
        "offset": 0.5,
        "duration": 1,
        "language": "de",
        "translation": {"en": " good day ", "fr": "bonjour"},
        "speaker": 7,
        "id": 42,
        "something_else": [1, 2],
    }
    (utterance,) = read(clips, [row])
    assert utterance == Utterance(
        id="42",
        audio=Path("my/clips/a.wav"),
        rate_hz=0,
        text="Guten Tag",
        language="de",
        speaker="7",
        translation={"en": "good day", "fr": "bonjour"},
        offset_s=0.5,
        duration_s=1.0,
        origin="my/test.jsonl line 1",
    )


def test_the_least_that_a_row_needs(clips: Path) -> None:
    absolute = str(clips / "clips" / "a.wav")
    least = [{"audio_filepath": "clips/a.wav", "text": "x"}, {"audio_filepath": absolute, "text": "y", "offset": 1.25}]
    first, second = read(clips, [b"\xef\xbb\xbf" + json.dumps(least[0]).encode(), b"", b"  ", least[1]])
    assert isinstance(first, Utterance)
    assert isinstance(second, Utterance)
    assert (first.id, first.language, first.offset_s, first.duration_s) == ("clips/a.wav", "en", 0.0, None)
    assert (second.id, second.audio) == (f"{absolute}@1.25", Path(absolute))
    assert second.origin == "my/test.jsonl line 4"


GOOD = {"audio_filepath": "clips/a.wav", "text": "hello"}
BAD: dict[str, tuple[Any, str]] = {
    "not JSON": (b"{", "not JSON"),
    "not UTF-8": (b'{"audio_filepath": "clips/a.wav", "text": "\xe9t\xe9"}', "not UTF-8"),
    "not a row": ([1], "not a row"),
    "deep": (b"[" * 100_000, "not JSON"),
    "no path": ({"text": "hello"}, "audio_filepath is missing"),
    "empty path": (GOOD | {"audio_filepath": ""}, "audio_filepath is missing"),
    "NUL in path": (GOOD | {"audio_filepath": "a\0b"}, "audio_filepath is missing"),
    "path of another type": (GOOD | {"audio_filepath": 3}, "audio_filepath must be a text"),
    "path that no file can have": (b'{"audio_filepath": "\\ud800", "text": "x"}', "surrogate"),
    "path too long": (GOOD | {"audio_filepath": "x" * 5000}, "too long"),
    "no such file": (GOOD | {"audio_filepath": "clips/b.wav"}, "my/clips/b.wav: no such file"),
    "a folder": (GOOD | {"audio_filepath": "clips"}, "my/clips: it is a folder, not a file"),
    "a device": (GOOD | {"audio_filepath": "/dev/zero"}, "/dev/zero: it is a device, not a file"),
    "a pipe": (GOOD | {"audio_filepath": "clips/pipe"}, "my/clips/pipe: it is a pipe, not a file"),
    "more digits than Python converts": (
        b'{"audio_filepath": "clips/a.wav", "text": ' + b"9" * 4301 + b"}",
        "4300 digits",
    ),
    "text of another type": (GOOD | {"text": ["hello"]}, "text must be a text"),
    "offset of another type": (GOOD | {"offset": "1"}, "offset must be a number of seconds"),
    "negative offset": (GOOD | {"offset": -1}, "offset must be a number of seconds"),
    "duration not a number": (GOOD | {"duration": float("nan")}, "duration must be a number of seconds"),
    "duration true": (GOOD | {"duration": True}, "duration must be a number of seconds"),
    "language": (GOOD | {"language": "English"}, "a language must be a code"),
    "translation": (GOOD | {"translation": "bonjour"}, "translation must be texts by language"),
    "translation language": (GOOD | {"translation": {"French": "bonjour"}}, "a language must be a code"),
    "empty translation": (GOOD | {"translation": {"fr": " "}}, "translation into fr is empty"),
    "speaker": (GOOD | {"speaker": {"name": "x"}}, "speaker must be a text"),
    "id": (GOOD | {"id": ["x"]}, "id must be a text"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_row_that_cannot_be_used_is_rejected_with_its_line(clips: Path, kind: str) -> None:
    row, told = BAD[kind]
    before, reject, after = read(clips, [GOOD, row, GOOD | {"id": "last"}])
    assert isinstance(before, Utterance)
    assert isinstance(after, Utterance)
    assert isinstance(reject, Reject)
    assert reject.reason.startswith("my/test.jsonl line 2: ")
    assert told in reject.reason


def test_parts_of_one_file_have_names_of_their_own(clips: Path) -> None:
    parts: list[dict[str, Any]] = [
        {"offset": 0},
        {"offset": 0, "duration": 0.5},
        {"offset": 0, "duration": 0.25},
        {"offset": None},
    ]
    items = read(clips, [GOOD | part for part in parts])
    names = ["clips/a.wav@0", "clips/a.wav@0+0.5", "clips/a.wav@0+0.25", "clips/a.wav"]
    assert [item.id for item in items] == names


def test_a_row_needs_a_language_from_somewhere(clips: Path) -> None:
    reject, utterance = read(clips, [GOOD, GOOD | {"language": "fr"}], language=None)
    assert isinstance(reject, Reject)
    assert "no language" in reject.reason
    assert isinstance(utterance, Utterance)


def test_parts_hold_every_row_once_and_in_order(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "ROWS_PER_PART", 3)
    items = read(clips, [GOOD | {"id": str(i)} if i % 4 else b"bad" for i in range(10)])
    assert [item.id for item in items] == [str(i) if i % 4 else f"line {i + 1}" for i in range(10)]


def test_the_plan_reads_no_pipe_and_no_device(clips: Path) -> None:
    odd = [GOOD | {"audio_filepath": path} for path in ("clips/pipe", "/dev/zero", "/dev/stdin")]
    read(clips, [GOOD, *odd])
    assert keys.data(configured(clips), "mine", "test")["sources"]
    with pytest.raises(ConfigError, match=r"my/clips/pipe: it is a pipe, not a file"):
        manifest.parts(entry(splits={"test": "my/clips/pipe"}), "test")


def test_the_size_of_a_split_is_an_estimate_that_no_row_can_blow_up(clips: Path) -> None:
    """Rows that state an absurd length, or none, and name what has none."""
    (clips / "pcm.raw").write_bytes(np.arange(30_000, dtype=np.int16).tobytes())
    content = bytearray(recordings.by_libsndfile("FLAC"))
    content[21:26] = bytes([content[21] & 0xF0]) + bytes(4)  # a length of 0 is an unknown one
    (clips / "streamed.flac").write_bytes(content)
    names = ["clips/a.wav", "pcm.raw", "streamed.flac", "clips/pipe", "nowhere.wav"]
    lengths: list[dict[str, Any]] = [{}, {"duration": 9e8}, {"duration": 2.0}]
    read(clips, [GOOD | {"audio_filepath": name, **length} for name in names for length in lengths])
    size = manifest.size(entry(splits={"test": "my/test.jsonl"}), "test")
    assert size.utterances == 15
    assert 8 / 3600 < size.hours < 2


def test_one_manifest_may_be_given_in_short() -> None:
    assert entry(manifest="a.jsonl", split="dev").splits == {"dev": "a.jsonl"}
    assert entry(manifest="a.jsonl").splits == {"test": "a.jsonl"}
    with pytest.raises(ConfigError, match=r"data\.corpora\.mine\.splits"):
        entry()


def test_the_sources_are_the_manifests_and_their_recordings(clips: Path) -> None:
    rows = [GOOD, GOOD, b"{", b'{"audio_filepath": "\\ud800"}', {"audio_filepath": "clips/gone.wav"}, {"text": "x"}]
    read(clips, rows)
    found = manifest.sources(entry(splits={"test": "my/test.jsonl"}))
    assert found == [Path("my/test.jsonl"), Path("my/clips/a.wav"), Path("my/clips/gone.wav")]


def test_what_follows_is_made_again_when_a_row_or_a_recording_changes(clips: Path) -> None:
    read(clips, [GOOD])
    config = configured(clips)
    first = keys.data(config, "mine", "test")
    os.utime(clips / "test.jsonl")
    os.utime(clips / "clips" / "a.wav")
    assert keys.data(config, "mine", "test") == first
    read(clips, [GOOD | {"text": "hullo"}])
    edited = keys.data(config, "mine", "test")
    assert edited != first
    soundfile.write(clips / "clips" / "a.wav", np.cos(np.arange(32_000) / 9), 16_000)
    assert keys.data(config, "mine", "test") not in (first, edited)


def configured(clips: Path) -> Config:
    (clips.parent / "config.yaml").write_bytes((ROOT / "config.yaml").read_bytes())
    mine = {"name": "mine", "kind": "manifest", "splits": {"test": "my/test.jsonl"}, "language": "en"}
    default = {"name": "synthetic", "splits": {"clean": {"en": 1}}}
    (clips.parent / "mine.yaml").write_text(json.dumps({"data": {"corpora": [default, mine]}}))
    return load("mine.yaml")
