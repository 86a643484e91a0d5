"""Every artefact of an experiment, in the order in which a run makes them: is it whole, and does it belong here?

tools/verify.py, pull.py and push.py go over this one list. A folder is whole when every file in it has the SHA-256
that its seal says; it belongs here when its run key is the one that the present config and code give it.
"""

import glob
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from concertina import console
from concertina.artefacts import keys, layout
from concertina.artefacts.layout import SEAL
from concertina.config import UNCOMPRESSED, Config, ConfigError, Part, ratio_text
from concertina.store import sealing

COMMIT = re.compile("[0-9a-f]{40}")
COPIES = ("scores.csv", "report.html")  # of the sealed report, in results/<name>/


@dataclass(frozen=True)
class Artefact:
    """A sealed folder: the stage that makes it, the key of that stage's own work, the folders it is made from."""

    stage: str
    folder: Path
    key: keys.Key
    inputs: tuple[Path, ...] = ()


class Trouble(NamedTuple):
    """A file that is damaged or missing; what to remove, and the file that Snakemake then makes (none: the base)."""

    stage: str
    told: str
    file: Path
    remove: Path
    make: Path | None


def of(config: Config) -> Iterator[Artefact]:
    """The artefacts of a config, inputs before what is made from them."""
    name, cells = config.name, [(compressor, ratio_text(ratio)) for compressor, ratio in config.cells]
    by_cell = {cell: _places(config, [train_set for train_set, _ in config.adapters(*cell)]) for cell in cells}
    places = sorted({place for chosen in by_cell.values() for place in chosen})
    for place in sorted({*places, *((part.corpus, part.split) for part in config.base.parts)}):
        yield Artefact("data", layout.data(name, *place), keys.data(config, *place))
    yield from _assembled(config)
    base = (config.base.folder,) if config.base.comes else ()
    for place in places:
        made_from = (layout.data(name, *place), *base)
        yield Artefact("features", layout.features(name, *place), keys.features(config, *place), made_from)
    for place in places:
        for cell in (cell for cell in cells if place in by_cell[cell]):
            made_from = (layout.features(name, *place),)
            key = keys.segments(config, *place, *cell)
            yield Artefact("segments", layout.segments(name, *place, *cell), key, made_from)
    if config.gate:
        sets = [test_set for test_set in config.evaluate.sets if test_set.name in config.gate.figures]
        yield Artefact("gate", layout.gate(name), keys.gate(config), _read(config, sets, UNCOMPRESSED))
    adapters = {cell: [(chosen, *cell, seed) for chosen, seed in config.adapters(*cell)] for cell in cells}
    for cell in cells:
        for adapter in adapters[cell]:
            chosen = config.train_set(adapter[0])
            read = _read(config, [*chosen.parts, *chosen.dev], cell)
            yield Artefact("train", layout.train(name, *adapter), keys.train(config, *adapter), read)
    for cell in cells:
        read = (*_read(config, config.test_sets(*cell), cell), *(layout.train(name, *one) for one in adapters[cell]))
        yield Artefact("evaluate", layout.evaluate(name, *cell), keys.evaluate(config, *cell), read)
    trained = [layout.train(name, *one) for cell in cells for one in adapters[cell]]
    evaluated = [layout.evaluate(name, *cell) for cell in cells]
    beside = [layout.whisper(name)] * bool(config.base.assembled) + [layout.gate(name)] * bool(config.gate)
    yield Artefact("report", layout.report(name), keys.report(config), (*trained, *evaluated, *beside))


def _assembled(config: Config) -> Iterator[Artefact]:
    """An assembled base, and what its encoder is worth with its own decoder."""
    if made := config.base.assembled:
        fetched = [part.folder for part in (made.encoder, made.llm) if part.comes]
        places = sorted({(part.corpus, part.split) for part in made.parts})
        heard = [layout.data(config.name, *place) for place in places]
        yield Artefact("assemble", layout.base(config.name), keys.base(config), (*heard, *fetched))
        places = sorted({(s.corpus, s.split) for s in config.evaluate.sets if s.task == "transcribe"})
        heard = [layout.data(config.name, *place) for place in places]
        own = [made.encoder.folder] if made.encoder.comes else []
        yield Artefact("whisper", layout.whisper(config.name), keys.whisper(config), (*heard, *own))


def _places(config: Config, train_sets: Collection[str]) -> set[tuple[str, str]]:
    """The (corpus, split) of every test set, and of what these training sets learn from and watch."""
    chosen = [config.train_set(name) for name in train_sets]
    parts = [*config.evaluate.sets, *(part for one in chosen for part in (*one.parts, *one.dev))]
    return {(part.corpus, part.split) for part in parts}


def _read(config: Config, parts: Sequence[Part], cell: tuple[str, str]) -> tuple[Path, ...]:
    """The features of every (corpus, split) that the parts name, and the cell's segments of them."""
    places = sorted({(part.corpus, part.split) for part in parts})
    features = [layout.features(config.name, *place) for place in places]
    return (*features, *(layout.segments(config.name, *place, *cell) for place in places))


