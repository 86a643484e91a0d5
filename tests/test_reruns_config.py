"""The re-run promises for a changed config, on the jobs that Snakemake plans: what is done again, and what is left."""

import shutil
from pathlib import Path

import pytest

from helpers.project_copy import plan
from helpers.reruns import CELLS, EVALUATED_AGAIN, TRAINED_AGAIN, cells_again, edit, overlay


@pytest.mark.slow
def test_a_finished_run_plans_nothing(finished: Path) -> None:
    assert plan(finished) == []


@pytest.mark.slow
def test_a_changed_ratio_plans_that_cell_and_the_report(project: Path) -> None:
    edit(
        project / "config.yaml", "{compressor: average, ratios: [2, 3, 4]}", "{compressor: average, ratios: [2, 3, 5]}"
    )
    assert plan(project) == cells_again(["average-5"])


@pytest.mark.slow
def test_a_dropped_compressor_plans_the_report(project: Path) -> None:
    edit(project / "config.yaml", "    - {compressor: random, ratios: [3]}\n", "")
    assert plan(project) == ["report", "report_track"]


@pytest.mark.slow
def test_another_seed_plans_its_adapter_and_the_cell(project: Path) -> None:
    edit(
        project / "config.yaml", "{compressor: random, ratios: [3]}", "{compressor: random, ratios: [3], seeds: [0, 1]}"
    )
    assert plan(project) == ["evaluate random-3", "report", "report_track", "train english/random-3-keep/seed1"]


@pytest.mark.slow
def test_a_compressors_option_plans_its_own_cells(project: Path) -> None:
    edit(
        project / "config.yaml",
        "{compressor: sample, ratios: [2, 3, 4]}",
        "{compressor: sample, ratios: [2, 3, 4], options: {phase: 1}}",
    )
    assert plan(project) == cells_again(["sample-2-phase=1", "sample-3-phase=1", "sample-4-phase=1"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        "evaluate: {batch: 3, threads: 2, metrics: {transcribe: [cer]}}",
        "evaluate: {sets: [{name: d, corpus: synthetic, split: dev, task: transcribe, language: en, utterances: 9}]}",
    ],
)
def test_evaluation_keys_train_nothing(project: Path, change: str) -> None:
    overlay(project, change)
    assert plan(project) == EVALUATED_AGAIN


@pytest.mark.slow
def test_a_test_set_on_a_new_split_makes_the_split_and_trains_nothing(project: Path) -> None:
    edit(project / "config.yaml", "        clean: {en: 300}\n", "        clean: {en: 300}\n        accent: {en: 9}\n")
    new = "    - {name: accent, corpus: synthetic, split: accent, task: transcribe, language: en}\n"
    edit(project / "config.yaml", "    - {name: hard,", new + "    - {name: hard,")
    made = ["data synthetic/accent", "features synthetic/accent"]
    cuts = [f"segments synthetic/accent/{cell}" for cell in CELLS]
    assert plan(project) == sorted([*made, *cuts, *EVALUATED_AGAIN])


@pytest.mark.slow
def test_another_size_of_a_test_split_trains_nothing(project: Path) -> None:
    edit(project / "config.yaml", "clean: {en: 300}", "clean: {en: 301}")
    made = ["data synthetic/clean", "features synthetic/clean"]
    cuts = [f"segments synthetic/clean/{cell}" for cell in CELLS]
    assert plan(project) == sorted([*made, *cuts, *EVALUATED_AGAIN])


@pytest.mark.slow
def test_the_training_budget_plans_training_and_no_segments(project: Path) -> None:
    overlay(project, "train: {steps: 7}")
    assert plan(project) == TRAINED_AGAIN


@pytest.mark.slow
def test_how_often_a_training_is_kept_plans_nothing(project: Path) -> None:
    overlay(project, "train: {checkpoint_s: 7}")
    assert plan(project) == []


@pytest.mark.slow
def test_a_report_key_plans_the_report(project: Path) -> None:
    overlay(project, "report: {title: Another title, examples: 3}")
    assert plan(project) == ["report", "report_track"]


@pytest.mark.slow
def test_another_seed_of_compressors_plans_those_that_draw(project: Path) -> None:
    overlay(project, "segments: {seed: 5}")
    assert plan(project) == cells_again(["random-3"])


@pytest.mark.slow
def test_the_same_experiment_from_another_file_plans_nothing(project: Path) -> None:
    shutil.copy2(project / "config.yaml", project / "same.yaml")
    assert plan(project, "same.yaml") == []
