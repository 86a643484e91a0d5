"""Which artefacts a config has, for the tools that verify, push and pull them."""

import re
from pathlib import Path

import pytest
import yaml

from concertina.artefacts import dag
from concertina.config import load
from helpers.project_copy import ROOT, copy_project, plan, python

pytestmark = pytest.mark.slow


def test_the_artefacts_are_those_that_a_run_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = "configs/tiny-wide.yaml"
    copy_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    made = [one for one in dag.every(load(config)) if not dag.row(one.kind).inside]
    assert sorted(map(str, made)) == plan(tmp_path, config)


def test_a_pull_is_refused_where_nothing_says_which_commit_of_a_branch_is_meant(tmp_path: Path) -> None:
    copy_project(tmp_path)
    done = python(tmp_path, "-m", "tools.dvc.pull", "--config", "configs/paper.yaml")
    assert done.returncode != 0
    assert re.search(r"base: Qwen/Qwen2-Audio-7B at revision 'main' is not here.*set `revision` to", done.stderr)
    assert not (tmp_path / "scratch").exists()


def test_every_config_is_a_track_with_metrics_and_a_picture() -> None:
    said = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    tracks = said["stages"]["track"]["foreach"]
    configs = ["config.yaml", *(f"configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml"))]
    assert sorted(tracks.values()) == sorted(configs)
    assert {load(ROOT / path).name: path for path in configs} == tracks
    assert said["metrics"] == [f"results/{name}/report/metrics.json" for name in tracks]
    assert said["plots"] == [f"results/{name}/report/quality.svg" for name in tracks]
    assert all(out["persist"] for outs in said["stages"]["track"]["do"]["outs"] for out in outs.values())
