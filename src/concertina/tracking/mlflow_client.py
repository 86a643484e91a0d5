"""MLflow: where runs are recorded, what is written there, and curves that are sent while a training runs.

Runs go to the server or database that MLFLOW_TRACKING_URI names; without it to mlflow.db, a SQLite file, and their
files to mlartifacts/, both in the working directory. MLflow takes seconds and much memory to import, so it is
imported only when something is written.
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
SETTINGS = {  # of MLflow and of PostgreSQL's client, unless the user has set them: seconds, times
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "PGCONNECT_TIMEOUT": "5",
}
LIBRARIES = {"mlflow", "sqlalchemy", "alembic", "requests", "urllib3", "psycopg2"}
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
BATCH = 1000  # values that MLflow takes in one call
PARENT = "mlflow.parentRunId"  # the tag that puts a run below another
VIEW = "results"  # of the list of runs: `#/experiments/<id>/runs?viewStateShareKey=results`
EVERY_S, LATER_S = 5.0, 60.0  # how often a training sends its curve; how long it waits after a failure
PATIENCE_S = 3.0  # how long a database may take to answer, and a training that is over to send the last of its curve


class TrackingError(RuntimeError):
    """Runs cannot be recorded; the message says where that was tried, and the remedy."""


def uri() -> str:
    """Where runs are recorded."""
    return os.environ.get(VARIABLE) or f"sqlite:///{DATABASE}"


def place() -> str:
    """The same without a password, to be told and compared."""
    parts = urlsplit(uri())
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl() if parts.netloc else uri()


def database() -> Path | None:
    """The SQLite file, where it is one."""
    return Path(uri().removeprefix("sqlite:///").partition("?")[0]) if uri().startswith("sqlite:///") else None


def served() -> bool:
    """Whether a server stands between this process and the database."""
    return uri().startswith(("http://", "https://"))


class Experiment:
    """An experiment of MLflow, made where there is none, and what is read and written there.

    Times are in seconds since 1970. Errors: whatever MLflow raises; `told_where` makes one line of it.
    """

    def __init__(self, name: str) -> None:
        self.client = _client()
        self.id = self._find(name) or self._make(name)

    def _find(self, name: str) -> str | None:
        found = self.client.get_experiment_by_name(name)
        return str(found.experiment_id) if found else None

    def _make(self, name: str) -> str:
        files = None if served() else ARTIFACTS.resolve().as_uri()  # a server knows a place for them
        try:
            return str(self.client.create_experiment(name, files))
        except Exception:
            if found := self._find(name):  # another process was faster
                return found
            raise

    def runs(self, tag: str, value: str) -> list[Any]:
        """MLflow's runs with a tag, oldest first."""
        order = ["attributes.start_time ASC"]
        return list(self.client.search_runs([self.id], f"tags.{tag} = '{value}'", order_by=order))

    def begin(self, name: str, tags: Mapping[str, str], began_s: float | None = None) -> str:
        """Make a run; its id."""
        began = None if began_s is None else int(1000 * began_s)
        return str(self.client.create_run(self.id, began, dict(tags), name).info.run_id)

    def describe(self, run_id: str, tags: Mapping[str, str], params: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        self.client.log_batch(run_id, params=[Param(*pair) for pair in params.items()])
        self.client.log_batch(run_id, tags=[RunTag(*pair) for pair in tags.items()])

    def forget(self, run_id: str, tag: str) -> None:
        """Take a tag away."""
        self.client.delete_tag(run_id, tag)

    def log(self, run_id: str, values: Iterable[tuple[str, float, int, float]]) -> None:
        """Log values as (name, value, step, time)."""
        from mlflow.entities import Metric

        entries = [Metric(name, value, int(1000 * at_s), step) for name, value, step, at_s in values]
        for start in range(0, len(entries), BATCH):
            self.client.log_batch(run_id, metrics=entries[start : start + BATCH])

    def logged(self, run: Any) -> set[tuple[str, int]]:
        """The (name, step) of every value that a run of MLflow has."""
        history = (self.client.get_metric_history(run.info.run_id, name) for name in run.data.metrics)
        return {(value.key, value.step) for values in history for value in values}

    def upload(self, run_id: str, files: Mapping[str, Path]) -> None:
        """Hand on files, by the names they get."""
        for name, path in files.items():
            self.client.log_artifact(run_id, str(path), str(Path(name).parent))

    def end(self, run_id: str, status: str, ended_s: float | None = None) -> None:
        """Set the status of a run; all but RUNNING end it."""
        if status == "RUNNING":
            self.client.update_run(run_id, status)
        else:
            self.client.set_terminated(run_id, status, None if ended_s is None else int(1000 * ended_s))

    def show(self, params: Iterable[str], tags: Iterable[str], metrics: Iterable[str]) -> None:
        """Choose the columns of the view that `make ui` prints the address of: a row per adapter, by name."""
        widths = {f"{kind}.`{name}`": 95 for kind, names in (("params", params), ("tags", tags)) for name in names}
        widths |= {f"metrics.`{name}`": 150 for name in metrics}
        columns: dict[str, Any] = {"selectedColumns": [*widths], "columnOrder": [*widths], "columnWidths": widths}
        rows = {"searchFilter": "tags.kind = 'adapter'", "orderByKey": "tags.`mlflow.runName`", "orderByAsc": True}
        self.client.set_experiment_tag(self.id, f"mlflow.sharedViewState.{VIEW}", json.dumps(columns | rows))


def experiments() -> dict[str, str]:
    """The page of every experiment that was recorded, by name: what follows the server's address."""
    path = database()
    if path and not path.exists():
        return {}
    with told_where():
        found = _client().search_experiments()
    ours = {each.name: each.experiment_id for each in found if f"mlflow.sharedViewState.{VIEW}" in each.tags}
    return {name: f"/#/experiments/{number}/runs?viewStateShareKey={VIEW}" for name, number in ours.items()}


def _client() -> Any:
    """MLflow's client; a SQLite file is made first."""
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
    """See that a database answers at all: MLflow would try for minutes. Errors: OSError."""
    parts = urlsplit(uri())
    port = parts.port or PORTS.get(parts.scheme.partition("+")[0])
    if parts.hostname and port and not served():
        socket.create_connection((parts.hostname, port), PATIENCE_S).close()


def _make_database(client: Any, path: Path) -> None:
    """Make a SQLite file whole: its tables take dozens of steps, in which a second process would fail (see `alone`)."""
    with sealing.replacing(path) as temporary:
        client(f"sqlite:///{temporary}").search_experiments(max_results=1)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep other processes that write the same SQLite file, or from this folder the same database, waiting."""
    path = Path(f"{database()}.lock") if database() else LOCK
    with sealing.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def told_where() -> Iterator[None]:
    """Turn what MLflow and the libraries below it raise into one line. Errors: TrackingError."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.split(".")[0] not in LIBRARIES and not isinstance(error, OSError | ImportError):
            raise
        remedy = f"start that server, or unset {VARIABLE} to record in {DATABASE}"
        if database():
            remedy = f"what {database()} holds are copies: move it away, and `make track` makes it again"
        raise TrackingError(f"cannot record runs at {place()}: {one_line(error)}; {remedy}") from error


def one_line(error: BaseException) -> str:
    """The first line of an error (of the system's error below it, where there is one), without a password."""
    below = error
    while cause := below.__cause__ or below.__context__:
        below = cause
    text = str(below if isinstance(below, OSError) else error).strip().split("\n")[0][:300] or type(error).__name__
    return text.replace(uri(), place())


@contextlib.contextmanager
def live(head: dict[str, Any], curve: list[dict[str, float]]) -> Iterator[None]:
    """While the block runs, send what `curve` gains to where MLFLOW_TRACKING_URI says; nothing where it is not set.

    `head`: the record's, with its run key; the replay completes the run of that key. A thread does the work: a server
    that is slow or dead costs one line on the console and, at the end of the block, at most PATIENCE_S.
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
    """Sends the rows of a growing curve; what a failure kept back goes with a later batch, or with the replay."""

    def __init__(self, head: dict[str, Any], curve: list[dict[str, float]]) -> None:
        super().__init__(name="tracking", daemon=True)
        self.head, self.curve = head, curve
        self.over, self.outcome = threading.Event(), ""
        self.experiment: Experiment | None = None
        self.run_id, self.sent = "", 0
        self.logged: set[tuple[str, int]] = set()

    def run(self) -> None:
        healthy = told = False
        while True:
            ending = self.over.is_set()
            try:
                with contextlib.nullcontext() if served() else alone():
                    if not self.run_id and not self._begin():
                        return
                    self._send(self.outcome if ending else "")
                healthy = True
            except Exception as error:  # a training does not end for this
                healthy, self.run_id = False, ""  # the next attempt asks what has arrived
                if not told:
                    console.say(f"this training is not told to MLflow at {place()}: {one_line(error)}")
                    told = True
            if ending or (self.over.wait(EVERY_S if healthy else LATER_S) and not healthy):
                return

    def _begin(self) -> bool:
        """Make the run, or go on with the one that an earlier attempt with this key left; False when it is finished."""
        self.experiment = self.experiment or Experiment(self.head["name"])
        same = self.experiment.runs("run_key", self.head["run_key"])
        if any(run.info.status == "FINISHED" for run in same):
            return False
        if same:
            self.run_id, self.logged = same[0].info.run_id, self.experiment.logged(same[0])
            self.experiment.end(self.run_id, "RUNNING")
        else:
            name = runs.name_of(*(self.head[key] for key in ("compressor", "ratio", "train_set", "seed")))
            tags = {**runs.tags(self.head), "run_key": self.head["run_key"]}
            self.run_id = self.experiment.begin(name, tags)
            self.experiment.describe(self.run_id, tags, runs.params(self.head))
        return True

    def _send(self, outcome: str) -> None:
        assert self.experiment
        new, now = self.curve[self.sent :], time.time()
        values = [value for value in runs.values(new) if (value[0], value[2]) not in self.logged]
        self.experiment.log(self.run_id, ((*value, now) for value in values))
        self.sent += len(new)
        if outcome:
            self.experiment.end(self.run_id, outcome)
