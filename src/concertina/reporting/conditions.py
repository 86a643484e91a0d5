"""What the numbers are conditional on, in sentences, and how long they took."""

from collections.abc import Mapping, Sequence
from statistics import median

from concertina.reporting.evidence import Evidence
from concertina.reporting.prose import Table, joined
from concertina.reporting.statistics import SEEDS_TO_SPREAD

CPUS = (
    "Another kind of machine rounds differently, and training carries that into the scores: with the same config and "
    "seed, adapted scores of the tiny default on `hard` differed by 0.8 points of WER between two kinds of CPU (root "
    "mean square over eight cells); zero-shot ones were equal."
)


def took(evidence: Evidence) -> list[str]:
    """Give the median time of an adapter and of a decoded set, and the time of the base, where they are known."""
    adapters = [training.record.seconds for training in evidence.trainings]
    decoded = [result.record.seconds for result in evidence.results]
    times = [f"{median(adapters):,.0f} s per adapter"] if adapters else []
    times += [f"{median(decoded):,.0f} s per test set"] if decoded else []
    sentences = [f"Median time: {', '.join(times)}."] if times else []
    if evidence.assembled:
        sentences.append(f"Joining the base took {evidence.assembled.seconds:,.0f} s.")
    return sentences


def conditions(
    tables: Sequence[Table], seeds: Sequence[int], base: str, synthetic: Sequence[str], skipped: Mapping[str, str]
) -> list[str]:
    """Say what the numbers are conditional on. `synthetic`: the test sets with synthetic speech."""
    sentences = [
        f"One base model ({base}). Another base may rank the compressors differently: how an encoder was trained "
        "decides how redundant neighbouring frames are."
    ]
    if all(table.board.blocked for table in tables):
        sentences.append("The intervals resample whole speakers, so they extend to other speakers of that kind.")
    else:
        sentences.append(
            "Where a test set has fewer than 40 speakers, the intervals resample utterances: they hold for "
            "these voices and do not extend to others."
        )
    if not seeds:
        sentences.append("Nothing was adapted: every score is zero-shot.")
    elif len(seeds) < SEEDS_TO_SPREAD:
        listed = f"One LoRA seed ({seeds[0]})" if len(seeds) == 1 else f"{len(seeds)} LoRA seeds"
        sentences.append(f"{listed}. Another seed changes a score too; the intervals do not include that.")
    else:
        sentences.append(
            f"{len(seeds)} LoRA seeds where several are listed. Intervals of what has three seeds or more are over "
            "seeds too; those of what has fewer are not."
        )
    sentences += [CPUS] if seeds else []
    sentences += [
        "Every adapted cell had the same training pairs, order, batch, steps, schedule, rank and targets; a learning "
        "rate tuned on some cells may favour them.",
        "Tokens are counted at the rate that each test set realised. Differences are paired. Verdicts on claims are "
        "adjusted for how many are judged; other differences are not, and are said to hold in this run.",
    ]
    if synthetic:
        sentences.append(
            f"The speech of {joined(synthetic)} is synthetic: it shows how the methods behave under controlled "
            "conditions, and does not show how they compare on recorded speech or with large models."
        )
    return [*sentences, *(f"The test set {name} was skipped: {reason}." for name, reason in skipped.items())]
