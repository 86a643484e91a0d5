"""The client of MLflow: it records runs, and sends the curve of a training while it is running.

Runs are recorded at the server or database that MLFLOW_TRACKING_URI names. Without that variable they go to mlflow.db,
a SQLite file, and their files to mlartifacts/, both in the working directory. MLflow takes seconds and much memory to
import, so it is imported only when something is written.
"""

import contextlib
import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from concertina import console
from concertina.store import sealing
from concertina.tracking import runs

VARIABLE = "MLFLOW_TRACKING_URI"
DATABASE, ARTIFACTS = Path("mlflow.db"), Path("mlartifacts")
LOCK = Path("scratch/tracking.lock")
SETTINGS = {  # of MLflow and PostgreSQL's client, in seconds or times; the user's own environment takes precedence
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "PGCONNECT_TIMEOUT": "5",
}
LIBRARIES = {"mlflow", "sqlalchemy", "alembic", "requests", "urllib3", "psycopg2"}
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
BATCH = 1000  # values that MLflow takes in one call
PARENT = "mlflow.parentRunId"  # the tag that puts a run below another
VIEW = "results"  # the name of our view of the list of runs: `#/experiments/<id>/runs?viewStateShareKey=results`
EVERY_S, LATER_S = 5.0, 60.0  # how often a training sends its curve; how long it waits after a failure
PATIENCE_S = 3.0  # how long a database may take to answer, and the last rows of a finished curve to be sent


class TrackingError(RuntimeError):
    """Runs cannot be recorded; the message names the server or database, and the remedy."""


def uri() -> str:
    """Return the address where runs are recorded, which may contain a password."""
    return os.environ.get(VARIABLE) or f"sqlite:///{DATABASE}"


def place() -> str:
    """Return the same address without a password, to be printed and kept in seals."""
    parts = urlsplit(uri())
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl() if parts.netloc else uri()


def database() -> Path | None:
    """Return the SQLite file in which runs are recorded, or None where it is another database or a server."""
    return Path(uri().removeprefix("sqlite:///").partition("?")[0]) if uri().startswith("sqlite:///") else None


def served() -> bool:
    """Return whether runs are sent to a server, not written into the database by this process."""
    return uri().startswith(("http://", "https://"))


