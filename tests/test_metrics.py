"""The contract over every file in metrics/, hand-made cases, and agreement with jiwer and sacrebleu."""

import random
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jiwer
import numpy as np
import pytest
import sacrebleu

from concertina import metrics
from concertina.config import Gate
from concertina.metrics import ScoreError, _edits, _normaliser
from concertina.metrics._loops import loops
from concertina.store import predictions

TEXT = "the red boat sails past nine quiet islands while eleven gulls follow a small green light"
WORDS = TEXT.split()


def corpus(utterances: int, seed: int = 0, wrong: float = 0.3) -> tuple[list[str], list[str]]:
    """Random references, and hypotheses with some words dropped, changed or added."""
    rng = random.Random(seed)
    references = [" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in range(utterances)]

    def spoil(word: str) -> str:
        return word if rng.random() > wrong else rng.choice(["", word + " gulls", rng.choice(WORDS)])

    return references, [" ".join(" ".join(map(spoil, text.split())).split()) for text in references]


def _overlap(references: list[str], hypotheses: list[str], language: str) -> metrics.Score:
    """The share of a reference's words that are in its hypothesis, averaged over utterances."""
    metrics.check(references, hypotheses)
    pairs = [(Counter(r.split()), Counter(h.split())) for r, h in zip(references, hypotheses, strict=True)]
    stats_UK = [[(r & h).total() / r.total(), 1] for r, h in pairs]
    return metrics.build(stats_UK, OVERLAP.columns, OVERLAP.combine, "overlap|version:1.0")


# A metric as someone else may write it: its statistics are no whole numbers, and nothing scores 100.
OVERLAP: Any = SimpleNamespace(
    label="overlap", unit="", higher_is_better=True, tolerance="bleu_points", columns=("share", "utterances"),
    score=_overlap, combine=lambda sums_RK: sums_RK[..., 0] / sums_RK[..., 1],
)  # fmt: skip


@pytest.fixture(params=[*metrics.names(), "overlap"])
def metric(request: pytest.FixtureRequest) -> metrics.Metric:
    return OVERLAP if request.param == "overlap" else metrics.load(request.param)


def test_an_unknown_metric_names_the_file_and_the_nearest() -> None:
    with pytest.raises(ScoreError, match=r"metrics/werr\.py \(did you mean 'wer'\?\)"):
        metrics.load("werr")


class TestContract:
    def test_it_says_how_a_report_and_the_gate_take_it(self, metric: metrics.Metric) -> None:
        assert metric.label.strip()
        assert isinstance(metric.unit, str)
        assert isinstance(metric.higher_is_better, bool)
        assert metric.tolerance in Gate.model_fields

    def test_no_text_scores_better_than_the_reference(self, metric: metrics.Metric) -> None:
        references, hypotheses = corpus(20)
        perfect = metric.score(references, references, "en").value
        for others in (hypotheses, references[::-1], [""] * 20, [f"{text} {text}" for text in references]):
            other = metric.score(references, others, "en").value
            assert other <= perfect if metric.higher_is_better else other >= perfect

    def test_statistics_add_up_to_the_score(self, metric: metrics.Metric) -> None:
        score = metric.score(*corpus(60), "en")
        assert score.columns == metric.columns
        assert score.stats_UK.shape == (60, len(metric.columns))
        assert metric.combine(score.stats_UK.sum(0)[None]) == pytest.approx([score.value])
        assert [score.counts[name] for name in metric.columns] == pytest.approx(score.stats_UK.sum(0).tolist())

    def test_an_utterance_has_the_same_statistics_alone(self, metric: metrics.Metric) -> None:
        references, hypotheses = corpus(20)
        score = metric.score(references, hypotheses, "en")
        alone = [metric.score([r], [h], "en").stats_UK[0] for r, h in zip(references, hypotheses, strict=True)]
        assert np.stack(alone) == pytest.approx(score.stats_UK)

    def test_order_does_not_matter(self, metric: metrics.Metric) -> None:
        references, hypotheses = corpus(40)
        there, back = (
            metric.score(r, h, "en") for r, h in [(references, hypotheses), (references[::-1], hypotheses[::-1])]
        )
        assert there.value == pytest.approx(back.value)
        assert there.stats_UK == pytest.approx(back.stats_UK[::-1])

    def test_combine_takes_many_rows(self, metric: metrics.Metric) -> None:
        score = metric.score(*corpus(30), "en")
        halves = np.stack([score.stats_UK[:15].sum(0), score.stats_UK[15:].sum(0)])
        alone = [metric.combine(half[None])[0] for half in halves]
        assert metric.combine(halves) == pytest.approx(alone)

    def test_more_errors_are_worse(self, metric: metrics.Metric) -> None:
        values = [metric.score(*corpus(100, wrong=wrong), "en").value for wrong in (0.1, 0.4)]
        assert (values[0] > values[1]) == metric.higher_is_better

    @pytest.mark.parametrize("empty", ["", " \t"])
    def test_an_empty_reference_is_an_error_that_names_it(self, metric: metrics.Metric, empty: str) -> None:
        with pytest.raises(ScoreError, match="utterance 1: the reference is empty") as error:
            metric.score(["a boat", empty], ["a boat", "x"], "en")
        assert error.value.index == 1

    def test_nothing_to_score_is_an_error(self, metric: metrics.Metric) -> None:
        with pytest.raises(ScoreError, match="no utterances"):
            metric.score([], [], "en")
        with pytest.raises(ScoreError, match="2 references but 1 hypotheses"):
            metric.score(["a", "b"], ["a"], "en")

    def test_values_are_plain_finite_numbers(self, metric: metrics.Metric) -> None:
        score = metric.score(*corpus(3), "de")
        assert type(score.value) is float
        assert {type(count) for count in score.counts.values()} <= {int, float}
        assert score.stats_UK.dtype in (np.int64, np.float64)
        assert np.isfinite(score.stats_UK).all()

    def test_the_signature_is_its_own_and_names_a_version(self, metric: metrics.Metric) -> None:
        signature = metric.score(["a boat"], ["a boat"], "en").signature
        assert re.search(r"[\w-]+:\d+\.\d+", signature)
        others = [metrics.load(name) for name in metrics.names()]
        assert signature not in [m.score(["a boat"], ["a boat"], "en").signature for m in others if m is not metric]

    def test_predictions_keep_its_statistics(
        self, metric: metrics.Metric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        texts = corpus(12)
        score = metric.score(*texts, "en")
        fact = {"audio_tokens": 1, "frames": 2, "duration_s": 1.0, "new_tokens": 1, "cap_hit": False, "loop": False}
        rows: list[dict[str, Any]] = [
            {"id": f"u{i}", "reference": r, "hypothesis": h, "speaker": None, "tags": {}, **fact}
            for i, (r, h) in enumerate(zip(*texts, strict=True))
        ]
        predictions.write(tmp_path / "p.parquet", rows, {"this": score})
        monkeypatch.setattr(metrics, "load", lambda name: metric)
        back = predictions.read(tmp_path / "p.parquet").statistics("this")
        assert (back == score.stats_UK).all()
        assert back.dtype == score.stats_UK.dtype


def test_a_metric_that_lacks_something_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "halved.py").write_text("label, unit, higher_is_better = 'half', '', True\n", encoding="utf-8")
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
    monkeypatch.setattr(metrics, "names", lambda: ["halved"])
    with pytest.raises(ScoreError, match=r"metrics/halved\.py does not define tolerance and columns and score"):
        metrics.load("halved")


@pytest.mark.parametrize(("name", "worst"), [("wer", 100), ("cer", 100), ("bleu", 0), ("chrf", 0)])
def test_nothing_heard_is_every_word_missed(name: str, worst: float) -> None:
    references, _ = corpus(5)
    assert metrics.load(name).score(references, [""] * 5, "en").value == worst


@pytest.mark.parametrize(
    ("reference", "hypothesis", "substitutions", "deletions", "insertions"),
    [
        ("red boat", "red boat", 0, 0, 0),
        ("red boat", "green boat", 1, 0, 0),
        ("red boat", "red", 0, 1, 0),
        ("red boat", "red small boat", 0, 0, 1),
        ("red boat", "", 0, 2, 0),
        ("red boat", "gulls follow a light", 2, 0, 2),
        ("Red, boat!", "red  boat", 0, 0, 0),
        ("a red boat", "boat a red", 0, 1, 1),
    ],
)
def test_word_edits(reference: str, hypothesis: str, substitutions: int, deletions: int, insertions: int) -> None:
    counts = metrics.load("wer").score([reference], [hypothesis], "en").counts
    assert counts["length"] == len(reference.split())
    assert [counts[k] for k in ("substitutions", "deletions", "insertions")] == [substitutions, deletions, insertions]


def test_wer_is_summed_edits_over_summed_words() -> None:
    score = metrics.load("wer").score(["red boat", "a b c d e f g h"], ["green boat", "a b c d e f g h"], "en")
    assert score.value == 10


def test_the_capped_figure_stops_a_loop_from_owning_the_score() -> None:
    score = metrics.load("wer").score(["red boat", "green light"], ["boat " * 100, "green light"], "en")
    assert score.value == pytest.approx(100 * 99 / 4)
    assert score.counts["capped_value"] == 50
    assert _edits.combine_capped(score.stats_UK.sum(0)[None]) == pytest.approx([50])


@pytest.mark.parametrize("language", ["en", "de"])
def test_wer_and_cer_agree_with_jiwer(language: str) -> None:
    references, hypotheses = corpus(200)
    said, heard = (_normaliser.normalise(texts, language) for texts in (references, hypotheses))
    assert metrics.load("wer").score(references, hypotheses, language).value == pytest.approx(
        100 * jiwer.wer(said, heard)
    )
    assert metrics.load("cer").score(references, hypotheses, language).value == pytest.approx(
        100 * jiwer.cer(said, heard)
    )


@pytest.mark.parametrize(("utterances", "wrong"), [(200, 0.3), (3, 0.9), (2, 1.0), (1, 0.5)])
@pytest.mark.parametrize("seed", range(5))
def test_bleu_and_chrf_agree_with_sacrebleu(utterances: int, wrong: float, seed: int) -> None:
    references, hypotheses = corpus(utterances, seed, wrong)
    bleu = sacrebleu.corpus_bleu(hypotheses, [references]).score
    chrf = sacrebleu.corpus_chrf(hypotheses, [references]).score
    assert metrics.load("bleu").score(references, hypotheses, "de").value == pytest.approx(bleu)
    assert metrics.load("chrf").score(references, hypotheses, "de").value == pytest.approx(chrf)


@pytest.mark.parametrize(("language", "tokenizer"), [("de", "13a"), ("fr", "13a"), ("zh", "zh"), ("th", "char")])
def test_bleu_tokenizes_by_target_language(language: str, tokenizer: str) -> None:
    assert f"tok:{tokenizer}|" in metrics.load("bleu").score(["a"], ["a"], language).signature


def test_chinese_is_scored_by_character() -> None:
    wer, cer, bleu = (metrics.load(m).score(["红色的小船。"], ["红色的大船"], "zh") for m in ("wer", "cer", "bleu"))
    assert wer.value == cer.value == 20
    assert "basic-graphemes" in wer.signature
    assert "spaces:dropped" in cer.signature
    assert bleu.value > 0


@pytest.mark.parametrize(
    ("language", "reference", "hypothesis", "errors", "length"),
    [
        ("en", "Mr. Brown's colour , twenty-one!", "<|en|> mister brown is color 21", 0, 5),
        ("en", "don't \u201cstop\u201d", "do not stop", 0, 3),
        ("en", "naïve café", "naive cafe", 0, 2),
        ("fr", "L'été, ça va ?", "l'été ça va", 0, 4),
        ("fr", "vingt et un", "21", 3, 3),  # only English numbers become digits
        ("zh", "红色 的小船。", "红色的大船", 1, 5),
        ("zh", "三点", "3点", 1, 2),
        ("de", "der rote <|de|> Kahn", "der rote Kahn", 0, 3),
        ("en", "a - boat", "a boat", 0, 2),
    ],
)
def test_the_scorer_of_qwen2_audio(language: str, reference: str, hypothesis: str, errors: int, length: int) -> None:
    score = metrics.load("wer_qwen").score([reference], [hypothesis], language)
    assert sum(score.counts[name] for name in ("substitutions", "deletions", "insertions")) == errors
    assert score.counts["length"] == length


@pytest.mark.parametrize(
    ("language", "reference", "hypothesis", "expected"),  # of wer, wer_raw and wer_digits: errors and words
    [
        ("en", "code four seven two", "Code: four nine two!", [(1, 2), (1, 4), (1, 4)]),
        ("en", "room four seven two", "room 472", [(0, 2), (3, 4), (0, 4)]),
        ("en", "it costs fifty six euros", "it costs fifty five euros", [(1, 3), (1, 5), (1, 4)]),
        ("en", "a sailor\u2019s, twenty-one", "a sailor's twenty one", [(1, 4), (0, 4), (1, 5)]),
        ("de", "Raum 472", "raum 492", [(1, 2), (1, 2), (1, 4)]),
        ("zh", "三 点。", "三天", [(1, 2), (1, 2), (1, 2)]),
    ],
)
def test_a_wrong_digit_is_one_error_in_raw_words_and_with_digits_apart(
    language: str, reference: str, hypothesis: str, expected: list[tuple[int, int]]
) -> None:
    scores = (metrics.load(m).score([reference], [hypothesis], language) for m in ("wer", "wer_raw", "wer_digits"))
    assert [(score.stats_UK[0, : _edits.LENGTH].sum(), score.counts["length"]) for score in scores] == expected


def test_english_is_normalised_twice_and_that_shows() -> None:
    """Whisper's English normaliser keeps decimal point and currency sign, its basic one drops them."""
    once, twice = (
        metrics.load(name).score(["it costs $3.50"], ["it costs 3 50"], "en") for name in ("wer", "wer_qwen")
    )
    assert once.value > 0
    assert twice.value == 0
    assert "norm:qwen2-audio-english-basic|whisper-normalizer:" in twice.signature


@pytest.mark.parametrize(
    ("language", "text", "normal"),
    [
        ("en", "Mr. Brown's colour, twenty-one!", "mister brown is color 21"),
        ("de", "Für Größe: ÄÖÜ!", "für größe äöü"),
        ("fr", "L'été, ça va?", "l été ça va"),
        ("hi", "हिन्दी।", "हिन्दी"),
    ],
)
def test_normalisers(language: str, text: str, normal: str) -> None:
    assert _normaliser.normalise([text], language) == [normal]


def test_the_signature_names_the_normaliser() -> None:
    wer = metrics.load("wer")
    assert "norm:english|whisper-normalizer:" in wer.score(["a"], ["a"], "en").signature
    assert "norm:basic|whisper-normalizer:" in wer.score(["a"], ["a"], "fr").signature


@pytest.mark.parametrize("name", ["wer", "cer"])
def test_a_reference_that_is_empty_once_normalised_is_an_error(name: str) -> None:
    with pytest.raises(ScoreError, match="utterance 0: the reference is empty after normalisation"):
        metrics.load(name).score(["[noise] ?!"], ["a boat"], "en")


@pytest.mark.parametrize(
    ("text", "language", "found"),
    [
        ("", "en", False),
        ("boat " * 8, "en", True),
        ("boat " * 7, "en", False),
        ("the gulls follow " + "a small light " * 8, "en", True),
        ("a small light " * 8 + "the end", "en", False),
        ("a b c d e f g h " * 8, "en", True),
        ("a b c d e f g h i " * 8, "en", False),
        ("a small light " * 8 + "a sma", "en", True),
        ("one two one two one two", "en", False),
        ("船" * 8, "zh", True),
        ("船" * 8, "en", False),
    ],
)
def test_loops(text: str, language: str, found: bool) -> None:
    assert loops(text, language) is found
