"""MLflow: a mirror of the results. Files are the source; a server that is away fails no run and loses nothing.

    python -m concertina.tracking --config configs/tiny-wide.yaml

replays what a config has made into MLflow: a parent run for the experiment, below it one run per adapter. Runs are
known by their run keys, so a second replay adds nothing and one that was interrupted is completed. Without
MLFLOW_TRACKING_URI the runs go to mlflow.db, their files to mlartifacts/, both in the working directory. With it,
trainings send their curves while they run, too.

MLflow takes seconds to import, so it is imported only where it is used.
"""

import argparse
import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from concertina import config as configs
from concertina import console, integrity, layout, runs
from concertina.config import Config

VARIABLE = "MLFLOW_TRACKING_URI"
DATABASE, ARTIFACTS = Path("mlflow.db"), Path("mlartifacts")
LOCK = Path("scratch/tracking.lock")
LIBRARIES = {"mlflow", "sqlalchemy", "alembic", "requests", "urllib3", "psycopg2"}
BATCH = 1000  # values that MLflow takes in one call
EVERY_S, LATER_S = 5.0, 60.0  # how often a training sends its curve; how long it waits after a failure
PATIENCE_S = 3.0  # how long a training that is over waits for the last of it to be sent
SETTINGS = {  # of MLflow and of PostgreSQL's client, unless the user has set them: seconds, times
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "PGCONNECT_TIMEOUT": "5",
}


class TrackingError(RuntimeError):
    """MLflow cannot be written to; the message says where it was looked for, and the remedy."""


def uri() -> str:
    """Where runs are recorded: what MLFLOW_TRACKING_URI says, otherwise a file in the working directory."""
    return os.environ.get(VARIABLE) or f"sqlite:///{DATABASE}"


def place() -> str:
    """The same without a password, to be told and compared."""
    parts = urlsplit(uri())
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl() if parts.netloc else uri()


def failures(name: str) -> int:
    """How many replays in a row of runs have failed; a count that has grown has the next run replay again."""
    try:
        return int(integrity.read_seal(layout.track(name)).get("failures", 0))
    except (integrity.DamagedError, ValueError):
        return 0


@console.run
def main(argv: list[str] | None = None) -> int:
    """Replay a config's results."""
    parser = argparse.ArgumentParser(
        prog="python -m concertina.tracking",
        description="Record what a config has made in MLflow; a second time adds nothing.",
        epilog=f"Where: {VARIABLE}, or {DATABASE} in the working directory.",
    )
    parser.add_argument("--config", type=Path, default=configs.DEFAULT, help="config.yaml or an overlay over it")
    parser.add_argument(
        "--failures", type=int, help="as a part of a run: how often this failed before; a failure is told and counted"
    )
    asked = parser.parse_args(argv)
    config = configs.load(asked.config)
    if asked.failures is None:
        console.say(_summary(replay(config)))
        return 0
    facts = {"run_key": "", "place": place(), "failures": asked.failures}
    with integrity.sealed(layout.track(config.name), facts):
        try:
            console.say(_summary(replay(config)))
            facts["run_key"] = integrity.read_seal(layout.report(config.name))["run_key"]
        except Exception as error:  # whatever it is, the results are there
            facts["failures"] = asked.failures + 1
            console.say(f"MLflow has no record of this run yet, `make track` tries again: {_one_line(error)}")
    return 0


def replay(config: Config) -> dict[str, int]:
    """Bring MLflow up to the files; how many runs of each kind: 'new', 'completed', 'known'. Errors: TrackingError."""
    counts = {"new": 0, "completed": 0, "known": 0}
    with _told_where(), _alone():
        client = _client()
        experiment = _experiment(client, config.name)
        found = list(runs.find(config))
        parent = _parent(client, experiment, config, any(run.failed for run in found))
        for run in found:
            counts[_record(client, experiment, parent, config, run)] += 1
    return counts


def _summary(counts: dict[str, int]) -> str:
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "none yet"
    return f"runs in MLflow ({place()}): {told}"


