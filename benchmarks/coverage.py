"""How often a 95 % interval holds the truth: simulated test sets and seeds, the report's own intervals.

    PYTHONPATH=src python benchmarks/coverage.py [--trials 2000] [--record FILE]

Two systems are scored by WER on 300 utterances of unlike difficulty; the truth is the difference of their rates over
all utterances and all seeds. A seed moves a system's rate by `seed sd` points on every utterance alike, and by as much
again on each utterance by itself. In the last case 2 % of the words are wrong, and most of those lie in few utterances.
Beside the report's intervals stand two that it does not use: seeds pooled and only utterances resampled; and seeds
drawn with replacement as utterances are. `false_alarms`: how often the report's p of the truth is below 0.005, in
percent. Prints one JSON line per case and writes them to FILE.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from concertina.reporting import statistics
from concertina.reporting.statistics import Bootstrap, Interval

UTTERANCES, SAMPLES, TRIALS_PER_DRAW = 300, 1000, 20
REPORTS, STRICT = "the report's", 0.005


@dataclass(frozen=True)
class Case:
    """What is simulated; rates and `seed_sd` in points of WER, `spread`: how unlike the utterances' difficulty is."""

    name: str
    seeds: int
    seed_sd: float
    rates: tuple[float, float] = (22.0, 24.0)
    spread: float = 0.25


CASES = [
    Case("no training", 1, 0.0),
    Case("no training, few errors", 1, 0.0, (1.5, 2.5), 4.0),
    Case("one seed", 1, 0.6),
    *(Case("seeds", n, sd) for n in (3, 6) for sd in (0.1, 0.6, 2.0, 6.0)),
    Case("seeds, few errors", 3, 0.3, (1.5, 2.5), 4.0),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=2000, help="simulated test sets per case")
    parser.add_argument("--record", type=Path, help="a file that gets the lines, too")
    args = parser.parse_args()
    lines = []
    for case in CASES:
        lines.append(json.dumps(simulate(case, args.trials)))
        print(lines[-1], flush=True)
    if args.record:
        args.record.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def simulate(case: Case, trials: int) -> dict[str, object]:
    """Return how often each kind of interval holds the truth, in percent, its mean width, and the false alarms."""
    truth = case.rates[0] - case.rates[1]
    holds: dict[str, list[bool]] = {}
    widths: dict[str, list[float]] = {}
    alarms = 0
    for trial in range(trials):
        if trial % TRIALS_PER_DRAW == 0:
            drawn = Bootstrap([None] * UTTERANCES, SAMPLES, seed=trial)
        for kind, found in intervals(drawn, *systems(case, np.random.default_rng([trial, case.seeds]))):
            assert found.low is not None
            assert found.high is not None
            holds.setdefault(kind, []).append(found.low <= truth <= found.high)
            widths.setdefault(kind, []).append(found.high - found.low)
            alarms += kind == REPORTS and found.p(truth) < STRICT
    coverage = {kind: round(100 * float(np.mean(each)), 1) for kind, each in holds.items()}
    width = {kind: round(float(np.mean(each)), 2) for kind, each in widths.items()}
    about = {"case": case.name, "seeds": case.seeds, "seed_sd": case.seed_sd}
    return {**about, "coverage": coverage, "width": width, "false_alarms": round(100 * alarms / trials, 2)}


def systems(case: Case, rng: np.random.Generator) -> Iterator[list[np.ndarray]]:
    """Draw utterances, and for each system the statistics of its seeds on them: one stats_UK per seed."""
    words_U = rng.integers(3, 13, UTTERANCES)
    hard_U = rng.gamma(1 / case.spread, case.spread, UTTERANCES)  # of mean 1
    for rate in case.rates:
        seeds, own_U = [], hard_U * rng.gamma(4, 1 / 4, UTTERANCES)  # what this system finds hard, whatever its seed
        for _ in range(case.seeds):
            spread = (case.seed_sd / rate) ** 2  # both factors have mean 1, so the rate is the truth
            alike = rng.gamma(1 / spread, spread) if spread else 1.0
            alone_U = rng.gamma(1 / spread, spread, UTTERANCES) if spread else 1.0
            errors_U = rng.poisson(words_U * rate / 100 * own_U * alike * alone_U)
            zeros_U = np.zeros_like(errors_U)
            seeds.append(np.stack([errors_U, zeros_U, zeros_U, words_U, np.minimum(errors_U, words_U)], axis=1))
        yield seeds


def intervals(drawn: Bootstrap, first: list[np.ndarray], second: list[np.ndarray]) -> Iterator[tuple[str, Interval]]:
    """Yield each kind of interval of the difference of two systems."""
    pooled = {i: ("wer", statistics.pool(seeds)) for i, seeds in enumerate((first, second))}
    a, b = drawn.resampled(pooled).values()
    each = {(i, s): ("wer", one) for i, seeds in enumerate((first, second)) for s, one in enumerate(seeds)}
    scored = drawn.resampled(each)
    alone = [(scored[0, s], scored[1, s]) for s in range(len(first))]
    yield REPORTS, drawn.paired(np.subtract, a, b, seeds=alone)
    if len(first) > 1:
        yield "utterances alone", drawn.paired(np.subtract, a, b)
        differences_NS = np.array([one.values_S - other.values_S for one, other in alone])
        picks_NS = np.random.default_rng(0).integers(len(first), size=differences_NS.shape)
        values_S = np.take_along_axis(differences_NS, picks_NS, axis=0).mean(0)
        yield "seeds drawn with replacement", drawn.percentile(a.value - b.value, values_S)


if __name__ == "__main__":
    sys.exit(main())
