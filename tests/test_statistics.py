"""Intervals against a slow bootstrap written out, their coverage, pairing, Holm, recovery and interpolation."""

import numpy as np
import pytest

from concertina import metrics
from concertina.metrics import _edits
from concertina.reporting import statistics
from concertina.reporting.statistics import BLOCKED, CONDITIONAL, Interval

combine = _edits.combine


def systems(utterances: int, rates: list[float], seed: int = 0) -> list[np.ndarray]:
    """WER statistics of systems with these error rates, correlated through each utterance's difficulty."""
    rng = np.random.default_rng(seed)
    words_U = rng.integers(3, 13, utterances)
    hard_U = rng.beta(2, 2, utterances) * 2
    found = []
    for rate in rates:
        errors_U = rng.binomial(words_U, np.clip(rate * hard_U, 0, 1))
        zeros_U = np.zeros(utterances, dtype=np.int64)
        found.append(np.stack([errors_U, zeros_U, zeros_U, words_U, errors_U], 1))
    return found


def drawn(utterances: int) -> statistics.Units:
    return statistics.units([None] * utterances)


def known(found: Interval) -> tuple[float, float, float]:
    """The low end, the value and the high end of an interval that has all three."""
    assert found.low is not None
    assert found.value is not None
    assert found.high is not None
    return found.low, found.value, found.high


def width(found: Interval) -> float:
    low, _, high = known(found)
    return high - low


def test_an_interval_holds_its_value_and_is_the_same_twice() -> None:
    (stats_UK,) = systems(300, [0.2])
    first, second = (statistics.interval(combine, stats_UK, drawn(300)) for _ in range(2))
    assert first == second
    low, value, high = known(first)
    assert low < value < high
    assert first.value == combine(stats_UK.sum(0))


@pytest.mark.parametrize("speakers", [None, 50])
def test_agrees_with_a_bootstrap_written_out(speakers: int | None) -> None:
    (stats_UK,) = systems(200, [0.3])
    names = [None] * 200 if speakers is None else [f"voice {i % speakers}" for i in range(200)]
    fast = statistics.interval(combine, stats_UK, statistics.units(names), samples=4000)
    rng = np.random.default_rng(1)
    slow = []
    for _ in range(2000):
        if speakers is None:
            chosen = rng.choice(200, 200)
        else:
            voices = rng.choice(speakers, speakers)
            chosen = np.concatenate([np.flatnonzero(np.arange(200) % speakers == voice) for voice in voices])
        slow.append(100 * stats_UK[chosen, :3].sum() / stats_UK[chosen, 3].sum())
    assert [fast.low, fast.high] == pytest.approx(np.percentile(slow, [2.5, 97.5]), abs=0.35)


def test_coverage_is_near_nominal() -> None:
    """The share of 95 % intervals that hold the true rate, over 200 simulated test sets of 150 utterances."""
    hits = 0
    for seed in range(200):
        (stats_UK,) = systems(150, [0.2], seed)
        found = statistics.interval(combine, stats_UK, drawn(150), samples=400)
        low, _, high = known(found)
        hits += low <= 20 <= high
    assert 0.90 <= hits / 200 <= 0.99


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    (stats_UK,) = systems(97, [0.2])
    whole = statistics.resampled_sums(stats_UK, drawn(97), samples=100)
    monkeypatch.setattr(statistics, "_WEIGHTS_AT_ONCE", 97 * 7)
    assert (statistics.resampled_sums(stats_UK, drawn(97), samples=100) == whole).all()


def test_every_resample_draws_as_many_units_as_there_are() -> None:
    names = [f"voice {i % 45}" for i in range(90)]
    for units in (drawn(90), statistics.units(names)):
        assert (statistics.resampled_sums(np.ones((90, 1)), units, samples=50) == 90).all()


@pytest.mark.parametrize(
    ("speakers", "label", "count"),
    [
        ([f"voice {i % 40}" for i in range(80)], BLOCKED, 40),
        ([f"voice {i % 39}" for i in range(80)], CONDITIONAL, 80),
        ([None] * 80, CONDITIONAL, 80),
        ([f"voice {i}" for i in range(79)] + [None], CONDITIONAL, 80),
    ],
)
def test_blocked_by_speaker_only_from_forty_known_speakers(speakers: list, label: str, count: int) -> None:
    units = statistics.units(speakers)
    assert (units.label, units.count) == (label, count)


def test_blocking_widens_the_interval_where_speakers_differ() -> None:
    rng = np.random.default_rng(0)
    speaker_U = np.repeat(np.arange(50), 20)
    errors_U = rng.binomial(10, rng.uniform(0, 0.6, 50)[speaker_U])
    stats_UK = np.stack([errors_U, 0 * errors_U, 0 * errors_U, 0 * errors_U + 10, errors_U], 1)
    free = statistics.interval(combine, stats_UK, drawn(1000))
    blocked = statistics.interval(combine, stats_UK, statistics.units(speaker_U.tolist()))
    assert blocked.value == free.value
    assert width(blocked) > 2 * width(free)