def _parent(client: Any, experiment: str, config: Config, failed: bool) -> str:
    """The experiment's own run: its report is the latest one."""
    found = _runs(client, experiment, "tags.kind = 'experiment'")
    tags = {"kind": "experiment", "track": config.name}
    parent = found[0] if found else client.create_run(experiment, tags=tags, run_name=config.name)
    run_id, told = parent.info.run_id, runs.report(config)
    status = "FAILED" if failed else "FINISHED" if told else "RUNNING"
    key, files = told or ("", {})
    if parent.data.tags.get("replayed") != f"{status} {key}":
        _upload(client, run_id, files)
        client.set_tag(run_id, "run_key", key)
        client.set_tag(run_id, "replayed", f"{status} {key}")
        client.set_terminated(run_id, status) if status != "RUNNING" else client.update_run(run_id, status)
    return str(run_id)


def _record(client: Any, experiment: str, parent: str, config: Config, run: runs.Run) -> str:
    """Record one run under its keys, unless it is; says which. Its tag `replayed`, set last, tells a whole one."""
    from mlflow.entities import Metric, Param, RunTag

    same = _runs(client, experiment, f"tags.run_key = '{run.key}'")
    if any(other.data.tags.get("replayed") == run.state for other in same):
        return "known"
    told = runs.tell(run, config.evaluate.sets[0].name)
    began, trained, ended = (int(1000 * s) for s in (told.began_s, told.trained_s, told.ended_s))
    keys = {"run_key": run.key, "mlflow.parentRunId": parent}
    begun = [other for other in same if other.data.tags.get("scores_run_key", run.scores_key) == run.scores_key]
    if begun:
        run_id, present = begun[0].info.run_id, _present(client, begun[0])
    else:
        run_id = client.create_run(experiment, start_time=began, tags=keys, run_name=run.name).info.run_id
        present = set()
    last = max((row["step"] for row in told.curve), default=0) or 1
    values = [
        Metric(name, value, began + int((trained - began) * step / last), step)
        for name, value, step in runs.rows(told.curve)
        if (name, step) not in present
    ]
    values += [Metric(name, value, ended, 0) for name, value in told.metrics.items() if (name, 0) not in present]
    tags = {**told.tags, **keys, **({"scores_run_key": run.scores_key} if run.scores_key else {})}
    client.log_batch(run_id, params=[Param(*pair) for pair in told.params.items()])
    client.log_batch(run_id, tags=[RunTag(*pair) for pair in tags.items()])
    _log(client, run_id, values)
    _upload(client, run_id, told.files)
    if run.status == "RUNNING":
        client.update_run(run_id, run.status)
    else:
        client.set_terminated(run_id, run.status, end_time=ended)
    if begun and not run.error and "error" in begun[0].data.tags:
        client.delete_tag(run_id, "error")
    client.set_tag(run_id, "replayed", run.state)
    return "completed" if begun else "new"


def _upload(client: Any, run_id: str, files: dict[str, Path]) -> None:
    for name, path in files.items():
        client.log_artifact(run_id, str(path), str(Path(name).parent))


def _log(client: Any, run_id: str, values: list[Any]) -> None:
    for start in range(0, len(values), BATCH):
        client.log_batch(run_id, metrics=values[start : start + BATCH])


def _present(client: Any, run: Any) -> set[tuple[str, int]]:
    """The (name, step) of every value that a run has."""
    history = (client.get_metric_history(run.info.run_id, name) for name in run.data.metrics)
    return {(value.key, value.step) for values in history for value in values}


def _runs(client: Any, experiment: str, which: str) -> list[Any]:
    return list(client.search_runs([experiment], which, order_by=["attributes.start_time ASC"]))


def _client() -> Any:
    """MLflow's client; a SQLite file is made first. Errors: whatever MLflow raises."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    _make_database(MlflowClient)
    return MlflowClient(uri())


def _make_database(client: Any) -> None:
    """Make a SQLite file whole and at once: its tables are made by dozens of steps, which no two processes may share."""
    path = Path(uri().removeprefix("sqlite:///").partition("?")[0])
    if not uri().startswith("sqlite:///") or path.exists():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with integrity.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            client(f"sqlite:///{temporary}").search_experiments(max_results=1)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _experiment(client: Any, name: str) -> str:
    """The id of MLflow's experiment of that name, made where there is none."""
    from mlflow.exceptions import MlflowException

    if found := client.get_experiment_by_name(name):
        return str(found.experiment_id)
    served = uri().startswith(("http://", "https://"))  # then the server knows where files go
    try:
        return str(client.create_experiment(name, None if served else ARTIFACTS.resolve().as_uri()))
    except MlflowException:
        if found := client.get_experiment_by_name(name):  # another process was faster
            return str(found.experiment_id)
        raise


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep other processes of this folder, and those that write the same SQLite file, waiting."""
    path = Path(f"{uri().removeprefix('sqlite:///').partition('?')[0]}.lock") if uri().startswith("sqlite") else LOCK
    with integrity.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextlib.contextmanager
def _told_where() -> Iterator[None]:
    """Turn what MLflow and the libraries below it raise into one line. Errors: TrackingError."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.split(".")[0] not in LIBRARIES and not isinstance(error, OSError | ImportError):
            raise
        remedy = f"or unset {VARIABLE}, and the runs go to {DATABASE}"
        if uri().startswith("sqlite"):
            remedy = "it holds copies: move it away, and `make track` makes it again from results/ and build/"
        raise TrackingError(f"MLflow cannot be written to at {place()} ({_one_line(error)}); {remedy}") from error