def strangers(config: Config, accepting: Collection[Path] = ()) -> dict[Path, tuple[str, str]]:
    """The sealed folders of another config or code: (the run key they should have, the one they have).

    `accepting`: folders that count as what they should be from here on, as those that `make accept` blessed do.
    """
    accepted, stands, found = _accepted(config.name), dict[Path, str](), dict[Path, tuple[str, str]]()
    for artefact in of(config):
        folder = artefact.folder
        made_from = [stands[one] if one in stands else _fetched(config, one) for one in artefact.inputs]
        wanted = stands[folder] = keys.run_key(artefact.key, made_from)
        try:
            sealed = str(sealing.read_seal(folder).get("run_key", ""))
        except sealing.DamagedError:
            continue
        if folder in accepting or accepted.get(wanted) == sealed:
            stands[folder] = sealed
        if stands[folder] != sealed or (folder in accepting and wanted != sealed):
            found[folder] = (wanted, sealed)
    return found


def _fetched(config: Config, folder: Path) -> str:
    """The run key of something that every experiment here shares, in downloads/; of what is not there yet: the one
    that it will have where the config pins a commit of the hub, else empty."""
    try:
        return str(sealing.read_seal(folder)["run_key"])
    except sealing.DamagedError:
        pinned = [one for one in keys.on_the_hub(config) if layout.hub(*one) == folder and COMMIT.fullmatch(one[1])]
        return keys.run_key(keys.hub_at(*pinned[0], pinned[0][1])) if pinned else ""


def check_pinned(config: Config) -> None:
    """See that it is known which commit of the hub's models artefacts must rest on. Errors: ConfigError."""
    for model, revision in keys.on_the_hub(config):
        if not COMMIT.fullmatch(revision) and not (layout.hub(model, revision) / SEAL).exists():
            raise ConfigError(
                f"base: {model} at revision {revision!r} is not here, so nothing says which commit of it the artefacts "
                "rest on; set `revision` to that commit, or have `make reproduce` fetch the model first"
            )


def _accepted(name: str) -> dict[str, str]:
    """The run keys that stand in for others since `make accept`: by the key that an artefact should have."""
    path = Path("results", name, "accepted.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {wanted: sealed for line in lines for wanted, sealed in json.loads(line).get("keys", {}).items()}


def troubles(config: Config) -> list[Trouble]:
    """Read everything that the results rest on, with progress; returns what is damaged or missing."""
    found = list(_of_base(config))
    artefacts = list(of(config))
    with console.Progress(len(artefacts), "artefacts") as progress:
        for artefact in artefacts:
            found += _of_folder(artefact.stage, artefact.folder, artefact.folder / SEAL)
            progress.add()
    return found + list(_of_copies(layout.report(config.name)))


def _of_copies(report: Path) -> Iterator[Trouble]:
    """The copies of a sealed report against its seal."""
    try:
        files = sealing.read_seal(report)["files"]
    except sealing.DamagedError:
        return
    for name in COPIES:
        copy = report.parent / name
        if not copy.exists():
            yield Trouble("report", f"{copy} is missing", copy, copy, copy)
        elif sealing.sha256(copy) != files[name]["sha256"]:
            yield Trouble("report", f"{copy} is damaged: it is not the sealed one", copy, copy, copy)


def _of_folder(stage: str, folder: Path, make: Path | None) -> Iterator[Trouble]:
    try:
        names = list(sealing.read_seal(folder)["files"])
    except sealing.DamagedError as error:
        told = _first(error) if folder.exists() else f"{folder} is missing"
        yield Trouble(stage, told, folder / SEAL, folder, make)
        return
    for name in names:
        try:
            sealing.verify(folder, glob.escape(name))
        except sealing.DamagedError as error:
            yield Trouble(stage, _first(error), folder / name, folder, make)


def _of_base(config: Config) -> Iterator[Trouble]:
    """The base model against its own seal, where it has one, and against the hash that the config pins.

    An assembled one is an artefact like others.
    """
    folder, hub = config.base.folder, bool(config.base.revision)
    sealed = (folder / SEAL).exists() and not config.base.assembled
    damaged = list(_of_folder("hub" if hub else "base", folder, folder / SEAL if hub else None)) if sealed else []
    yield from damaged
    if config.base.sha256 and not damaged and _weights(folder) != config.base.sha256:
        told = f"{folder} is damaged: its weights are not those that base.sha256 pins"
        yield Trouble("base", told, folder / "model.safetensors", folder, None)


def _weights(folder: Path) -> str:
    """What base.sha256 is of; empty where there is no checkpoint."""
    files = sorted(folder.glob("model*.safetensors"))
    if len(files) == 1:  # spares torch and transformers, which take seconds to import
        return sealing.sha256(files[0])
    from concertina.model import lalm

    return lalm.fingerprint(folder) if files else ""


def _first(error: Exception) -> str:
    """What an error says before its remedy."""
    return str(error).partition(";")[0]


def remedies(found: Sequence[Trouble], config_path: str) -> list[str]:
    """The commands that remove what is damaged and make it again, one per stage, in the order in which to run them."""
    commands = []
    for stage in dict.fromkeys(trouble.stage for trouble in found):
        of_stage = [trouble for trouble in found if trouble.stage == stage]
        remove = " ".join(dict.fromkeys(str(trouble.remove) for trouble in of_stage))
        make = " ".join(dict.fromkeys(str(trouble.make) for trouble in of_stage))
        again = f'rm -rf {remove} && make reproduce CONFIG={config_path} ONLY="{make}"'
        commands.append(again if of_stage[0].make else f"git checkout HEAD -- {remove}")
    return commands


def tell(found: Sequence[Trouble], config_path: str) -> None:
    """Name everything that is damaged or missing, then what makes it again."""
    for trouble in found:
        console.say(trouble.told)
    console.say("this makes it again:")
    for command in remedies(found, config_path):
        console.say(f"    {command}")
