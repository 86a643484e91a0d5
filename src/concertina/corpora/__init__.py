"""The corpora: one file each, found by its name; what such a file has to offer is said here.

class Options(Section)                  its own config keys (optional)
def splits(options) -> list[str]        the names of its splits
def parts(options, split) -> int        how many parts a split is read in, side by side (optional: 1)
def read(options, split, part) -> Iterator[Utterance | Reject]      called in a fresh process for each part
def size(options, split) -> Size        how much speech it holds: over how many jobs it is scattered (optional: one)
def archives(options, split) -> list[Archive]   published files that a split is read from, fetched before (optional)
def sources(options) -> list[Path]      files outside the repository whose content decides the corpus (optional)
def absent(options) -> str | None       how to get what a user has to bring and has not, yet (optional)
synthetic = True                        where a machine speaks, which a report then says (optional)
"""

import ast
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from concertina.config import Config, ConfigError, Corpus, Section
from concertina.corpora._archives import Archive
from concertina.nearest import nearest

FOLDER = Path(__file__).parent
may_be_absent = False  # whether what a user has yet to bring is no error: a plan is asked for before it is there


@dataclass(frozen=True)
class Utterance:
    """One recording and what is said in it.

    `audio`: samples (int16, or float in -1..1; [T] or [T, channels]) at `rate_hz`, or the path or the bytes of a
    file that libsndfile reads, which says its own rate. `offset_s`, `duration_s`: the part of it that is meant.
    `translation`: the text by language. `tags`: what a report may group by, JSON values.
    `origin`: where the utterance is from, such as 'mine.jsonl line 3'; opens the reason when it is rejected.
    """

    id: str
    audio: np.ndarray | bytes | Path
    rate_hz: int
    text: str
    language: str
    speaker: str | None = None
    translation: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    offset_s: float = 0.0
    duration_s: float | None = None
    origin: str = ""


class Size(NamedTuple):
    """How much speech a split holds, about, before it is read."""

    utterances: int
    hours: float


@dataclass(frozen=True)
class Reject:
    """Something that cannot be used, and why."""

    id: str
    reason: str


def names() -> list[str]:
    """The kinds of corpora there are."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def load(kind: str) -> ModuleType:
    """The file of a kind of corpus. Errors: ConfigError naming the file that is missing, or what it lacks."""
    if kind not in names():
        raise ConfigError(f"data.corpora: no corpus file src/concertina/corpora/{kind}.py{nearest(kind, names())}")
    plugin = importlib.import_module(f"concertina.corpora.{kind}")
    if missing := [name for name in ("splits", "read") if not callable(getattr(plugin, name, None))]:
        raise ConfigError(f"src/concertina/corpora/{kind}.py has no function {' and no '.join(missing)}")
    return plugin


def options(corpus: Corpus) -> Section:
    """A corpus' own config keys, validated. Errors: ConfigError naming the key and the nearest valid one."""
    model: type[Section] = getattr(load(corpus.kind), "Options", Section)
    try:
        return model.model_validate(corpus.options)
    except ValidationError as error:
        told = "; ".join(_explain(corpus.name, fact, list(model.model_fields)) for fact in error.errors())
        raise ConfigError(told) from None


def is_synthetic(corpus: Corpus) -> bool:
    """Whether a corpus' file declares `synthetic = True`; it is read, not run, since some import slowly."""
    tree = ast.parse((FOLDER / f"{corpus.kind}.py").read_text(encoding="utf-8"))
    return any(ast.unparse(node) == "synthetic = True" for node in tree.body)


def parts(plugin: ModuleType, chosen: Section, split: str) -> int:
    """How many parts a split is read in."""
    return int(plugin.parts(chosen, split)) if hasattr(plugin, "parts") else 1


def size(corpus: Corpus, split: str) -> Size | None:
    """How much speech a split holds, about; None where its corpus does not say, or is yet to be brought."""
    plugin = load(corpus.kind)
    known = hasattr(plugin, "size") and not absent(corpus)
    said = plugin.size(options(corpus), split) if known else None
    return Size(*said) if said else None


def archives(corpus: Corpus, split: str) -> list[Archive]:
    """What a split is read from and has to be fetched."""
    plugin = load(corpus.kind)
    return list(plugin.archives(options(corpus), split)) if hasattr(plugin, "archives") else []


def absent(corpus: Corpus) -> str | None:
    """How to get what a user has to bring for a corpus and has not, yet; None where nothing is missing."""
    plugin = load(corpus.kind)
    return plugin.absent(options(corpus)) if hasattr(plugin, "absent") else None


def sources(corpus: Corpus) -> list[Path]:
    """The files outside the repository that decide a corpus. Errors: ConfigError where they are yet to be brought."""
    if told := absent(corpus):
        if may_be_absent:
            return []
        raise ConfigError(f"data.corpora.{corpus.name}: {told}")
    plugin = load(corpus.kind)
    return list(plugin.sources(options(corpus))) if hasattr(plugin, "sources") else []


def published(config: Config, kind: str) -> dict[str, Archive]:
    """Every archive that the corpora of a kind may be read from, by name. Errors: ConfigError where two share one."""
    chosen = [corpus for corpus in config.data.corpora if corpus.kind == kind]
    found = [archives(corpus, split) for corpus in chosen for split in load(kind).splits(options(corpus))]
    by_name = {archive.name: archive for several in found for archive in several}
    for other in (archive for several in found for archive in several):
        if other != by_name[other.name]:
            raise ConfigError(f"data.corpora: two of kind {kind} have unlike archives called {other.name}")
    return by_name


def _explain(corpus: str, fact: Any, valid: list[str]) -> str:
    where = ".".join(map(str, ("data.corpora", corpus, *fact["loc"])))
    if fact["type"] != "extra_forbidden":
        return f"{where}: {fact['msg'].removeprefix('Value error, ')}"
    return f"unknown key {where}{nearest(str(fact['loc'][-1]), ['name', 'kind', *valid])}"
