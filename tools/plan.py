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
from dataclasses import dataclass
from pathlib import Path

import cards
import gpu
import settle
from rates import COUNTED, Rates
from reasons import Job, why

from concertina import console, corpora
from concertina.artefacts import dag, takeover
from concertina.artefacts.dag import Artefact
from concertina.artefacts.sizes import Estimate, Size
from concertina.artefacts.standing import Standing
from concertina.config import Config, load
from concertina.store import sealing

NO_ARTEFACT = {"all", "base_scratch"}  # rules that make nothing of the DAG
REMOTE = ("data_fetch", "base_hub")
NAMED = 3  # jobs of a row that are named
LINK_S = 0.1  # for an artefact that is taken over


class PlanError(RuntimeError):
    """Snakemake cannot plan; the message is its own."""


@dataclass(frozen=True)
class Planned:
    """A job that Snakemake would run: the artefact that it makes, the sizes of what there is to do, and why.

    `twin`: the folder that it is taken over from, where another experiment here has made it already.
    `name`: the artefact among those of its rule, and of a job that makes several what is to be made of them.
    """

    rule: str
    name: str
    artefact: Artefact
    parts: tuple[Size, ...]
    reason: str
    threads: int
    memory_mb: int
    on_gpu: bool
    twin: Path | None = None

    @property
    def written(self) -> int:
        """Bytes that it writes; a link takes none."""
        return 0 if self.twin else sum(part.written for part in self.parts)

    def seconds(self, rates: Rates) -> float:
        """How long it takes by itself."""
        return LINK_S if self.twin else rates.seconds(self.rule, self.parts, self.threads)


