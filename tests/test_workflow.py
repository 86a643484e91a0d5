"""The plan of a fresh project, a config that is wrong told in one line, and one run at a time."""

import fcntl
from pathlib import Path

import pytest

from helpers.project_copy import copy_project, plan, python, snakemake


def test_a_fresh_project_plans_every_stage_once_per_artefact(tmp_path: Path) -> None:
    copy_project(tmp_path)
    stages = [job.split()[0] for job in plan(tmp_path)]
    counts = {stage: stages.count(stage) for stage in dict.fromkeys(stages)}
    assert counts == {
        **{"data": 4, "features": 4, "segments": 48, "train": 12, "evaluate": 12},
        **{"report": 1, "report_track": 1},
    }


@pytest.mark.slow
def test_an_unknown_key_is_one_line_with_the_nearest_valid_one(tmp_path: Path) -> None:
    copy_project(tmp_path)
    (tmp_path / "typo.yaml").write_text("train: {stepps: 3}\n", encoding="utf-8")
    result = snakemake(tmp_path, "-n", "--config", "experiment=typo.yaml")
    assert result.returncode != 0
    complaint = [line for line in (result.stdout + result.stderr).splitlines() if "profile" not in line]
    assert complaint == ["error: typo.yaml: unknown key train.stepps (did you mean 'steps'?)"]


@pytest.mark.slow
def test_a_compressor_without_a_file_is_one_line_naming_the_file(tmp_path: Path) -> None:
    copy_project(tmp_path)
    text = "segments: {cells: [{compressor: averge, ratios: [2]}]}\n"
    (tmp_path / "typo.yaml").write_text(text, encoding="utf-8")
    result = snakemake(tmp_path, "-n", "--config", "experiment=typo.yaml")
    assert result.returncode != 0
    complaint = [line for line in (result.stdout + result.stderr).splitlines() if "profile" not in line]
    assert len(complaint) == 1
    assert "src/concertina/compressors/averge.py" in complaint[0]
    assert "'average'" in complaint[0]


@pytest.mark.slow
def test_one_run_at_a_time(tmp_path: Path) -> None:
    copy_project(tmp_path)
    (tmp_path / "scratch").mkdir()
    with open(tmp_path / "scratch/run.lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        second = python(tmp_path, "-m", "tools.run", "-n")
        assert second.returncode == 1
        assert second.stderr == "error: another run is going on in this folder; wait for it to end\n"
    assert python(tmp_path, "-m", "tools.run", "-n").returncode == 0
