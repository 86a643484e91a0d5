"""Mozilla Common Voice: sentences read aloud by volunteers in many languages (CC0), which you download yourself.

Get it from https://commonvoice.mozilla.org/datasets: choose language and version, accept the terms. Then name here
either the .tar.gz, as `archive`, or what you unpacked of it, as `folder`: the one that holds clips/ and train.tsv.
Splits are the official ones: train, dev, test, and also validated (of which these three are parts) and other (not
judged by enough listeners).
An archive is unpacked once into downloads/common_voice/, each file of it is verified as it is read, and it is to stay
where it is; its splits are read by one job each, those of a folder, where they are long, by several. For a language of
a million clips give a `folder`: to verify so many takes each reading process about 1 GB of memory.
Source: Ardila and others, LREC 2020.
"""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple

from pydantic import Field, model_validator

from concertina.config import ConfigError, Name, Section
from concertina.corpora import Reject, Size, Utterance
from concertina.corpora._archives import Archive, Files
from concertina.corpora._tables import Row, Table
from concertina.nearest import nearest
from concertina.store import folders

OFFICIAL = ("train", "dev", "test")
SPLITS = (*OFFICIAL, "validated", "other")
LICENCE = "CC0 1.0, with Mozilla's terms for Common Voice, https://commonvoice.mozilla.org/terms"
WHERE = "https://commonvoice.mozilla.org/datasets"
ROWS_PER_PART = 1000
CLIP_S = 5.6  # a clip's length, about
PROBED = 10_000  # clips whose mean length is taken for that of all
TAGS = {"gender": ("gender",), "age": ("age",), "accents": ("accents", "accent")}  # and the columns that say them

LanguageTag = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]+)*$")]


class Options(Section):
    """folder: a language, unpacked; archive: its .tar.gz; version and language: as Mozilla writes them."""

    version: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)*$")] = "15.0"
    language: LanguageTag
    folder: str | None = None
    archive: str | None = None
    splits: list[Name] = Field(default_factory=lambda: list(OFFICIAL))

    @model_validator(mode="after")
    def _can_be_read(self) -> "Options":
        for split in self.splits:
            if split not in SPLITS:
                raise ValueError(f"Common Voice has no split {split!r}{nearest(split, SPLITS)}")
        if self.folder and self.archive:
            raise ValueError("`folder` and `archive` are both given; one of them is read")
        if not self.folder and not self.archive:
            raise ValueError(f"Common Voice is not fetched by itself: {self.how_to_get}")
        _check_names(self, str(self.folder))
        return self

    @property
    def how_to_get(self) -> str:
        """What a user does who does not have it."""
        return how_to_get(self.version, self.language, "folder") + ", or `archive` to the .tar.gz"


def how_to_get(version: str, language: str, option: str) -> str:
    """What a user does who does not have a language of Common Voice; `option`: the key that names its folder."""
    return (
        f"download language {language} in version {version} from {WHERE}, where you accept the terms, and set "
        f"`{option}` to the unpacked language folder, which holds clips/ and train.tsv"
    )


class Release(NamedTuple):
    """One language of one version, unpacked; `root`: where in the folder it lies, such as 'cv-corpus-15.0/en/'."""

    files: Files
    root: str = ""

    def table(self, name: str, *needed: str) -> Table:
        """One of its tables, such as 'train'. Errors: ConfigError where it is not there, DamagedError."""
        if not (path := self.files.folder / f"{self.root}{name}.tsv").is_file():
            raise ConfigError(f"{path}: no such file; {path.parent} is no whole language of Common Voice")
        return Table(self.files.verified(f"{self.root}{name}.tsv"), needed)

    def clip(self, id: str) -> bytes | None:
        """What a clip's file holds; None where there is none. Errors: DamagedError, OSError."""
        try:
            return self.files.read(f"{self.root}clips/{id}.mp3")
        except FileNotFoundError:
            return None


def splits(options: Options) -> list[str]:
    return list(options.splits)


def absent(options: Options) -> str | None:
    """What is not where the config says."""
    if options.archive and not Path(options.archive).is_file():
        return f"{options.archive}: no such archive: {options.how_to_get}"
    if options.folder and not Path(options.folder, "clips").is_dir():
        return f"{options.folder}: no such folder, or no clips/ in it: {options.how_to_get}"
    return None