def jobs(arguments: Sequence[str]) -> list[Job]:
    """What would run, as tools/dryrun.py prints it. Errors: PlanError."""
    command = [sys.executable, str(Path(__file__).with_name("dryrun.py")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PlanError(re.sub(r"^Using workflow specific profile.*\n", "", done.stderr, flags=re.MULTILINE).strip())
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [row for row in rows if row["rule"] not in NO_ARTEFACT]


def planned(arguments: Sequence[str], config: Config, estimate: Estimate) -> list[Planned]:
    """What would run, with sizes and reasons; a job whose artefact can be taken over has nothing else to do."""
    standing = Standing(config)
    twins = {artefact.folder: folder for artefact, folder in takeover.twins(standing)}
    rows = jobs([*settle.again(config), *arguments])
    return [_planned(row, config, estimate, standing, twins) for row in rows]


def _planned(row: Job, config: Config, estimate: Estimate, standing: Standing, twins: dict[Path, Path]) -> Planned:
    artefact = dag.artefact(config, row["rule"], **row["wildcards"])
    inner = [one for one in dag.inputs(config, artefact) if dag.row(one.kind).inside]
    missing = [one for one in inner if not standing.belongs(one) and one.folder not in twins]
    name = artefact.run
    if inner and len(missing) < len(inner):
        runs = ", ".join(f"{one.where['test_set']} {one.where['run']}" for one in missing)
        name = f"{name} (decodes {runs or 'nothing'})"
    twin = twins.get(artefact.folder)
    return Planned(
        rule=row["rule"],
        name=name,
        artefact=artefact,
        parts=tuple(dag.size(estimate, one) for one in (artefact, *missing)),
        reason=f"taken over from {twin.parts[1]}, by its run key" if twin else why(row),
        threads=row["threads"],
        memory_mb=row["resources"].get("mem_mb", 0),
        on_gpu=bool(row["resources"].get("gpu")),
        twin=twin,
    )


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


def wall_seconds(jobs: Sequence[Planned], rates: Rates, cores: int, places: int) -> float:
    """About how long the jobs take on so many cores, and places on a GPU, one stage after the other."""
    stages: dict[str, list[tuple[float, int, bool]]] = defaultdict(list)
    for job in jobs:
        stages[job.rule].append((job.seconds(rates), min(job.threads, cores), bool(places) and job.on_gpu))
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


def table(jobs: Sequence[Planned], rates: Rates, each: bool) -> Iterator[str]:
    """One row per rule and reason, and under it its jobs or the first of them."""
    groups: dict[tuple[str, str], list[Planned]] = defaultdict(list)
    for job in jobs:
        groups[job.rule, job.reason].append(job)
    yield f"{'stage':<16} {'jobs':>4}  {'time':>7} {'disk':>8} {'memory':>8} {'GPU':>8}  why"
    for (rule, reason), members in groups.items():
        seconds = console.clock(sum(job.seconds(rates) for job in members))
        graphics = max((part.gpu_bytes for job in members for part in job.parts), default=0) * members[0].on_gpu
        values = (sum(job.written for job in members), max(job.memory_mb for job in members) * 1e6, graphics)
        sizes = [bytes_text(value) if value else "-" for value in values]
        yield f"{rule:<16} {len(members):>4}  {seconds:>7} {sizes[0]:>8} {sizes[1]:>8} {sizes[2]:>8}  {reason}"
        names = sorted(job.name for job in members if job.name)
        if each:
            yield from (f"{'':<22} {name}" for name in names)
        elif names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            yield f"{'':<22} {', '.join(names[:NAMED])}{more}"


def total(jobs: Sequence[Planned], rates: Rates, elsewhere: bool) -> str:
    """All that is written, the room for it, and on this computer how long it takes."""
    written, free = sum(job.written for job in jobs), shutil.disk_usage(Path()).free
    text = f"{bytes_text(written)} to write, {bytes_text(free)} free"
    if elsewhere:  # how many cores a cluster gives is not known here
        return text
    cores, devices = len(os.sched_getaffinity(0)), gpu.devices()
    on = f"{cores} cores" + (f" and {len(devices)} GPUs" if devices else "")
    return f"{text}; about {console.clock(wall_seconds(jobs, rates, cores, len(devices) * gpu.jobs_per_gpu()))} on {on}"


def notes(jobs: Sequence[Planned], estimate: Estimate, rates: Rates) -> Iterator[str]:
    """What the figures rest on."""
    made = [job for job in jobs if not job.twin]
    stages = list(dict.fromkeys(job.rule.removesuffix("_share") for job in made))
    if recorded := [stage for stage in stages if stage in rates.recorded]:
        yield f"Times of {', '.join(recorded)}: as fast as recorded here."
    if default := [stage for stage in stages if stage in COUNTED and stage not in rates.recorded]:
        yield f"Times of {', '.join(default)}: default rates; nothing like them has run here yet."
    yield from yet_to_bring(estimate.config)
    if remote := [stage for stage in REMOTE if stage in stages]:
        yield f"How long {' and '.join(remote)} takes is up to the network."
    if others := [stage for stage in stages if stage not in (*COUNTED, *REMOTE, "report", "report_track")]:
        yield f"Of {', '.join(others)} neither time nor disk is estimated."
    places = {(w["corpus"], w["split"]) for job in made if "split" in (w := job.artefact.where)}
    if guessed := ["/".join(place) for place in sorted(places) if estimate.extent(*place).how == "guessed"]:
        yield f"How much speech {', '.join(guessed)} holds is not known: 1000 utterances of 10 s are assumed."
    if not estimate.model.known and {"features", "train", "evaluate"} & set(stages):
        yield f"{estimate.config.base.model} is not there yet: the sizes of Qwen2-Audio-7B are assumed."
    loading = [job.memory_mb * 1e6 for job in made if job.rule in ("train", "evaluate")]
    if loading and min(loading) < (weights := estimate.model.bytes):
        asked = bytes_text(min(loading))
        yield f"A job loads {bytes_text(weights)} of weights and asks for {asked}; say more in the profile."
    yield "Time is the sum over a row's jobs; memory and GPU memory (where there is one, about) are one job's."


def yet_to_bring(config: Config) -> Iterator[str]:
    """The corpora that are not where the config says, with how to get them."""
    for corpus in dict.fromkeys(corpus for corpus, _ in config.splits):
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
        config = load(experiment(arguments))
        estimate = Estimate(config)
        disks = [shutil.disk_usage(_there(Path(root))) for root in ("build", "results", "downloads", "scratch")]
        whole = sum(dag.size(estimate, artefact).written for artefact in dag.every(config))
        if min(disk.free for disk in disks) > 2 * whole:
            return None
        return shortage(planned(arguments, config, estimate))
    except (PlanError, ValueError):
        return None


@console.run
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--each", action="store_true", help="list every job")
    args, arguments = parser.parse_known_args(argv)
    corpora.may_be_absent = True
    config = load(experiment(arguments))
    estimate = Estimate(config)
    try:
        jobs = planned(arguments, config, estimate)
    except PlanError as error:
        console.say(str(error))
        return 1
    head = f"{config.name} ({experiment(arguments)})"
    if not jobs:
        print(f"{head}: nothing to do; results/{config.name}/report.html is the page to read")
        return 0
    rates = Rates(estimate, on_gpu=bool(gpu.devices()))
    elsewhere = any(argument.endswith("profile") for argument in arguments)
    rows = [*table(jobs, rates, args.each), "", total(jobs, rates, elsewhere)]
    print(
        "\n".join([f"{head}: {len(jobs)} jobs", "", *rows, *cards.rows(jobs, estimate), *notes(jobs, estimate, rates)])
    )
    if short := shortage(jobs):
        console.say(f"error: {short}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
