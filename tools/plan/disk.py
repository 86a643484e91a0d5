"""Check whether the disk has room for what a run would write."""

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
    """Return an error message if a disk is too small for what is planned, otherwise None.

    Needed are the bytes to write, less those they replace, and the largest artefact once more: while it is made, its
    parts or its predecessor are still on the disk.
    """
    needed: dict[int, list[int]] = defaultdict(list)
    largest: dict[int, int] = defaultdict(int)
    place: dict[int, Path] = {}
    for job in jobs:
        folder = job.artefact.folder
        existing = _there(folder)
        disk = existing.stat().st_dev
        place.setdefault(disk, existing)
        needed[disk].append(job.written - _held(folder))
        largest[disk] = max(largest[disk], job.written)
    for disk, sizes in needed.items():
        need, free = max(0, sum(sizes)) + largest[disk], shutil.disk_usage(place[disk]).free
        if need > free:
            return (
                f"the run needs about {bytes_text(need)} of disk in {place[disk].absolute()}, and {bytes_text(free)} "
                "are free; free some, put build/ on another disk (as a symbolic link), or choose a smaller experiment"
            )
    return None


def _there(folder: Path) -> Path:
    """Return a folder, or the nearest existing one above it."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _held(folder: Path) -> int:
    """Return the bytes of an artefact; 0 if it does not exist."""
    try:
        return sum(file["bytes"] for file in sealing.read_seal(folder)["files"].values())
    except sealing.DamagedError:
        return 0


def bytes_text(size: float) -> str:
    """Write a number of bytes for a person: 1234567 is '1.23 MB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1000
    return f"{size:.3g} TB"


def short_of_disk(arguments: Sequence[str]) -> str | None:
    """Return an error message if the disk is too small for a run; None also if Snakemake cannot plan.

    If there is room for twice the whole experiment, the plan, which takes seconds, is not needed.
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
