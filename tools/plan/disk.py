"""Whether the disk will hold what a run would write."""

import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from concertina.artefacts import dag
from concertina.artefacts.sizes import Estimate
from concertina.config import load
from concertina.store import sealing
from tools.plan.jobs import PlanError, Planned, experiment, planned


def shortage(jobs: Sequence[Planned]) -> str | None:
    """What to say where a disk will not hold what is planned.

    Needed: what is written, without what it replaces, and the largest artefact once more, for while it is made its
    parts or the one before it stand beside it.
    """
    needed: dict[int, list[int]] = defaultdict(list)
    largest: dict[int, int] = defaultdict(int)
    place: dict[int, Path] = {}
    for job in jobs:
        folder = job.artefact.folder
        there = _there(folder)
        disk = there.stat().st_dev
        place.setdefault(disk, there)
        needed[disk].append(job.written - _held(folder))
        largest[disk] = max(largest[disk], job.written)
    for disk, sizes in needed.items():
        need, free = max(0, sum(sizes)) + largest[disk], shutil.disk_usage(place[disk]).free
        if need > free:
            return (
                f"the run needs about {bytes_text(need)} of disk in {place[disk].absolute()}, and {bytes_text(free)} "
                "are free; free some, put build/ on another disk (a link will do), or choose a smaller experiment"
            )
    return None


def _there(folder: Path) -> Path:
    """A folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _held(folder: Path) -> int:
    """The bytes of an artefact that is there."""
    try:
        return sum(file["bytes"] for file in sealing.read_seal(folder)["files"].values())
    except sealing.DamagedError:
        return 0


def bytes_text(size: float) -> str:
    """`1234567` -> '1.2 MB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1000
    return f"{size:.3g} TB"


def short_of_disk(arguments: Sequence[str]) -> str | None:
    """What to say before a run that its disk will not hold; None too where Snakemake cannot plan: it will say so.

    Where twice the whole experiment has room, nothing needs to be planned.
    """
    try:
        config = load(experiment(arguments))
        estimate = Estimate(config)
        disks = [shutil.disk_usage(_there(Path(root))) for root in ("build", "results", "downloads", "scratch")]
        whole = sum(dag.size(estimate, artefact).written for artefact in dag.every(config))
        if min(disk.free for disk in disks) > 2 * whole:
            return None
        return shortage(planned(arguments, config, estimate))
    except (PlanError, ValueError):
        return None
