"""Common Voice is read from a folder: its tables with every oddity, its splits, its sizes, what is missing."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from concertina import config, corpora
from concertina.artefacts import keys
from concertina.corpora import common_voice
from concertina.corpora._tsv import Table
from helpers import common_voice_release
from helpers.common_voice_release import ENGLISH, REJECTED, configure, english, key, refused, run


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, with the default config and a language of Common Voice in voices/en."""
    common_voice_release.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_split_is_read_and_every_oddity_is_told(project: Path) -> None:
    rows, rejects = run(english(), "train")
    assert [(row["id"], row["text"]) for row in rows] == [
        ("c_en_1", 'He said "no'),
        ("c_en_2", "\"Quoted\" and 'quoted'"),
    ]
    assert {row["speaker"] for row in rows} == {"a" * 16}
    assert [row["tags"] for row in rows] == [
        {"gender": "female", "age": "twenties", "accents": "Scottish English"},
        {},
    ]
    assert {row["language"] for row in rows} == {"en"}
    assert all(abs(row["duration_s"] - 1) < 0.1 for row in rows)
    assert "line 6: no text" in rejects[2]["reason"]
    told = {reject["id"]: reject["reason"] for reject in rejects}
    assert len(rejects) == len(REJECTED) + 1
    assert told.keys() == REJECTED.keys()
    assert all(reason in told[id] for id, reason in REJECTED.items())
    assert all(reject["reason"].startswith("voices/en/train.tsv line ") for reject in rejects)


@pytest.mark.parametrize(("split", "id"), [("dev", "c_en_3"), ("test", "c_en_4"), ("other", "c_en_5")])
def test_splits_are_the_official_ones(project: Path, split: str, id: str) -> None:
    rows, rejects = run(english(splits=["dev", "test", "other"]), split)
    assert [row["id"] for row in rows] == [id]
    assert rows[0]["text"] == ENGLISH[split][0][2]
    assert not rejects


def test_a_limit_reads_those_whose_ids_come_first_by_their_hash(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common_voice, "ROWS_PER_PART", 3)
    everything, left_out = run(english(), "train")
    ids = [row["id"] for row in (*everything, *left_out)]
    first = sorted(set(ids), key=lambda id: hashlib.sha256(id.encode()).digest())[:3]
    chosen = english(utterances={"train": 3})
    rows, rejects = run(chosen, "train")
    assert rows == [row for row in everything if row["id"] in first]
    assert rejects == [row for row in left_out if row["id"] in first]
    assert corpora.size(config.load(chosen).corpus("mine"), "train") == (3, pytest.approx(3 * 1.5 / 3600))
    assert key(chosen) not in (key(english()), key(english(utterances={"train": 4})))
    assert key(english(utterances={"dev": 3})) == key(english())


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"utterances": {"trian": 3}}, r"data\.corpora\.mine\.utterances: the corpus has no split 'trian'.*'train'"),
        ({"utterances": {"train": 0}}, r"data\.corpora\.1\.utterances\.train: Input should be greater than 0"),
        ({"kind": "synthetic", "utterances": {"dev": 3}}, "the file of synthetic has no function `ids`"),
    ],
)
def test_a_limit_that_cannot_be_is_named(project: Path, entry: dict[str, Any], told: str) -> None:
    settings = {"kind": "common_voice", "language": "en", "folder": "voices/en"} if "kind" not in entry else {}
    with pytest.raises(config.ConfigError, match=told):
        keys.check(config.load(configure(**settings, **entry)))


def test_a_long_split_is_read_in_parts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common_voice, "ROWS_PER_PART", 3)
    options = common_voice.Options(language="en", folder="voices/en")
    assert [common_voice.parts(options, split) for split in ("train", "dev")] == [3, 1]
    items = [[item.id for item in common_voice.read(options, "train", part)] for part in range(3)]
    assert items == [["c_en_1", "c_en_2", "c_en_2"], ["c_en_404", "c_en_3", "c_en_3"], ["line 8", "c_en_broken"]]


