"""CoVoST 2: translations (CC0) of the sentences of Common Voice, from English and into English.

The clips are those of Common Voice version 4, which you download yourself (see common_voice.py), and give as
`common_voice`. Later versions lack some of them; rows without a clip are rejected.
The translations are published as tables such as covost_v2.en_de.tsv.tar.gz, without a hash, at
https://github.com/facebookresearch/covost. Either download and unpack one and give its folder as `tables`, or give the
archive's `sha256`, and it is downloaded. Two forms of table are read: the published one, whose sentences are looked up
in validated.tsv of Common Voice, and the tables that CoVoST's own script makes of it, such as
covost_v2.en_de.train.tsv. The splits train, dev and test are those of that script.
Source: Wang, Wu and Pino, arXiv 2007.10310, 2020.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field, model_validator

from concertina.config import ConfigError, Name, Section
from concertina.corpora import Reject, Size, Utterance
from concertina.corpora._archives import Archive, Files
from concertina.corpora._tsv import Row, Table
from concertina.corpora.common_voice import LanguageTag, Release, clip_id, how_to_get, primary, size_of, utterance
from concertina.nearest import nearest
from concertina.store import folders

LABELS = {"train": ("train", "train_covost"), "dev": ("dev",), "test": ("test",)}  # of splits, in the published tables
CODES = {"zh": "zh-CN", "sv": "sv-SE"}  # languages for which CoVoST has another code
URL = "https://dl.fbaipublicfiles.com/covost"
LICENCE = "CC0 1.0, Changhan Wang and others, https://github.com/facebookresearch/covost"
ROWS_PER_PART = 1000


class Options(Section):
    """The config keys of this kind of corpus.

    common_voice: the unpacked language folder of Common Voice; tables: the folder of the tables, or instead
    sha256: the hash of the published archive; source, target: languages; splits: those that are read.
    """

    common_voice: str
    tables: str | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    source: LanguageTag
    target: LanguageTag
    splits: list[Name] = Field(default_factory=lambda: list(LABELS))

    @model_validator(mode="after")
    def _can_be_read(self) -> "Options":
        for split in self.splits:
            if split not in LABELS:
                raise ValueError(f"CoVoST 2 has no split {split!r}{nearest(split, list(LABELS))}")
        if (self.source == "en") == (self.target == "en"):
            raise ValueError(f"CoVoST 2 is from English or into English, not from {self.source} into {self.target}")
        if bool(self.tables) == bool(self.sha256):
            raise ValueError(
                f"CoVoST 2 is published without a hash: download {URL}/{self.file}.tar.gz, unpack it and give the "
                "folder as `tables`; or give the archive's `sha256` instead, and it is downloaded"
            )
        return self

    @property
    def pair(self) -> str:
        """The languages as CoVoST writes them in names of files, such as 'en_zh-CN'."""
        return f"{CODES.get(self.source, self.source)}_{CODES.get(self.target, self.target)}"

    @property
    def file(self) -> str:
        """The name of the published table."""
        return f"covost_v2.{self.pair}.tsv"


def splits(options: Options) -> list[str]:
    """Return the configured splits."""
    return list(options.splits)


def absent(options: Options) -> str | None:
    """Return which path of the config does not exist, and how to get it; None if all is there."""
    if not Path(options.common_voice, "clips").is_dir():
        remedy = how_to_get("4", CODES.get(options.source, options.source), "common_voice")
        return f"{options.common_voice}: no such folder, or no clips/ in it: {remedy}"
    if options.tables and not Path(options.tables).is_dir():
        return f"{options.tables}: no such folder: download {URL}/{options.file}.tar.gz and unpack it there"
    return None


def archives(options: Options, split: str) -> list[Archive]:
    """Return the archive of the published table, or nothing where a folder of tables is given."""
    if not options.sha256:
        return []
    file = f"{options.file}.tar.gz"
    return [Archive(options.pair, file, (f"{URL}/{file}",), f"sha256:{options.sha256}", LICENCE)]


def sources(options: Options) -> list[Path]:
    """Return the tables, and validated.tsv of Common Voice if sentences are looked up in it. Errors: ConfigError."""
    tables = [_table(options, split) for split in options.splits] if options.tables else []
    paths = list(dict.fromkeys(table.path for table in tables))
    if tables and all("sentence" in table.columns for table in tables):
        return paths
    return [*paths, _validated(options).path]


def size(options: Options, split: str) -> Size | None:
    """Count the rows of the table; None where it may not be downloaded yet."""
    return size_of(_clips(options), _count(options, split)) if options.tables else None


def parts(options: Options, split: str) -> int:
    """Return the number of parts, of up to ROWS_PER_PART rows each."""
    return max(1, -(-_count(options, split) // ROWS_PER_PART))


def read(options: Options, split: str, part: int) -> Iterator[Utterance | Reject]:
    """Yield the rows of one part of a split, in the order of the table."""
    table, clips = _table(options, split), _clips(options)
    rows = list(islice(_rows(table, split), part * ROWS_PER_PART, (part + 1) * ROWS_PER_PART))
    sentences = _sentences(options, rows) if "sentence" not in table.columns else {clip_id(row): row for row in rows}
    for row in rows:
        origin = f"{table.path} line {row.line}"
        id = clip_id(row)
        audio = clips.clip(id) if id in sentences else f"{id} is not in validated.tsv"
        if row.wrong or not id:
            yield Reject(id or f"line {row.line}", f"{origin}: {row.wrong or 'its path is no name of a clip'}")
        elif isinstance(audio, str):
            yield Reject(id, f"{origin}: this version of Common Voice does not have the clip: {audio}")
        elif sentences[id].wrong:
            yield Reject(id, f"{_validated(options).path} line {sentences[id].line}: {sentences[id].wrong}")
        elif not (translation := row.fields["translation"].strip()):
            yield Reject(id, f"{origin}: no translation")
        else:
            yield _translated(options, sentences[id].fields | row.fields, id, audio, translation, origin)


def _translated(
    options: Options, fields: dict[str, str], id: str, audio: bytes, translation: str, origin: str
) -> Utterance:
    """Make an utterance of a row and its clip, with the translation."""
    untranslated = utterance(fields, id, audio, options.source, origin)
    return replace(untranslated, translation={primary(options.target): translation})


def _sentences(options: Options, rows: list[Row]) -> dict[str, Row]:
    """Look up the clips of some rows in validated.tsv: its rows by clip, the first where a clip has several."""
    wanted, by_clip = {clip_id(row) for row in rows}, dict[str, Row]()
    for row in _validated(options).rows():
        if (id := clip_id(row)) in wanted:
            by_clip.setdefault(id, row)
    return by_clip


def _rows(table: Table, split: str) -> Iterator[Row]:
    """Yield the rows of a split. Rows that cannot be read belong to every split, so that each rejects them."""
    has_all_splits = "split" in table.columns
    return (row for row in table.rows() if not has_all_splits or row.wrong or row.fields["split"] in LABELS[split])


def _count(options: Options, split: str) -> int:
    return sum(1 for _ in _rows(_table(options, split), split))


def _clips(options: Options) -> Release:
    return Release(Files(Path(options.common_voice), sealed=False))


def _validated(options: Options) -> Table:
    return _clips(options).table("validated", "client_id", "path", "sentence")


def _table(options: Options, split: str) -> Table:
    """Open the table of a split, or the published one of all splits. Errors: ConfigError (no table), DamagedError."""
    folder = Path(options.tables) if options.tables else folders.archive("covost2", options.pair)
    files = Files(folder, sealed=not options.tables)
    of_split, of_all = f"covost_v2.{options.pair}.{split}.tsv", options.file
    if options.tables:
        names = [name for name in (of_split, of_all) if (files.folder / name).is_file()]
    else:
        names = [name for name in files.names if PurePosixPath(name).name == of_all]
    if not names:
        raise ConfigError(f"{files.folder} holds no {of_all} and no {of_split}; correct covost2's `tables`")
    if names[0] == of_split:
        needed: tuple[str, ...] = ("path", "sentence", "translation", "client_id")
    else:
        needed = ("path", "translation", "split")
    return Table(files.verified(names[0]), needed, escaped=True)
