"""The bootstrap that the report uses: against one written out, its coverage, pairing, recovery and interpolation."""

import numpy as np
import pytest

from concertina import metrics
from concertina.metrics import _edits
from concertina.reporting import deciding, statistics
from concertina.reporting.statistics import BLOCKED, CONDITIONAL, SAMPLES, SEED, Bootstrap, Interval, Resampled

combine = _edits.combine


def stats(utterances: int, rates: list[float], seed: int = 0) -> list[np.ndarray]:
    """WER statistics of systems with these error rates, correlated through each utterance's difficulty."""
    rng = np.random.default_rng(seed)
    words_U = rng.integers(3, 13, utterances)
    hard_U = rng.beta(2, 2, utterances) * 2
    systems = []
    for rate in rates:
        errors_U = rng.binomial(words_U, np.clip(rate * hard_U, 0, 1))
        zeros_U = np.zeros(utterances, dtype=np.int64)
        systems.append(np.stack([errors_U, zeros_U, zeros_U, words_U, errors_U], 1))
    return systems


def bootstrap(utterances: int, samples: int = SAMPLES) -> Bootstrap:
    return Bootstrap([None] * utterances, samples)


def resampled(drawn: Bootstrap, *systems: np.ndarray) -> list[Resampled]:
    return [*drawn.resampled({i: ("wer", stats_UK) for i, stats_UK in enumerate(systems)}).values()]


def interval(drawn: Bootstrap, stats_UK: np.ndarray) -> Interval:
    return drawn.interval(*resampled(drawn, stats_UK))


def difference(drawn: Bootstrap, *systems: np.ndarray) -> Interval:
    return drawn.paired(np.subtract, *resampled(drawn, *systems))


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
    (stats_UK,) = stats(300, [0.2])
    first, second = (interval(bootstrap(300), stats_UK) for _ in range(2))
    assert first == second
    low, value, high = known(first)
    assert low < value < high
    assert first.value == combine(stats_UK.sum(0))


@pytest.mark.parametrize("speakers", [None, 50])
def test_it_is_the_bootstrap_written_out(speakers: int | None) -> None:
    """The same draws, utterance by utterance: picked, concatenated and scored as the texts of each resample are."""
    (stats_UK,) = stats(200, [0.3])
    units = 200 if speakers is None else speakers
    names = [None] * 200 if speakers is None else [f"voice {i % speakers}" for i in range(200)]
    members = [np.flatnonzero(np.arange(200) % units == unit) for unit in range(units)]
    rng = np.random.default_rng(SEED)
    slow = []
    for picks in rng.integers(units, size=(500, units)):
        drawn = np.concatenate([members[unit] for unit in picks])
        slow.append(100 * stats_UK[drawn, :3].sum() / stats_UK[drawn, 3].sum())
    (fast,) = resampled(Bootstrap(names, 500), stats_UK)
    assert fast.values_S == pytest.approx(np.array(slow))
    ends = Bootstrap(names, 500, confidence_percent=90).interval(fast)
    assert [ends.low, ends.high] == pytest.approx(np.percentile(slow, [5, 95]).tolist())


def test_coverage_is_near_nominal() -> None:
    """The share of 95 % intervals that hold the true rate, over 200 simulated test sets of 150 utterances."""
    drawn, hits = bootstrap(150, 400), 0
    for seed in range(200):
        low, _, high = known(interval(drawn, *stats(150, [0.2], seed)))
        hits += low <= 20 <= high
    assert 0.90 <= hits / 200 <= 0.99


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    (stats_UK,) = stats(97, [0.2])
    (whole,) = resampled(bootstrap(97, 100), stats_UK)
    monkeypatch.setattr(statistics, "_WEIGHTS_AT_ONCE", 97 * 7)
    (chunked,) = resampled(bootstrap(97, 100), stats_UK)
    assert (chunked.values_S == whole.values_S).all()


def test_a_system_scores_the_same_in_any_company() -> None:
    one, two = stats(80, [0.2, 0.4])
    drawn = bootstrap(80, 200)
    (alone,), together = resampled(drawn, one), resampled(drawn, two, one)
    assert (together[1].values_S == alone.values_S).all()


def test_systems_of_several_metrics_are_resampled_together() -> None:
    references = [f"the red boat number {i} sails past {i * 7} islands" for i in range(80)]
    hypotheses = [text.replace("red", "green") if i % 3 else text for i, text in enumerate(references)]
    scores = {name: metrics.load(name).score(references, hypotheses, "de") for name in ("bleu", "cer")}
    drawn = bootstrap(80)
    for name, found in drawn.resampled({name: (name, score.stats_UK) for name, score in scores.items()}).items():
        ends = drawn.interval(found)
        assert found.value == scores[name].value
        low, value, high = known(ends)
        assert low < value < high < 100


