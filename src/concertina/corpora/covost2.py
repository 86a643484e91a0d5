"""CoVoST 2: translations (CC0) of what is said in Common Voice, from English and into English.

The clips are those of Common Voice's validated.tsv, version 4, which you download (see common_voice.py); a later
version lacks some, and these are rejected. The tables are published as covost_v2.en_de.tsv.tar.gz and so on at
https://github.com/facebookresearch/covost, without a hash: unpack one into a folder of your own and name that as
`tables`, or give the archive's `sha256`, and it is fetched. Both forms are read: the published table, whose sentences
are looked up in validated.tsv, and what CoVoST's own script makes of it, covost_v2.en_de.train.tsv and so on.
Splits are train, dev and test, each as that script chooses it.
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
from concertina.corpora._tables import Row, Table
from concertina.corpora.common_voice import LanguageTag, Release, clip_id, how_to_get, primary, size_of, utterance
from concertina.nearest import nearest
from concertina.store import folders

LABELS = {"train": ("train", "train_covost"), "dev": ("dev",), "test": ("test",)}  # in the published tables
CODES = {"zh": "zh-CN", "sv": "sv-SE"}  # of languages that CoVoST calls otherwise
URL = "https://dl.fbaipublicfiles.com/covost"
LICENCE = "CC0 1.0, Changhan Wang and others, https://github.com/facebookresearch/covost"
ROWS_PER_PART = 1000


class Options(Section):
    """common_voice: a language of it, unpacked; tables: the folder of the tables; else sha256: of the archive."""

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
                f"CoVoST 2 is published without a hash: download {URL}/{self.file}.tar.gz, unpack it into a folder and "
                "name that as `tables`; or give the archive's `sha256` instead, and it is fetched"
            )
        return self

    @property
    def pair(self) -> str:
        """Such as 'en_zh-CN'."""
        return f"{CODES.get(self.source, self.source)}_{CODES.get(self.target, self.target)}"

    @property
    def file(self) -> str:
        """The published table."""
        return f"covost_v2.{self.pair}.tsv"


def splits(options: Options) -> list[str]:
    return list(options.splits)


def absent(options: Options) -> str | None:
    """The Common Voice, or the tables, that are not where the config says."""
    if not Path(options.common_voice, "clips").is_dir():
        told = how_to_get("4", CODES.get(options.source, options.source), "common_voice")
        return f"{options.common_voice}: no such folder, or no clips/ in it: {told}"
    if options.tables and not Path(options.tables).is_dir():
        return f"{options.tables}: no such folder: download {URL}/{options.file}.tar.gz and unpack it there"
    return None


def archives(options: Options, split: str) -> list[Archive]:
    """The published table; none where a folder of tables is given."""
    if not options.sha256:
        return []
    file = f"{options.file}.tar.gz"
    return [Archive(options.pair, file, (f"{URL}/{file}",), f"sha256:{options.sha256}", LICENCE)]


def sources(options: Options) -> list[Path]:
    """The tables, and Common Voice's own where sentences are looked up in it. Errors: ConfigError."""
    tables = [_table(options, split) for split in options.splits] if options.tables else []
    alone = bool(tables) and all("sentence" in table.columns for table in tables)
    return list(dict.fromkeys(table.path for table in tables)) + ([] if alone else [_validated(options).path])


def size(options: Options, split: str) -> Size | None:
    """By the rows of the table; None where that may not be fetched yet."""
    return size_of(_clips(options), _count(options, split)) if options.tables else None


def parts(options: Options, split: str) -> int:
    return max(1, -(-_count(options, split) // ROWS_PER_PART))


def read(options: Options, split: str, part: int) -> Iterator[Utterance | Reject]:
    """The rows of one part of a split, as the table lists them."""
    table, clips = _table(options, split), _clips(options)
    rows = list(islice(_rows(table, split), part * ROWS_PER_PART, (part + 1) * ROWS_PER_PART))
    said = _sentences(options, rows) if "sentence" not in table.columns else {clip_id(row): row for row in rows}
    for row in rows:
        origin = f"{table.path} line {row.line}"
        id = clip_id(row)
        audio = clips.clip(id) if id in said else None
        if row.wrong or not id:
            yield Reject(id or f"line {row.line}", f"{origin}: {row.wrong or 'its path names no clip'}")
        elif audio is None:
            yield Reject(id, f"{origin}: not in this version of Common Voice")
        elif said[id].wrong:
            yield Reject(id, f"{_validated(options).path} line {said[id].line}: {said[id].wrong}")
        elif not (translation := row.fields["translation"].strip()):
            yield Reject(id, f"{origin}: no translation")
        else:
            yield _translated(options, said[id].fields | row.fields, id, audio, translation, origin)


def _translated(
    options: Options, fields: dict[str, str], id: str, audio: bytes, translation: str, origin: str
) -> Utterance:
    chosen = utterance(fields, id, audio, options.source, origin)
    return replace(chosen, translation={primary(options.target): translation})


def _sentences(options: Options, rows: list[Row]) -> dict[str, Row]:
    """What Common Voice says of the clips of some rows, by clip."""
    wanted, found = {clip_id(row) for row in rows}, dict[str, Row]()
    for row in _validated(options).rows():
        if (id := clip_id(row)) in wanted:
            found.setdefault(id, row)
    return found


def _rows(table: Table, split: str) -> Iterator[Row]:
    """The rows of a split, and those of which it cannot be told."""
    whole = "split" in table.columns
    return (row for row in table.rows() if not whole or row.wrong or row.fields["split"] in LABELS[split])


def _count(options: Options, split: str) -> int:
    return sum(1 for _ in _rows(_table(options, split), split))


def _clips(options: Options) -> Release:
    return Release(Files(Path(options.common_voice), sealed=False))


def _validated(options: Options) -> Table:
    return _clips(options).table("validated", "client_id", "path", "sentence")


def _table(options: Options, split: str) -> Table:
    """The table of a split, or the published one of all. Errors: ConfigError where there is none, DamagedError."""
    folder = Path(options.tables) if options.tables else folders.archive("covost2", options.pair)
    files = Files(folder, sealed=not options.tables)
    alone, whole = f"covost_v2.{options.pair}.{split}.tsv", options.file
    if options.tables:
        names = [name for name in (alone, whole) if (files.folder / name).is_file()]
    else:
        names = [name for name in files.names if PurePosixPath(name).name == whole]
    if not names:
        raise ConfigError(f"{files.folder} holds no {whole} and no {alone}, which covost2's `tables` names")
    of_split = names[0] == alone
    needed = ("path", "sentence", "translation", "client_id") if of_split else ("path", "translation", "split")
    return Table(files.verified(names[0]), needed, escaped=True)
