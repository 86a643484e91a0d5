"""Evaluated again after a change of the config: what was decoded stays, and what is new is decoded alone."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from concertina import config, evaluate, metrics, train
from concertina.store import predictions, records
from concertina.store.records import Record
from helpers import tiny_run
from helpers.artefacts import folder_of

SCORES = folder_of("evaluate", "t", "average-3")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory in which one cell has been trained and evaluated."""
    root = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        overlay = tiny_run.prepared(root)
        tiny_run.change(overlay, steps=2)
        assert train.main(tiny_run.train_arguments(overlay)) == 0
        assert run_again() == 0
    return root


@pytest.fixture(autouse=True)
def _in_a_copy(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")


def run_again(**changes: Any) -> int:
    """Evaluate the cell after changes of the section `evaluate`; returns the exit code."""
    path = Path("t.yaml")
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(config.merge(values, {"evaluate": changes})), encoding="utf-8")
    return evaluate.main(["--config", "t.yaml", "--cell", "average-3"])


def decoded() -> dict[str, tuple[int, bytes]]:
    """Every file of the decoded texts, with its time and its bytes."""
    files = (path for path in Path("build/t/evaluate").rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def scored() -> dict[str, Record]:
    """The records of the cell, by their path below its folder."""
    found = records.read_folder(SCORES).items()
    return {str(path.relative_to(SCORES)): record for path, record in found if isinstance(record, Record)}


def test_a_metric_that_is_added_or_moved_decodes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    units, before = decoded(), scored()
    kept = config.load("t.yaml").evaluate.metrics["transcribe"]
    assert run_again(metrics={"transcribe": ["chrf", *reversed(kept)]}) == 0
    assert decoded() == units
    assert "zero-shot" not in capsys.readouterr().err
    after = scored()
    assert after.keys() == before.keys()
    for name, record in after.items():
        rows = predictions.read((SCORES / name).with_suffix(".parquet"))
        if record.task == "transcribe":
            chrf = metrics.load("chrf").score(rows["reference"], rows["hypothesis"], "en")
            assert record.scores["chrf"].value == chrf.value
            assert rows.statistics("chrf").shape == chrf.stats_UK.shape
            assert {metric: record.scores[metric] for metric in kept} == before[name].scores
            assert record.run_key != before[name].run_key
        else:
            assert (record.scores, record.run_key) == (before[name].scores, before[name].run_key)


def test_one_more_test_set_decodes_that_set_alone(capsys: pytest.CaptureFixture[str]) -> None:
    units, before = decoded(), scored()
    sets = yaml.safe_load(Path("t.yaml").read_text(encoding="utf-8"))["evaluate"]["sets"]
    few = {**sets[0], "name": "few", "utterances": 3}
    assert run_again(sets=[few, *sets]) == 0
    message = capsys.readouterr().err
    assert "average-3-keep: few, zero-shot" in message
    assert "average-3-keep: few, english-seed0" in message
    assert "clean" not in message
    after = decoded()
    assert {path: after[path] for path in units} == units
    assert {Path(path).parent for path in after.keys() - units.keys()} == {
        folder_of("evaluate_decode", "t", "average-3-keep", "few", run) for run in ("zero-shot", "english-seed0")
    }
    found = scored()
    assert found["few/zero-shot-keep.json"].n_utterances == 3
    for name, record in before.items():
        assert (found[name].scores, found[name].run_key) == (record.scores, record.run_key)


def test_a_test_set_that_is_dropped_is_scored_no_more_and_its_texts_stay(capsys: pytest.CaptureFixture[str]) -> None:
    units = decoded()
    sets = yaml.safe_load(Path("t.yaml").read_text(encoding="utf-8"))["evaluate"]["sets"]
    assert run_again(sets=sets[:1]) == 0
    assert set(scored()) == {"clean/zero-shot-keep.json", "clean/english-seed0-keep.json"}
    assert decoded() == units
    assert run_again(sets=sets) == 0
    assert decoded() == units
    assert "zero-shot" not in capsys.readouterr().err


def test_a_unit_that_is_damaged_is_decoded_again_alone(capsys: pytest.CaptureFixture[str]) -> None:
    units = decoded()
    damaged = folder_of("evaluate_decode", "t", "average-3-keep", "clean", "zero-shot") / "predictions.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    assert run_again() == 0
    after = decoded()
    assert after[str(damaged)][1] == units[str(damaged)][1]
    assert {Path(path).parent for path in units if after[path] != units[path]} == {damaged.parent}


def test_another_adapter_leaves_zero_shot_alone() -> None:
    units = decoded()
    overlay = tiny_run.change(Path("t.yaml"), learning_rate=2e-2)
    assert train.main(tiny_run.train_arguments(overlay)) == 0
    assert run_again() == 0
    after = decoded()
    assert after.keys() == units.keys()
    changed = {Path(path).parent.name for path in units if after[path] != units[path]}
    assert changed == {"english-seed0"}
