"""scores.csv: its header, its spelling, its intervals."""

import csv
import io
import random
from pathlib import Path
from typing import Any

import pytest

from concertina import metrics
from concertina.reporting import scores, statistics
from concertina.store import records
from concertina.store.predictions import write_predictions
from concertina.store.provenance import provenance

HEADER = (
    "name,corpus,split,task,source_language,target_language,compressor,ratio,positions,adapted,train_set,seed,metric,"
    "value,n_utterances,low,high,realised_ratio,audio_tokens_per_second,signature,run_key"
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
        **{"target_language": None if task == "transcribe" else "de", "task": task, "positions": "renumber"},
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
    write_predictions(path.with_suffix(".parquet"), rows, found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "segment", "natural", 0.3)
    write(tmp_path, "average", "10", 0.3)
    write(tmp_path, "average", "2.5", 0.1)
    write(tmp_path, "average", "2.5", 0.1, adapted=True, train_set="english", seed=0)
    write(tmp_path, "average", "2.5", 0.1, task="translate")
    return tmp_path


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(scores.text(scores.rows(scores.read(folder), samples=300)))))


def test_the_header_is_the_agreed_one(folder: Path) -> None:
    assert scores.text([]) == HEADER + "\n"
    scores.write(folder / "scores.csv", scores.rows(scores.read(folder), samples=50))
    assert (folder / "scores.csv").read_text().splitlines()[0] == HEADER


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
    rows = table(folder)
    assert (rows[0]["train_set"], rows[0]["seed"], rows[0]["target_language"]) == ("", "", "")
    assert (rows[2]["train_set"], rows[2]["seed"]) == ("english", "0")
    assert rows[-1]["target_language"] == "de"
    assert rows[0]["audio_tokens_per_second"] == "12.3457"
    assert rows[0]["realised_ratio"] == "2"
    assert rows[1]["signature"].startswith("unit:words|norm:english|")


def test_every_score_has_the_interval_of_the_bootstrap(folder: Path) -> None:
    results = scores.read(folder)
    for row in scores.rows(results, samples=300):
        assert row["low"] < row["value"] < row["high"]
    intervals = scores.score_intervals(results, samples=300)
    for (i, name), found in intervals.items():
        stats_UK = results[i].predictions.statistics(name)
        drawn = statistics.units(results[i].predictions["speaker"])
        alone = statistics.interval(metrics.load(name).combine, stats_UK, drawn, samples=300)
        assert [found.value, found.low, found.high] == pytest.approx([alone.value, alone.low, alone.high])
        assert found.label == "conditional on these voices"


def test_failures_are_passed_over(folder: Path) -> None:
    head = {"name": "tiny", "run_key": "k", "config": {}, "threads": 1, "seconds": 0.0} | provenance()
    records.write(folder / "failed" / "x.json", records.failed("full disk", stage="evaluate", **head))
    assert len(scores.read(folder)) == 5
