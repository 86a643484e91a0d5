"""The replay into MLflow: whole, once, completed after an interruption; failures, and what may leave."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from concertina.config import Config, load
from concertina.store import folders, records, sealing
from concertina.tracking import mlflow_client, replay, runs
from helpers import made_results, tracked_runs
from helpers.artefacts import folder_of

pytestmark = pytest.mark.slow
ALLOWED = {*runs.TAGS, "kind", "track", "realised_ratio", "run_key", "scores_run_key", "replayed", "error"}


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


def seal_again(folder: Path, key: str, **facts: Any) -> None:
    """Make an artefact again under another run key."""
    sealing.write_seal(folder / sealing.SEAL, {**sealing.read_seal(folder), "run_key": key, **facts})


def test_every_adapter_is_a_run_below_its_experiment(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    client = tracked_runs.client(finished)
    *children, parent = tracked_runs.runs(client)
    assert [run.info.run_name for run in children] == tracked_runs.RUNS
    assert parent.info.run_name == "tiny"
    assert {run.info.status for run in (*children, parent)} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    run = children[1]
    place = {"compressor": "average", "ratio": "3", "train_set": "english", "seed": "1", "positions": "keep"}
    assert place.items() <= run.data.params.items()
    assert place.items() - {("positions", "keep")} <= run.data.tags.items()
    assert (run.data.tags["commit"], run.data.tags["track"]) == ("0123456789abcdef", "tiny")
    assert (run.data.tags["run_key"], run.data.tags["scores_run_key"]) == ("average-1", "average-3")
    assert run.data.tags["realised_ratio"] == "2.94"
    cell = folder_of("evaluate", "tiny", "average-3")
    for path, record in records.read_folder(cell).items():
        if isinstance(record, records.Record) and record.seed in (None, 1):
            when = "adapted" if record.adapted else "zero_shot"
            for metric, score in record.scores.items():
                assert run.data.metrics[f"{record.test_set}/{metric}_{when}"] == score.value
            assert f"predictions/{path.relative_to(cell).as_posix()}" in set(tracked_runs.files(client, run))
    curve = (folder_of("train", "tiny", "english", "average-3-keep", 1) / "curve.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in curve.splitlines()]
    for name in ("loss", "dev_loss"):
        told = [(value.step, value.value) for value in tracked_runs.history(client, run, f"train/{name}")]
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
    client = tracked_runs.client(here)
    expected = tracked_runs.contents(client)
    for run in tracked_runs.runs(client):
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
    assert tracked_runs.contents(client) != expected
    counts = replay.replay(config)
    assert counts["completed"] == (0 if at == "begin" else 1)
    assert sum(counts.values()) == 4
    assert tracked_runs.contents(client) == expected


def test_what_is_made_again_with_another_key_is_a_new_run(finished: Path, here: Path, config: Config) -> None:
    shutil.copy(finished / "mlflow.db", "mlflow.db")
    client = tracked_runs.client(here)
    before = tracked_runs.contents(client)
    adapter = folder_of("train", "tiny", "english", "average-3-keep", 0)
    seal_again(adapter, "trained again")
    adapters = {"english/average-3-keep/seed0": "trained again", "english/average-3-keep/seed1": "average-1"}
    seal_again(folder_of("evaluate", "tiny", "average-3"), "scored again", adapters=adapters)
    seal_again(folder_of("evaluate", "tiny", "none-1"), "none scored again")
    assert replay.replay(config) == {"new": 3, "completed": 0, "known": 1}
    after = tracked_runs.contents(client)
    assert before.items() <= after.items()
    assert {key for key in after if key not in before} == {
        "average-3-keep english seed0 trained again scored again",
        "average-3-keep english seed1 average-1 scored again",
        "none-1 english seed0 none-0 none scored again",
    }


def test_an_adapter_is_not_given_the_scores_of_the_one_before(here: Path, config: Config) -> None:
    adapter = folder_of("train", "tiny", "english", "average-3-keep", 0)
    trained = sealing.read_seal(adapter)["run_key"]
    seal_again(adapter, "trained again")
    replay.replay(config)
    client = tracked_runs.client(here)
    [run] = [run for run in tracked_runs.runs(client) if run.info.run_name == "average-3-keep english seed0"]
    assert run.info.status == "RUNNING"
    assert not any("wer" in metric for metric in run.data.metrics)
    seal_again(adapter, trained)
    os.utime(folder_of("evaluate", "tiny", "average-3") / sealing.SEAL, (0, 0))  # as a pull may leave it
    replay.replay(config)
    of_key = {run.data.tags.get("run_key"): run.info.status for run in tracked_runs.runs(client)}
    assert of_key[trained] == "FINISHED"
    assert [key for key in of_key if of_key[key] != "FINISHED"] == ["trained again"]


def test_failures_are_failed_runs_until_they_are_mended(finished: Path, here: Path, config: Config) -> None:
    shutil.copy(finished / "mlflow.db", "mlflow.db")
    client = tracked_runs.client(here)
    for run in tracked_runs.runs(client):
        client.delete_run(run.info.run_id)
    lost = folder_of("train", "tiny", "english", "none-1", 0)
    lost.rename("aside")
    fields = {"compressor": "none", "ratio": "1", "train_set": "english", "seed": 0}
    head = made_results.head(config, stage="train", **fields) | {"run_key": "none-0"}
    records.write(folders.failure("tiny", "train", "english/none-1/seed0"), records.failed("loss became nan", **head))
    head = made_results.head(config, stage="evaluate", compressor="average", ratio="3") | {"run_key": ""}
    records.write(folders.failure("tiny", "evaluate", "average-3"), records.failed("out of memory", **head))
    head = made_results.head(config, stage="segments", compressor="segment", ratio="natural")
    failure = folders.failure("tiny", "segments", "synthetic/clean/segment-natural")
    records.write(failure, records.failed("no natural ratio", **head))
    shutil.rmtree(folder_of("train", "tiny", "english", "segment-natural-keep", 0))

    assert replay.replay(config) == {"new": 4, "completed": 0, "known": 0}
    assert replay.replay(config) == {"new": 0, "completed": 0, "known": 4}
    told = {run.info.run_name: (run.info.status, run.data.tags.get("error")) for run in tracked_runs.runs(client)}
    assert told == {
        "average-3-keep english seed0": ("FAILED", "evaluate failed: out of memory"),
        "average-3-keep english seed1": ("FAILED", "evaluate failed: out of memory"),
        "none-1 english seed0": ("FAILED", "train failed: loss became nan"),
        "segment-natural-keep": ("FAILED", "segments failed: no natural ratio"),
        "tiny": ("FAILED", None),
    }
    shutil.rmtree("results/tiny/failed")
    Path("aside").rename(lost)
    os.utime(folder_of("evaluate", "tiny", "none-1") / sealing.SEAL)
    assert replay.replay(config) == {"new": 0, "completed": 3, "known": 0}
    mended = {run.info.run_name: run for run in tracked_runs.runs(client)}
    for name in tracked_runs.RUNS[:3]:
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
    with sealing.sealed(folder_of("train", "tiny", "english", "average-3-keep", 0), {"run_key": "other"}) as folder:
        for name in ("curve.jsonl", "record.json"):
            shutil.copy(folder_of("train", "tiny", "english", "average-3-keep", 1) / name, folder)
        (folder / "weights.pkl").write_bytes(b"hush-hush")
        (folder / "linked.json").symlink_to(here / "outside.json")
    (folder_of("train", "tiny", "english", "average-3-keep", 0) / "unsealed.json").write_text(
        "hush-hush", encoding="utf-8"
    )
    os.utime(folder_of("evaluate", "tiny", "average-3") / sealing.SEAL)
    assert replay.replay(config)["new"] == 1
    client = tracked_runs.client(here)
    for run in tracked_runs.runs(client):
        assert {tag for tag in run.data.tags if not tag.startswith("mlflow.")} <= ALLOWED
        assert {tag for tag in run.data.tags if tag.startswith("mlflow.")} <= {"mlflow.parentRunId", "mlflow.runName"}
        assert "hush-hush" not in json.dumps([run.data.tags, run.data.params, run.info.user_id])
    [run] = [run for run in tracked_runs.runs(client) if run.data.tags["run_key"] == "other"]
    assert sorted(each for each in tracked_runs.files(client, run) if each.startswith("adapter/")) == [
        "adapter/curve.jsonl",
        "adapter/record.json",
    ]


def test_a_damaged_adapter_is_named(here: Path, config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder_of("train", "tiny", "english", "none-1", 0) / "curve.jsonl"
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
    assert replay.failures(load("tiny.yaml")) == 0
    assert replay.main(["--config", "tiny.yaml", "--failures", "0"]) == 0
    assert replay.failures(load("tiny.yaml")) == 1
    assert "hush" not in (folder_of("report_track", "tiny") / sealing.SEAL).read_text(encoding="utf-8")
