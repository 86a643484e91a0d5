"""What a run would do, and why: `python tools/plan.py [--each] [arguments of snakemake]`.

For every stage: its jobs, the reason (new, gone, the config key or the code that changed, an input that changed or is
made again), and about how long they take, what they write, and the memory of one job. Ends with status 1 where the
disk will not suffice. `--each` lists every job.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import cards
import gpu
from estimate import Estimate
from rates import COUNTED, Rates
from reasons import Job, why

from concertina import console, corpora
from concertina.config import Config, load
from concertina.store import sealing

TARGET = "all"
NAMED = 3  # jobs of a row that are named


class PlanError(RuntimeError):
    """Snakemake cannot plan; the message is its own."""


def jobs(arguments: Sequence[str]) -> list[Job]:
    """What would run, as tools/dryrun.py tells it. Errors: PlanError."""
    command = [sys.executable, str(Path(__file__).with_name("dryrun.py")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PlanError(re.sub(r"^Using workflow specific profile.*\n", "", done.stderr, flags=re.MULTILINE).strip())
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [job for job in found if job["stage"] != TARGET]


def shortage(planned: Sequence[Job], estimate: Estimate) -> str | None:
    """What to say where a disk will not hold what is planned.

    Needed: what is written, without what it replaces, and the largest artefact once more, for while it is made its
    parts or the one before it stand beside it.
    """
    needed: dict[int, list[int]] = defaultdict(list)
    largest: dict[int, int] = defaultdict(int)
    place: dict[int, Path] = {}
    for job in planned:
        folder = Path(job["outputs"][0]).parent if job["outputs"] else Path()
        there = _there(folder)
        disk = there.stat().st_dev
        place.setdefault(disk, there)
        size = estimate.bytes(job)
        needed[disk].append(size - _held(folder))
        largest[disk] = max(largest[disk], size)
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


def wall_seconds(planned: Sequence[Job], rates: Rates, cores: int, places: int) -> float:
    """About how long the jobs take on so many cores, and places on a GPU, one stage after the other."""
    stages: dict[str, list[tuple[float, int, bool]]] = defaultdict(list)
    for job in planned:
        on_gpu = bool(places and job["resources"].get("gpu"))
        stages[job["stage"]].append((rates.seconds(job), min(job["threads"], cores), on_gpu))
    total = 0.0
    for group in stages.values():
        by_core = sum(seconds * threads for seconds, threads, _ in group) / cores
        by_gpu = sum(seconds for seconds, _, on_gpu in group if on_gpu) / max(places, 1)
        total += max(by_core, by_gpu, *(seconds for seconds, _, _ in group))
    return total


def bytes_text(size: float) -> str:
    """`1234567` -> '1.2 MB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1000
    return f"{size:.3g} TB"


def table(planned: Sequence[Job], estimate: Estimate, rates: Rates, each: bool) -> Iterator[str]:
    """One row per stage and reason, and under it its jobs or the first of them."""
    groups: dict[tuple[str, str], list[Job]] = defaultdict(list)
    for job in planned:
        groups[job["stage"], why(job)].append(job)
    yield f"{'stage':<9} {'jobs':>4}  {'time':>7} {'disk':>8} {'memory':>8} {'GPU':>8}  why"
    for (stage, reason), members in groups.items():
        seconds = console.clock(sum(rates.seconds(job) for job in members))
        memory = max(job["resources"].get("mem_mb", 0) for job in members) * 1e6
        graphics = max(estimate.gpu_bytes(job) for job in members) if members[0]["resources"].get("gpu") else 0
        sizes = [bytes_text(value) if value else "-" for value in (sum(map(estimate.bytes, members)), memory, graphics)]
        yield f"{stage:<9} {len(members):>4}  {seconds:>7} {sizes[0]:>8} {sizes[1]:>8} {sizes[2]:>8}  {reason}"
        names = sorted(job["name"] for job in members if job["name"])
        if each:
            yield from (f"{'':<15} {name}" for name in names)
        elif names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            yield f"{'':<15} {', '.join(names[:NAMED])}{more}"


