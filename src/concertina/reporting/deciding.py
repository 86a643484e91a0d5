"""What decides a test: the exact p of signs of seeds, p-values adjusted for their number, and how much more data."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri, stdtrit

from concertina.reporting.statistics import Interval

MANY = 1e9  # degrees of freedom: Student's t is normal
POWER = 0.8  # of the numbers of utterances or seeds that would decide


def sign_flip_p(differences: Sequence[float]) -> float:
    """Return the exact two-sided p of paired differences, one per seed: of all choices of signs, the share as extreme.

    Three seeds that agree give 1/4, six 1/32: less is not in them, whatever their size.
    """
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(differences))))
    sums = np.abs(signs @ np.asarray(differences, dtype=float))
    return float(np.mean(sums >= sums[0] * (1 - 1e-9)))  # the first choice leaves every sign as it is


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for how many there are by Holm's step-down method, in the order that they came in."""
    adjusted, worst = [0.0] * len(p_values), 0.0
    for place, i in enumerate(np.argsort(p_values, kind="stable")):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[int(i)] = worst
    return adjusted


def would_decide(effect: Interval, limit: float, alpha: float, n_utterances: int) -> str:
    """Say how many utterances or seeds would decide, 4 times in 5, whether an effect is below a limit.

    That is where the effect is as large as it looks; `alpha` is the level of the two-sided test.
    """
    distance, (utterances, seeds) = abs((effect.value or 0.0) - limit), effect.errors
    if not (distance > 0 and utterances + seeds > 0):
        return "an exact tie"
    here = max(1, len(effect.per_seed))
    between = float(np.var(effect.per_seed, ddof=1)) / here if effect.spreads else 0.0

    def decided(times: float, n_seeds: int) -> bool:
        of_seeds = seeds**2 * here / n_seeds
        total = utterances**2 / times + of_seeds
        spread = of_seeds + max(0.0, between - seeds**2) * here / n_seeds / times
        freedom = (n_seeds - 1) * (total / spread) ** 2 if spread else MANY
        return distance >= (stdtrit(min(freedom, MANY), 1 - alpha / 2) + ndtri(POWER)) * math.sqrt(total)

    more = [1.05**i for i in range(200)]
    enough = next((times for times in more if decided(times, here)), None)
    ways = [] if enough is None else [_about(n_utterances * enough, "utterances")]
    if effect.spreads and (few := next((n for n in range(here + 1, 100) if decided(1, n)), None)):
        ways.append(f"{few} seeds")
    if not ways and (both := next((times for times in more if decided(times, round(here * times))), None)):
        ways.append(_about(both, "times the utterances and the seeds"))
    return " or ".join(ways) or f"more than {more[-1]:,.0f} times as much"


def _about(number: float, noun: str) -> str:
    """Write a number of things to two digits, rounded up: 'about 2,400 utterances'."""
    step = 10 ** max(0, len(str(math.ceil(number))) - 2)
    return f"about {math.ceil(number / step) * step:,} {noun}"
