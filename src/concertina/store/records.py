"""Results: one JSON per run, with what made it, and the predictions beside it as Parquet.

The report, and whatever mirrors results elsewhere, read these files; nothing else is a source of numbers.
Shapes: U utterances, K statistics of a metric.
"""

import contextlib
import functools
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from concertina import console, metrics
from concertina.artefacts.layout import SEAL
from concertina.config import Language
from concertina.store import sealing

PACKAGES = ("torch", "transformers", "peft", "jiwer", "sacrebleu", "numpy")
PREDICTION_COLUMNS: dict[str, str] = {  # column -> Arrow type
    "id": "string",
    "reference": "string",
    "hypothesis": "string",
    "audio_tokens": "int64",
    "frames": "int64",
    "duration_s": "float64",
    "new_tokens": "int64",
    "cap_hit": "bool",
    "loop": "bool",
    "speaker": "string",
    "tags": "string",  # JSON
}


class RecordError(ValueError):
    """A result that may not be written or cannot be understood; the message names the field."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class Run(_Strict):
    """What every run says of itself. `facts`: a stage's own numbers, such as the last loss of training."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    status: Literal["ok", "failed"]
    stage: str
    name: str
    compressor: str | None = None
    ratio: str | None = Field(default=None, pattern=r"^(natural|[1-9]\d*(\.\d+)?)$")
    positions: Literal["renumber", "keep"] | None = None
    train_set: str | None = None
    seed: int | None = None
    facts: dict[str, Any] = {}
    override: str | None = None  # the reason for which the baseline gate was passed over
    run_key: str
    config: dict[str, Any]
    commit: str
    versions: dict[str, str]
    device: str
    threads: int = Field(gt=0)
    seconds: float = Field(ge=0)
    date: str | None = Field(default=None, pattern=r"^\d{4}-\d{2}-\d{2}$")

    @model_validator(mode="after")
    def _numbers_are_finite(self) -> "Run":
        if where := _not_finite(self.model_dump()):
            raise ValueError(f"{where} is not a finite number")
        return self


class Failure(Run):
    """A run that failed: how far it is known, and the error in one line."""

    status: Literal["failed"] = "failed"
    error: str


class Scored(_Strict):
    """A metric's value with its evidence."""

    value: float
    signature: str
    counts: dict[str, float]


class Rate(_Strict):
    """Audio tokens per second of audio: mean over the set, and its 5th and 95th percentile over utterances."""

    mean: float
    p05: float
    p95: float


class Record(Run):
    """One cell decoded and scored on one test set: zero-shot, or with the adapter of a train set and seed."""

    status: Literal["ok"] = "ok"
    stage: Literal["evaluate"] = "evaluate"
    compressor: str
    ratio: str = Field(pattern=r"^(natural|[1-9]\d*(\.\d+)?)$")
    positions: Literal["renumber", "keep"]
    test_set: str
    corpus: str
    split: str
    task: Literal["transcribe", "translate"]
    source_language: Language
    target_language: Language | None = None
    adapted: bool
    scores: dict[str, Scored] = Field(min_length=1)
    n_utterances: int = Field(gt=0)
    realised_ratio: float = Field(ge=1)
    audio_tokens_per_second: Rate
    peak_share: float | None = Field(default=None, ge=0, le=1)
    loops: int = Field(ge=0)
    cap_hits: int = Field(ge=0)

    @model_validator(mode="after")
    def _fields_agree(self) -> "Record":
        if self.adapted != (self.train_set is not None) or self.adapted != (self.seed is not None):
            raise ValueError("train_set and seed belong to an adapted run, and only to it")
        if (self.task == "translate") != (self.target_language is not None):
            raise ValueError("target_language belongs to task translate, and only to it")
        return self


def build(**fields: Any) -> Record:
    """A checked evaluate record; `scores` takes metrics.Score objects. Errors: RecordError naming the field."""
    scores = fields.get("scores", {})
    plain = {name: _scored(score) if isinstance(score, metrics.Score) else score for name, score in scores.items()}
    return _checked(Record, {**fields, "scores": plain})


def run(**fields: Any) -> Run:
    """A checked record of any other stage that ended well; its numbers are `facts`. Errors: RecordError."""
    return _checked(Run, {"status": "ok", **fields})


def failed(error: BaseException | str, **fields: Any) -> Failure:
    """The record of a run that failed, for layout.failure(...). Errors: RecordError naming the field."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return _checked(Failure, {**fields, "error": " ".join(text.split())})


@contextlib.contextmanager
def failures(path: Path, head: dict[str, Any]) -> Iterator[None]:
    """Keep the record of a failure at `path` when the block raises; when it ends well, remove an earlier one's.

    `head`: the record's fields as far as they are known; the block may add to it.
    """
    began = time.monotonic()
    try:
        yield
    except Exception as error:
        try:
            write(path, failed(error, seconds=time.monotonic() - began, **head))
        except (OSError, sealing.OutputError) as unwritten:
            console.say(f"no record of this failure could be kept: {unwritten}")
        raise
    path.unlink(missing_ok=True)


def write(path: Path, record: Run) -> None:
    """Write a record atomically: a reader sees the whole of it or nothing."""
    sealing.write_json(path, record.model_dump(mode="json", by_alias=True))


def read(path: Path) -> Run:
    """A record from its file: Record, Failure or Run. Errors: DamagedError, RecordError naming file and field."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise sealing.DamagedError(f"{path} is missing; run `make reproduce` to make it") from None
    except ValueError:
        raise sealing.DamagedError(f"{path} is not JSON; delete it and run `make reproduce`") from None
    if not isinstance(values, dict):
        raise RecordError(f"{path}: a record is a mapping")
    kind = Failure if values.get("status") == "failed" else Record if values.get("stage") == "evaluate" else Run
    return _checked(kind, values, f"{path}: ")


