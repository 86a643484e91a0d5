"""Common Voice from the archive that a user downloaded: unpacked once, checked, and refused where it is another."""

import json
from pathlib import Path

import pytest

from concertina import config, corpora
from concertina.artefacts import keys
from concertina.fetching import archive as fetch
from helpers import common_voice_release
from helpers.artefacts import folder_of
from helpers.common_voice_release import REJECTED, archive, configure, english, key, refused, release, rows_of, run
from helpers.project_copy import copy_project, snakemake


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, with the default config and a language of Common Voice in voices/en."""
    common_voice_release.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def downloaded(extra: dict[str, bytes] | None = None) -> Path:
    path = Path("cv-corpus-15.0-2023-09-08-en.tar.gz")
    archive(path, {f"cv-corpus-15.0-2023-09-08/en/{name}": x for name, x in release().items()} | (extra or {}))
    return path


def unpack(chosen: str) -> int:
    return fetch.main(["--config", chosen, "--kind", "common_voice", "--archive", "15.0-en"])


def test_an_archive_is_unpacked_checked_and_stays(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = downloaded()
    chosen = english(archive=str(path))
    assert corpora.size(config.load(chosen).corpus("mine"), "train") is None
    assert unpack(chosen) == 0
    assert "its licence: CC0" in capsys.readouterr().err
    assert path.exists()
    rows, rejects = run(chosen, "train")
    assert [row["id"] for row in rows] == ["c_en_1", "c_en_2"]
    assert len(rejects) == len(REJECTED) + 1
    folder = Path("downloads/common_voice/15.0-en/cv-corpus-15.0-2023-09-08/en")
    (folder / "dev.tsv").write_bytes((folder / "dev.tsv").read_bytes() + b"?")
    assert f"{folder}/dev.tsv is damaged" in refused(chosen, capsys, "dev")
    (folder / "clips/c_en_2.mp3").unlink()
    assert f"{folder}/clips/c_en_2.mp3 is missing" in refused(chosen, capsys)
    (folder / "clips/c_en_1.mp3").write_bytes(b"another")
    assert f"{folder}/clips/c_en_1.mp3 is damaged" in refused(chosen, capsys)


@pytest.mark.parametrize("name", ["../evil", "/tmp/concertina-evil", "cv/../../evil"])
def test_a_hostile_member_is_refused_and_nothing_is_used(
    project: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    chosen = english(archive=str(downloaded({name: b"x"})))
    assert unpack(chosen) == 1
    assert f"its member '{name}' is a link, a device or outside the folder" in capsys.readouterr().err
    assert not Path("downloads/common_voice/15.0-en").exists()
    assert not list(project.rglob("evil"))
    assert Path("cv-corpus-15.0-2023-09-08-en.tar.gz").exists()


def test_an_archive_of_something_else_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive(Path("x.tar.gz"), {"readme.txt": b"hello"})
    chosen = english(archive="x.tar.gz")
    assert unpack(chosen) == 0
    assert "x.tar.gz is no archive of Common Voice" in refused(chosen, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("entry", [{"version": "17.0"}, {"language": "de"}])
def test_another_version_or_language_than_the_config_says_is_named(
    project: Path, capsys: pytest.CaptureFixture[str], entry: dict[str, str]
) -> None:
    said = {"language": "en"} | entry
    chosen = configure(kind="common_voice", archive=str(downloaded()), **said)
    name = f"{said.get('version', '15.0')}-{said['language']}"
    assert fetch.main(["--config", chosen, "--kind", "common_voice", "--archive", name]) == 0
    told = "cv-corpus-15.0-2023-09-08/en is language en in version 15.0; the config has"
    assert told in refused(chosen, capsys)
    Path("cv-corpus-15.0-2023-09-08").mkdir()
    Path("voices/en").rename("cv-corpus-15.0-2023-09-08/en")
    assert told in refused(configure(kind="common_voice", folder="cv-corpus-15.0-2023-09-08/en", **said), capsys)
    assert run(configure(kind="common_voice", folder="cv-corpus-15.0-2023-09-08/en", language="en"), "dev")[0]


def test_another_archive_is_noticed(project: Path) -> None:
    chosen = english(archive=str(downloaded()))
    before = key(chosen), keys.fetch(config.load(chosen), "common_voice", "15.0-en")
    downloaded({"more": b"x"})
    after = key(chosen), keys.fetch(config.load(chosen), "common_voice", "15.0-en")
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.slow
def test_the_workflow_unpacks_an_archive_before_it_is_read(project: Path) -> None:
    Path("config.yaml").unlink()
    copy_project(project)
    part = {"corpus": "mine", "split": "dev", "task": "transcribe", "language": "en"}
    own = {"name": "mine", "kind": "common_voice", "language": "en", "archive": str(downloaded())}
    chosen = {
        "name": "test",
        "data": {"corpora": [own]},
        "train": {"sets": [{"name": "english", "parts": [part], "dev": [part]}]},
        "evaluate": {"sets": [{"name": "clean", **part}]},
    }
    Path("mine.yaml").write_text(json.dumps(chosen))
    make = ("--config", "experiment=mine.yaml", "--", "build/test/data/mine/dev/seal.json")
    result = snakemake(project, "-c1", *make)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [row["id"] for row in rows_of(folder_of("data", "test", "mine", "dev"), "manifest.jsonl")] == ["c_en_3"]
    again = snakemake(project, "-n", *make)
    assert "Nothing to be done" in again.stdout + again.stderr