def test_identical_systems_differ_by_nothing() -> None:
    (stats_UK,) = systems(100, [0.2])
    found = statistics.difference(combine, stats_UK, stats_UK.copy(), drawn(100))
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_pairing_narrows_a_difference() -> None:
    (a_UK,) = systems(200, [0.3])
    b_UK = a_UK.copy()
    b_UK[:20, 0] += 1
    paired = statistics.difference(combine, b_UK, a_UK, drawn(200))
    alone = statistics.interval(combine, a_UK, drawn(200))
    low, value, high = known(paired)
    assert 0 < low < value < high
    assert paired.p is not None
    assert paired.p < 0.01
    assert width(paired) < width(alone) / 2


def test_a_difference_changes_sign_with_its_order() -> None:
    a_UK, b_UK = systems(100, [0.2, 0.3])
    ab, ba = (
        statistics.difference(combine, a_UK, b_UK, drawn(100)),
        statistics.difference(combine, b_UK, a_UK, drawn(100)),
    )
    assert known(ab) == pytest.approx([-end for end in reversed(known(ba))])


def test_pooled_seeds_give_a_narrower_difference() -> None:
    a, b = (systems(150, [rate] * 3, seed=1) for rate in (0.2, 0.23))
    one = statistics.difference(combine, a[0], b[0], drawn(150))
    three = statistics.difference(combine, statistics.pool(a), statistics.pool(b), drawn(150))
    assert three.value == pytest.approx(combine(np.sum(a, (0, 1))) - combine(np.sum(b, (0, 1))))
    assert width(three) < width(one)


def test_systems_on_other_utterances_are_refused() -> None:
    (a_UK,), (b_UK,) = systems(100, [0.2]), systems(99, [0.2])
    with pytest.raises(ValueError, match="same utterances"):
        statistics.difference(combine, a_UK, b_UK, drawn(100))
    with pytest.raises(ValueError, match="same utterances"):
        statistics.pool([a_UK, b_UK])
    with pytest.raises(ValueError, match="units of 99"):
        statistics.interval(combine, a_UK, drawn(99))


def test_intervals_of_a_score_that_is_no_ratio() -> None:
    bleu = metrics.load("bleu")
    references = [f"the red boat number {i} sails past {i * 7} islands" for i in range(80)]
    hypotheses = [text.replace("red", "green") if i % 3 else text for i, text in enumerate(references)]
    score = bleu.score(references, hypotheses, "de")
    found = statistics.interval(bleu.combine, score.stats_UK, drawn(80))
    low, _, high = known(found)
    assert low < score.value < high < 100


def test_holm_by_hand() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.6, 0.7]) == [1, 1]
    assert statistics.holm([]) == []


@pytest.mark.parametrize(
    ("zero_shot", "adapted", "adapted_none", "higher_is_better", "expected"),
    [
        (50, 10, 10, False, 1),
        (50, 30, 10, False, 0.5),
        (50, 60, 10, False, -0.25),
        (50, 5, 10, False, 1.125),
        (10, 5, 10, False, None),
        (8, 5, 10, False, None),
        (40, 60, 80, True, 0.5),
        (80, 80, 80, True, None),
    ],
)
def test_recovery(
    zero_shot: float, adapted: float, adapted_none: float, higher_is_better: bool, expected: float | None
) -> None:
    assert statistics.recovery(zero_shot, adapted, adapted_none, higher_is_better) == expected


def test_recovery_has_a_paired_interval_only_where_it_is_defined_throughout() -> None:
    zero_shot, adapted, none = systems(200, [0.4, 0.15, 0.1])
    found = statistics.paired(statistics.recoveries, combine, [zero_shot, adapted, none], drawn(200))
    low, value, high = known(found)
    assert 0.5 < low < value < high < 1
    unclear = statistics.paired(statistics.recoveries, combine, [none, adapted, none], drawn(200))
    assert (unclear.value, unclear.low, unclear.high) == (None, None, None)


def test_interpolation_reads_between_points_and_never_beyond() -> None:
    rates, values = [12.5, 25, 8], [20, 10, 40]
    assert statistics.interpolate(rates, values, 18.75) == 15
    assert statistics.interpolate(rates, values, 8) == 40
    assert statistics.interpolate(rates, values, 25) == 10
    assert statistics.interpolate(rates, values, 25.1) is None
    assert statistics.interpolate([], [], 1) is None
    assert statistics.interpolate(rates, np.array([[20, 22], [10, 12], [40, 42]]), 18.75) == pytest.approx([15, 17])


def test_a_system_is_compared_with_a_curve_at_its_own_rate() -> None:
    natural, two, three = systems(200, [0.2, 0.1, 0.3])

    def above(natural_S: np.ndarray, *curve: np.ndarray) -> np.ndarray:
        return natural_S - statistics.interpolate([12, 8], np.stack(curve), 10)

    found = statistics.paired(above, combine, [natural, two, three], drawn(200))
    low, value, high = known(found)
    assert low < value < high
    assert found.value == pytest.approx(combine(natural.sum(0)) - (combine(two.sum(0)) + combine(three.sum(0))) / 2)


def test_spread_over_seeds() -> None:
    assert statistics.spread([10, 12, 11]) == 2
    assert statistics.spread([10]) is None
