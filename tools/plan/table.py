"""Write what `make plan` prints: a row per stage and reason, the totals, and what the figures are based on."""

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from concertina import console, corpora
from concertina.artefacts import edges
from concertina.artefacts.sizes import UNKNOWN, UNKNOWN_S, Estimate
from concertina.config import Config
from tools import gpu
from tools.plan.disk import bytes_text
from tools.plan.jobs import Planned
from tools.plan.rates import COUNTED, Rates

REMOTE = ("data_fetch", "base_hub")
NAMED = 3  # how many jobs of a row are named
HARDLY = 10  # times as many utterances are encoded as are used


def rows(jobs: Sequence[Planned], rates: Rates, each: bool) -> Iterator[str]:
    """Yield a row per rule and reason, and under it its jobs or the first of them."""
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
    """Return the bytes to write, the free space, and, for a run on this computer, about how long it takes."""
    written, free = sum(job.written for job in jobs), shutil.disk_usage(Path()).free
    text = f"{bytes_text(written)} to write, {bytes_text(free)} free"
    if elsewhere:  # the cores of a cluster are not known here
        return text
    cores, devices = len(os.sched_getaffinity(0)), gpu.devices()
    on = f"{cores} cores" + (f" and {len(devices)} GPUs" if devices else "")
    return f"{text}; about {console.clock(wall_seconds(jobs, rates, cores, len(devices) * gpu.jobs_per_gpu()))} on {on}"


def notes(jobs: Sequence[Planned], estimate: Estimate, rates: Rates) -> Iterator[str]:
    """Yield what the figures are based on."""
    made = [job for job in jobs if not job.twin]
    stages = list(dict.fromkeys(job.rule.removesuffix("_share") for job in made))
    if recorded := [stage for stage in stages if stage in rates.recorded]:
        yield f"Times of {', '.join(recorded)} are estimated from earlier runs on this machine."
    if default := [stage for stage in stages if stage in COUNTED and stage not in rates.recorded]:
        yield f"Times of {', '.join(default)} are estimated from default rates: none of these has run here yet."
    yield from yet_to_bring(estimate.config)
    if remote := [stage for stage in REMOTE if stage in stages]:
        yield f"How long {' and '.join(remote)} takes depends on the network."
    if others := [stage for stage in stages if stage not in (*COUNTED, *REMOTE, "report", "report_track")]:
        yield f"Neither time nor disk of {', '.join(others)} is estimated."
    places = {(w["corpus"], w["split"]) for job in made if "split" in (w := job.artefact.where)}
    if guessed := ["/".join(place) for place in sorted(places) if estimate.extent(*place).how == "guessed"]:
        yield (
            f"How much speech {', '.join(guessed)} holds is not known: {UNKNOWN} utterances of {UNKNOWN_S:.0f} s are "
            "assumed, or as many as the config limits it to."
        )
    if made:
        yield from hardly_used(estimate)
    if not estimate.model.known and {"features", "train", "evaluate"} & set(stages):
        yield f"{estimate.config.base.model} is not there yet: the sizes of Qwen2-Audio-7B are assumed."
    loading = [job.memory_mb * 1e6 for job in made if job.rule in ("train", "evaluate")]
    if loading and min(loading) < (weights := estimate.model.bytes):
        memory = bytes_text(min(loading))
        yield f"A job loads {bytes_text(weights)} of weights but asks for {memory} of memory; set more in the profile."
    yield "Time is the sum over a row's jobs; memory and GPU memory (approximate, if a GPU is used) are one job's."


def hardly_used(estimate: Estimate) -> Iterator[str]:
    """Yield the splits of which far more is read and encoded than is used, with the remedy."""
    for corpus, split in (tuple(where.values()) for where in edges.encoded(estimate.config)):
        held, used = estimate.extent(corpus, split).utterances, estimate.drawn(corpus, split)
        if held > HARDLY * used:
            yield (
                f"Of {held:,.0f} utterances of {corpus}/{split}, at most {used:,.0f} are used; to read and encode "
                f"fewer, set data.corpora.{corpus}.utterances.{split}."
            )


def yet_to_bring(config: Config) -> Iterator[str]:
    """Yield the corpora that are not where the config says, with how to get them."""
    for corpus in dict.fromkeys(corpus for corpus, _ in config.splits):
        if remedy := corpora.absent(config.corpus(corpus)):
            yield f"{corpus} is missing: {remedy}."


def wall_seconds(jobs: Sequence[Planned], rates: Rates, cores: int, places: int) -> float:
    """Estimate how long the jobs take on so many cores and places on GPUs, one stage after the other."""
    stages: dict[str, list[tuple[float, int, bool]]] = defaultdict(list)
    for job in jobs:
        stages[job.rule].append((job.seconds(rates), min(job.threads, cores), bool(places) and job.on_gpu))
    total = 0.0
    for group in stages.values():
        by_core = sum(seconds * threads for seconds, threads, _ in group) / cores
        by_gpu = sum(seconds for seconds, _, on_gpu in group if on_gpu) / max(places, 1)
        total += max(by_core, by_gpu, *(seconds for seconds, _, _ in group))
    return total
