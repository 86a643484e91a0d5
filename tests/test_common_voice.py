"""Common Voice and CoVoST 2, from a miniature in their true layout: clips as MP3, tables with their oddities."""

import hashlib
import io
import json
import re
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from concertina import config, corpora, data
from concertina.artefacts import keys, layout
from concertina.corpora import _archives, common_voice, covost2
from concertina.corpora._tables import Table
from concertina.fetching import archive as fetch
from concertina.fetching import download
from planning import ROOT, copy_project, snakemake

COLUMNS = "client_id path sentence up_votes down_votes age gender accents variant locale segment".split()
ANNE, BERT = "a" * 128, "b" * 128
ENGLISH: dict[str, list[list[str]]] = {
    "train": [
        [ANNE, "c_en_1.mp3", 'He said "no', "2", "0", "twenties", "female", "Scottish English"],
        [ANNE, "c_en_2.mp3", "\"Quoted\" and 'quoted'", "2", "0", "", "", ""],
        [BERT, "c_en_2.mp3", "The same clip again.", "2", "0", "", "", ""],
        [BERT, "c_en_404.mp3", "Nobody has this.", "2", "0", "", "", ""],
        [BERT, "c_en_3.mp3", " ", "2", "0", "", "", ""],
        [BERT, "c_en_3.mp3", "A tab\tin it.", "2", "0", "", "", ""],
        [BERT, "", "No clip.", "2", "0", "", "", ""],
        [BERT, "c_en_broken.mp3", "Broken.", "2", "0", "", "", ""],
    ],
    "dev": [[BERT, "c_en_3.mp3", "Devised.", "2", "0", "", "male", ""]],
    "test": [[BERT, "c_en_4.mp3", "Tested \\ tried.", "2", "0", "", "", ""]],
    "other": [[BERT, "c_en_5.mp3", "Unheard.", "0", "0", "", "", ""]],
}
RATES_HZ = {"c_en_1": 32_000, "c_en_2": 48_000, "c_en_3": 22_050, "c_en_4": 48_000, "c_en_5": 32_000}
REJECTED = {
    "c_en_2": "line 4: duplicate id",
    "c_en_404": "line 5: there is no clip c_en_404.mp3",
    "c_en_3": "line 7: 12 columns, not 11",
    "line 8": "its path names no clip",
    "c_en_broken": "not audio",
}


def mp3(seconds: float, rate_hz: int) -> bytes:
    file = io.BytesIO()
    times_T = np.arange(round(seconds * rate_hz)) / rate_hz
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * 300 * times_T), rate_hz, format="MP3")
    return file.getvalue()


def table(columns: list[str], rows: list[list[str]]) -> bytes:
    return "".join("\t".join(row) + "\n" for row in (columns, *rows)).encode()


def release() -> dict[str, bytes]:
    """The files of one language, by path."""
    files = {f"clips/{id}.mp3": mp3(1.0, rate_hz) for id, rate_hz in RATES_HZ.items()}
    files["clips/c_en_broken.mp3"] = b"no MP3"
    validated = [row for split in ("train", "dev", "test") for row in ENGLISH[split]]
    for split, rows in {**ENGLISH, "validated": validated}.items():
        files[f"{split}.tsv"] = table(COLUMNS, [[*row, "", "en", ""] for row in rows])
    files["clip_durations.tsv"] = b"clip\tduration[ms]\nc_en_1.mp3\t1000\nc_en_2.mp3\t2000\n"
    return files


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, with the default config and a language of Common Voice in voices/en."""
    shutil.copy(ROOT / "config.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, content in release().items():
        path = Path("voices/en", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def configure(**entry: Any) -> str:
    """An overlay with one more corpus, called mine."""
    default = {"name": "synthetic", "splits": {"clean": {"en": 1}}}
    chosen = {"name": "test", "data": {"corpora": [default, {"name": "mine", **entry}]}}
    Path("mine.yaml").write_text(json.dumps(chosen))
    return "mine.yaml"


def english(**options: Any) -> str:
    folder = {} if "archive" in options else {"folder": "voices/en"}
    return configure(kind="common_voice", language="en", **folder, **options)


def run(chosen: str, split: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read a split as a user does: its rows and its rejects."""
    assert data.main(["--config", chosen, "--corpus", "mine", "--split", split, "--jobs", "1"]) == 0
    folder = layout.data("test", "mine", split)
    return rows_of(folder, "manifest.jsonl"), rows_of(folder, "rejects.jsonl")


