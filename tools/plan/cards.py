"""Estimate whether an experiment with a large base fits on cards of several sizes, and about how many hours it takes.

The hours are calculated, not measured: dense work runs at a share of the card's peak, and decoding reads the weights
from memory once per step. Peaks (bfloat16, dense) and bandwidths are from the makers' data sheets.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from concertina.artefacts.sizes import BYTES, Estimate
from tools.plan.jobs import Planned

LARGE = 1e9  # parameters of an LLM: a smaller one fits on any card
SHARE = 0.35  # of the peak that dense work is assumed to reach
ROOM = 0.94  # of a card's memory that a job may fill
GB = 1e9
STAGES = ("features", "train", "evaluate")


class Card(NamedTuple):
    """A size of memory, and a card that has it."""

    gigabytes: int
    name: str
    flops: float
    bytes_per_s: float


CARDS = (
    Card(24, "RTX 4090", 165e12, 1.01e12),
    Card(40, "A100", 312e12, 1.56e12),
    Card(80, "A100", 312e12, 2.04e12),
    Card(141, "H200", 989e12, 4.8e12),
)


def rows(planned: Sequence[Planned], estimate: Estimate) -> Iterator[str]:
    """Yield a line per card; nothing for a base that fits on any machine."""
    jobs = [job for job in planned if job.rule.removesuffix("_share") in STAGES]
    if estimate.model.llm < LARGE or not jobs:
        return
    need = {
        stage: max((part.gpu_bytes for job in jobs if job.rule.startswith(stage) for part in job.parts), default=0)
        for stage in STAGES
    }
    yield f"{'one card':<18} {'features':>9} {'train':>9} {'evaluate':>9}  {'hours':>6}  fits"
    for card in CARDS:
        seconds = sum(_seconds(job, estimate, card) for job in jobs)
        short = [stage for stage in STAGES if need[stage] > ROOM * card.gigabytes * GB]
        sizes = " ".join(f"{need[stage] / GB:>6.0f} GB" for stage in STAGES)
        fits = "yes" if not short else f"not {', '.join(short)}: {_remedy(estimate, short)}"
        yield f"{card.gigabytes:>4} GB ({card.name:<9}) {sizes}  {seconds / 3600:>6.0f}  {fits}"
    yield (
        f"Hours are calculated: {100 * SHARE:.0f} % of the peak of the named card, and its memory's speed in decoding; "
        "jobs on several cards share them."
    )


def _seconds(job: Planned, estimate: Estimate, card: Card) -> float:
    dense = sum(part.work * part.flop_per_work for part in job.parts) / (SHARE * card.flops)
    steps = sum(part.answered for part in job.parts) / estimate.config.evaluate.batch
    weights = BYTES[estimate.config.evaluate.precision] * (estimate.model.llm + estimate.model.embeddings / 2)
    return float(dense + steps * weights / card.bytes_per_s)


def _remedy(estimate: Estimate, short: Sequence[str]) -> str:
    if estimate.config.base.four_bit:
        return "lower train.batch and evaluate.batch"
    return "set base.four_bit" if "train" in short else "lower evaluate.batch"