def read_folder(folder: Path) -> dict[Path, Run]:
    """Every finished record below a folder, by path, in path order; seals and temporary files are passed over."""
    paths = sorted(p for p in folder.rglob("*.json") if p.name != SEAL)
    return {p: read(p) for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts)}


def provenance(device: str | None = None) -> dict[str, Any]:
    """What made a run: `commit`, `versions`, `device` (the CPU's model unless told), `date` (UTC), as Run's fields."""
    return {
        "commit": commit(Path(__file__).parents[2]),
        "versions": _versions(),
        "device": device or f"cpu ({_cpu()})",
        "date": datetime.now(UTC).date().isoformat(),
    }


@functools.cache
def commit(folder: Path) -> str:
    """The commit a folder is at, '-dirty' when tracked files differ from it, 'unknown' outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def write_predictions(path: Path, rows: Sequence[Mapping[str, Any]], scores: Mapping[str, metrics.Score]) -> None:
    """Write the predictions of one record as Parquet, atomically.

    `rows`: one mapping per utterance with the keys of PREDICTION_COLUMNS, `tags` a mapping.
    `scores`: each metric's Score of these utterances; its statistics become columns `<metric>.<statistic>`.
    Errors: RecordError naming what is missing, unknown or not finite.
    """
    import pyarrow
    import pyarrow.parquet

    for index, row in enumerate(rows):
        if odd := set(row) ^ set(PREDICTION_COLUMNS):
            raise RecordError(f"prediction {index}: missing or unknown {', '.join(sorted(odd))}")
        if where := _not_finite(dict(row)):
            raise RecordError(f"prediction {index}: {where} is not a finite number")
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in PREDICTION_COLUMNS}
    columns["tags"] = [json.dumps(tags, ensure_ascii=False, sort_keys=True) for tags in columns["tags"]]
    arrays = {name: pyarrow.array(values, type=PREDICTION_COLUMNS[name]) for name, values in columns.items()}
    for metric, score in scores.items():
        if len(score.stats_UK) != len(rows):
            raise RecordError(
                f"{metric} scored {len(score.stats_UK)} utterances, but there are {len(rows)} predictions"
            )
        arrays |= {f"{metric}.{name}": pyarrow.array(score.stats_UK[:, k]) for k, name in enumerate(score.columns)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        pyarrow.parquet.write_table(pyarrow.table(arrays), file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


class Predictions:
    """The predictions of one record: columns as lists, statistics as arrays."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns["id"])

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name]

    def statistics(self, metric: str) -> np.ndarray:
        """stats_UK of a metric, in the order of its `columns`, whole or not as it was scored.

        Errors: RecordError when it was not scored.
        """
        names = [f"{metric}.{name}" for name in metrics.load(metric).columns]
        if missing := [name for name in names if name not in self.columns]:
            raise RecordError(f"the predictions have no column {missing[0]}: evaluate again with metric {metric}")
        return np.array([self.columns[name] for name in names]).T


def read_predictions(path: Path) -> Predictions:
    """Predictions from their file, tags as mappings. Errors: DamagedError when it is missing or not Parquet."""
    import pyarrow
    import pyarrow.parquet

    try:
        columns = pyarrow.parquet.ParquetFile(path).read().to_pydict()
    except FileNotFoundError:
        raise sealing.DamagedError(f"{path} is missing; run `make reproduce` to make it") from None
    except (pyarrow.ArrowInvalid, OSError):
        raise sealing.DamagedError(f"{path} is not Parquet; delete it and run `make reproduce`") from None
    return Predictions({**columns, "tags": [json.loads(tags) for tags in columns["tags"]]})


def _scored(score: metrics.Score) -> dict[str, Any]:
    return {"value": score.value, "signature": score.signature, "counts": score.counts}


def _checked(kind: Any, values: dict[str, Any], where: str = "") -> Any:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc'])) or 'record'}: {e['msg']}" for e in error.errors())
        raise RecordError(where + "; ".join(problems)) from None


def _not_finite(value: Any, where: str = "") -> str:
    """The path of the first number that is not finite, or ''."""
    if isinstance(value, float):
        return "" if math.isfinite(value) else where or "value"
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    found = (_not_finite(inner, f"{where}.{key}" if where else str(key)) for key, inner in items)
    return next(filter(None, found), "")


@functools.cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _cpu() -> str:
    """The CPU's model, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
