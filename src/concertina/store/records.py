"""Records: one JSON file per run with its result and what made it; the predictions are in a file beside it.

The report and the mirror in a tracker read their numbers from these files and from nowhere else.
"""

import json
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from concertina.store import sealing


class RecordError(ValueError):
    """A result that may not be written or cannot be understood; the message names the field."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class Run(_Strict):
    """The fields of every run's record. `facts`: a stage's own numbers, such as the last loss of training."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    status: Literal["ok", "failed"]
    stage: str
    name: str
    compressor: str | None = None
    ratio: str | None = Field(default=None, pattern=r"^(natural|[1-9]\d*(\.\d+)?)$")
    options: dict[str, bool | int | float | str] = {}
    positions: Literal["renumber", "keep"] | None = None
    train_set: str | None = None
    seed: int | None = None
    facts: dict[str, Any] = {}
    override: str | None = None  # why the config overrides the gate, where it does
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
        if where := not_finite(self.model_dump()):
            raise ValueError(f"{where} is not a finite number")
        return self


class Failure(Run):
    """The record of a run that failed: the fields that were known by then, and the error in one line."""

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
    test_set: str
    corpus: str
    split: str
    task: Literal["transcribe", "translate"]
    source_language: str
    target_language: str | None = None
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
    """Build a checked Record; `scores` are metrics' Score objects. Errors: RecordError naming the field."""
    scores = {name: s if isinstance(s, dict) else _scored(s) for name, s in fields.get("scores", {}).items()}
    return _checked(Record, {**fields, "scores": scores})


def run(**fields: Any) -> Run:
    """Build a checked record of any other stage that ended well; its numbers are `facts`. Errors: RecordError."""
    return _checked(Run, {"status": "ok", **fields})


def failed(error: BaseException | str, **fields: Any) -> Failure:
    """Build the record of a run that failed, for folders.failure(...). Errors: RecordError naming the field."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return _checked(Failure, {**fields, "error": " ".join(text.split())})


def write(path: Path, record: Run) -> None:
    """Write a record atomically: a reader sees the whole of it or nothing."""
    sealing.write_json(path, record.model_dump(mode="json", by_alias=True))


def read(path: Path) -> Run:
    """Read a record: a Record, Failure or Run. Errors: DamagedError, RecordError naming file and field."""
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
    """Read every finished record below a folder, by path, in the order of paths; skip seals and temporary files."""
    paths = sorted(p for p in folder.rglob("*.json") if p.name != sealing.SEAL)
    return {p: read(p) for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts)}


def _scored(score: Any) -> dict[str, Any]:
    return {"value": score.value, "signature": score.signature, "counts": score.counts}


def _checked(kind: Any, values: dict[str, Any], where: str = "") -> Any:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc'])) or 'record'}: {e['msg']}" for e in error.errors())
        raise RecordError(where + "; ".join(problems)) from None


def not_finite(value: Any, where: str = "") -> str:
    """Return the path of the first number that is not finite, or ''."""
    if isinstance(value, float):
        return "" if math.isfinite(value) else where or "value"
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    inside = (not_finite(inner, f"{where}.{key}" if where else str(key)) for key, inner in items)
    return next(filter(None, inside), "")
