"""scores.csv: its header, its spelling, its intervals."""

import csv
import io
import random
from pathlib import Path
from typing import Any

import pytest

from concertina import metrics
from concertina.reporting import scores
from concertina.reporting.scores import Result
from concertina.reporting.statistics import CONDITIONAL, Bootstrap
from concertina.store import predictions, records
from concertina.store.provenance import provenance
from concertina.store.sealing import DamagedError

HEADER = (
    "name,corpus,split,task,source_language,target_language,compressor,ratio,positions,adapted,train_set,seed,metric,"
    "value,n_utterances,low,high,realised_ratio,audio_tokens_per_second,signature,run_key,options"
)
UTTERANCES = 60


def write(folder: Path, compressor: str, ratio: str, wrong: float, task: str = "transcribe", **changes: Any) -> None:
    """A record with its predictions where the evaluate stage puts them."""
    rng = random.Random(f"{compressor}-{ratio}")
    references = [f"boat {i} sails past island {i * 7}" for i in range(UTTERANCES)]
    hypotheses = [" ".join(w for w in text.split() if rng.random() > wrong) for text in references]
    names = ["wer", "cer"] if task == "transcribe" else ["bleu", "chrf"]
    found = {name: metrics.load(name).score(references, hypotheses, "en") for name in names}
    record = records.build(
        **provenance(),
        **{"name": "tiny", "test_set": "clean", "corpus": "synthetic", "split": "clean", "source_language": "en"},
        **{"target_language": None if task == "transcribe" else "de", "task": task, "positions": "keep"},
        **{"compressor": compressor, "ratio": ratio, "scores": found, "n_utterances": UTTERANCES, "loops": 0},
        **{"realised_ratio": 2.0, "cap_hits": 0, "run_key": "k", "config": {}, "threads": 1, "seconds": 1.0},
        **({"adapted": False, "audio_tokens_per_second": {"mean": 12.3456789, "p05": 12, "p95": 13}} | changes),
    )
    common = {"audio_tokens": 1, "frames": 2, "duration_s": 1.0, "new_tokens": 1, "cap_hit": False, "loop": False}
    rows = [
        {"id": f"u{i}", "reference": r, "hypothesis": h, "speaker": f"voice {i % 5}", "tags": {}} | common
        for i, (r, h) in enumerate(zip(references, hypotheses, strict=True))
    ]
    run = f"{changes['train_set']}-seed{changes['seed']}" if record.adapted else "zero-shot"
    path = folder / f"{compressor}-{ratio}" / f"clean-{task}" / run
    records.write(path.with_suffix(".json"), record)
    predictions.write(path.with_suffix(".parquet"), rows, found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "segment", "natural", 0.3)
    write(tmp_path, "average", "10", 0.3)
    write(tmp_path, "average", "2.5", 0.1)
    write(tmp_path, "average", "2.5", 0.1, adapted=True, train_set="english", seed=0)
    write(tmp_path, "average", "2.5", 0.1, task="translate")
    return tmp_path


def read(folder: Path) -> list[Result]:
    return [
        Result(record, predictions.read(path.with_suffix(".parquet")))
        for path, record in records.read_folder(folder).items()
        if isinstance(record, records.Record)
    ]


def rows(folder: Path, name: str = "tiny") -> list[scores.Row]:
    results = read(folder)
    return scores.rows(name, results, scores.bootstraps(results, 300, 95))


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(scores.text(rows(folder)))))


def test_the_header_is_the_agreed_one(folder: Path) -> None:
    assert scores.text([]) == HEADER + "\n"
    assert scores.text(rows(folder)).splitlines()[0] == HEADER


def test_rows_carry_the_name_of_the_experiment_and_not_of_the_record(folder: Path) -> None:
    assert {row["name"] for row in rows(folder, "mine")} == {"mine"}


def test_one_row_per_record_and_metric_in_a_stable_order(folder: Path) -> None:
    found = [(r["task"], r["compressor"], r["ratio"], r["adapted"], r["metric"]) for r in table(folder)]
    assert found == [
        ("transcribe", "average", "2.5", "false", "cer"),
        ("transcribe", "average", "2.5", "false", "wer"),
        ("transcribe", "average", "2.5", "true", "cer"),
        ("transcribe", "average", "2.5", "true", "wer"),
        ("transcribe", "average", "10", "false", "cer"),
        ("transcribe", "average", "10", "false", "wer"),
        ("transcribe", "segment", "natural", "false", "cer"),
        ("transcribe", "segment", "natural", "false", "wer"),
        ("translate", "average", "2.5", "false", "bleu"),
        ("translate", "average", "2.5", "false", "chrf"),
    ]


def test_cells_are_spelled_for_tools(folder: Path) -> None:
    lines = table(folder)
    assert (lines[0]["train_set"], lines[0]["seed"], lines[0]["target_language"]) == ("", "", "")
    assert (lines[2]["train_set"], lines[2]["seed"]) == ("english", "0")
    assert lines[-1]["target_language"] == "de"
    assert lines[0]["audio_tokens_per_second"] == "12.3457"
    assert lines[0]["realised_ratio"] == "2"
    assert lines[1]["signature"].startswith("unit:words|norm:english|")


def test_every_score_has_the_interval_of_its_bootstrap(folder: Path) -> None:
    found = {(r["task"], r["compressor"], r["ratio"], r["adapted"], r["metric"]): r for r in rows(folder)}
    for record, decoded in read(folder):
        for metric in record.scores:
            row = found[record.task, record.compressor, record.ratio, record.adapted, metric]
            alone = Bootstrap(decoded["speaker"], samples=300)
            scored = alone.resampled({0: (metric, decoded.statistics(metric))})[0]
            interval = alone.interval(scored)
            assert [row["value"], row["low"], row["high"]] == [interval.value, interval.low, interval.high]
            assert row["low"] < row["value"] < row["high"]
            assert alone.label == CONDITIONAL


def test_sets_of_the_same_utterances_share_their_resamples(folder: Path) -> None:
    results = read(folder)
    other = [r._replace(record=r.record.model_copy(update={"test_set": "again"})) for r in results]
    drawn = scores.bootstraps([*results, *other], 50, 95)
    assert drawn["clean"] is drawn["again"]


def test_a_result_on_other_utterances_is_refused(folder: Path) -> None:
    results = read(folder)
    columns = results[0].predictions.columns
    fewer = predictions.Predictions({name: values[1:] for name, values in columns.items()})
    with pytest.raises(DamagedError, match=r"average-10-keep was scored on other utterances of clean"):
        scores.bootstraps([results[1], Result(results[0].record, fewer)], 50, 95)
