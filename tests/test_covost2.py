"""CoVoST 2, joined with a miniature of Common Voice: its published tables, those of one split, and what is missing."""

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from concertina import config, corpora
from concertina.corpora import _archives, covost2
from concertina.fetching import archive as fetch
from concertina.fetching import download
from helpers import common_voice_release
from helpers.common_voice_release import (
    ANNE,
    BERT,
    archive,
    configure,
    key,
    refused,
    run,
    table,
)

GERMAN = {"c_en_1": 'Er sagte \\"nein', "c_en_2": "Zitiert", "c_en_4": "Geprüft", "c_en_5": "Ungehört"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, with the default config and a language of Common Voice in voices/en."""
    common_voice_release.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
        ("c_en_404", "this version of Common Voice does not have the clip: c_en_404.mp3: no such file"),
        ("c_en_5", "this version of Common Voice does not have the clip: c_en_5 is not in validated.tsv"),
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
    return covost2.Options(common_voice="voices/en", tables="tables", source="en", target=["de"])


def test_a_table_of_one_split_goes_before_the_published_one(project: Path) -> None:
    whole()
    by_split()
    rows, rejects = run(german(), "train")
    assert [(row["id"], row["text"], row["translation"]) for row in rows] == [
        ("c_en_1", 'He said "no', {"de": 'Er sagte "nein'}),
        ("c_en_2", "Quoted", {"de": "Zitiert"}),
    ]
    assert [reject["id"] for reject in rejects] == ["c_en_404"]
    assert "this version of Common Voice does not have the clip" in rejects[0]["reason"]


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


def test_a_clip_with_two_translations_is_one_utterance(project: Path) -> None:
    whole()
    rows = [
        ["c_en_2.mp3", "引用", "train"],
        ["c_en_1.mp3", "他说不", "train"],
        ["c_en_4.mp3", "测试", "train"],
        ["c_en_3.mp3", "只有中文", "train"],
        ["c_en_5.mp3", "没有"],
    ]
    Path("tables/covost_v2.en_zh-CN.tsv").write_bytes(table(["path", "translation", "split"], rows))
    made, rejects = run(german(target=["de", "zh"]), "train")
    assert [(row["id"], row["translation"]) for row in made] == [
        ("c_en_1", {"de": 'Er sagte "nein', "zh": "他说不"}),
        ("c_en_2", {"de": "Zitiert", "zh": "引用"}),
    ]
    assert {reject["id"]: reject["reason"].partition(": ")[2] for reject in rejects} == {
        "c_en_404": "this version of Common Voice does not have the clip: c_en_404.mp3: no such file",
        "c_en_5": "2 columns, not 3",
        "c_en_4": "it is in split test, and of another target in train",
        "c_en_3": "it is in split dev, and of another target in train",
    }
    both = covost2.Options(common_voice="voices/en", tables="tables", source="en", target=["de", "zh"])
    assert list(covost2.ids(both, "train")) == [item.id for item in covost2.read(both, "train", 0)]


def test_where_no_clip_is_there_nothing_is_made(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole()
    shutil.rmtree("voices/en/clips")
    Path("voices/en/clips").mkdir()
    assert refused(german(), capsys) == "error: corpus mine/train has no usable row: 4 rejected, for the reasons above"
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
        chosen = covost2.Options(common_voice="voices/en", tables="tables", source="en", target=[target])
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
