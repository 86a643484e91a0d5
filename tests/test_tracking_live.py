"""Curves that a training sends live to MLflow, whatever the server does, and many processes that send at once."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from concertina import train
from concertina.config import Config, load
from concertina.store import sealing
from concertina.tracking import mlflow_client, replay
from helpers import tiny_run, tracked_runs
from helpers.artefacts import folder_of

pytestmark = pytest.mark.slow
CROWD = 16
WITHOUT = """
import sys
from concertina import config, train
from concertina.tracking import replay as track
from concertina.tracking import mlflow_client as tracking
assert tracking.uri() == "sqlite:///mlflow.db"
with tracking.live({}, []):
    pass
print("mlflow" in sys.modules, track.failures(config.load()))
"""
# Importing MLflow takes seconds, so one process does it, and each of the crowd is a fork of it that has opened nothing.
CROWDED = """
import os, sys, time
import mlflow, mlflow.entities, mlflow.store.tracking.sqlalchemy_store, sqlalchemy.dialects.postgresql.psycopg2
from concertina import config
from concertina.tracking import replay as track
from concertina.tracking import mlflow_client as tracking
tracking.PATIENCE_S = 120  # nothing may be left to the replay
begins = time.time() + 1
children = []
for i in range(int(sys.argv[1])):
    if not (child := os.fork()):
        time.sleep(max(0, begins - time.time()))
        if i % 2:
            track.replay(config.load(f"e{i % 4}.yaml"))
        else:
            head = {"stage": "train", "name": "live", "compressor": "average", "ratio": "3", "seed": i}
            head |= {"train_set": "english", "run_key": f"key{i}", "config": {"steps": 9}, "commit": "c"}
            curve = [{"step": 0, "dev_loss": 2.0}]
            with tracking.live(head, curve):
                curve += [{"step": step, "loss": 1 / step} for step in range(1, 400)]
        os._exit(0)
    children.append(child)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""
TOLD = """
import json, os
from helpers import tracked_runs
from mlflow import MlflowClient
client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
told = {}
for name in ("e1", "e3", "live"):
    told[name] = {}
    for run in tracked_runs.runs(client, name):
        assert run.info.run_name not in told[name], run.info.run_name
        assert run.info.status == ("RUNNING" if name == "live" else "FINISHED")
        losses = [tracked_runs.history(client, run, f"train/{loss}") for loss in ("loss", "dev_loss")]
        steps = {(value.key, value.step) for values in losses for value in values}
        assert len(steps) == sum(map(len, losses))
        told[name][run.info.run_name] = len(steps)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment that was made and recorded."""
    return tracked_runs.recorded(tmp_path_factory.mktemp("tracked"))


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished experiment to work in, with an empty database."""
    tracked_runs.copy_files(finished, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(mlflow_client.VARIABLE, raising=False)
    return tmp_path


@pytest.fixture
def config(here: Path) -> Config:
    return load("tiny.yaml")


def head(**fields: Any) -> dict[str, Any]:
    """The head of a record of train, as the stage has it while it works."""
    known: dict[str, Any] = {
        "stage": "train",
        "name": "tiny",
        "compressor": "average",
        "ratio": "3",
        "positions": "renumber",
    }
    known |= {
        "train_set": "english",
        "seed": 0,
        "run_key": "average-0",
        "config": {"steps": 300},
        "commit": "c",
    }
    return known | fields


@pytest.fixture
def server(finished: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which MLflow's server has its files; the variable names it."""
    shutil.copy(finished / "mlflow.db", "mlflow.db")
    client = tracked_runs.client(here)
    for run in tracked_runs.runs(client):
        client.delete_run(run.info.run_id)
    client.rename_experiment(client.get_experiment_by_name("tiny").experiment_id, "before")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open("server.txt", "w", encoding="utf-8") as console:
        process = subprocess.Popen(command, env=os.environ | settings, stdout=console, stderr=console)
    monkeypatch.setenv(mlflow_client.VARIABLE, f"http://127.0.0.1:{port}")
    ends = time.monotonic() + 120
    while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < ends:
        time.sleep(0.1)
    yield here
    process.terminate()
    process.wait(60)