def test_size_is_by_the_rows_and_the_lengths_that_are_told(project: Path) -> None:
    chosen = config.load(english()).corpus("mine")
    assert corpora.size(chosen, "train") == (8, pytest.approx(8 * 1.5 / 3600))
    with open("voices/en/clip_durations.tsv", "a", encoding="utf-8") as file:
        file.write(f"c_en_3.mp3\t{'9' * 4301}\n")  # a mistake of the table cannot make a plan of a thousand jobs
    assert corpora.size(chosen, "train") == (8, pytest.approx(8 * 21 / 3600))
    Path("voices/en/clip_durations.tsv").unlink()
    assert corpora.size(chosen, "train") == (8, pytest.approx(8 * 5.6 / 3600))


@pytest.mark.parametrize(("language", "code"), [("zh-CN", "zh"), ("zh-TW", "zh"), ("yue", "yue"), ("de", "de")])
def test_languages_are_called_as_everywhere_else(project: Path, language: str, code: str) -> None:
    options = common_voice.Options(language=language, folder="voices/en")
    (item,) = common_voice.read(options, "dev", 0)
    assert isinstance(item, corpora.Utterance)
    assert item.language == code


@pytest.mark.parametrize(
    "entry",
    [{}, {"folder": "nowhere"}, {"archive": "nowhere.tar.gz"}, {"folder": "voices"}],
    ids=["neither", "no folder", "no archive", "another folder"],
)
def test_who_does_not_have_it_is_told_how_to_get_it(
    project: Path, capsys: pytest.CaptureFixture[str], entry: dict[str, str]
) -> None:
    told = refused(configure(kind="common_voice", language="en", version="15.0", **entry), capsys)
    assert told.startswith("error: data.corpora.mine: ")
    assert all(path in told for path in entry.values())
    assert "language en in version 15.0 from https://commonvoice.mozilla.org/datasets" in told
    assert "accept the terms, and set `folder` to" in told
    assert "or `archive` to the .tar.gz" in told


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"splits": ["tran"]}, "no split 'tran' (did you mean 'train'?)"),
        ({"archive": "x.tar.gz"}, "both given"),
        ({"language": "English"}, "data.corpora.mine.language"),
        ({"langauge": "en"}, "did you mean 'language'"),
    ],
)
def test_what_is_configured_wrongly_is_named(
    project: Path, capsys: pytest.CaptureFixture[str], entry: dict[str, Any], told: str
) -> None:
    chosen = configure(kind="common_voice", **{"language": "en", "folder": "voices/en"} | entry)
    assert told in refused(chosen, capsys)


def test_a_table_that_lacks_a_column_or_is_not_there_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("voices/en/train.tsv")
    path.write_bytes(path.read_bytes().replace(b"sentence", b"text", 1))
    assert "voices/en/train.tsv has no column 'sentence'; its first line names client_id, path, text" in refused(
        english(), capsys
    )
    path.unlink()
    assert "voices/en/train.tsv: no such file" in refused(english(), capsys)


def test_a_table_is_read_whatever_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    long = "word " * 100_000
    path.write_bytes(f'\ufeffpath\tsentence\r\na\t"\r\n\r\nb\t{long}\r\n'.encode() + b"c\t\xff\nd\\\te\n")
    rows = list(Table(path, ("path",)).rows())
    assert [(row.line, row.wrong) for row in rows] == [(2, ""), (4, ""), (5, "not UTF-8"), (6, "")]
    assert [row.fields.get("sentence") for row in rows] == ['"', long, None, "e"]
    assert Table(path, ()).count() == 5, "an empty line is counted too"
    assert list(Table(path, (), escaped=True).rows())[3].wrong == "1 columns, not 2"


def test_an_edited_table_is_noticed_and_clips_are_not_read(project: Path) -> None:
    chosen = english()
    before = key(chosen)
    Path("voices/en/clips/c_en_1.mp3").unlink()
    assert key(chosen) == before
    path = Path("voices/en/train.tsv")
    path.write_bytes(path.read_bytes().replace(b"Nobody", b"No one"))
    assert key(chosen) != before
