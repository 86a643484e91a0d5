"""Runs as an experiment tracker lists them: one per adapter, told by sealed folders and by the records of failures.

`find` reads seals alone; `tell` reads and verifies what one run has made.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concertina.artefacts import layout
from concertina.config import Config, ratio_text
from concertina.store import records, sealing

TAGS = ("commit", "compressor", "ratio", "train_set", "seed", "device", "date")  # fields of a record that become tags
PLACE = ("compressor", "ratio", "train_set", "seed", "positions")  # and those that become parameters
KINDS = {".safetensors", ".json", ".jsonl", ".parquet", ".html", ".csv", ".md", ".txt"}  # files that are handed on


@dataclass(frozen=True)
class Run:
    """One run, as far as its seals tell.

    `key`: the run key of its training (of its scores where nothing is trained, of its failure where that came first).
    `scores_key`: the run key of its evaluation, as soon as that was begun.
    """

    name: str
    key: str
    trained: Path | None = None
    scored: Path | None = None
    scores_key: str = ""
    adapter: tuple[str, int] | None = None
    failed: Path | None = None
    error: str = ""

    @property
    def status(self) -> str:
        return "FAILED" if self.failed else "FINISHED" if self.scored else "RUNNING"

    @property
    def state(self) -> str:
        """Another one when there is something else to tell of a run."""
        return _hash(json.dumps([self.key, self.scores_key, self.status, self.error]).encode())


@dataclass(frozen=True)
class Told:
    """All there is to tell of a run. `curve`: rows with `step`; `files`: by the names they are handed on under."""

    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    curve: list[dict[str, float]]
    files: dict[str, Path]
    began_s: float
    trained_s: float
    ended_s: float


def find(config: Config) -> Iterator[Run]:
    """Every run of a config that has an adapter or, without one, scores; and those that failed."""
    for compressor, ratio in ((compressor, ratio_text(ratio)) for compressor, ratio in config.cells):
        cell, found = f"{compressor}-{ratio}", False
        failed = _cell_failure(config.name, cell)
        if failed:
            path, failure = failed
            of_cell: dict[str, Any] = {"failed": path, "error": f"{failure.stage} failed: {failure.error}"}
            of_cell["scores_key"] = failure.run_key if failure.stage == "evaluate" else ""
        else:
            of_cell = _scores(layout.evaluate(config.name, compressor, ratio))
        for train_set, seed in config.adapters(compressor, ratio):
            for run in _of_adapter(config.name, compressor, ratio, (train_set, seed), of_cell):
                found = True
                yield run
        if of_cell and not found and (failed or not config.adapters(compressor, ratio)):
            yield Run(cell, of_cell["scores_key"] or _hash(of_cell["failed"].read_bytes()), **of_cell)


def _of_adapter(
    name: str, compressor: str, ratio: str, adapter: tuple[str, int], of_cell: dict[str, Any]
) -> Iterator[Run]:
    """The run of an adapter that is there, and the one of a later attempt that failed."""
    train_set, seed = adapter
    place = f"{train_set}/{compressor}-{ratio}/seed{seed}"
    told = name_of(compressor, ratio, train_set, seed)
    folder = layout.train(name, train_set, compressor, ratio, seed)
    key = sealing.read_seal(folder)["run_key"] if (folder / layout.SEAL).exists() else None
    if key is not None:
        scored = of_cell.get("scored")
        older = scored and (scored / layout.SEAL).stat().st_mtime_ns < (folder / layout.SEAL).stat().st_mtime_ns
        yield Run(told, key, trained=folder, adapter=adapter, **({} if older else of_cell))  # scores of another adapter
    path = layout.failure(name, "train", place)
    if path.exists():
        failure = records.read(path)
        own = failure.run_key or _hash(path.read_bytes())
        if own != key:
            yield Run(told, own, adapter=adapter, failed=path, error=f"train failed: {_error(failure)}")


def _scores(folder: Path) -> dict[str, Any]:
    """The fields of Run that a cell's scores fill, if they are there."""
    if not (folder / layout.SEAL).exists():
        return {}
    return {"scored": folder, "scores_key": sealing.read_seal(folder)["run_key"]}


def _cell_failure(name: str, cell: str) -> tuple[Path, records.Failure] | None:
    """What keeps a whole cell from having scores."""
    segments = layout.failure(name, "segments", "_").parent.glob(f"*/*/{cell}.json")
    for path in (layout.failure(name, "evaluate", cell), *sorted(segments)):
        if path.exists() and isinstance(failure := records.read(path), records.Failure):
            return path, failure
    return None


def _error(record: records.Run) -> str:
    return record.error if isinstance(record, records.Failure) else ""


