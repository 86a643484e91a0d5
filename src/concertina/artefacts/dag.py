"""The DAG: for every kind of artefact its folder, its inputs, what else decides it, and its size.

This is its only description, with the inputs in `edges`, which its rows name. The rules, the stages and the tools
that plan, verify, push or pull all read it. An artefact is a sealed folder; a kind of artefact is a row of ROWS, named
as the rule that makes it.

Nothing here imports torch or runs a stage; of files, only seals and source code are read.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from concertina.artefacts import edges, keys, scatter, sizes
from concertina.artefacts.edges import Address, Where
from concertina.config import Cell, Config, ConfigError
from concertina.store import folders
from concertina.store.sealing import SEAL


@dataclass(frozen=True)
class Artefact:
    """One sealed folder of an experiment: its kind, and the values that distinguish it from others of that kind."""

    kind: str
    folder: Path
    where: Where = field(compare=False)

    @property
    def run(self) -> str:
        """The artefact's path within its kind, 'english/average-3-keep/seed0'; empty where a kind has just one."""
        return "/".join(self.folder.parts[3:])

    @property
    def seal(self) -> Path:
        """The seal's file, which exists once the artefact is finished."""
        return self.folder / SEAL

    def __str__(self) -> str:
        return f"{self.kind} {self.run}".strip()


def _nothing(config: Config, **where: Any) -> Iterator[Address]:
    yield from ()


@dataclass(frozen=True)
class Row:
    """One kind of artefact.

    name: the rule that makes it; the first word is the stage.
    folder: the pattern of its folder; `{name}` is replaced by the experiment's name.
    each: yields the placeholders' values of every such artefact that an experiment needs.
    key: returns what decides it besides its inputs, see `keys`.
    inputs: yields the artefacts that decide it; their run keys are part of its own.
    after: yields the artefacts that must be there before it but do not decide it.
    size: returns how much work it is and how many bytes it takes, see `sizes`.
    inside: the kind whose job makes it too, where it has no job of its own.
    placed: whether it depends on where tokens are placed; otherwise, cells that differ in that alone share it.
    kept: whether it is verified, pushed and pulled with the experiment's results.
    reported: whether the report reads it.
    """

    name: str
    folder: str
    each: Callable[[Config], Iterable[Where]]
    key: Callable[..., keys.Key]
    inputs: Callable[..., Iterable[Address]] = _nothing
    after: Callable[..., Iterable[Address]] = _nothing
    size: Callable[..., sizes.Size] = sizes.unknown
    inside: str = ""
    placed: bool = False
    kept: bool = True
    reported: bool = False

    @property
    def placeholders(self) -> list[str]:
        """The names of the folder's placeholders, without the experiment's."""
        return [name for name in re.findall(r"\{(\w+)\}", self.folder) if name != "name"]


def artefact(config: Config, kind: str, /, **where: Any) -> Artefact:
    """Return an artefact by its kind and the values of its folder's placeholders, as values or as their texts.

    Errors: ConfigError naming a cell, corpus or training set that the config does not have.
    """
    values = {name: _value(config, name, value) for name, value in where.items()}
    if "cell" in values:
        values["cell"] = _placed(config, values["cell"]) if row(kind).placed else values["cell"].cuts
    texts = {name: str(value).replace("/", folders.SLASH) for name, value in values.items()}
    return Artefact(kind, Path(row(kind).folder.format(name=config.name, **texts)), values)


def at(config: Config, address: Address) -> Artefact:
    """Return the artefact at an address."""
    kind, where = address
    return artefact(config, kind, **where)


def row(kind: str) -> Row:
    """Return the row of a kind of artefact."""
    return _rows()[kind]


def every(config: Config) -> Iterator[Artefact]:
    """Yield every artefact that an experiment needs, each after its inputs."""
    for one in ROWS:
        yield from of_kind(config, one.name)


def of_kind(config: Config, kind: str) -> Iterator[Artefact]:
    """Yield every artefact of a kind that an experiment needs."""
    for where in row(kind).each(config):
        yield artefact(config, kind, **where)


def inputs(config: Config, one: Artefact) -> list[Artefact]:
    """Return the artefacts whose run keys are part of an artefact's own."""
    return [at(config, address) for address in row(one.kind).inputs(config, **one.where)]


