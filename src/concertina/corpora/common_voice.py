"""Mozilla Common Voice: sentences read aloud by volunteers in many languages (CC0), which you download yourself.

Choose a language and a version on https://commonvoice.mozilla.org/datasets and accept the terms. Then set one of:

  archive  the .tar.gz. It is unpacked once into downloads/common_voice/ and must stay where it is. Every file is
           verified when it is read, and each split is read by one job.
  folder   the unpacked language folder, which holds clips/ and train.tsv. Nothing is verified, and a long split is
           read by several jobs. Use this for a language of a million clips: to verify that many takes about 1 GB of
           memory in every reading process.

The splits are the official ones: train, dev and test; also validated, which contains these three, and other, which
too few listeners have judged.
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
from concertina.corpora._tsv import Row, Table
from concertina.nearest import nearest
from concertina.store import folders

OFFICIAL = ("train", "dev", "test")
SPLITS = (*OFFICIAL, "validated", "other")
LICENCE = "CC0 1.0, with Mozilla's terms for Common Voice, https://commonvoice.mozilla.org/terms"
WHERE = "https://commonvoice.mozilla.org/datasets"
ROWS_PER_PART = 1000
CLIP_S = 5.6  # the mean length of a clip where no table of lengths is there, about
LONGEST_CLIP_S = 60.0  # in that table; a longer one is a mistake there
PROBED = 10_000  # clips from whose lengths the mean is taken
TAGS = {"gender": ("gender",), "age": ("age",), "accents": ("accents", "accent")}  # by tag, its column in any version

LanguageTag = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]+)*$")]


class Options(Section):
    """The config keys of this kind of corpus.

    version, language: as Mozilla writes them; folder: the unpacked language folder; archive: the .tar.gz instead;
    splits: those that are read.
    """

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
            raise ValueError("`folder` and `archive` are both given; remove one of them")
        if not self.folder and not self.archive:
            raise ValueError(f"Common Voice cannot be downloaded automatically: {self.how_to_get}")
        _check_names(self, str(self.folder))
        return self

    @property
    def how_to_get(self) -> str:
        """What a user who does not have this corpus must do."""
        return how_to_get(self.version, self.language, "folder") + ", or `archive` to the .tar.gz"


def how_to_get(version: str, language: str, option: str) -> str:
    """Explain how to get a language of Common Voice. `option`: the config key that must then name its folder."""
    return (
        f"download language {language} in version {version} from {WHERE}, where you accept the terms, and set "
        f"`{option}` to the unpacked language folder, which holds clips/ and train.tsv"
    )


class Release(NamedTuple):
    """An unpacked language of a version; `root`: its path below the folder of `files`, such as 'cv-corpus-15.0/en/'."""

    files: Files
    root: str = ""

    def table(self, name: str, *needed: str) -> Table:
        """Open a table, such as 'train', that must have the `needed` columns. Errors: ConfigError, DamagedError."""
        if not (path := self.files.folder / f"{self.root}{name}.tsv").is_file():
            raise ConfigError(f"{path}: no such file; {path.parent} is no complete language folder of Common Voice")
        return Table(self.files.verified(f"{self.root}{name}.tsv"), needed)

    def clip(self, id: str) -> bytes | str:
        """Return the content of a clip's file, or why it cannot be read. Errors: DamagedError."""
        try:
            return self.files.read(f"{self.root}clips/{id}.mp3")
        except OSError as error:
            return f"{id}.mp3: {'no such file' if isinstance(error, FileNotFoundError) else error.strerror or error}"


def splits(options: Options) -> list[str]:
    """Return the configured splits."""
    return list(options.splits)


def absent(options: Options) -> str | None:
    """Return which path of the config does not exist, and how to get it; None if all is there."""
    if options.archive and not Path(options.archive).is_file():
        return f"{options.archive}: no such archive: {options.how_to_get}"
    if options.folder and not Path(options.folder, "clips").is_dir():
        return f"{options.folder}: no such folder, or no clips/ in it: {options.how_to_get}"
    return None


def archives(options: Options, split: str) -> list[Archive]:
    """Return the user's archive, or nothing where a folder is given or the archive is missing."""
    if not options.archive or absent(options):
        return []
    path = Path(options.archive)
    return [Archive(f"{options.version}-{options.language}", path.name, (), "", LICENCE, path.stat().st_size, path)]


def sources(options: Options) -> list[Path]:
    """Return the archive, or the tables of a folder.

    A change of a folder's clips is not noticed: to hash them all would take minutes before every run.
    """
    if options.archive:
        return [Path(options.archive)]
    return [Path(str(options.folder), f"{split}.tsv") for split in options.splits]