class Experiment:
    """An experiment of MLflow, which is made if it does not exist, with all that is read and written in it.

    Times are in seconds since 1970. Errors: those of MLflow, which `tracking_errors` turns into one line.
    """

    def __init__(self, name: str) -> None:
        self.client = _client()
        self.id = self._find(name) or self._make(name)

    def _find(self, name: str) -> str | None:
        """Return the number of an experiment, or None if there is none of that name."""
        experiment = self.client.get_experiment_by_name(name)
        return str(experiment.experiment_id) if experiment else None

    def _make(self, name: str) -> str:
        """Make an experiment and return its number."""
        files = None if served() else ARTIFACTS.resolve().as_uri()  # a server has its own folder for them
        try:
            return str(self.client.create_experiment(name, files))
        except Exception:
            if number := self._find(name):  # another process made it at the same time
                return number
            raise

    def runs(self, tag: str, value: str) -> list[Any]:
        """Return MLflow's runs that have a tag with this value, oldest first."""
        order = ["attributes.start_time ASC"]
        return list(self.client.search_runs([self.id], f"tags.{tag} = '{value}'", order_by=order))

    def begin(self, name: str, tags: Mapping[str, str], began_s: float | None = None) -> str:
        """Make a run and return its id."""
        began = None if began_s is None else int(1000 * began_s)
        return str(self.client.create_run(self.id, began, dict(tags), name).info.run_id)

    def describe(self, run_id: str, tags: Mapping[str, str], params: Mapping[str, str]) -> None:
        """Write tags and parameters of a run. MLflow refuses a parameter that has another value already."""
        from mlflow.entities import Param, RunTag

        self.client.log_batch(run_id, params=[Param(*pair) for pair in params.items()])
        self.client.log_batch(run_id, tags=[RunTag(*pair) for pair in tags.items()])

    def forget(self, run_id: str, tag: str) -> None:
        """Remove a tag from a run."""
        self.client.delete_tag(run_id, tag)

    def log(self, run_id: str, values: Iterable[tuple[str, float, int, float]]) -> None:
        """Log values, each as (name, value, step, time)."""
        from mlflow.entities import Metric

        entries = [Metric(name, value, int(1000 * at_s), step) for name, value, step, at_s in values]
        for start in range(0, len(entries), BATCH):
            self.client.log_batch(run_id, metrics=entries[start : start + BATCH])

    def logged(self, run: Any) -> set[tuple[str, int]]:
        """Return the (name, step) of every value that is already logged in a run of MLflow."""
        history = (self.client.get_metric_history(run.info.run_id, name) for name in run.data.metrics)
        return {(value.key, value.step) for values in history for value in values}

    def upload(self, run_id: str, files: Mapping[str, Path]) -> None:
        """Upload files; the keys are their names in the tracker."""
        for name, path in files.items():
            self.client.log_artifact(run_id, str(path), str(Path(name).parent))

    def end(self, run_id: str, status: str, ended_s: float | None = None) -> None:
        """Set the status of a run; every status but RUNNING ends it."""
        if status == "RUNNING":
            self.client.update_run(run_id, status)
        else:
            self.client.set_terminated(run_id, status, None if ended_s is None else int(1000 * ended_s))

    def show(self, params: Iterable[str], tags: Iterable[str], metrics: Iterable[str]) -> None:
        """Set the columns of the view whose address `make ui` prints: one row per adapter, sorted by name."""
        widths = {f"{kind}.`{name}`": 95 for kind, names in (("params", params), ("tags", tags)) for name in names}
        widths |= {f"metrics.`{name}`": 150 for name in metrics}
        columns: dict[str, Any] = {"selectedColumns": [*widths], "columnOrder": [*widths], "columnWidths": widths}
        rows = {"searchFilter": "tags.kind = 'adapter'", "orderByKey": "tags.`mlflow.runName`", "orderByAsc": True}
        self.client.set_experiment_tag(self.id, f"mlflow.sharedViewState.{VIEW}", json.dumps(columns | rows))


def experiments() -> dict[str, str]:
    """Return the page of every recorded experiment, by name, as a path to append to the server's address."""
    path = database()
    if path and not path.exists():
        return {}
    with tracking_errors():
        recorded = _client().search_experiments()
    ours = {each.name: each.experiment_id for each in recorded if f"mlflow.sharedViewState.{VIEW}" in each.tags}
    return {name: f"/#/experiments/{number}/runs?viewStateShareKey={VIEW}" for name, number in ours.items()}


def _client() -> Any:
    """Return MLflow's client; make the SQLite file first where one is used."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    path = database()
    if path and not path.exists():
        _make_database(MlflowClient, path.resolve())
    _reach()
    return MlflowClient(f"sqlite:///{path.resolve()}" if path else uri())


def _reach() -> None:
    """Check that the host of a database answers, because MLflow would try for minutes. Errors: OSError."""
    parts = urlsplit(uri())
    port = parts.port or PORTS.get(parts.scheme.partition("+")[0])
    if parts.hostname and port and not served():
        socket.create_connection((parts.hostname, port), PATIENCE_S).close()


def _make_database(client: Any, path: Path) -> None:
    """Make a SQLite file under another name, and move it into place when it is complete.

    Its tables are made in dozens of steps, and another process that opened it meanwhile would fail (see `alone`).
    """
    with sealing.replacing(path) as temporary:
        client(f"sqlite:///{temporary}").search_experiments(max_results=1)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait for and hold the lock on the SQLite file, or on this working directory where another database is used."""
    path = Path(f"{database()}.lock") if database() else LOCK
    with sealing.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def tracking_errors() -> Iterator[None]:
    """Turn an error of MLflow, or of a library that it uses, into a TrackingError of one line."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.split(".")[0] not in LIBRARIES and not isinstance(error, OSError | ImportError):
            raise
        remedy = f"start that server, or unset {VARIABLE} to record in {DATABASE}"
        if database():
            remedy = f"move {database()} away, and `make track` makes it again, since it holds only copies"
        raise TrackingError(f"cannot record runs at {place()}: {one_line(error)}; {remedy}") from error


def one_line(error: BaseException) -> str:
    """Return the first line of an error without passwords; of the system's error that caused it, if there is one."""
    root = error
    while cause := root.__cause__ or root.__context__:
        root = cause
    text = str(root if isinstance(root, OSError) else error).strip().split("\n")[0][:300] or type(error).__name__
    return text.replace(uri(), place())


