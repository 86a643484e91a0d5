"""Find the artefacts of an experiment that are missing or damaged, and the commands that make them again.

A folder is whole when every file in it has the SHA-256 that its seal gives. Whether it also belongs to the present
config and code is decided in `concertina.artefacts.standing`.
"""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from concertina import console
from concertina.artefacts import dag
from concertina.artefacts.dag import Artefact
from concertina.config import Config
from concertina.store import sealing
from concertina.store.sealing import SEAL

COPIES = ("scores.csv", "report.html")  # of the sealed report, in results/<name>/


class Trouble(NamedTuple):
    """A file that is damaged or missing, what to remove, and the file that Snakemake then makes (None for the base)."""

    kind: str
    message: str
    file: Path
    remove: tuple[Path, ...]
    make: Path | None


def troubles(config: Config) -> list[Trouble]:
    """Verify everything that the results depend on, and return what is damaged or missing."""
    damaged = list(_of_base(config))
    artefacts = kept(config)
    with console.Progress(len(artefacts), "artefacts") as progress:
        for artefact in artefacts:
            damaged += _of_artefact(config, artefact)
            progress.add()
    return damaged + list(_of_copies(dag.artefact(config, "report").folder))


def kept(config: Config) -> list[Artefact]:
    """Return the artefacts that the results depend on, inputs before what is made from them."""
    return [artefact for artefact in dag.every(config) if dag.row(artefact.kind).kept]


def _of_artefact(config: Config, artefact: Artefact) -> Iterator[Trouble]:
    """Compare an artefact with its seal; one that another's job makes is removed together with that other one."""
    inside = dag.row(artefact.kind).inside
    maker = dag.artefact(config, inside, cell=artefact.where["cell"]) if inside else artefact
    remove = tuple(dict.fromkeys((artefact.folder, maker.folder)))
    yield from _of_folder(artefact.kind, artefact.folder, remove, maker.seal)


def _of_copies(report: Path) -> Iterator[Trouble]:
    """Compare the copies of a sealed report with its seal."""
    try:
        files = sealing.read_seal(report)["files"]
    except sealing.DamagedError:
        return
    for name in COPIES:
        copy = report.parent / name
        if not copy.exists():
            yield Trouble("report", f"{copy} is missing", copy, (copy,), copy)
        elif sealing.sha256(copy) != files[name]["sha256"]:
            yield Trouble("report", f"{copy} is damaged: it differs from the sealed one", copy, (copy,), copy)


def _of_folder(kind: str, folder: Path, remove: tuple[Path, ...], make: Path | None) -> Iterator[Trouble]:
    try:
        names = list(sealing.read_seal(folder)["files"])
    except sealing.DamagedError as error:
        message = _first(error) if folder.exists() else f"{folder} is missing"
        yield Trouble(kind, message, folder / SEAL, remove, make)
        return
    for name in names:
        try:
            sealing.verify(folder, glob.escape(name))
        except sealing.DamagedError as error:
            yield Trouble(kind, _first(error), folder / name, remove, make)


def _of_base(config: Config) -> Iterator[Trouble]:
    """Compare the base model with its own seal, if it has one, and with the hash that the config pins.

    An assembled base is an artefact like others, so `troubles` compares its seal.
    """
    folder, hub = config.base.folder, bool(config.base.revision)
    sealed = (folder / SEAL).exists() and not config.base.assembled
    damaged = (
        list(_of_folder("base_hub" if hub else "base", folder, (folder,), folder / SEAL if hub else None))
        if sealed
        else []
    )
    yield from damaged
    if config.base.sha256 and not damaged and _weights(folder) != config.base.sha256:
        message = f"{folder} is damaged: its weights are not those that base.sha256 pins"
        yield Trouble("base", message, folder / "model.safetensors", (folder,), None)


def _weights(folder: Path) -> str:
    """Return the hash of the weights as base.sha256 gives it; empty where there is no checkpoint."""
    files = sorted(folder.glob("model*.safetensors"))
    if len(files) == 1:  # avoids importing torch and transformers, which takes seconds
        return sealing.sha256(files[0])
    from concertina.model import lalm

    return lalm.fingerprint(folder) if files else ""


def _first(error: Exception) -> str:
    """Return an error's message without its remedy."""
    return str(error).partition(";")[0]


def remedies(damaged: Sequence[Trouble], config_path: str) -> list[str]:
    """Return the commands that remove what is damaged and make it again: one per stage, in the order to run them."""
    commands = []
    for kind in dict.fromkeys(trouble.kind for trouble in damaged):
        of_kind = [trouble for trouble in damaged if trouble.kind == kind]
        remove = " ".join(dict.fromkeys(str(path) for trouble in of_kind for path in trouble.remove))
        make = " ".join(dict.fromkeys(str(trouble.make) for trouble in of_kind))
        command = f'rm -rf {remove} && make reproduce CONFIG={config_path} ONLY="{make}"'
        commands.append(command if of_kind[0].make else f"git checkout HEAD -- {remove}")
    return commands


def tell(damaged: Sequence[Trouble], config_path: str) -> None:
    """Print everything that is damaged or missing, then the commands that make it again."""
    for trouble in damaged:
        console.say(trouble.message)
    console.say("these commands make it again:")
    for command in remedies(damaged, config_path):
        console.say(f"    {command}")