def total(planned: Sequence[Job], estimate: Estimate, rates: Rates, elsewhere: bool) -> str:
    """All that is written, the room for it, and on this computer how long it takes."""
    written, free = sum(map(estimate.bytes, planned)), shutil.disk_usage(Path()).free
    text = f"{bytes_text(written)} to write, {bytes_text(free)} free"
    if elsewhere:  # how many cores a cluster gives is not known here
        return text
    cores, devices = len(os.sched_getaffinity(0)), gpu.devices()
    on = f"{cores} cores" + (f" and {len(devices)} GPUs" if devices else "")
    return (
        f"{text}; about {console.clock(wall_seconds(planned, rates, cores, len(devices) * gpu.jobs_per_gpu()))} on {on}"
    )


def notes(planned: Sequence[Job], estimate: Estimate, rates: Rates) -> Iterator[str]:
    """What the figures rest on."""
    stages = list(dict.fromkeys(job["stage"] for job in planned))
    if recorded := [stage for stage in stages if stage in rates.recorded]:
        yield f"Times of {', '.join(recorded)}: as fast as recorded here."
    if default := [stage for stage in stages if stage in COUNTED and stage not in rates.recorded]:
        yield f"Times of {', '.join(default)}: default rates; nothing like them has run here yet."
    yield from yet_to_bring(estimate.config)
    if remote := [stage for stage in ("fetch", "hub") if stage in stages]:
        yield f"How long {' and '.join(remote)} takes is up to the network."
    if others := [stage for stage in stages if stage not in (*COUNTED, "fetch", "hub", "report", "track")]:
        yield f"Of {', '.join(others)} neither time nor disk is estimated."
    places = {(w["corpus"], w["split"]) for job in planned if "split" in (w := job["wildcards"])}
    if guessed := ["/".join(p) for p in sorted(places) if estimate.speech(*p).how == "guessed"]:
        yield f"How much speech {', '.join(guessed)} holds is not known: 1000 utterances of 10 s are assumed."
    if not estimate.model.known and {"features", "train", "evaluate"} & set(stages):
        yield f"{estimate.config.base.model} is not there yet: the sizes of Qwen2-Audio-7B are assumed."
    loading = [job["resources"].get("mem_mb", 0) * 1e6 for job in planned if job["stage"] in ("train", "evaluate")]
    if loading and min(loading) < (weights := estimate.model.bytes):
        asked = bytes_text(min(loading))
        yield f"A job loads {bytes_text(weights)} of weights and asks for {asked}; say more in the profile."
    yield "Time is the sum over a row's jobs; memory and GPU memory (where there is one, about) are one job's."


def yet_to_bring(config: Config) -> Iterator[str]:
    """The corpora that are not where the config says, with how to get them."""
    for corpus in dict.fromkeys(corpus for corpus, _ in config.places):
        if told := corpora.absent(config.corpus(corpus)):
            yield f"{corpus} is yet to bring: {told}."


def experiment(arguments: Sequence[str]) -> Path:
    """The config that Snakemake's arguments name."""
    return Path(next((a.partition("=")[2] for a in arguments if a.startswith("experiment=")), "config.yaml"))


def short_of_disk(arguments: Sequence[str]) -> str | None:
    """What to say before a run that its disk will not hold; None too where Snakemake cannot plan: it will say so.

    Where twice the whole experiment has room, nothing needs to be planned.
    """
    try:
        size = Estimate(load(experiment(arguments)))
        disks = [shutil.disk_usage(_there(Path(root))) for root in ("build", "results", "downloads", "scratch")]
        if min(disk.free for disk in disks) > 2 * size.bytes_of_all():
            return None
        planned = jobs(arguments)
        return shortage(planned, size) if planned else None
    except (PlanError, ValueError):
        return None


@console.run
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--each", action="store_true", help="list every job")
    chosen, arguments = parser.parse_known_args(argv)
    try:
        planned = jobs(arguments)
    except PlanError as error:
        console.say(str(error))
        return 1
    config: Config = load(experiment(arguments))
    head = f"{config.name} ({experiment(arguments)})"
    if not planned:
        print(f"{head}: nothing to do; results/{config.name}/report.html is the page to read")
        return 0
    estimate = Estimate(config)
    rates = Rates(estimate, on_gpu=bool(gpu.devices()))
    rows = table(planned, estimate, rates, chosen.each)
    told = [
        f"{head}: {len(planned)} jobs",
        "",
        *rows,
        "",
        total(planned, estimate, rates, any(a.endswith("profile") for a in arguments)),
    ]
    print("\n".join([*told, *cards.rows(planned, estimate), *notes(planned, estimate, rates)]))
    if short := shortage(planned, estimate):
        console.say(f"error: {short}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
