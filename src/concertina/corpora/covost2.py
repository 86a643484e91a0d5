"""CoVoST 2: translations (CC0) of the sentences of Common Voice, from English and into English.

The clips are those of Common Voice version 4, which you download yourself (see common_voice.py), and give as
`common_voice`. Later versions lack some of them; rows without a clip are rejected.
The translations are published as tables such as covost_v2.en_de.tsv.tar.gz, without a hash, at
https://github.com/facebookresearch/covost. Either download and unpack them and give their folder as `tables`, or give
the archive's `sha256`, and it is downloaded. Two forms of table are read: the published one, whose sentences are looked
up in validated.tsv of Common Voice, and the tables that CoVoST's own script makes of it, such as
covost_v2.en_de.train.tsv. The splits train, dev and test are those of that script.
English clips are translated into several languages, each in a table of its own: with a list as `target` they are one
corpus, in which a clip is stored once with all its translations.
Source: Wang, Wu and Pino, arXiv 2007.10310, 2020.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple

from pydantic import Field, field_validator, model_validator

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
    sha256: the hash of the published archive, of a single target; source, target: languages, of which target may be a
    list; splits: those that are read.
    """

    common_voice: str
    tables: str | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    source: LanguageTag
    target: Annotated[list[LanguageTag], Field(min_length=1)]
    splits: list[Name] = Field(default_factory=lambda: list(LABELS))

    @field_validator("target", mode="before")
    @classmethod
    def _one_target(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _can_be_read(self) -> "Options":
        for split in self.splits:
            if split not in LABELS:
                raise ValueError(f"CoVoST 2 has no split {split!r}{nearest(split, list(LABELS))}")
        for target in self.target:
            if (self.source == "en") == (target == "en"):
                raise ValueError(f"CoVoST 2 is from English or into English, not from {self.source} into {target}")
        if bool(self.tables) == bool(self.sha256):
            raise ValueError(
                f"CoVoST 2 is published without a hash: download {self.urls}, unpack it and give the "
                "folder as `tables`; or give the archive's `sha256` instead, and it is downloaded"
            )
        if self.sha256 and len(self.target) > 1:
            raise ValueError(f"`sha256` is of one table, and there are several: download {self.urls}, give `tables`")
        return self

    def pair(self, target: str) -> str:
        """Return the languages as CoVoST writes them in names of files, such as 'en_zh-CN'."""
        return f"{CODES.get(self.source, self.source)}_{CODES.get(target, target)}"

    @property
    def urls(self) -> str:
        """The addresses of the published tables."""
        return " and ".join(f"{URL}/{published(self.pair(target))}.tar.gz" for target in self.target)


def published(pair: str) -> str:
    """Return the name of the published table of two languages."""
    return f"covost_v2.{pair}.tsv"


def splits(options: Options) -> list[str]:
    """Return the configured splits."""
    return list(options.splits)


def absent(options: Options) -> str | None:
    """Return which path of the config does not exist, and how to get it; None if all is there."""
    if not Path(options.common_voice, "clips").is_dir():
        remedy = how_to_get("4", CODES.get(options.source, options.source), "common_voice")
        return f"{options.common_voice}: no such folder, or no clips/ in it: {remedy}"
    if options.tables and not Path(options.tables).is_dir():
        return f"{options.tables}: no such folder: download {options.urls} and unpack it there"
    return None


def archives(options: Options, split: str) -> list[Archive]:
    """Return the archive of the published table, or nothing where a folder of tables is given."""
    if not options.sha256:
        return []
    pair = options.pair(options.target[0])
    file = f"{published(pair)}.tar.gz"
    return [Archive(pair, file, (f"{URL}/{file}",), f"sha256:{options.sha256}", LICENCE)]


def sources(options: Options) -> list[Path]:
    """Return the tables, and validated.tsv of Common Voice if sentences are looked up in it. Errors: ConfigError."""
    every = [table for split in options.splits for table in _tables(options, split).values()] if options.tables else []
    paths = list(dict.fromkeys(table.path for table in every))
    if every and all("sentence" in table.columns for table in every):
        return paths
    return [*paths, _validated(options).path]


def size(options: Options, split: str) -> Size | None:
    """Count the clips of the tables; None where they may not be downloaded yet."""
    return size_of(_release(options), _count(options, split)) if options.tables else None


def ids(options: Options, split: str) -> Iterator[str]:
    """Yield the names of a split's clips, in the order of `read`."""
    return (row.id for row in _rows(_tables(options, split), split))


def parts(options: Options, split: str) -> int:
    """Return the number of parts, of up to ROWS_PER_PART clips each."""
    return max(1, -(-_count(options, split) // ROWS_PER_PART))


def read(options: Options, split: str, part: int) -> Iterator[Utterance | Reject]:
    """Yield the clips of one part of a split: those of the first target's table in its order, then what others add."""
    tables, release = _tables(options, split), _release(options)
    clips = list(islice(_rows(tables, split), part * ROWS_PER_PART, (part + 1) * ROWS_PER_PART))
    others = _beside(tables, clips)
    sentences = {clip.id: clip.row for clip in clips if "sentence" in tables[clip.target].columns}
    sentences |= _sentences(options, [clip for clip in clips if clip.id not in sentences])
    for clip in clips:
        rows = [clip, *others.get(clip.id, [])]
        origin = f"{tables[clip.target].path} line {clip.row.line}"
        audio = release.clip(clip.id) if clip.id in sentences else f"{clip.id} is not in validated.tsv"
        wrong = next((reason for one in rows if (reason := _wrong(one, tables[one.target], split))), "")
        translation = {primary(one.target): one.row.fields["translation"].strip() for one in rows if not wrong}
        if wrong:
            yield Reject(clip.id, wrong)
        elif isinstance(audio, str):
            yield Reject(clip.id, f"{origin}: this version of Common Voice does not have the clip: {audio}")
        elif sentences[clip.id].wrong:
            yield Reject(
                clip.id, f"{_validated(options).path} line {sentences[clip.id].line}: {sentences[clip.id].wrong}"
            )
        elif not any(translation.values()):
            yield Reject(clip.id, f"{origin}: no translation")
        else:
            fields = sentences[clip.id].fields | clip.row.fields
            spoken = utterance(fields, clip.id, audio, options.source, origin)
            yield replace(spoken, translation={target: text for target, text in translation.items() if text})


class _Clip(NamedTuple):
    """A row of the table of a target; `id`: its clip, or its line if its path is no name of a clip."""

    id: str
    target: str
    row: Row


def _rows(tables: dict[str, Table], split: str) -> Iterator[_Clip]:
    """Yield the rows of a split in the first table, then those of every further one whose clip no earlier one has.

    Rows that cannot be read belong to every split, so that each rejects them.
    """
    seen: set[str] = set()
    for number, (target, table) in enumerate(tables.items()):
        here = set()
        for row in table.rows():
            if "split" in table.columns and not row.wrong and row.fields["split"] not in LABELS[split]:
                continue
            id = clip_id(row) or f"line {row.line}" + (f" of {target}" if number else "")
            if id not in seen:
                here.add(id)
                yield _Clip(id, target, row)
        seen |= here


def _beside(tables: dict[str, Table], clips: Sequence[_Clip]) -> dict[str, list[_Clip]]:
    """Return the rows of some clips in the other targets' tables, whatever their split, by clip."""
    beside: dict[str, list[_Clip]] = {}
    if len(tables) > 1:
        target_of = {clip.id: clip.target for clip in clips}
        for target, table in tables.items():
            for row in table.rows():
                if target_of.get(id := clip_id(row), target) != target:
                    beside.setdefault(id, []).append(_Clip(id, target, row))
    return beside


def _wrong(clip: _Clip, table: Table, split: str) -> str:
    """Return why a row cannot be used in a split, or ''."""
    row, origin = clip.row, f"{table.path} line {clip.row.line}"
    if row.wrong or not clip_id(row):
        return f"{origin}: {row.wrong or 'its path is no name of a clip'}"
    if "split" in table.columns and row.fields["split"] not in LABELS[split]:
        return f"{origin}: it is in split {row.fields['split']}, and of another target in {split}"
    return ""


def _sentences(options: Options, clips: Sequence[_Clip]) -> dict[str, Row]:
    """Look up some clips in validated.tsv: its rows by clip, the first where a clip has several."""
    wanted, by_clip = {clip.id for clip in clips}, dict[str, Row]()
    for row in _validated(options).rows() if wanted else ():
        if (id := clip_id(row)) in wanted:
            by_clip.setdefault(id, row)
    return by_clip


def _count(options: Options, split: str) -> int:
    return sum(1 for _ in _rows(_tables(options, split), split))


def _release(options: Options) -> Release:
    return Release(Files(Path(options.common_voice), sealed=False))


def _validated(options: Options) -> Table:
    return _release(options).table("validated", "client_id", "path", "sentence")


def _tables(options: Options, split: str) -> dict[str, Table]:
    """Open the table of every target, as `_table` does."""
    return {target: _table(options, split, options.pair(target)) for target in options.target}


def _table(options: Options, split: str, pair: str) -> Table:
    """Open the table of a split, or the published one of all splits. Errors: ConfigError (no table), DamagedError."""
    folder = Path(options.tables) if options.tables else folders.archive("covost2", pair)
    files = Files(folder, sealed=not options.tables)
    of_split, of_all = f"covost_v2.{pair}.{split}.tsv", published(pair)
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
