"""LibriSpeech by the workflow: fetched, unpacked and read, or read from a folder; what is wrong is one line."""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from concertina.artefacts import keys
from concertina.config import Config, ConfigError, merge
from concertina.corpora import Reject, _archives
from concertina.corpora import librispeech as librispeech_corpus
from concertina.store import sealing
from helpers.archives import Server, packed, serving
from helpers.project_copy import ROOT, copy_project, snakemake

PARENT = "LibriSpeech/dev-clean"
TEXTS = {
    "84-121123-0000": "GO DO YOU HEAR",
    "84-121123-0001": "BUT IN LESS THAN FIVE MINUTES",
    "84-121550-0000": "THE END",
}
REJECTED = {
    "84-121123-0000": "duplicate id",
    "84-121123-0002": "no text",
    "84-121123-0003": "there is no recording of it",
    "84-121123-0004": "truncated",
    "84-121123-0005": "has no transcript in 84-121123.trans.txt",
}
DATA = "build/heard/data/librispeech/dev-clean"


def flac(seconds: float, rate_hz: int = 16_000) -> bytes:
    file = io.BytesIO()
    speech_T = 0.1 * np.random.default_rng(int(1000 * seconds)).standard_normal(int(seconds * rate_hz))
    soundfile.write(file, speech_T, rate_hz, format="FLAC")
    return file.getvalue()


def librispeech() -> dict[str, bytes]:
    """Two chapters of one speaker in the true layout, one recording at another rate, and one of everything wrong."""
    chapters = {"84-121123": "84/121123", "84-121550": "84/121550"}
    members = {"LibriSpeech/README.TXT": b"a few\n", "LibriSpeech/SPEAKERS.TXT": b"84 | F | dev-clean | 8.02 | A\n"}
    for chapter, folder in chapters.items():
        lines = [f"{id} {text}\n" for id, text in TEXTS.items() if id.startswith(chapter)]
        if chapter == "84-121123":
            lines += ["84-121123-0002\n", "84-121123-0003 NOBODY HAS THIS\n", "84-121123-0004 BROKEN\n", lines[0]]
        members[f"{PARENT}/{folder}/{chapter}.trans.txt"] = "".join(lines).encode()
    for i, id in enumerate([*TEXTS, "84-121123-0002", "84-121123-0005"]):
        chapter = chapters[id.rpartition("-")[0]]
        members[f"{PARENT}/{chapter}/{id}.flac"] = flac(0.5 + 0.1 * i, 22_050 if i == 1 else 16_000)
    members[f"{PARENT}/84/121123/84-121123-0004.flac"] = flac(1.0)[:3000]
    return members


def project(folder: Path, corpus: Mapping[str, object], mirror: str = "http://127.0.0.1:1") -> Path:
    folder.mkdir(exist_ok=True)
    copy_project(folder)
    part = {"corpus": "librispeech", "split": "dev-clean", "task": "transcribe", "language": "en"}
    chosen = {
        "name": "heard",
        "data": {
            "corpora": [{"name": "librispeech", "splits": ["dev-clean"], **corpus}],
            "mirrors": {"librispeech": [mirror]},
        },
        "train": {"sets": [{"name": "english", "parts": [part], "dev": [part]}]},
        "evaluate": {"sets": [{"name": "clean", **part}]},
    }
    (folder / "heard.yaml").write_text(yaml.safe_dump(chosen), encoding="utf-8")
    return folder


def make(folder: Path, *arguments: str) -> tuple[int, str]:
    result = snakemake(folder, "--config", "experiment=heard.yaml", *arguments, "--", f"{DATA}/seal.json")
    return result.returncode, result.stdout + result.stderr


def heard(folder: Path) -> tuple[list[dict[str, object]], dict[str, str]]:
    rows = [json.loads(line) for line in (folder / DATA / "manifest.jsonl").read_text().splitlines()]
    rejects = [json.loads(line) for line in (folder / DATA / "rejects.jsonl").read_text().splitlines()]
    return rows, {row["id"]: row["reason"] for row in rejects}


def check(folder: Path) -> None:
    rows, rejects = heard(folder)
    assert {row["id"]: row["text"] for row in rows} == {id: text.lower() for id, text in TEXTS.items()}
    assert [row["duration_s"] for row in rows] == pytest.approx([0.5, 0.6, 0.7], abs=1e-4)
    assert {str(row["speaker"]) for row in rows} == {"84"}
    assert rejects.keys() == REJECTED.keys()
    assert all(reason in rejects[id] for id, reason in REJECTED.items())


