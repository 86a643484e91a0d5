"""The replay into MLflow: whole, once, completed after an interruption; failures, curves that are sent live, crowds."""

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

import made_results
import tiny_run
import tracked
from concertina import train
from concertina.artefacts import layout
from concertina.config import Config, load
from concertina.store import records, sealing
from concertina.tracking import mlflow_client, replay, runs

pytestmark = pytest.mark.slow
CROWD = 16
ALLOWED = {*runs.TAGS, "kind", "track", "realised_ratio", "run_key", "scores_run_key", "replayed", "error"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment that was made and recorded."""
    folder = tmp_path_factory.mktemp("tracked")
    tracked.make(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv(mlflow_client.VARIABLE, raising=False)
        assert replay.main(["--config", "tiny.yaml"]) == 0
    return folder


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished experiment to work in, with an empty database."""
    for part in ("build", "results"):
        shutil.copytree(finished / part, tmp_path / part)
    for part in ("config.yaml", "tiny.yaml"):
        shutil.copy(finished / part, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(mlflow_client.VARIABLE, raising=False)
    return tmp_path


@pytest.fixture
def config(here: Path) -> Config:
    return load("tiny.yaml")


def seal_again(folder: Path, key: str) -> None:
    """Make an artefact again under another run key."""
    seal = json.loads((folder / layout.SEAL).read_text(encoding="utf-8"))
    sealing.write_json(folder / layout.SEAL, {**seal, "run_key": key})


def test_every_adapter_is_a_run_below_its_experiment(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    client = tracked.client(finished)
    *children, parent = tracked.runs(client)
    assert [run.info.run_name for run in children] == tracked.RUNS
    assert parent.info.run_name == "tiny"
    assert {run.info.status for run in (*children, parent)} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    run = children[1]
    place = {"compressor": "average", "ratio": "3", "train_set": "english", "seed": "1", "positions": "renumber"}
    assert place.items() <= run.data.params.items()
    assert place.items() - {("positions", "renumber")} <= run.data.tags.items()
    assert (run.data.tags["commit"], run.data.tags["track"]) == ("0123456789abcdef", "tiny")
    assert (run.data.tags["run_key"], run.data.tags["scores_run_key"]) == ("average-1", "average-3")
    assert run.data.tags["realised_ratio"] == "2.94"
    cell = layout.evaluate("tiny", "average", "3")
    for path, record in records.read_folder(cell).items():
        if isinstance(record, records.Record) and record.seed in (None, 1):
            when = "adapted" if record.adapted else "zero_shot"
            for metric, score in record.scores.items():
                assert run.data.metrics[f"{record.test_set}/{metric}_{when}"] == score.value
            assert f"predictions/{path.relative_to(cell).as_posix()}" in set(tracked.files(client, run))
    curve = (layout.train("tiny", "english", "average", "3", 1) / "curve.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in curve.splitlines()]
    for name in ("loss", "dev_loss"):
        told = [(value.step, value.value) for value in tracked.history(client, run, f"train/{name}")]
        assert told == [(row["step"], row[name]) for row in rows if name in row]
    local = client.download_artifacts(parent.info.run_id, "report/report.html", str(finished))
    assert Path(local).read_bytes() == Path("results/tiny/report.html").read_bytes()


def test_a_second_replay_changes_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    before = (finished / "mlflow.db").read_bytes()
    files = {path: path.stat().st_mtime_ns for path in Path("mlartifacts").rglob("*")}
    assert replay.replay(load("tiny.yaml")) == {"new": 0, "completed": 0, "known": 4}
    assert {path: path.stat().st_mtime_ns for path in Path("mlartifacts").rglob("*")} == files
    assert contents_of_tables(finished / "mlflow.db") == contents_of_tables(before, finished)


def contents_of_tables(database: Path | bytes, folder: Path | None = None) -> dict[str, list[Any]]:
    import sqlite3

    if isinstance(database, bytes):
        assert folder
        (folder / "before.db").write_bytes(database)
        database = folder / "before.db"
    with sqlite3.connect(database) as connection:
        names = ("experiments", "experiment_tags", "runs", "params", "tags", "metrics", "latest_metrics")
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in names}


@pytest.mark.parametrize(("at", "after"), [("begin", 2), ("log", 0), ("upload", 1), ("describe", 2), ("end", 2)])
def test_a_replay_that_dies_is_completed_by_the_next(
    finished: Path, here: Path, config: Config, at: str, after: int
) -> None:
    shutil.copy(finished / "mlflow.db", "mlflow.db")
    client = tracked.client(here)
    expected = tracked.contents(client)
    for run in tracked.runs(client):
        client.delete_run(run.info.run_id)  # the tables stay, which take seconds to make
    method, calls = getattr(mlflow_client.Experiment, at), iter(range(after))

    def dying(*arguments: Any, **named: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return method(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow_client.Experiment, at, dying)
        with pytest.raises(KeyboardInterrupt):
            replay.replay(config)
    assert tracked.contents(client) != expected
    counts = replay.replay(config)
    assert counts["completed"] == (0 if at == "begin" else 1)
    assert sum(counts.values()) == 4
    assert tracked.contents(client) == expected


def test_what_is_made_again_with_another_key_is_a_new_run(finished: Path, here: Path, config: Config) -> None:
    shutil.copy(finished / "mlflow.db", "mlflow.db")
    client = tracked.client(here)
    before = tracked.contents(client)
    adapter = layout.train("tiny", "english", "average", "3", 0)
    seal_again(adapter, "trained again")
    seal_again(layout.evaluate("tiny", "average", "3"), "scored again")
    seal_again(layout.evaluate("tiny", "none", "1"), "none scored again")
    assert replay.replay(config) == {"new": 3, "completed": 0, "known": 1}
    after = tracked.contents(client)
    assert before.items() <= after.items()
    assert {key for key in after if key not in before} == {
        "average-3 english seed0 trained again scored again",
        "average-3 english seed1 average-1 scored again",
        "none-1 english seed0 none-0 none scored again",
    }


def test_an_adapter_is_not_given_the_scores_of_the_one_before(here: Path, config: Config) -> None:
    adapter = layout.train("tiny", "english", "average", "3", 0)
    scores = layout.evaluate("tiny", "average", "3") / layout.SEAL
    os.utime(scores, (0, 0))
    replay.replay(config)
    client = tracked.client(here)
    [run] = [run for run in tracked.runs(client) if run.info.run_name == "average-3 english seed0"]
    assert run.info.status == "RUNNING"
    assert not any("wer" in metric for metric in run.data.metrics)
    os.utime(scores)
    assert adapter.exists()
    assert replay.replay(config)["completed"] == 2
    assert {run.info.status for run in tracked.runs(client)} == {"FINISHED"}


def test_failures_are_failed_runs_until_they_are_mended(finished: Path, here: Path, config: Config) -> None:
    shutil.copy(finished / "mlflow.db", "mlflow.db")
    client = tracked.client(here)
    for run in tracked.runs(client):
        client.delete_run(run.info.run_id)
    lost = layout.train("tiny", "english", "none", "1", 0)
    lost.rename("aside")
    fields = {"compressor": "none", "ratio": "1", "train_set": "english", "seed": 0}
    head = made_results.head(config, stage="train", **fields) | {"run_key": "none-0"}
    records.write(layout.failure("tiny", "train", "english/none-1/seed0"), records.failed("loss became nan", **head))
    head = made_results.head(config, stage="evaluate", compressor="average", ratio="3") | {"run_key": ""}
    records.write(layout.failure("tiny", "evaluate", "average-3"), records.failed("out of memory", **head))
    head = made_results.head(config, stage="segments", compressor="segment", ratio="natural")
    failure = layout.failure("tiny", "segments", "synthetic/clean/segment-natural")
    records.write(failure, records.failed("no natural ratio", **head))
    shutil.rmtree(layout.train("tiny", "english", "segment", "natural", 0))

    assert replay.replay(config) == {"new": 4, "completed": 0, "known": 0}
    assert replay.replay(config) == {"new": 0, "completed": 0, "known": 4}
    told = {run.info.run_name: (run.info.status, run.data.tags.get("error")) for run in tracked.runs(client)}
    assert told == {
        "average-3 english seed0": ("FAILED", "evaluate failed: out of memory"),
        "average-3 english seed1": ("FAILED", "evaluate failed: out of memory"),
        "none-1 english seed0": ("FAILED", "train failed: loss became nan"),
        "segment-natural": ("FAILED", "segments failed: no natural ratio"),
        "tiny": ("FAILED", None),
    }
    shutil.rmtree("results/tiny/failed")
    Path("aside").rename(lost)
    os.utime(layout.evaluate("tiny", "none", "1") / layout.SEAL)
    assert replay.replay(config) == {"new": 0, "completed": 3, "known": 0}
    mended = {run.info.run_name: run for run in tracked.runs(client)}
    for name in tracked.RUNS[:3]:
        assert mended[name].info.status == "FINISHED"
        assert "error" not in mended[name].data.tags
    assert mended["tiny"].info.status == "FINISHED"


def test_only_sealed_files_without_code_and_named_fields_leave(
    finished: Path, here: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(finished / "mlflow.db", "mlflow.db")
    monkeypatch.setenv("CONCERTINA_SECRET", "hush-hush")
    monkeypatch.setenv("MLFLOW_RUN_TAGS", '{"hush": "hush-hush"}')
    (here / "outside.json").write_text("hush-hush", encoding="utf-8")
    with sealing.sealed(layout.train("tiny", "english", "average", "3", 0), {"run_key": "other"}) as folder:
        for name in ("curve.jsonl", "record.json"):
            shutil.copy(layout.train("tiny", "english", "average", "3", 1) / name, folder)
        (folder / "weights.pkl").write_bytes(b"hush-hush")
        (folder / "linked.json").symlink_to(here / "outside.json")
    (layout.train("tiny", "english", "average", "3", 0) / "unsealed.json").write_text("hush-hush", encoding="utf-8")
    os.utime(layout.evaluate("tiny", "average", "3") / layout.SEAL)
    assert replay.replay(config)["new"] == 1
    client = tracked.client(here)
    for run in tracked.runs(client):
        assert {tag for tag in run.data.tags if not tag.startswith("mlflow.")} <= ALLOWED
        assert {tag for tag in run.data.tags if tag.startswith("mlflow.")} <= {"mlflow.parentRunId", "mlflow.runName"}
        assert "hush-hush" not in json.dumps([run.data.tags, run.data.params, run.info.user_id])
    [run] = [run for run in tracked.runs(client) if run.data.tags["run_key"] == "other"]
    assert sorted(each for each in tracked.files(client, run) if each.startswith("adapter/")) == [
        "adapter/curve.jsonl",
        "adapter/record.json",
    ]


def test_a_damaged_adapter_is_named(here: Path, config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    path = layout.train("tiny", "english", "none", "1", 0) / "curve.jsonl"
    path.write_text("{}\n", encoding="utf-8")
    assert replay.main(["--config", "tiny.yaml"]) == 1
    assert f"error: {path} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["http://127.0.0.1:1", "postgresql://me:hush-hush@127.0.0.1:1/runs"])
def test_a_dead_server_is_told_in_one_line_and_counted(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    monkeypatch.setenv(mlflow_client.VARIABLE, where)
    assert replay.main(["--config", "tiny.yaml"]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: cannot record runs at {where.replace('me:hush-hush@', '')}: ")
    assert "Connection refused" in told
    assert len(told.splitlines()) == 1
    assert replay.failures("tiny") == 0
    assert replay.main(["--config", "tiny.yaml", "--failures", "0"]) == 0
    assert replay.failures("tiny") == 1
    assert "hush" not in (layout.track("tiny") / layout.SEAL).read_text(encoding="utf-8")


def head(**fields: Any) -> dict[str, Any]:
    """The head of a record of train, as the stage has it while it works."""
    known = {"stage": "train", "name": "tiny", "compressor": "average", "ratio": "3", "positions": "renumber"}
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
    client = tracked.client(here)
    for run in tracked.runs(client):
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
    folder = layout.train("tiny", "english", "average", "3", 0)
    rows = [json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    client = tracked.client(server)
    growing = rows[:4]
    written = head(positions="keep")  # of a parameter what was written first stays
    with pytest.raises(KeyboardInterrupt), mlflow_client.live(written, growing):
        raise KeyboardInterrupt  # the job is stopped, and started again
    [stopped] = tracked.runs(client)
    assert stopped.info.status == "KILLED"
    growing = rows[:1]
    with mlflow_client.live(head(), growing):
        growing += rows[1:8]
    [run] = tracked.runs(client)
    assert (run.info.run_id, run.info.status) == (stopped.info.run_id, "RUNNING")
    assert run.data.params["train.steps"] == "300"
    steps = sorted(value.step for value in tracked.history(client, run, "train/loss"))
    assert steps == [row["step"] for row in rows[:8] if "loss" in row]
    assert replay.replay(config) == {"new": 3, "completed": 1, "known": 0}
    by_key = {run.data.tags["run_key"]: run for run in tracked.runs(client)}
    assert by_key["average-0"].info.run_id == run.info.run_id
    assert by_key["average-0"].info.status == "FINISHED"
    steps = sorted(value.step for value in tracked.history(client, run, "train/loss"))
    assert steps == [row["step"] for row in rows if "loss" in row]
    uri = by_key["average-0"].info.artifact_uri
    assert uri.startswith("mlflow-artifacts:")
    assert list(server.glob(f"mlartifacts/{uri.split('mlflow-artifacts:/')[1]}/adapter/record.json"))
    with mlflow_client.live(head(), growing):  # the same job once more, after all is done
        growing.append({"step": 999, "loss": 1.0})
    assert len(tracked.history(client, run, "train/loss")) == len(steps)


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
    client = tracked.client(tmp_path)
    [run] = tracked.runs(client, "t")
    assert run.data.tags["run_key"] == sealing.verify(layout.train("t", "english", "average", "3", 0))["run_key"]
    assert (run.info.run_name, run.data.params["train.steps"]) == ("average-3 english seed0", "30")
    assert sorted(value.step for value in tracked.history(client, run, "train/loss")) == list(range(1, 31))
    assert sorted(value.step for value in tracked.history(client, run, "train/dev_loss")) == [0, 15, 30]


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
    assert told[0].startswith("this training is not told to MLflow at http://127.0.0.1:1: ")


WITHOUT = """
import sys
from concertina import train
from concertina.tracking import replay as track
from concertina.tracking import mlflow_client as tracking
assert tracking.uri() == "sqlite:///mlflow.db"
with tracking.live({}, []):
    pass
print("mlflow" in sys.modules, track.failures("tiny"))
"""


def test_who_does_not_ask_for_it_does_not_import_it() -> None:
    environment = {name: value for name, value in os.environ.items() if name != mlflow_client.VARIABLE}
    done = subprocess.run([sys.executable, "-c", WITHOUT], env=environment, capture_output=True, text=True)
    assert done.stdout == "False 0\n", done.stderr


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
        time.sleep(begins - time.time())
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


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_crowd_that_ends_at_once_loses_nothing(here: Path, kind: str) -> None:
    for i in (1, 3):
        tracked.make(here, f"e{i}", segments={"cells": tracked.GRID[:2]})
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
    path = os.pathsep.join([str(tracked.ROOT / "src"), str(tracked.ROOT / "tests")])
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    replayed = {"average-3 english seed0": 34, "average-3 english seed1": 34, "none-1 english seed0": 34}
    assert told == {
        "e1": replayed | {"e1": 0},
        "e3": replayed | {"e3": 0},
        "live": {f"average-3 english seed{i}": 400 for i in range(0, CROWD, 2)},
    }


TOLD = """
import json, os
import tracked
from mlflow import MlflowClient
client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
told = {}
for name in ("e1", "e3", "live"):
    told[name] = {}
    for run in tracked.runs(client, name):
        assert run.info.run_name not in told[name], run.info.run_name
        assert run.info.status == ("RUNNING" if name == "live" else "FINISHED")
        losses = [tracked.history(client, run, f"train/{loss}") for loss in ("loss", "dev_loss")]
        steps = {(value.key, value.step) for values in losses for value in values}
        assert len(steps) == sum(map(len, losses))
        told[name][run.info.run_name] = len(steps)
print(json.dumps(told))
"""