@contextlib.contextmanager
def live(head: dict[str, Any], curve: list[dict[str, float]]) -> Iterator[None]:
    """Send new rows of `curve` to MLflow while the block runs; do nothing if MLFLOW_TRACKING_URI is not set.

    `head`: the head of the training's record with its run key, by which `make track` later completes the run. A thread
    sends the rows. If the server is slow or does not answer, that costs one line on the console, and at most PATIENCE_S
    at the end of the block.
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
        sender.finished.set()
        sender.join(PATIENCE_S)


class _Sender(threading.Thread):
    """A thread that sends the rows of a growing curve. After a failure it tries again; `make track` sends the rest."""

    def __init__(self, head: dict[str, Any], curve: list[dict[str, float]]) -> None:
        super().__init__(name="tracking", daemon=True)
        self.head, self.curve = head, curve
        self.finished, self.outcome = threading.Event(), ""
        self.experiment: Experiment | None = None
        self.run_id, self.sent = "", 0
        self.logged: set[tuple[str, int]] = set()

    def run(self) -> None:
        """Send rows until the training is finished, or a later attempt has failed."""
        healthy = reported = False
        while True:
            ending = self.finished.is_set()
            try:
                with contextlib.nullcontext() if served() else alone():
                    if not self.run_id and not self._begin():
                        return
                    self._send(self.outcome if ending else "")
                healthy = True
            except Exception as error:  # whatever it is, a training must not end for it
                healthy, self.run_id = False, ""  # so that the next attempt reads which values have arrived
                if not reported:
                    console.say(f"the curve of this training cannot be sent to MLflow at {place()}: {one_line(error)}")
                    reported = True
            if ending or (self.finished.wait(EVERY_S if healthy else LATER_S) and not healthy):
                return

    def _begin(self) -> bool:
        """Make the run, or resume that of an earlier attempt with this run key; return False if it is finished."""
        self.experiment = self.experiment or Experiment(self.head["name"])
        earlier = self.experiment.runs("run_key", self.head["run_key"])
        if any(run.info.status == "FINISHED" for run in earlier):
            return False
        if earlier:
            self.run_id, self.logged = earlier[0].info.run_id, self.experiment.logged(earlier[0])
            self.experiment.end(self.run_id, "RUNNING")
        else:
            name = runs.name_of(runs.adapter_of(self.head))
            tags = {**runs.tags(self.head), "run_key": self.head["run_key"]}
            self.run_id = self.experiment.begin(name, tags)
            self.experiment.describe(self.run_id, tags, runs.params(self.head))
        return True

    def _send(self, outcome: str) -> None:
        """Send the rows that were not sent yet; `outcome`: the status to end the run with, or '' to leave it open."""
        assert self.experiment
        rows, now = self.curve[self.sent :], time.time()
        values = [value for value in runs.values(rows) if (value[0], value[2]) not in self.logged]
        self.experiment.log(self.run_id, ((*value, now) for value in values))
        self.sent += len(rows)
        if outcome:
            self.experiment.end(self.run_id, outcome)