def name_of(compressor: str, ratio: str, train_set: str, seed: int) -> str:
    """How the run of an adapter is called in a list of runs."""
    return f"{compressor}-{ratio} {train_set} seed{seed}"


def tags(record: Mapping[str, Any]) -> dict[str, str]:
    """What a run is filtered by; `record` may be the head of one that is not written yet."""
    found = {name: str(record[name]) for name in TAGS if record.get(name) is not None}
    return {"kind": "adapter", "track": record["name"], **found}


def params(record: Mapping[str, Any]) -> dict[str, str]:
    """What a run is compared by: its place in the grid, and the config of its stage but for the sets."""
    place = [(name, record[name]) for name in PLACE if record.get(name) is not None]
    stage = {name: value for name, value in record["config"].items() if name not in ("sets", "skipped")}
    return {name: str(value) for name, value in (*place, *_flat(stage, f"{record['stage']}."))}


def values(curve: list[dict[str, float]]) -> Iterator[tuple[str, float, int]]:
    """The values of a training curve as (name, value, step)."""
    for row in curve:
        yield from ((f"train/{name}", value, int(row["step"])) for name, value in row.items() if name != "step")


def tell(run: Run, first_set: str) -> Told:
    """Read and verify what a run has made. `first_set`: the test set whose realised ratio is that of the run.

    Errors: DamagedError naming what is missing or altered.
    """
    scored = _records(run)
    if run.trained:
        sealing.verify(run.trained)
    path = run.trained / "record.json" if run.trained else run.failed
    base = records.read(path) if path else next(iter(scored.values()))
    head = base.model_dump(mode="json")
    if run.adapter:
        head |= {"train_set": run.adapter[0], "seed": run.adapter[1]}
    spent_s = sum(record.seconds for record in scored.values())
    stamp = run.trained or run.scored
    trained_s = (stamp / layout.SEAL if stamp else run.failed or Path()).stat().st_mtime
    realised = [f"{record.realised_ratio:.2f}" for record in scored.values() if record.test_set == first_set]
    more = {"realised_ratio": realised[0]} if realised else {}
    more |= {"error": run.error[:5000]} if run.error else {}
    told = [head, *(record.model_dump(mode="json") for record in list(scored.values())[:1])]
    return Told(
        tags={**tags(head), **more},
        params={name: value for one in reversed(told) for name, value in params(one).items()},
        metrics=dict(pair for record in scored.values() for pair in _metrics(record)),
        curve=_curve(run.trained) if run.trained else [],
        files=(_files(run.trained, "adapter") if run.trained else {}) | _predictions(run, scored),
        began_s=trained_s - base.seconds,
        trained_s=trained_s,
        ended_s=trained_s + (spent_s if run.trained else 0),
    )


def report(config: Config) -> tuple[str, dict[str, Path]] | None:
    """The run key of the report and its files; None while there is none. Errors: DamagedError."""
    folder = layout.report(config.name)
    if not (folder / layout.SEAL).exists():
        return None
    return sealing.verify(folder)["run_key"], _files(folder, "report")


def _records(run: Run) -> dict[str, records.Record]:
    """A run's own results by '<test set>/zero-shot' or '<test set>/<train set>-seed<n>'."""
    if not run.scored:
        return {}
    sealing.verify(run.scored)
    own = {"zero-shot", *([f"{run.adapter[0]}-seed{run.adapter[1]}"] if run.adapter else [])}
    found = records.read_folder(run.scored).items()
    return {
        path.relative_to(run.scored).with_suffix("").as_posix(): record
        for path, record in found
        if isinstance(record, records.Record) and path.stem in own
    }


def _metrics(record: records.Record) -> Iterator[tuple[str, float]]:
    when = "adapted" if record.adapted else "zero_shot"
    yield from ((f"{record.test_set}/{metric}_{when}", scored.value) for metric, scored in record.scores.items())
    yield f"{record.test_set}/realised_ratio", record.realised_ratio
    yield f"{record.test_set}/audio_tokens_per_second", record.audio_tokens_per_second.mean


def _curve(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()]


def _predictions(run: Run, scored: Mapping[str, records.Record]) -> dict[str, Path]:
    folder = run.scored or Path()
    return {f"predictions/{name}{end}": folder / f"{name}{end}" for name in scored for end in (".json", ".parquet")}


def _files(folder: Path, name: str) -> dict[str, Path]:
    """The sealed files of a folder, of kinds that hold no code; what lies there unsealed or is a link stays."""
    sealed = ((file, folder / file) for file in sealing.read_seal(folder)["files"])
    return {f"{name}/{file}": path for file, path in sealed if path.suffix in KINDS and not path.is_symlink()}


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list) else value


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