def archives(options: Options, split: str) -> list[Archive]:
    """The archive that the user has; none where a folder is given, or where it is not there."""
    if not options.archive or absent(options):
        return []
    path = Path(options.archive)
    return [Archive(f"{options.version}-{options.language}", path.name, (), "", LICENCE, path.stat().st_size, path)]


def sources(options: Options) -> list[Path]:
    """The archive, or a folder's tables: its clips are not read for the plan, they do not change."""
    if options.archive:
        return [Path(options.archive)]
    return [Path(str(options.folder), f"{split}.tsv") for split in options.splits]


def size(options: Options, split: str) -> Size | None:
    """By the rows of a folder's table; None for an archive, which may not be unpacked yet."""
    return size_of(release(options), release(options).table(split).count()) if options.folder else None


def size_of(chosen: Release, clips: int) -> Size:
    """How much speech so many clips are, by the mean of the first that clip_durations.tsv names, where it is there."""
    told = [CLIP_S]
    if (path := chosen.files.folder / f"{chosen.root}clip_durations.tsv").is_file():
        table = Table(path, ())
        column = next((name for name in table.columns if name.startswith("duration")), "")
        values = [row.fields.get(column, "") for row in islice(table.rows(), PROBED)]
        told = [int(value) / 1000 for value in values if value.isdecimal()] or told
    return Size(clips, clips * sum(told) / len(told) / 3600)


def parts(options: Options, split: str) -> int:
    return max(1, -(-release(options).table(split).count() // ROWS_PER_PART))


def read(options: Options, split: str, part: int) -> Iterator[Utterance | Reject]:
    """The rows of one part of a split, as its table lists them."""
    chosen = release(options)
    table = chosen.table(split, "client_id", "path", "sentence")
    for row in islice(table.rows(), part * ROWS_PER_PART, (part + 1) * ROWS_PER_PART):
        origin = f"{table.path} line {row.line}"
        id = clip_id(row)
        if row.wrong or not id:
            yield Reject(id or f"line {row.line}", f"{origin}: {row.wrong or 'its path names no clip'}")
        elif (audio := chosen.clip(id)) is None:
            yield Reject(id, f"{origin}: there is no clip {id}.mp3")
        else:
            yield utterance(row.fields, id, audio, options.language, origin)


def release(options: Options) -> Release:
    """What is read. Errors: ConfigError where an archive holds no language, DamagedError."""
    if options.folder:
        return Release(Files(Path(options.folder), sealed=False))
    files = Files(folders.archive("common_voice", f"{options.version}-{options.language}"), sealed=True)
    tables = (name for name in files.names if PurePosixPath(name).name in {f"{split}.tsv" for split in SPLITS})
    if (first := next(tables, None)) is None:
        raise ConfigError(f"{options.archive} is no archive of Common Voice: it holds no train.tsv")
    _check_names(options, str(PurePosixPath(first).parent))
    return Release(files, first.removesuffix(PurePosixPath(first).name))


def _check_names(options: Options, folder: str) -> None:
    """See that a folder which tells version and language tells those of the options. Errors: ConfigError."""
    told = re.search(r"(?:^|/)cv-corpus-([0-9]+(?:\.[0-9]+)*)-[^/]*/([^/]+)/?$", folder)
    if told and (told[1].removesuffix(".0"), told[2]) != (options.version.removesuffix(".0"), options.language):
        raise ConfigError(
            f"{folder} is language {told[2]} in version {told[1]}; the config says `language` {options.language} and "
            f"`version` {options.version}"
        )


def clip_id(row: Row) -> str:
    """The name of a row's clip, without folder and suffix; empty where the row has none that a file can have."""
    name = PurePosixPath(row.fields.get("path", "")).name
    return name.removesuffix(".mp3") if re.fullmatch(r"[\w.-]{1,200}", name) else ""


def utterance(fields: dict[str, str], id: str, audio: bytes, language: str, origin: str) -> Utterance:
    """A row of one of the tables, and its clip."""
    said = {tag: next((fields[name] for name in names if fields.get(name)), "") for tag, names in TAGS.items()}
    return Utterance(
        id=id,
        audio=audio,
        rate_hz=0,
        text=fields["sentence"],
        language=primary(language),
        speaker=fields.get("client_id", "")[:16] or None,
        tags={tag: value for tag, value in said.items() if value},
        origin=origin,
    )


def primary(language: str) -> str:
    """'zh-CN' -> 'zh': what the rest of the project calls a language."""
    return language.partition("-")[0]