def size(options: Options, split: str) -> Size | None:
    """Count the rows of a folder's table; None for an archive, which may not be unpacked yet."""
    return size_of(release(options), release(options).table(split).count()) if options.folder else None


def size_of(source: Release, clips: int) -> Size:
    """Estimate how much speech a number of clips is, from the mean length of the first clips in clip_durations.tsv.

    Early versions have no such table; then CLIP_S is used.
    """
    lengths_s = [CLIP_S]
    if (path := source.files.folder / f"{source.root}clip_durations.tsv").is_file():
        table = Table(path, ())
        column = next((name for name in table.columns if name.startswith("duration")), "")
        values = [row.fields.get(column, "") for row in islice(table.rows(), PROBED)]
        stated_s = [min(int(value[:9]) / 1000, LONGEST_CLIP_S) for value in values if value.isdecimal()]
        lengths_s = stated_s or lengths_s
    return Size(clips, clips * sum(lengths_s) / len(lengths_s) / 3600)


def ids(options: Options, split: str) -> Iterator[str]:
    """Yield the names of a split's clips, in the order of its table."""
    return map(row_id, release(options).table(split, "client_id", "path", "sentence").rows())


def parts(options: Options, split: str) -> int:
    """Return the number of parts, of up to ROWS_PER_PART rows each."""
    return max(1, -(-release(options).table(split).count() // ROWS_PER_PART))


def read(options: Options, split: str, part: int) -> Iterator[Utterance | Reject]:
    """Yield the rows of one part of a split, in the order of its table."""
    source = release(options)
    table = source.table(split, "client_id", "path", "sentence")
    for row in islice(table.rows(), part * ROWS_PER_PART, (part + 1) * ROWS_PER_PART):
        origin = f"{table.path} line {row.line}"
        id = row_id(row)
        if row.wrong or not clip_id(row):
            yield Reject(id, f"{origin}: {row.wrong or 'its path is no name of a clip'}")
        elif isinstance(audio := source.clip(id), str):
            yield Reject(id, f"{origin}: the clip {audio}")
        else:
            yield utterance(row.fields, id, audio, options.language, origin)


def release(options: Options) -> Release:
    """Return the language that the options name. Errors: ConfigError (an archive without a language), DamagedError."""
    if options.folder:
        return Release(Files(Path(options.folder), sealed=False))
    files = Files(folders.archive("common_voice", f"{options.version}-{options.language}"), sealed=True)
    tables = (name for name in files.names if PurePosixPath(name).name in {f"{split}.tsv" for split in SPLITS})
    if (first := next(tables, None)) is None:
        raise ConfigError(f"{options.archive} is no archive of Common Voice: it holds no train.tsv")
    _check_names(options, str(PurePosixPath(first).parent))
    return Release(files, first.removesuffix(PurePosixPath(first).name))


def _check_names(options: Options, folder: str) -> None:
    """Check that a folder whose name contains version and language agrees with the options. Errors: ConfigError."""
    names = re.search(r"(?:^|/)cv-corpus-([0-9]+(?:\.[0-9]+)*)-[^/]*/([^/]+)/?$", folder)
    if names and (names[1].removesuffix(".0"), names[2]) != (options.version.removesuffix(".0"), options.language):
        raise ConfigError(
            f"{folder} is language {names[2]} in version {names[1]}; the config has `language` {options.language} and "
            f"`version` {options.version}: correct one of them"
        )


def clip_id(row: Row) -> str:
    """Return the name of a row's clip without folder and suffix, or '' if its path is no plain file name."""
    name = PurePosixPath(row.fields.get("path", "")).name
    return name.removesuffix(".mp3") if re.fullmatch(r"[\w.-]{1,200}", name) else ""


def row_id(row: Row) -> str:
    """Return the id of a row: the name of its clip, or its line number if its path is no plain file name."""
    return clip_id(row) or f"line {row.line}"


def utterance(fields: dict[str, str], id: str, audio: bytes, language: str, origin: str) -> Utterance:
    """Make an utterance of a row of one of the tables and its clip."""
    tags = {tag: next((fields[name] for name in names if fields.get(name)), "") for tag, names in TAGS.items()}
    return Utterance(
        id=id,
        audio=audio,
        rate_hz=0,
        text=fields["sentence"],
        language=primary(language),
        speaker=fields.get("client_id", "")[:16] or None,
        tags={tag: value for tag, value in tags.items() if value},
        origin=origin,
    )


def primary(language: str) -> str:
    """Return the language code without a region, as the rest of the project writes it: 'zh-CN' -> 'zh'."""
    return language.partition("-")[0]
