"""The contract of a corpus file, on every file in corpora/, and on files dropped in that keep or break it."""

import importlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from concertina import corpora
from concertina.config import ConfigError, Corpus, Section
from concertina.corpora import Reject, Utterance

NUMBER = itertools.count()  # a module of one name is imported only once
CLICKS = '''"""Clicks: silent utterances, of which every third one is rejected."""

import numpy as np

from concertina.config import Section
from concertina.corpora import Reject, Size, Utterance


class Options(Section):
    count: int = 6


def splits(options):
    return ["train", "test"]


def parts(options, split):
    return 2


def size(options, split):
    return Size(options.count, 0.001)


def read(options, split, part):
    for number in range(part, options.count, 2):
        if number % 3:
            yield Utterance(f"click-{number}", np.zeros(400, np.int16), 16_000, "click", "en")
        else:
            yield Reject(f"click-{number}", "no sound")
'''


@pytest.fixture
def drop() -> Iterator[Callable[[str], str]]:
    """Write a corpus file into corpora/ for one test: a function that takes its source and returns its kind."""
    written: list[Path] = []

    def write(source: str) -> str:
        path = corpora.FOLDER / f"dropped_in_by_a_test_{next(NUMBER)}.py"
        written.append(path)
        path.write_text(source, encoding="utf-8")
        importlib.invalidate_caches()
        return path.stem

    yield write
    for path in written:
        path.unlink()


@pytest.mark.parametrize("kind", corpora.names())
class TestEveryCorpusFile:
    """The contract that `corpora.CorpusFile` describes."""

    def test_is_imported_with_its_required_functions(self, kind: str) -> None:
        plugin = corpora.load(kind)
        assert callable(plugin.splits)
        assert callable(plugin.read)
        assert plugin.__doc__

    def test_functions_have_the_parameters_of_the_contract(self, kind: str) -> None:
        plugin = corpora.load(kind)
        own = {
            name: list(inspect.signature(getattr(plugin, name)).parameters)
            for name in corpora.FUNCTIONS
            if hasattr(plugin, name)
        }
        assert own == {name: corpora.FUNCTIONS[name] for name in own}

    def test_an_unknown_key_is_refused_by_name(self, kind: str) -> None:
        with pytest.raises(ConfigError, match=r"unknown key data\.corpora\.mine\.loudnes\b"):
            corpora.options(Corpus.model_validate({"name": "mine", "kind": kind, "loudnes": 3}))

    def test_options_document_every_key(self, kind: str) -> None:
        model: type[Section] = corpora.load(kind).Options
        assert [key for key in model.model_fields if f"{key}" not in (model.__doc__ or "")] == []

    def test_whether_a_machine_speaks_is_known_without_an_import(self, kind: str) -> None:
        corpus = Corpus(name="mine", kind=kind)
        assert corpora.is_synthetic(corpus) == getattr(corpora.load(kind), "synthetic", False)


def test_the_contract_names_the_functions_that_the_package_calls() -> None:
    assert list(corpora.FUNCTIONS) == ["splits", "read", "parts", "size", "ids", "archives", "sources", "absent"]
    assert corpora.FUNCTIONS["read"] == ["options", "split", "part"]


def test_an_honest_file_passes(drop: Callable[[str], str]) -> None:
    kind = drop(CLICKS)
    corpus = Corpus.model_validate({"name": "mine", "kind": kind, "count": 7})
    plugin, options = corpora.load(kind), corpora.options(corpus)
    assert kind in corpora.names()
    assert plugin.splits(options) == ["train", "test"]
    items = [
        item for part in range(corpora.parts(plugin, options, "test")) for item in plugin.read(options, "test", part)
    ]
    assert sorted(item.id for item in items if isinstance(item, Utterance)) == [
        "click-1",
        "click-2",
        "click-4",
        "click-5",
    ]
    assert sorted(item.id for item in items if isinstance(item, Reject)) == ["click-0", "click-3", "click-6"]
    assert corpora.size(corpus, "test") == (7, 0.001)


def test_optional_functions_may_be_missing(drop: Callable[[str], str]) -> None:
    kind = drop("def splits(options):\n    return []\n\ndef read(options, split, part):\n    yield from ()\n")
    corpus = Corpus(name="mine", kind=kind)
    plugin, options = corpora.load(kind), corpora.options(corpus)
    assert corpora.parts(plugin, options, "test") == 1
    assert corpora.size(corpus, "test") is None
    assert corpora.archives(corpus, "test") == []
    assert corpora.sources(corpus) == []
    assert corpora.absent(corpus) is None
    assert not corpora.is_synthetic(corpus)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("def splits(options):", "def splits(options:"), r"line 13 is not Python"),
        (
            ("import numpy as np", "import no_such_package as np"),
            "cannot be imported: No module named 'no_such_package'",
        ),
        (("def splits(options):", "def names(options):"), "has no function splits"),
        (("def read(", "def yield_all("), "has no function read"),
        (("read(options, split, part)", "read(options, split)"), r"function read must take \(options, split, part\)"),
        (("parts(options, split)", "parts(options)"), r"function parts must take \(options, split\)"),
    ],
)
def test_a_file_that_breaks_the_contract_is_named(
    drop: Callable[[str], str], change: tuple[str, str], reason: str
) -> None:
    kind = drop(CLICKS.replace(*change))
    with pytest.raises(ConfigError, match=rf"^src/concertina/corpora/{kind}\.py.*{reason}"):
        corpora.load(kind)


def test_a_file_that_does_not_exist_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no corpus file src/concertina/corpora/librispech\.py.*librispeech"):
        corpora.load("librispech")