def rows_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def refused(chosen: str, capsys: pytest.CaptureFixture[str], split: str = "train") -> str:
    """The last line on the console of a split that cannot be read."""
    assert data.main(["--config", chosen, "--corpus", "mine", "--split", split, "--jobs", "1"]) == 1
    return capsys.readouterr().err.splitlines()[-1]


def key(chosen: str, split: str = "train") -> str:
    return keys.run_key(keys.data(config.load(chosen), "mine", split))


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


def test_a_long_split_is_read_in_parts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common_voice, "ROWS_PER_PART", 3)
    options = common_voice.Options(language="en", folder="voices/en")
    assert [common_voice.parts(options, split) for split in ("train", "dev")] == [3, 1]
    items = [[item.id for item in common_voice.read(options, "train", part)] for part in range(3)]
    assert items == [["c_en_1", "c_en_2", "c_en_2"], ["c_en_404", "c_en_3", "c_en_3"], ["line 8", "c_en_broken"]]


def test_size_is_by_the_rows_and_the_lengths_that_are_told(project: Path) -> None:
    chosen = config.load(english()).corpus("mine")
    assert corpora.size(chosen, "train") == (8, pytest.approx(8 * 1.5 / 3600))
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


def archive(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


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


@pytest.mark.parametrize("entry", [{"version": "17.0"}, {"language": "de"}])
def test_another_version_or_language_than_the_config_says_is_named(
    project: Path, capsys: pytest.CaptureFixture[str], entry: dict[str, str]
) -> None:
    said = {"language": "en"} | entry
    chosen = configure(kind="common_voice", archive=str(downloaded()), **said)
    name = f"{said.get('version', '15.0')}-{said['language']}"
    assert fetch.main(["--config", chosen, "--kind", "common_voice", "--archive", name]) == 0
    told = "cv-corpus-15.0-2023-09-08/en is language en in version 15.0; the config says"
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
    assert [row["id"] for row in rows_of(layout.data("test", "mine", "dev"), "manifest.jsonl")] == ["c_en_3"]
    again = snakemake(project, "-n", *make)
    assert "Nothing to be done" in again.stdout + again.stderr


GERMAN = {"c_en_1": 'Er sagte \\"nein', "c_en_2": "Zitiert", "c_en_4": "Geprüft", "c_en_5": "Ungehört"}


def whole() -> None:
    """The published table: path, translation and split; a backslash before quotation marks."""
    rows = [
        ["c_en_1.mp3", GERMAN["c_en_1"], "train"],
        ["c_en_2.mp3", GERMAN["c_en_2"], "train_covost"],
        ["c_en_404.mp3", "Niemand hat das.", "train"],
        ["c_en_5.mp3", GERMAN["c_en_5"], "train"],
        ["c_en_3.mp3", " ", "dev"],
        ["c_en_4.mp3", GERMAN["c_en_4"], "test"],
    ]
    Path("tables").mkdir(exist_ok=True)
    Path("tables/covost_v2.en_de.tsv").write_bytes(table(["path", "translation", "split"], rows))


def by_split() -> None:
    """What CoVoST's script makes of it."""
    rows = [
        ["c_en_1.mp3", 'He said \\"no', GERMAN["c_en_1"], ANNE],
        ["c_en_2.mp3", "Quoted", GERMAN["c_en_2"], ANNE],
        ["c_en_404.mp3", "Nobody has this.", "Niemand hat das.", BERT],
    ]
    Path("tables").mkdir(exist_ok=True)
    columns = ["path", "sentence", "translation", "client_id"]
    Path("tables/covost_v2.en_de.train.tsv").write_bytes(table(columns, rows))


def german(**options: Any) -> str:
    entry = {"common_voice": "voices/en", "tables": "tables", "source": "en", "target": "de", "splits": ["train"]}
    return configure(kind="covost2", **{k: v for k, v in (entry | options).items() if v is not None})


def test_the_published_table_is_joined_and_missing_clips_are_told(project: Path) -> None:
    whole()
    rows, rejects = run(german(), "train")
    assert [(row["id"], row["text"], row["translation"]) for row in rows] == [
        ("c_en_1", 'He said "no', {"de": 'Er sagte "nein'}),
        ("c_en_2", "\"Quoted\" and 'quoted'", {"de": "Zitiert"}),
    ]
    assert rows[0]["tags"]["accents"] == "Scottish English"
    assert {row["speaker"] for row in rows} == {"a" * 16}
    assert [(reject["id"], reject["reason"].partition(": ")[2]) for reject in rejects] == [
        ("c_en_404", "not in this version of Common Voice"),
        ("c_en_5", "not in this version of Common Voice"),
    ]
    assert rejects[0]["reason"].startswith("tables/covost_v2.en_de.tsv line 4: ")


def test_dev_and_test_are_read_from_the_published_table(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole()
    chosen = german(splits=["dev", "test"])
    assert [row["text"] for row in run(chosen, "test")[0]] == ["Tested \\ tried."]
    assert "no usable row: 1 rejected" in refused(chosen, capsys, "dev")
    assert "no translation" in json.dumps([item.reason for item in covost2.read(options(), "dev", 0)])  # type: ignore[union-attr]


def test_lines_that_cannot_be_read_are_told_by_file_and_number(project: Path) -> None:
    whole()
    path, validated = Path("tables/covost_v2.en_de.tsv"), Path("voices/en/validated.tsv")
    path.write_bytes(path.read_bytes() + b"c_en_3.mp3\tno split\n\xff\n")
    validated.write_bytes(validated.read_bytes().replace(b"Tested", b"\tTested"))
    items = list(covost2.read(options(), "test", 0))
    assert [(item.id, item.reason) for item in items if isinstance(item, corpora.Reject)] == [
        ("c_en_4", f"{validated} line 11: 12 columns, not 11"),
        ("c_en_3", f"{path} line 8: 2 columns, not 3"),
        ("line 9", f"{path} line 9: not UTF-8"),
    ]


def options() -> covost2.Options:
    return covost2.Options(common_voice="voices/en", tables="tables", source="en", target="de")


def test_a_table_of_one_split_goes_before_the_published_one(project: Path) -> None:
    whole()
    by_split()
    rows, rejects = run(german(), "train")
    assert [(row["id"], row["text"], row["translation"]) for row in rows] == [
        ("c_en_1", 'He said "no', {"de": 'Er sagte "nein'}),
        ("c_en_2", "Quoted", {"de": "Zitiert"}),
    ]
    assert [reject["id"] for reject in rejects] == ["c_en_404"]
    assert "not in this version of Common Voice" in rejects[0]["reason"]


def test_a_whole_table_that_says_the_sentences_needs_no_other(project: Path) -> None:
    by_split()
    path = Path("tables/covost_v2.en_de.train.tsv")
    head, *lines = path.read_text().splitlines()
    whole = [
        f"{head}\tsplit",
        *(f"{line}\t{split}" for line, split in zip(lines, ["dev", "train", "dev"], strict=True)),
    ]
    path.rename("tables/covost_v2.en_de.tsv").write_text("\n".join(whole))
    Path("voices/en/validated.tsv").unlink()
    rows, rejects = run(german(), "train")
    assert [(row["id"], row["text"], row["speaker"]) for row in rows] == [("c_en_2", "Quoted", "a" * 16)]
    assert not rejects


def test_where_no_clip_is_there_nothing_is_made(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole()
    shutil.rmtree("voices/en/clips")
    Path("voices/en/clips").mkdir()
    assert refused(german(), capsys) == "error: corpus mine/train has no usable row: 4 rejected, see above"
    assert not Path("build/test/data/mine/train").exists()


@pytest.mark.parametrize("make", [whole, by_split])
def test_an_edited_table_of_translations_is_noticed(project: Path, make: Any) -> None:
    make()
    chosen = german()
    before = key(chosen)
    (path,) = Path("tables").iterdir()
    path.write_bytes(path.read_bytes().replace(b"Niemand", b"Keiner"))
    edited = key(chosen)
    assert edited != before
    validated = Path("voices/en/validated.tsv")
    validated.write_bytes(validated.read_bytes().replace(b"Nobody", b"No one"))
    assert (key(chosen) != edited) == (make is whole), "only the published table is joined"


def test_size_and_parts_are_by_the_rows_of_the_split(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole()
    monkeypatch.setattr(covost2, "ROWS_PER_PART", 3)
    assert covost2.size(options(), "train") == (4, pytest.approx(4 * 1.5 / 3600))
    assert [covost2.parts(options(), split) for split in ("train", "dev")] == [2, 1]
    assert [item.id for item in covost2.read(options(), "train", 1)] == ["c_en_5"]


def test_chinese_is_called_as_covost_calls_it_and_as_everywhere_else(project: Path) -> None:
    whole()
    Path("tables/covost_v2.en_de.tsv").rename("tables/covost_v2.en_zh-CN.tsv")
    for target in ("zh", "zh-CN"):
        chosen = covost2.Options(common_voice="voices/en", tables="tables", source="en", target=target)
        item = next(covost2.read(chosen, "train", 0))
        assert isinstance(item, corpora.Utterance)
        assert list(item.translation) == ["zh"]


def test_tables_of_a_given_hash_are_fetched(project: Path) -> None:
    whole()
    content = Path("tables/covost_v2.en_de.tsv").read_bytes()
    Path("downloads/covost2").mkdir(parents=True)
    archive(path := Path("downloads/covost2/covost_v2.en_de.tsv.tar.gz"), {"covost_v2.en_de.tsv": content})
    chosen = german(tables=None, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    (published,) = corpora.archives(config.load(chosen).corpus("mine"), "train")
    assert published.urls == ("https://dl.fbaipublicfiles.com/covost/covost_v2.en_de.tsv.tar.gz",)
    assert fetch.main(["--config", chosen, "--kind", "covost2", "--archive", "en_de"]) == 0
    assert [row["id"] for row in run(chosen, "train")[0]] == ["c_en_1", "c_en_2"]
    with pytest.raises(_archives.ArchiveError, match="move it away"):
        download.fetch(replace(published, digest=f"sha256:{'0' * 64}"), [], path.parent)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"tables": None}, r"published without a hash: download https://dl\S+/covost_v2\.en_de\.tsv\.tar\.gz, unpack"),
        ({"tables": "voices"}, r"voices holds no covost_v2\.en_de\.tsv and no covost_v2\.en_de\.train\.tsv"),
        ({"common_voice": "gone"}, r"gone: no such folder.*language en in version 4 from.*set `common_voice` to"),
        ({"source": "de", "target": "fr"}, "from English or into English, not from de into fr"),
        ({"splits": ["trian"]}, "did you mean 'train'"),
        ({"tables": "voices/en/clips/.."}, r"holds no covost_v2"),
    ],
)
def test_what_covost_lacks_is_named(
    project: Path, capsys: pytest.CaptureFixture[str], entry: dict[str, Any], told: str
) -> None:
    whole()
    assert re.search(told, refused(german(**entry), capsys))


def test_a_published_table_that_lacks_a_column_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole()
    path = Path("tables/covost_v2.en_de.tsv")
    path.write_bytes(path.read_bytes().replace(b"translation", b"german", 1))
    assert f"{path} has no column 'translation'" in refused(german(), capsys)
