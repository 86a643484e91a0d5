"""Corpora: each file in this folder is a kind of corpus, and its name is the `kind` in the config.

`CorpusFile` describes what such a file contains. Only `splits` and `read` are required. CONTRIBUTING.md has a complete
example of 20 lines, librispeech.py uses most of the optional parts, and tests/test_corpora.py checks every file.
"""

import ast
import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np
from pydantic import ValidationError

from concertina.config import Config, ConfigError, Corpus, Section
from concertina.corpora._archives import Archive
from concertina.nearest import nearest
from concertina.store import subsets

FOLDER = Path(__file__).parent
may_be_absent = False  # tools that only plan set this: then files that a user has yet to download are no error


@dataclass(frozen=True)
class Utterance:
    """One recording and the text that is spoken in it.

    `audio`: samples (int16, or float in -1..1; [T] or [T, channels]) at `rate_hz`, or the path or the bytes of a
    file that corpora/_decoders.py reads, which contains its own rate. `offset_s`, `duration_s`: the part that is used.
    `translation`: the text by language. `tags`: JSON values that a report may group by.
    `origin`: where the utterance comes from, such as 'mine.jsonl line 3'; begins the reason if it is rejected.
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


@dataclass(frozen=True)
class Reject:
    """An utterance that cannot be used, and the reason."""

    id: str
    reason: str


class Size(NamedTuple):
    """About how much speech a split holds, known before it is read."""

    utterances: int
    hours: float


class CorpusFile(Protocol):
    """The contract of a file in this folder: `splits` and `read` are required, all else is optional.

    `options` is always an instance of the file's own `Options`, made from the keys of its corpus in the config.
    """

    Options: type[Section]
    """(optional) The config keys of this kind of corpus. Without it, the corpus takes none."""

    synthetic: bool
    """(optional) `synthetic = True` where a machine speaks, so that a report can mention it. Without it: False."""

    def splits(self, options: Any) -> list[str]:
        """(required) Return the names of the splits."""

    def read(self, options: Any, split: str, part: int) -> Iterator[Utterance | Reject]:
        """(required) Yield the utterances of one part of a split, always in the same order.

        Each part is read in a fresh process. Parts are numbered from 0.
        """

    def parts(self, options: Any, split: str) -> int:
        """(optional) Return into how many parts a split is divided, to be read at the same time. Without it: 1."""

    def size(self, options: Any, split: str) -> Size | None:
        """(optional) Estimate a split's size, by which it is shared over jobs. Without it, or None: one job."""

    def ids(self, options: Any, split: str) -> Iterator[str]:
        """(optional) Yield the ids that `read` yields for a split, without reading audio.

        Without it, the config cannot limit the `utterances` of this kind of corpus.
        """

    def archives(self, options: Any, split: str) -> list[Archive]:
        """(optional) Return the published files that a split is read from; they are downloaded before it is read."""

    def sources(self, options: Any) -> list[Path]:
        """(optional) Return files outside the repository; when their content changes, the corpus is read again."""

    def absent(self, options: Any) -> str | None:
        """(optional) Explain how to get files that a user must download and has not yet; None if all are there."""


REQUIRED = ("splits", "read")
FUNCTIONS = {  # the parameters of each function of the contract
    name: list(inspect.signature(function).parameters)[1:]  # without self
    for name, function in vars(CorpusFile).items()
    if inspect.isfunction(function) and not name.startswith("_")
}


def names() -> list[str]:
    """Return the kinds of corpora: the names of the files in this folder."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def load(kind: str) -> ModuleType:
    """Import the file of a kind of corpus.

    Errors: ConfigError naming the file if it does not exist, cannot be imported, or breaks the contract of CorpusFile.
    """
    if kind not in names():
        raise ConfigError(f"data.corpora: no corpus file src/concertina/corpora/{kind}.py{nearest(kind, names())}")
    file = f"src/concertina/corpora/{kind}.py"
    try:
        plugin = importlib.import_module(f"concertina.corpora.{kind}")
    except SyntaxError as error:
        raise ConfigError(f"{file}: line {error.lineno} is not Python: {error.msg}") from None
    except ImportError as error:
        raise ConfigError(f"{file} cannot be imported: {error}; install what it needs, as `make setup` does") from None
    if missing := [name for name in REQUIRED if not callable(getattr(plugin, name, None))]:
        raise ConfigError(f"{file} has no function {' and no '.join(missing)}")
    for name, parameters in FUNCTIONS.items():
        try:
            if hasattr(plugin, name):
                inspect.signature(getattr(plugin, name)).bind(*parameters)
        except TypeError:
            raise ConfigError(f"{file}: its function {name} must take ({', '.join(parameters)})") from None
    return plugin


def options(corpus: Corpus) -> Section:
    """Validate a corpus' own config keys. Errors: ConfigError naming the wrong key and the nearest valid one."""
    model: type[Section] = getattr(load(corpus.kind), "Options", Section)
    try:
        return model.model_validate(corpus.options)
    except ValidationError as error:
        messages = (_explain(corpus.name, fact, list(model.model_fields)) for fact in error.errors())
        raise ConfigError("; ".join(messages)) from None