@pytest.mark.slow
def test_librispeech_is_fetched_resumed_unpacked_and_read(tmp_path: Path) -> None:
    archive = packed(librispeech())  # type: ignore[arg-type]
    own = {"md5": {"dev-clean": hashlib.md5(archive).hexdigest()}}
    with serving(Server(archive, cuts=[5000])) as server:
        folder = project(tmp_path, own, server.url)
        status, told = make(folder)
    assert status == 0, told
    assert server.asked == [None, "bytes=5000-"]
    assert "its licence: CC BY 4.0" in told
    check(folder)
    assert [path.name for path in (folder / "downloads/librispeech").glob("[!.]*")] == ["dev-clean"]
    assert "Nothing to be done" in make(folder, "-n")[1]
    project_again = (folder / "heard.yaml").read_text().replace(server.url, "http://elsewhere.example")
    (folder / "heard.yaml").write_text(project_again)
    assert "Nothing to be done" in make(folder, "-n")[1], "a mirror changes nothing"

    asked, (status, told) = list(server.asked), make(folder, "--forcerun", "data_fetch")
    assert status == 0, told
    assert "is there already" in told
    assert server.asked == asked, "what is there is not downloaded again"

    (recording,) = folder.glob(f"downloads/librispeech/dev-clean/{PARENT}/84/121550/*.flac")
    recording.write_bytes(recording.read_bytes()[:-1] + b"?")
    status, told = make(folder, "--forcerun", "data")
    assert status != 0
    assert f"{recording.relative_to(folder)} is damaged" in told


@pytest.mark.slow
def test_an_unpacked_folder_is_read_as_it_is_and_an_edited_transcript_is_noticed(tmp_path: Path) -> None:
    for name, content in librispeech().items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_bytes(content)
    folder = project(tmp_path / "project", {"folder": str(tmp_path / "mine/LibriSpeech")})
    status, told = make(folder)
    assert status == 0, told
    check(folder)
    assert not (folder / "downloads").exists()
    transcripts = tmp_path / "mine" / PARENT / "84/121550/84-121550.trans.txt"
    transcripts.write_text("84-121550-0000 THE OTHER END\n")
    assert make(folder)[0] == 0
    assert heard(folder)[0][-1]["text"] == "the other end"


def test_a_chapter_without_transcripts_is_rejected_and_a_lost_seal_is_damage(tmp_path: Path) -> None:
    (tmp_path / "dev-clean/84/121123").mkdir(parents=True)
    (tmp_path / "dev-clean/84/121123/84-121123-0000.flac").write_bytes(flac(0.5))
    own = librispeech_corpus.Options(folder=str(tmp_path), splits=["dev-clean"])
    [reject] = librispeech_corpus.read(own, "dev-clean", 0)
    assert isinstance(reject, Reject)
    assert reject.id == "84-121123-0000"
    with pytest.raises(sealing.DamagedError, match=r"has no seal\.json"):
        _archives.Files(tmp_path / "dev-clean", sealed=True).names  # noqa: B018


def config_of(*entries: Mapping[str, object], mirrors: dict[str, list[str]] | None = None) -> Config:
    """The default experiment on other corpora, of which it uses dev-clean of the first one."""
    part = {"corpus": entries[0]["name"], "split": "dev-clean", "task": "transcribe", "language": "en"}
    chosen = {
        "data": {"corpora": list(entries), "mirrors": mirrors or {}},
        "train": {"sets": [{"name": "english", "parts": [part], "dev": [part]}]},
        "evaluate": {"sets": [{"name": "clean", **part}]},
    }
    return Config.model_validate(merge(yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")), chosen))


def test_the_key_of_a_split_is_its_own_and_unlike_archives_of_one_name_are_refused() -> None:
    one, two = ({"name": "librispeech", "splits": splits} for splits in (["dev-clean"], ["dev-clean", "test-other"]))
    made = [config_of(entry) for entry in (one, two)]
    assert keys.data(made[0], "librispeech", "dev-clean") == keys.data(made[1], "librispeech", "dev-clean")
    other = {"name": "mine", "kind": "librispeech", "splits": ["dev-clean"], "md5": {"dev-clean": "0" * 32}}
    with pytest.raises(ConfigError, match="two of kind librispeech have different archives called dev-clean"):
        keys.fetch(config_of(one, other), "librispeech", "dev-clean")
    with pytest.raises(ConfigError, match=r"data\.mirrors: no corpus is of kind 'librispech' \(did you mean"):
        keys.check(config_of(one, mirrors={"librispech": ["http://127.0.0.1"]}))


@pytest.mark.slow
def test_what_cannot_be_had_or_is_misspelt_is_one_clear_line(tmp_path: Path) -> None:
    folder = project(tmp_path, {"md5": {"dev-clean": "0" * 32}})
    (folder / "downloads/librispeech").mkdir(parents=True)
    (folder / "downloads/librispeech/dev-clean.tar.gz").write_bytes(b"not it")
    status, told = make(folder)
    assert status != 0
    assert re.search(
        r"^error: downloads/librispeech/dev-clean\.tar\.gz: its MD5 is .* move it away", told, re.MULTILINE
    )
    text = (folder / "heard.yaml").read_text()
    (folder / "heard.yaml").write_text(text.replace("- dev-clean", "- dev-claen"))
    assert "librispeech has no split 'dev-clean' (did you mean 'dev-claen'?)" in make(folder)[1]
    missing = yaml.safe_load(text)
    missing["data"]["corpora"][0]["folder"] = "nowhere"
    (folder / "heard.yaml").write_text(yaml.safe_dump(missing))
    assert "nowhere/dev-clean: no such folder; librispeech's `folder`" in make(folder)[1]
