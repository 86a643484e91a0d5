"""`concertina compare`: its numbers against kaldialign and sacrebleu, its verdicts and exit statuses."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kaldialign
import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from concertina.comparison import measures
from concertina.comparison.pairs import Pairs
from concertina.metrics import _edits
from helpers.prediction_files import SENTENCES, as_json_lines, as_leaderboard, as_ours, as_text, jsonl, misheard, run

GOOD, BAD = misheard(SENTENCES, 0.05, seed=1), misheard(SENTENCES, 0.15, seed=2)
ALIKE = misheard(SENTENCES, 0.06, seed=3)


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("form", [as_ours, as_json_lines, as_leaderboard, as_text])
def test_every_format_gives_the_numbers_of_kaldialign(form: Callable[[str, list[str]], list[str]]) -> None:
    status, found, _ = run(*form("a", GOOD), form("b", BAD)[0], "--json")
    assert status == 0
    assert found["utterances"] == len(SENTENCES)
    assert found["paired_by"] == ("id" if form in (as_ours, as_json_lines) else "line")
    normalised = [_edits._normaliser.normalise(texts, "en") for texts in (SENTENCES, GOOD, BAD)]
    words = [[text.split() for text in texts] for texts in normalised]
    for name, hypotheses in (("a", words[1]), ("b", words[2])):
        counted = [kaldialign.edit_distance(r, h) for r, h in zip(words[0], hypotheses, strict=True)]
        errors, length = (sum(one[key] for one in counted) for key in ("total", "ref_len"))
        assert sum(found[name][kind] for kind in ("substitutions", "deletions", "insertions")) == errors
        assert found[name]["insertions"] - found[name]["deletions"] == sum(len(h) for h in hypotheses) - length
        assert found[name]["value"] == pytest.approx(100 * errors / length)
        rates = [100 * one["err_rate"] for one in counted]
        assert found[name]["tail"] == pytest.approx(np.percentile(rates, 95))
        assert found[name]["share_above_half"] == np.mean(np.array(rates) > 50)
    theirs = kaldialign.bootstrap_wer_ci(*words)
    assert theirs["p_s2_improv_over_s1"] == 0
    assert found["verdict"] == "worse"
    for name, system in (("a", "system1"), ("b", "system2")):
        half_width = (found[name]["high"] - found[name]["low"]) / 2
        assert half_width == pytest.approx(100 * theirs[system]["ci95"], rel=0.1)


def test_two_utterances_prove_nothing() -> None:
    """The example of kaldialign's own tests, where the second system improves in every resample."""
    a = jsonl("a.jsonl", ["a b d", "e f f"], ["a b c", "d e f"])
    b = jsonl("b.jsonl", ["a b c", "e e f"], ["a b c", "d e f"])
    _, found, _ = run(a, b, "--json", "--language", "xx")
    assert [found[name]["value"] for name in "ab"] == pytest.approx([50, 100 / 6])
    assert found["difference"]["high"] < 0
    assert (found["better"], found["difference"]["p"]) == (2, 0.5)
    assert found["verdict"] == "undecided"
    assert "p does not bear it out" in found["sentence"]


@pytest.mark.parametrize(("metric", "theirs"), [("bleu", BLEU()), ("chrf", CHRF())])
def test_translations_are_compared_as_sacrebleu_does(metric: str, theirs: BLEU | CHRF) -> None:
    a, b = jsonl("a.jsonl", GOOD), jsonl("b.jsonl", ALIKE)
    _, found, _ = run(a, b, "--json", "--metric", metric)
    systems: Any = [("a", GOOD), ("b", ALIKE)]
    tests: dict[str, Any] = {}
    for kind in ("ar", "bs"):
        _, scores = PairedTest(systems, {metric: theirs}, [SENTENCES], test_type=kind, n_samples=1000)()
        [tests[kind]] = [results for name, results in scores.items() if name != "System"]
    for name, swapped, resampled in zip("ab", tests["ar"], tests["bs"], strict=True):
        assert found[name]["value"] == pytest.approx(swapped.score)
        assert (found[name]["high"] - found[name]["low"]) / 2 == pytest.approx(resampled.ci, rel=0.1)
    assert 0.01 < tests["ar"][1].p_value < 0.9
    assert found["difference"]["p"] == pytest.approx(tests["ar"][1].p_value, abs=0.03)


def test_a_swap_test_of_few_is_exact_and_swaps_whole_speakers() -> None:
    rng = np.random.default_rng(0)
    a_UK, b_UK = rng.integers(0, 5, (2, 9, 5))
    b_UK[:, 3] = a_UK[:, 3] = 8
    speaker_U = np.array([0, 0, 1, 2, 2, 2, 3, 4, 4])
    observed = abs(_edits.combine(a_UK.sum(0)) - _edits.combine(b_UK.sum(0)))
    gaps = []
    for swapped in itertools.product([False, True], repeat=5):
        chosen_U1 = np.array(swapped)[speaker_U][:, None]
        one, other = np.where(chosen_U1, b_UK, a_UK), np.where(chosen_U1, a_UK, b_UK)
        gaps.append(abs(_edits.combine(one.sum(0)) - _edits.combine(other.sum(0))))
    expected = np.mean(np.array(gaps) >= observed - 1e-9)
    assert 0 < expected < 1
    assert measures.swap_test(a_UK, b_UK, speaker_U, _edits.combine) == expected


@pytest.mark.slow
@pytest.mark.parametrize("utterances", [12, 80])
def test_equal_systems_are_rarely_told_apart(utterances: int) -> None:
    comparisons, told_apart = 400, 0
    texts = SENTENCES[:utterances]
    for seed in range(comparisons):
        a, b = misheard(texts, 0.1, seed=2 * seed), misheard(texts, 0.1, seed=2 * seed + 1)
        found = measures.compare(Pairs("line", texts, texts, None, a, b, [None] * utterances), "wer_raw", "en")
        told_apart += found.verdict in ("better", "worse")
    assert 0 < told_apart <= 0.07 * comparisons


@pytest.mark.parametrize(
    ("a", "b", "metric", "verdict", "status"),
    [
        (GOOD, BAD, "wer", "worse", 1),
        (BAD, GOOD, "wer", "better", 0),
        (GOOD, BAD, "bleu", "worse", 1),
        (BAD, GOOD, "chrf", "better", 0),
        (GOOD, ALIKE, "cer", "undecided", 0),
        (GOOD, GOOD, "wer", "tie", 0),
    ],
)
def test_the_verdict_knows_which_way_is_better(
    a: list[str], b: list[str], metric: str, verdict: str, status: int
) -> None:
    files = jsonl("a.jsonl", a), jsonl("b.jsonl", b)
    assert run(*files, "--metric", metric)[0] == 0
    failed, found, _ = run(*files, "--metric", metric, "--fail-if-worse", "--json")
    assert (found["verdict"], failed) == (verdict, status)
    opening = {"tie": "A and B tie", "undecided": "A and B cannot be distinguished"}.get(verdict, f"B is {verdict} by ")
    assert found["sentence"].startswith(opening)
    assert found["worse"] + found["better"] + found["same"] == found["utterances"]