def is_synthetic(corpus: Corpus) -> bool:
    """Return whether a corpus' file declares `synthetic = True`. It is parsed, not imported, since that can be slow."""
    tree = ast.parse((FOLDER / f"{corpus.kind}.py").read_text(encoding="utf-8"))
    return any(ast.unparse(node) == "synthetic = True" for node in tree.body)


def parts(plugin: ModuleType, settings: Section, split: str) -> int:
    """Return into how many parts a split is divided."""
    return int(plugin.parts(settings, split)) if hasattr(plugin, "parts") else 1


def size(corpus: Corpus, split: str) -> Size | None:
    """Return about how much speech is read of a split; None if its file cannot tell, or it is yet to be downloaded."""
    plugin = load(corpus.kind)
    known = hasattr(plugin, "size") and not absent(corpus)
    estimate = plugin.size(options(corpus), split) if known else None
    if not estimate:
        return None
    utterances, hours = estimate
    read = min(utterances, corpus.utterances.get(split, utterances))
    return Size(read, hours * read / max(utterances, 1))


def check_limits(corpus: Corpus) -> None:
    """Check that a corpus' `utterances` name splits that it has and can limit. Errors: ConfigError."""
    if not corpus.utterances:
        return
    plugin, key = load(corpus.kind), f"data.corpora.{corpus.name}.utterances"
    if not hasattr(plugin, "ids"):
        raise ConfigError(f"{key}: the file of {corpus.kind} has no function `ids`, so its splits cannot be limited")
    splits = plugin.splits(options(corpus))
    for split in corpus.utterances:
        if split not in splits:
            raise ConfigError(f"{key}: the corpus has no split {split!r}{nearest(split, splits)}")


def last(corpus: Corpus, split: str) -> subsets.Rank | None:
    """Return the rank of the last utterance that is read of a split; None where all are. Errors: ConfigError."""
    check_limits(corpus)
    at_most = corpus.utterances.get(split)
    return None if at_most is None else subsets.last(load(corpus.kind).ids(options(corpus), split), at_most)


def archives(corpus: Corpus, split: str) -> list[Archive]:
    """Return the archives that must be downloaded before a split is read."""
    plugin = load(corpus.kind)
    return list(plugin.archives(options(corpus), split)) if hasattr(plugin, "archives") else []


def absent(corpus: Corpus) -> str | None:
    """Explain how to get what a user must download for a corpus and has not yet; None if nothing is missing."""
    plugin = load(corpus.kind)
    return plugin.absent(options(corpus)) if hasattr(plugin, "absent") else None


def sources(corpus: Corpus) -> list[Path]:
    """Return the files outside the repository that decide a corpus. Errors: ConfigError if they are missing."""
    if missing := absent(corpus):
        if may_be_absent:
            return []
        raise ConfigError(f"data.corpora.{corpus.name}: {missing}")
    plugin = load(corpus.kind)
    return list(plugin.sources(options(corpus))) if hasattr(plugin, "sources") else []


def published(config: Config, kind: str) -> dict[str, Archive]:
    """Return all archives of the corpora of a kind, by name. Errors: ConfigError if two have the same name."""
    same_kind = [corpus for corpus in config.data.corpora if corpus.kind == kind]
    splits = [(corpus, split) for corpus in same_kind for split in load(kind).splits(options(corpus))]
    by_name: dict[str, Archive] = {}
    for archive in (archive for corpus, split in splits for archive in archives(corpus, split)):
        if by_name.setdefault(archive.name, archive) != archive:
            raise ConfigError(f"data.corpora: two of kind {kind} have different archives called {archive.name}")
    return by_name


def _explain(corpus: str, fact: Any, valid: list[str]) -> str:
    """Turn one of pydantic's error facts into a sentence that names the key; `valid`: the keys that Options has."""
    key = ".".join(map(str, ("data.corpora", corpus, *fact["loc"])))
    if fact["type"] != "extra_forbidden":
        return f"{key}: {fact['msg'].removeprefix('Value error, ')}"
    return f"unknown key {key}{nearest(str(fact['loc'][-1]), ['name', 'kind', *valid])}"
