"""The gate's verdicts: numbers in the record, the tolerance that the metric names, and the words of the report."""

from pathlib import Path

import pytest

from concertina import report
from concertina.checks import gate
from concertina.config import Config, Gate
from concertina.reporting.parts import evaluate_gate
from concertina.store import records
from helpers.reports import SECTIONS, UTTERANCES, evaluated, made_results, of_clean, tidy

SETTINGS = Gate(published="x", figures={"clean": "a", "hard-en-de": "b"}, wer_points=0.2, bleu_points=3.0)


@pytest.fixture
def config(here: Path) -> Config:
    """Made-up results in the working folder, with their report."""
    config, path = made_results.config(Path(), **SECTIONS)
    made_results.write(config, UTTERANCES)
    report.make(config, path)
    return config


def judge(config: Config, metric: str, test_set: str, off: float, stops: bool = True) -> dict[str, object]:
    """The verdict on a set whose published figure is this far below ours."""
    folder = evaluated("none-1")
    record = records.read(folder / test_set / "zero-shot.json")
    assert isinstance(record, records.Record)
    figure = gate.Figure(metric=metric, value=record.scores[metric].value - off, stops=stops)
    return gate.judge(config, SETTINGS, {test_set: figure}, folder)[test_set]


@pytest.mark.parametrize(
    ("metric", "test_set", "off", "stops", "tolerance", "verdict"),
    [
        ("wer", "clean", 0.2, True, 0.2, "pass"),
        ("wer", "clean", -0.3, True, 0.2, "stop"),
        ("cer", "clean", 0.3, False, 0.2, "warn"),
        ("bleu", "hard-en-de", 2.9, True, 3.0, "pass"),
        ("chrf", "hard-en-de", -2.9, True, 3.0, "pass"),
        ("chrf", "hard-en-de", 3.1, False, 3.0, "warn"),
    ],
)
def test_a_figure_is_judged_by_the_points_that_its_metric_names(
    config: Config, metric: str, test_set: str, off: float, stops: bool, tolerance: float, verdict: str
) -> None:
    fact = judge(config, metric, test_set, off, stops)
    assert (fact["metric"], fact["tolerance"], fact["verdict"]) == (metric, tolerance, verdict)


def test_the_record_holds_the_numbers_of_the_tidy_table_and_the_report_says_them(config: Config) -> None:
    fact = judge(config, "wer", "clean", 0.5)
    [row] = [r for r in tidy() if of_clean(r) and r["compressor"] == "none" and r["adapted"] == "false"]
    assert [fact[name] for name in ("value", "low", "high")] == pytest.approx(
        [float(row[name]) for name in ("value", "low", "high")], abs=1e-4
    )
    head = made_results.head(config, stage="gate", override="a reason")
    sentences = evaluate_gate.sentences([records.run(facts={"clean": fact}, **head)], config)
    assert f"clean: WER {fact['value']:.2f} [" in sentences[0]
    assert sentences[0].endswith("beyond the tolerance of 0.2.")
    assert sentences[1] == "The gate was overridden: a reason"