def test_a_curve_sent_live_is_the_run_that_the_replay_completes(server: Path, config: Config) -> None:
    folder = folder_of("train", "tiny", "english", "average-3-keep", 0)
    rows = [json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    client = tracked_runs.client(server)
    growing = rows[:4]
    written = head(positions="keep")  # of a parameter what was written first stays
    with pytest.raises(KeyboardInterrupt), mlflow_client.live(written, growing):
        raise KeyboardInterrupt  # the job is stopped, and started again
    [stopped] = tracked_runs.runs(client)
    assert stopped.info.status == "KILLED"
    growing = rows[:1]
    with mlflow_client.live(head(), growing):
        growing += rows[1:8]
    [run] = tracked_runs.runs(client)
    assert (run.info.run_id, run.info.status) == (stopped.info.run_id, "RUNNING")
    assert run.data.params["train.steps"] == "300"
    steps = sorted(value.step for value in tracked_runs.history(client, run, "train/loss"))
    assert steps == [row["step"] for row in rows[:8] if "loss" in row]
    assert replay.replay(config) == {"new": 3, "completed": 1, "known": 0}
    by_key = {run.data.tags["run_key"]: run for run in tracked_runs.runs(client)}
    assert by_key["average-0"].info.run_id == run.info.run_id
    assert by_key["average-0"].info.status == "FINISHED"
    steps = sorted(value.step for value in tracked_runs.history(client, run, "train/loss"))
    assert steps == [row["step"] for row in rows if "loss" in row]
    uri = by_key["average-0"].info.artifact_uri
    assert uri.startswith("mlflow-artifacts:")
    assert list(server.glob(f"mlartifacts/{uri.split('mlflow-artifacts:/')[1]}/adapter/record.json"))
    with mlflow_client.live(head(), growing):  # the same job once more, after all is done
        growing.append({"step": 999, "loss": 1.0})
    assert len(tracked_runs.history(client, run, "train/loss")) == len(steps)


def test_a_training_sends_its_curve_under_its_run_key(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(finished / "mlflow.db", tmp_path)
    monkeypatch.setenv(mlflow_client.VARIABLE, "sqlite:///mlflow.db")
    overlay = tiny_run.write(tmp_path)
    tiny_run.split(overlay, "train", 24, seed=1)
    tiny_run.split(overlay, "dev", 8, seed=2)
    monkeypatch.setattr(mlflow_client, "PATIENCE_S", 60)
    assert train.main(tiny_run.train_arguments(overlay)) == 0
    client = tracked_runs.client(tmp_path)
    [run] = tracked_runs.runs(client, "t")
    assert (
        run.data.tags["run_key"] == sealing.verify(folder_of("train", "t", "english", "average-3-keep", 0))["run_key"]
    )
    assert (run.info.run_name, run.data.params["train.steps"]) == ("average-3-keep english seed0", "30")
    assert sorted(value.step for value in tracked_runs.history(client, run, "train/loss")) == list(range(1, 31))
    assert sorted(value.step for value in tracked_runs.history(client, run, "train/dev_loss")) == [0, 15, 30]


def test_a_server_that_never_answers_costs_a_training_seconds(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)  # connections are taken, and never served
        monkeypatch.setenv(mlflow_client.VARIABLE, f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with mlflow_client.live(head(), [{"step": 1, "loss": 1.0}]):
            inside = time.monotonic()
        assert inside - began < 0.5
        assert time.monotonic() - inside < mlflow_client.PATIENCE_S + 1


def test_a_server_that_is_away_is_told_once(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for thread in threading.enumerate():  # an earlier training that is over
        if thread.daemon and thread.name == "tracking":
            thread.join()
    monkeypatch.setattr(mlflow_client, "LATER_S", 0.1)
    monkeypatch.setenv(mlflow_client.VARIABLE, "http://127.0.0.1:1")
    with mlflow_client.live(head(), [{"step": 1, "loss": 1.0}]):
        time.sleep(1.5)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("the curve of this training cannot be sent to MLflow at http://127.0.0.1:1: ")


def test_who_does_not_ask_for_it_does_not_import_it() -> None:
    environment = {name: value for name, value in os.environ.items() if name != mlflow_client.VARIABLE}
    done = subprocess.run([sys.executable, "-c", WITHOUT], env=environment, capture_output=True, text=True)
    assert done.stdout == "False 0\n", done.stderr


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_crowd_that_ends_at_once_loses_nothing(here: Path, kind: str) -> None:
    for i in (1, 3):
        tracked_runs.make(here, f"e{i}", segments={"positions": "keep", "cells": tracked_runs.GRID[:2]})
    (here / "crowd.py").write_text(CROWDED, encoding="utf-8")
    (here / "told.py").write_text(TOLD, encoding="utf-8")
    python = f"{sys.executable} crowd.py {CROWD} && {sys.executable} told.py"
    if kind == "postgresql":
        if not shutil.which("pg_virtualenv"):
            pytest.skip("no postgresql: sudo sh tools/test-needs.sh")
        address = "postgresql://$PGUSER:$PGPASSWORD@$PGHOST:$PGPORT/$PGDATABASE"
        command = ["pg_virtualenv", "sh", "-c", f"export {mlflow_client.VARIABLE}={address}; {python}"]
    else:
        command = ["sh", "-c", f"export {mlflow_client.VARIABLE}=sqlite:///crowd.db; {python}"]
    path = os.pathsep.join([str(tracked_runs.ROOT / "src"), str(tracked_runs.ROOT / "tests")])
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    replayed = {"average-3-keep english seed0": 34, "average-3-keep english seed1": 34, "none-1 english seed0": 34}
    assert told == {
        "e1": replayed | {"e1": 0},
        "e3": replayed | {"e3": 0},
        "live": {f"average-3 english seed{i}": 400 for i in range(0, CROWD, 2)},
    }
