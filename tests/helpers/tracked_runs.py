"""Make results to record, and read what MLflow then holds, for the tests of tracking."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from concertina import report
from concertina.config import Config, load
from concertina.tracking import mlflow_client, replay
from helpers import made_results

ROOT = Path(__file__).parents[2]
GRID = [
    {"compressor": "none", "ratios": [1]},
    {"compressor": "average", "ratios": [3], "seeds": [0, 1]},
    {"compressor": "segment", "ratios": ["natural"]},
]
RUNS = [
    "average-3-keep english seed0",
    "average-3-keep english seed1",
    "none-1 english seed0",
    "segment-natural-keep english seed0",
]
SECTIONS: dict[str, Any] = {
    "segments": {"positions": "keep", "cells": GRID},
    "report": {"bootstrap_samples": 20, "examples": 2},
}


def make(folder: Path, name: str = "tiny", **sections: Any) -> Config:
    """Make an experiment with made-up results and a report in `folder`."""
    if not (folder / "config.yaml").exists():
        (folder / "config.yaml").write_text((ROOT / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    shutil.copytree(ROOT / "reference", folder / "reference", dirs_exist_ok=True)
    with contextlib.chdir(folder):
        config, path = made_results.config(Path(), name, **SECTIONS | sections)
        made_results.write(config, utterances=6)
        report.make(config, path)
        path.rename(f"{name}.yaml")
        return load(f"{name}.yaml")


def recorded(folder: Path) -> Path:
    """Make an experiment, and replay it into the database of its folder."""
    make(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv(mlflow_client.VARIABLE, raising=False)
        assert replay.main(["--config", "tiny.yaml"]) == 0
    return folder


def copy_files(finished: Path, folder: Path) -> None:
    """Copy a recorded experiment without its database."""
    for part in ("build", "results"):
        shutil.copytree(finished / part, folder / part)
    for part in ("config.yaml", "tiny.yaml"):
        shutil.copy(finished / part, folder)


def client(folder: Path) -> Any:
    """Return MLflow's client of a folder's database, by a new name, because MLflow caches open databases by name."""
    from mlflow import MlflowClient

    name = Path(tempfile.mkdtemp(dir=folder), "mlflow.db")
    name.symlink_to((folder / "mlflow.db").resolve())
    return MlflowClient(f"sqlite:///{name}")


def runs(client: Any, name: str = "tiny") -> list[Any]:
    """Return every run of an experiment, in the order of names."""
    experiment = client.get_experiment_by_name(name)
    matching = client.search_runs([experiment.experiment_id]) if experiment else []
    return sorted(matching, key=lambda run: (run.info.run_name, run.info.start_time))


def contents(client: Any, name: str = "tiny") -> dict[str, Any]:
    """Return all that an experiment holds except the ids of its runs and when its parent was made."""
    found_runs = runs(client, name)
    names = {run.info.run_id: run.info.run_name for run in found_runs}
    content = {}
    for run in found_runs:
        tags = dict(run.data.tags)
        parent = names.get(tags.pop("mlflow.parentRunId", ""))
        curves = {m: sorted((v.step, v.value) for v in history(client, run, m)) for m in run.data.metrics}
        key = f"{run.info.run_name} {tags.get('run_key')} {tags.get('scores_run_key')}"
        assert key not in content, f"{key} is there twice"
        content[key] = (run.info.status, parent, tags, dict(run.data.params), curves, sorted(files(client, run)))
    return content


def history(client: Any, run: Any, metric: str) -> list[Any]:
    return list(client.get_metric_history(run.info.run_id, metric))


def files(client: Any, run: Any, folder: str = "") -> Iterator[str]:
    """Yield the paths of a run's artifacts."""
    for each in client.list_artifacts(run.info.run_id, folder or None):
        if each.is_dir:
            yield from files(client, run, each.path)
        else:
            yield each.path
