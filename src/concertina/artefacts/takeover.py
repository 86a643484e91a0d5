"""Take over artefacts: what another experiment here has made with the same run key is linked, not made again."""

from collections.abc import Iterator
from pathlib import Path

from concertina import console
from concertina.artefacts.dag import Artefact
from concertina.artefacts.standing import Standing
from concertina.store import sealing

OWN = {"report"}  # is never taken over, because it names its experiment


def twins(standing: Standing) -> Iterator[tuple[Artefact, Path]]:
    """Yield the artefacts that are not here yet and can be taken over, each with the folder of its twin."""
    for artefact in standing.kept:
        if artefact.kind not in OWN and (folder := standing.twin(artefact)):
            yield artefact, folder


def take_over(standing: Standing) -> list[Artefact]:
    """Verify and link every artefact that can be taken over; a damaged twin is passed over, with a message."""
    taken = []
    for artefact, folder in list(twins(standing)):
        try:
            link(folder, artefact.folder)
            taken.append(artefact)
        except sealing.DamagedError as error:
            console.say(f"{artefact} is made again: {str(error).partition(';')[0]}")
    return taken


def link(source: Path, target: Path) -> None:
    """Link a sealed folder to a second place: the same files by hard links, the same seal. Errors: DamagedError."""
    seal = sealing.verify(source)
    with sealing.drafting(target) as draft:
        draft.note(**{name: fact for name, fact in seal.items() if name != "files"})
        draft.trust(seal["files"])
        for name in seal["files"]:
            (draft.folder / name).parent.mkdir(parents=True, exist_ok=True)
            sealing.link(source / name, draft.folder / name)