def _one_line(error: Exception) -> str:
    """An error's first line, without what a password may stand in."""
    text = str(error).strip().split("\n")[0][:300] or type(error).__name__
    return text.replace(uri(), place())


@contextlib.contextmanager
def live(head: dict[str, Any], curve: list[dict[str, float]]) -> Iterator[None]:
    """While the block runs, send what `curve` gains to the server that MLFLOW_TRACKING_URI names; nothing without it.

    `head`: the record's, with its run key: the replay will complete the run of that key. A thread does the work, and
    a server that is slow or dead costs one line on the console, and at the end of the block PATIENCE_S.
    """
    if not os.environ.get(VARIABLE):
        yield
        return
    sender = _Sender(dict(head), curve)
    sender.start()
    try:
        yield
    except BaseException as error:
        sender.outcome = "FAILED" if isinstance(error, Exception) else "KILLED"
        raise
    finally:
        sender.over.set()
        sender.join(PATIENCE_S)


class _Sender(threading.Thread):
    """Sends the rows of a growing curve; what was not sent is tried again later, and once the block is over left."""

    def __init__(self, head: dict[str, Any], curve: list[dict[str, float]]) -> None:
        super().__init__(daemon=True)
        self.head, self.curve = head, curve
        self.over, self.outcome = threading.Event(), ""
        self.sent = 0
        self.client: Any = None
        self.run_id: str | None = None

    def run(self) -> None:
        pause_s, told = 0.0, False
        while not self.over.wait(pause_s) or pause_s < LATER_S:
            ending = self.over.is_set()
            try:
                with _alone() if uri().startswith("sqlite") else contextlib.nullcontext():
                    if not self.run_id and not self._begin():
                        return
                    self._send()
                    if ending and self.outcome:
                        self.client.set_terminated(self.run_id, self.outcome)
                pause_s = EVERY_S
            except Exception as error:  # a training does not end for this
                pause_s = LATER_S
                if not told:
                    console.say(f"MLflow at {place()} is not told of this training: {_one_line(error)}")
                    told = True
            if ending:
                return

    def _begin(self) -> bool:
        """Make the run, or go on with the one of this key that an earlier attempt left; False when it is finished."""
        from mlflow.entities import Param

        self.client = self.client or _client()
        experiment = _experiment(self.client, self.head["name"])
        same = _runs(self.client, experiment, f"tags.run_key = '{self.head['run_key']}'")
        if any(run.info.status == "FINISHED" for run in same):
            return False
        if same:
            self.run_id, self.present = same[0].info.run_id, _present(self.client, same[0])
            self.client.update_run(self.run_id, "RUNNING")
            return True
        name = runs.name_of(*(self.head[key] for key in ("compressor", "ratio", "train_set", "seed")))
        tags = {**runs.tags(self.head), "run_key": self.head["run_key"]}
        self.run_id, self.present = self.client.create_run(experiment, tags=tags, run_name=name).info.run_id, set()
        self.client.log_batch(self.run_id, params=[Param(*pair) for pair in runs.params(self.head).items()])
        return True

    def _send(self) -> None:
        from mlflow.entities import Metric

        new, now = self.curve[self.sent :], int(1000 * time.time())
        values = [Metric(key, value, now, step) for key, value, step in runs.rows(new) if (key, step) not in self.present]
        _log(self.client, self.run_id, values)
        self.sent += len(new)


if __name__ == "__main__":
    raise SystemExit(main())