def needs(config: Config, one: Artefact) -> list[Artefact]:
    """Return the artefacts that a job reads: its artefact's inputs, and the inputs of those that it makes itself."""
    direct = inputs(config, one)
    within = [other for inner in direct if row(inner.kind).inside for other in needs(config, inner)]
    return list(dict.fromkeys([*(other for other in direct if not row(other.kind).inside), *within]))


def after(config: Config, one: Artefact) -> list[Artefact]:
    """Return the artefacts that must be there before a job but decide no result."""
    reads = needs(config, one)
    others = (at(config, address) for address in row(one.kind).after(config, **one.where))
    return [other for other in others if other not in reads]


def key(config: Config, one: Artefact) -> keys.Key:
    """Return what decides an artefact besides its inputs."""
    return row(one.kind).key(config, **one.where)


def size(estimate: sizes.Estimate, one: Artefact) -> sizes.Size:
    """Return how much work an artefact is, and how many bytes it takes."""
    return row(one.kind).size(estimate, **one.where)


def shares(config: Config, one: Artefact) -> list[Artefact]:
    """Return the shares that a scattered split is gathered from; none where one job makes the whole split."""
    if one.kind not in SCATTERED:
        return []
    shares = scatter.shares(config, one.where["corpus"], one.where["split"])
    return [artefact(config, f"{one.kind}_share", **one.where, share=share) for share in shares]


def _value(config: Config, name: str, value: Any) -> Any:
    """Return a placeholder's value, read from its text in a folder's name or on the command line."""
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


def _placed(config: Config, cell: Cell) -> Cell:
    """Return a cell with its positions, or the only one that cuts like it. Errors: ConfigError where there are two."""
    placed = config.placed(cell.cuts)
    if cell in placed or len(placed) == 1:
        return cell if cell in placed else placed[0]
    raise ConfigError(f"{cell} stands in the grid under several positions; give {' or '.join(map(str, placed))}")


@functools.cache
def _rows() -> Mapping[str, Row]:
    return {one.name: one for one in ROWS}


def _reported(config: Config) -> Iterator[Address]:
    """Yield what the report reads."""
    for one in ROWS:
        if one.reported:
            yield from ((one.name, where) for where in one.each(config))


SCATTERED = ("data", "features")  # several jobs make a long split of these in shares, see `scatter`
SHARE = "scratch/shares/{name}/%s/{corpus}/{split}/{share}"
# fmt: off
ROWS = (
    Row("data_fetch", folders.ARCHIVE, edges.archives, keys.fetch, size=sizes.archive, kept=False),
    Row("base_hub", folders.HUB, edges.hub_models, keys.hub_model, size=sizes.hub, kept=False),
    Row("data_share", SHARE % "data", edges.shares, keys.data, edges.archives_of, size=sizes.data, kept=False),
    Row("data", folders.DATA, edges.splits, keys.data,
        edges.archives_of, size=sizes.data),
    Row("base_join", folders.BASE, edges.if_joined, keys.base, edges.join_inputs),
    Row("features_share", SHARE % "features", edges.shares, keys.of_section("features"),
        edges.features_inputs, size=sizes.features, kept=False),
    Row("features", "build/{name}/features/{corpus}/{split}", edges.encoded, keys.of_section("features"),
        edges.features_inputs, size=sizes.features),
    Row("segments", "build/{name}/segments/{corpus}/{split}/{cell}", edges.cuts, keys.segments,
        edges.segments_inputs, size=sizes.segments),
    Row("evaluate_gate", "results/{name}/gate", edges.if_gated, keys.gate,
        edges.gate_inputs, after=edges.base, reported=True),
    Row("train", "build/{name}/train/{train_set}/{cell}/seed{seed}", edges.adapters, keys.train,
        edges.train_inputs, after=edges.before_training, size=sizes.train, placed=True, reported=True),
    Row("evaluate_decode", "build/{name}/evaluate/{cell}/{test_set}/{run}", edges.decoded, keys.decode,
        edges.decode_inputs, after=edges.before_training, size=sizes.decode, placed=True, inside="evaluate"),
    Row("evaluate", "results/{name}/evaluate/{cell}", edges.scored, keys.evaluate,
        edges.evaluate_inputs, after=edges.before_training, size=sizes.evaluate, reported=True),
    Row("evaluate_whisper", "results/{name}/whisper", edges.if_joined, keys.whisper, edges.whisper_inputs,
        reported=True),
    Row("report", "results/{name}/report", edges.once, keys.report, _reported, size=sizes.report),
    Row("report_track", "scratch/track/{name}", edges.once, keys.track, edges.track_inputs, kept=False),
)
# fmt: on