@pytest.mark.parametrize(
    ("speakers", "label"),
    [
        ([f"voice {i % 40}" for i in range(80)], BLOCKED),
        ([f"voice {i % 39}" for i in range(80)], CONDITIONAL),
        ([None] * 80, CONDITIONAL),
        ([f"voice {i}" for i in range(79)] + [None], CONDITIONAL),
    ],
)
def test_blocked_by_speaker_only_from_forty_known_speakers(speakers: list[str | None], label: str) -> None:
    assert Bootstrap(speakers, 10).label == label


def test_blocking_widens_the_interval_where_speakers_differ() -> None:
    rng = np.random.default_rng(0)
    speaker_U = np.repeat(np.arange(50), 20)
    errors_U = rng.binomial(10, rng.uniform(0, 0.6, 50)[speaker_U])
    stats_UK = np.stack([errors_U, 0 * errors_U, 0 * errors_U, 0 * errors_U + 10, errors_U], 1)
    free = interval(bootstrap(1000), stats_UK)
    blocked = interval(Bootstrap(speaker_U.tolist()), stats_UK)
    assert blocked.value == free.value
    assert width(blocked) > 2 * width(free)


def test_identical_systems_differ_by_nothing() -> None:
    (stats_UK,) = stats(100, [0.2])
    found = difference(bootstrap(100), stats_UK, stats_UK.copy())
    assert found == Interval(0, 0, 0)
    assert not found.excludes_zero


def test_pairing_narrows_a_difference() -> None:
    (a_UK,) = stats(200, [0.3])
    b_UK = a_UK.copy()
    b_UK[:20, 0] += 1
    drawn = bootstrap(200)
    paired, alone = difference(drawn, b_UK, a_UK), interval(drawn, a_UK)
    low, value, high = known(paired)
    assert 0 < low < value < high
    assert paired.excludes_zero
    assert width(paired) < width(alone) / 2


def test_a_difference_changes_sign_with_its_order() -> None:
    a_UK, b_UK = stats(100, [0.2, 0.3])
    drawn = bootstrap(100)
    ab, ba = difference(drawn, a_UK, b_UK), difference(drawn, b_UK, a_UK)
    assert known(ab) == pytest.approx([-end for end in reversed(known(ba))])


def test_pooled_seeds_give_a_narrower_difference() -> None:
    a, b = (stats(150, [rate] * 3, seed=1) for rate in (0.2, 0.23))
    one = difference(bootstrap(150), a[0], b[0])
    three = difference(bootstrap(150), statistics.pool(a), statistics.pool(b))
    assert three.value == pytest.approx(combine(np.sum(a, (0, 1))) - combine(np.sum(b, (0, 1))))
    assert width(three) < width(one)


def test_systems_on_other_utterances_are_refused() -> None:
    (a_UK,), (b_UK,) = stats(100, [0.2]), stats(99, [0.2])
    with pytest.raises(ValueError, match="99 utterances are scored, but 100 resampled"):
        resampled(bootstrap(100), a_UK, b_UK)
    with pytest.raises(ValueError, match="same utterances"):
        statistics.pool([a_UK, b_UK])


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
    share = float(statistics.recoveries(zero_shot, adapted, adapted_none, higher_is_better))
    assert (None if np.isnan(share) else share) == expected


def test_recovery_has_a_paired_interval_only_where_it_is_defined_throughout() -> None:
    drawn = bootstrap(200)
    zero_shot, adapted, none = resampled(drawn, *stats(200, [0.4, 0.15, 0.1]))
    found = drawn.paired(statistics.recoveries, zero_shot, adapted, none)
    low, value, high = known(found)
    assert 0.5 < low < value < high < 1
    assert drawn.paired(statistics.recoveries, none, adapted, none) == Interval(None, None, None)


def test_interpolation_reads_between_points_and_never_beyond() -> None:
    rates, values = [12.5, 25, 8], [20, 10, 40]
    assert statistics.interpolate(rates, values, 18.75) == 15
    assert statistics.interpolate(rates, values, 8) == 40
    assert statistics.interpolate(rates, values, 25) == 10
    assert statistics.interpolate(rates, values, 25.1) is None
    assert statistics.interpolate([], [], 1) is None
    assert statistics.interpolate(rates, np.array([[20, 22], [10, 12], [40, 42]]), 18.75) == pytest.approx([15, 17])


def test_a_system_is_compared_with_a_curve_at_its_own_rate() -> None:
    systems = stats(200, [0.2, 0.1, 0.3])

    def above(natural_S: np.ndarray, *curve: np.ndarray) -> np.ndarray:
        return natural_S - statistics.interpolate([12, 8], np.stack(curve), 10)

    drawn = bootstrap(200)
    found = drawn.paired(above, *resampled(drawn, *systems))
    natural, two, three = (combine(stats_UK.sum(0)) for stats_UK in systems)
    low, value, high = known(found)
    assert low < value < high
    assert value == pytest.approx(natural - (two + three) / 2)


