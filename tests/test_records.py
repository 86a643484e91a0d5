"""Records and predictions: what is written is read back, and nothing false, half-written or damaged is."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from concertina import metrics
from concertina.store import predictions, records, sealing
from concertina.store.predictions import COLUMNS
from concertina.store.provenance import PACKAGES, commit, provenance

REFERENCES = ["red boat", "a small green light", "grüne Lichter"]
HYPOTHESES = ["red boat", "a small light", ""]
HEAD: dict[str, Any] = {
    "name": "tiny",
    "compressor": "average",
    "ratio": "2.5",
    "positions": "renumber",
    "run_key": "0123456789abcdef",
    "config": {"batch": 64},
    "threads": 1,
    "seconds": 1.5,
}


def fields(**changes: Any) -> dict[str, Any]:
    own = {
        **{"test_set": "clean", "corpus": "synthetic", "split": "clean", "task": "transcribe", "source_language": "en"},
        **{"adapted": False, "n_utterances": 3, "realised_ratio": 2.49, "loops": 0, "cap_hits": 1},
        "audio_tokens_per_second": {"mean": 10.0, "p05": 9.5, "p95": 10.5},
        "scores": {"wer": metrics.load("wer").score(REFERENCES, HYPOTHESES, "en")},
    }
    return HEAD | provenance() | own | changes


def rows() -> list[dict[str, Any]]:
    common = {"audio_tokens": 20, "frames": 50, "duration_s": 2.0, "new_tokens": 5, "cap_hit": False, "loop": False}
    return [
        {"id": f"u{i}", "reference": r, "hypothesis": h, "speaker": None if i else "anna", "tags": {"snr_db": 5}}
        | common
        for i, (r, h) in enumerate(zip(REFERENCES, HYPOTHESES, strict=True))
    ]


def test_a_record_is_read_back_as_it_was(tmp_path: Path) -> None:
    record = records.build(**fields())
    records.write(tmp_path / "clean" / "zero-shot.json", record)
    assert records.read(tmp_path / "clean" / "zero-shot.json") == record
    raw = json.loads((tmp_path / "clean" / "zero-shot.json").read_text())
    assert (raw["schema"], raw["status"], raw["stage"]) == (1, "ok", "evaluate")
    assert set(raw["scores"]["wer"]) == {"value", "signature", "counts"}
    assert raw["train_set"] is None


def test_provenance_says_what_made_it() -> None:
    made = provenance()
    assert set(made["versions"]) == {"python", *PACKAGES}
    assert made["commit"] == "unknown" or len(made["commit"].removesuffix("-dirty")) == 40
    assert made["device"].startswith("cpu (")
    assert provenance("NVIDIA X")["device"] == "NVIDIA X"


def test_the_commit_is_told_outside_git_and_in_a_changed_tree(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    def now() -> str:
        commit.cache_clear()
        return commit(tmp_path)

    assert now() == "unknown"
    (tmp_path / "a.txt").write_text("a")
    git("init")
    git("add", "a.txt")
    git("commit", "-m", "a")
    clean = now()
    assert len(clean) == 40
    (tmp_path / "a.txt").write_text("b")
    assert now() == f"{clean}-dirty"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"realised_ratio": float("nan")}, "realised_ratio"),
        ({"seconds": float("inf")}, "seconds"),
        ({"config": {"train": {"learning_rate": float("nan")}}}, "config.train.learning_rate"),
        ({"scores": {"wer": {"value": float("nan"), "signature": "s", "counts": {}}}}, "scores.wer.value"),
        ({"scores": {}}, "scores"),
        ({"ratio": "3.0x"}, "ratio"),
        ({"adapted": True}, "train_set and seed"),
        ({"task": "translate"}, "target_language"),
        ({"wrod": 1}, "wrod"),
        ({"run_key": None}, "run_key"),
    ],
)
def test_what_is_false_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(records.RecordError, match=message):
        records.build(**fields(**changes))


def test_a_failed_run_is_a_record(tmp_path: Path) -> None:
    head = HEAD | provenance() | {"train_set": "english", "seed": 0}
    record = records.failed(RuntimeError("loss is NaN\nat step 7"), stage="train", **head)
    records.write(tmp_path / "seed0.json", record)
    back = records.read(tmp_path / "seed0.json")
    assert isinstance(back, records.Failure)
    assert (back.status, back.error) == ("failed", "RuntimeError: loss is NaN at step 7")


def test_another_stage_keeps_its_own_numbers(tmp_path: Path) -> None:
    record = records.run(stage="train", facts={"dev_loss": 0.4}, **HEAD, **provenance())
    records.write(tmp_path / "record.json", record)
    assert records.read(tmp_path / "record.json").facts == {"dev_loss": 0.4}
    with pytest.raises(records.RecordError, match=r"facts\.dev_loss"):
        records.run(stage="train", facts={"dev_loss": float("nan")}, **HEAD, **provenance())


def test_half_written_files_are_never_read(tmp_path: Path) -> None:
    record = records.build(**fields())
    records.write(tmp_path / "clean" / "zero-shot.json", record)
    whole = (tmp_path / "clean" / "zero-shot.json").read_text()
    (tmp_path / "clean" / ".other.json.1.tmp").write_text(whole[:50])
    (tmp_path / ".clean.1.tmp").mkdir()
    (tmp_path / ".clean.1.tmp" / "zero-shot.json").write_text(whole[:50])
    (tmp_path / "seal.json").write_text("{}")
    assert records.read_folder(tmp_path) == {tmp_path / "clean" / "zero-shot.json": record}
    (tmp_path / "clean" / "cut.json").write_text(whole[:50])
    with pytest.raises(sealing.DamagedError, match=r"cut\.json"):
        records.read_folder(tmp_path)


def test_a_failed_write_leaves_the_old_record(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    records.write(path, records.build(**fields()))
    before = path.read_bytes()
    poisoned = records.build(**fields()).model_copy(update={"seconds": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.write(path, poisoned)
    assert path.read_bytes() == before


def test_predictions_are_read_back_with_their_statistics(tmp_path: Path) -> None:
    scores = {name: metrics.load(name).score(REFERENCES, HYPOTHESES, "en") for name in metrics.names()}
    predictions.write(tmp_path / "p.parquet", rows(), scores)
    back = predictions.read(tmp_path / "p.parquet")
    assert len(back) == 3
    for name in COLUMNS:
        assert back[name] == [row[name] for row in rows()]
    for name, score in scores.items():
        stats_UK = back.statistics(name)
        assert (stats_UK == score.stats_UK).all()
        assert stats_UK.dtype == np.int64
    assert [p.name for p in tmp_path.iterdir()] == ["p.parquet"]


def test_predictions_refuse_what_does_not_fit(tmp_path: Path) -> None:
    score = metrics.load("wer").score(REFERENCES[:2], HYPOTHESES[:2], "en")
    path = tmp_path / "p.parquet"
    with pytest.raises(records.RecordError, match="wer scored 2 utterances, but there are 3"):
        predictions.write(path, rows(), {"wer": score})
    with pytest.raises(records.RecordError, match="prediction 1: missing or unknown speaker"):
        predictions.write(
            path,
            [row if i != 1 else {k: v for k, v in row.items() if k != "speaker"} for i, row in enumerate(rows())],
            {},
        )
    with pytest.raises(records.RecordError, match="prediction 0: duration_s"):
        predictions.write(path, [rows()[0] | {"duration_s": float("nan")}], {})
    assert not list(tmp_path.iterdir())


def test_damaged_predictions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    predictions.write(path, rows(), {})
    with pytest.raises(records.RecordError, match="evaluate again with metric wer"):
        predictions.read(path).statistics("wer")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(sealing.DamagedError, match=r"p\.parquet"):
        predictions.read(path)
    with pytest.raises(sealing.DamagedError, match="missing"):
        predictions.read(tmp_path / "none.parquet")