def over_seeds(drawn: Bootstrap, a: list[np.ndarray], b: list[np.ndarray]) -> Interval:
    """The difference of two systems with several seeds each."""
    first, second = resampled(drawn, statistics.pool(a), statistics.pool(b))
    seeds = [resampled(drawn, *pair) for pair in zip(a, b, strict=True)]
    return drawn.paired(np.subtract, first, second, seeds=seeds)


def test_three_seeds_that_differ_widen_a_difference_and_two_leave_it_to_its_label() -> None:
    drawn = bootstrap(300)
    b = [stats(300, [0.2], seed=1)[0]] * 3
    alike = over_seeds(drawn, [stats(300, [0.22], seed=1)[0]] * 3, b)
    unlike = over_seeds(drawn, [stats(300, [rate], seed=1)[0] for rate in (0.18, 0.22, 0.26)], b)
    two = over_seeds(drawn, [stats(300, [rate], seed=1)[0] for rate in (0.18, 0.26)], b[:2])
    assert alike.spreads
    assert unlike.spreads
    assert not two.spreads
    assert [round(each) for each in unlike.per_seed] == [-2, 2, 6]
    assert unlike.errors[1] == pytest.approx(np.std(unlike.per_seed, ddof=1) / np.sqrt(3), rel=0.2)
    student = 4.303  # the 97.5 % point of t with 2 degrees of freedom
    assert width(unlike) == pytest.approx(2 * student * float(np.hypot(*unlike.errors)), rel=0.1)
    assert width(two) < width(unlike) / 3
    plain = difference(drawn, *(statistics.pool(runs) for runs in ([stats(300, [0.22], seed=1)[0]] * 3, b)))
    assert width(alike) == pytest.approx(width(plain))


def test_an_interval_over_three_seeds_holds_the_truth() -> None:
    """Of 200 simulated pairs of systems whose seeds differ by 2 points, in at least 90 of 100."""
    drawn, hits = bootstrap(150, 400), 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        systems = stats(150, [float(rng.normal(rate, 0.02)) for rate in (0.22, 0.25) for _ in range(3)], seed=trial)
        low, _, high = known(over_seeds(drawn, systems[:3], systems[3:]))
        hits += low <= -3 <= high
    assert hits >= 180


def test_p_and_interval_agree() -> None:
    a_UK, b_UK = stats(200, [0.2, 0.24])
    found = difference(bootstrap(200), a_UK, b_UK)
    low, value, high = known(found)
    assert [found.p(low - 0.05) < 0.05, found.p(low + 0.2) < 0.05] == [True, False]
    assert [found.p(high + 0.05) < 0.05, found.p(high - 0.2) < 0.05] == [True, False]
    assert found.p(value) > 0.8
    assert found.p(99) == pytest.approx(2 / (SAMPLES + 1))
    assert difference(bootstrap(200), a_UK, a_UK).p() == 1
    assert Interval(None, None, None).p() == 1


def test_signs_of_seeds_have_an_exact_p() -> None:
    assert deciding.sign_flip_p([1.0, 2.0, 0.5]) == 2 / 8
    assert deciding.sign_flip_p([-1.0] * 6) == 2 / 64
    assert deciding.sign_flip_p([1.0, -1.0]) == 1
    assert deciding.sign_flip_p([3.0, -1.0, 2.0]) == 4 / 8
    assert deciding.sign_flip_p([0.0, 0.0, 0.0]) == 1


def test_holm_steps_down_and_never_below_the_step_before() -> None:
    assert deciding.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert deciding.holm([0.5, 0.9]) == [1.0, 1.0]
    assert deciding.holm([]) == []


@pytest.mark.parametrize(
    ("value", "errors", "per_seed", "said"),
    [
        (1.0, (1.0, 0.0), (), "about 820 utterances"),  # (1.96 + 0.84) squared, times 100
        (0.0, (1.0, 0.0), (), "an exact tie"),
        (3.0, (0.2, 1.0), (1.0, 3.0, 5.0), "6 seeds"),
        (3.5, (1.2, 0.0), (3.5, 3.4, 3.6), "about 100 utterances or 4 seeds"),
        (0.1, (1.0, 1.0), (-1.0, 0.1, 1.2), "about 1,600 times the utterances and the seeds"),
    ],
)
def test_more_data_would_decide(
    value: float, errors: tuple[float, float], per_seed: tuple[float, ...], said: str
) -> None:
    effect = Interval(value, value - 1, value + 1, per_seed, errors=errors)
    assert deciding.would_decide(effect, 0.0, 0.05, 100) == said
