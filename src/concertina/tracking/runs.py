"""Runs as an experiment tracker lists them: one per adapter, from sealed folders and records of failures.

`find` reads only seals, which is fast; `details` reads and verifies all files of one run.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concertina.artefacts import dag, stage
from concertina.config import UNCOMPRESSED, ZERO_SHOT, Adapter, Cell, Config, Ratio, run_name
from concertina.store import folders, jsonl, records, sealing
from concertina.store.sealing import SEAL

TAGS = ("commit", "compressor", "ratio", "train_set", "seed", "device", "date")  # fields of a record that become tags
PLACE = ("compressor", "ratio", "options", "train_set", "seed", "positions")  # fields that become parameters
KINDS = {".safetensors", ".json", ".jsonl", ".parquet", ".html", ".csv", ".md", ".txt"}  # of files that are uploaded


@dataclass(frozen=True)
class Run:
    """One run, as far as its seals show it.

    `cell`: what it belongs to; `adapter`: None where nothing is trained.
    `key`: the run key of its training; of its scores where nothing is trained; of its failure where it has only that.
    `scores_key`: the run key of its evaluation, or '' before that has begun.
    `trained`, `scored`, `failed`: the folder of the adapter, the folder of the scores, the record of the failure.
    """

    name: str
    key: str
    trained: Path | None = None
    scored: Path | None = None
    scores_key: str = ""
    cell: Cell = UNCOMPRESSED
    adapter: Adapter | None = None
    failed: Path | None = None
    error: str = ""

    @property
    def status(self) -> str:
        """The status as the tracker names it."""
        return "FAILED" if self.failed else "FINISHED" if self.scored else "RUNNING"

    @property
    def state(self) -> str:
        """A hash that changes when there is something new to record of the run."""
        return _hash(json.dumps([self.key, self.scores_key, self.status, self.error]).encode())


@dataclass(frozen=True)
class Details:
    """All that is recorded of a run. Times are in seconds since 1970.

    `curve`: rows with `step`; `files`: paths by their names in the tracker.
    """

    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    curve: list[dict[str, float]]
    files: dict[str, Path]
    began_s: float
    trained_s: float
    ended_s: float


def find(config: Config) -> Iterator[Run]:
    """Yield every run of a config: one per adapter, one per cell that has scores without adapters, and failed ones."""
    for cell in config.cells:
        adapters, any_run = config.adapters(cell), False
        failed = _cell_failure(config.name, cell.cuts.name)
        if failed:
            path, failure = failed
            of_cell: dict[str, Any] = {"failed": path, "error": f"{failure.stage} failed: {failure.error}"}
            of_cell["scores_key"] = failure.run_key if failure.stage == "evaluate" else ""
        else:
            of_cell = _scores(dag.artefact(config, "evaluate", cell=cell.cuts))
        for adapter in adapters:
            for run in _of_adapter(config, adapter, of_cell):
                any_run = True
                yield run
        # A cell without any adapter is one run: it needs no training, or it failed before that began.
        if of_cell and not any_run and (failed or not adapters):
            key = of_cell["scores_key"] or _hash(of_cell["failed"].read_bytes())
            yield Run(cell.name, key, cell=cell, **of_cell)


def _of_adapter(config: Config, adapter: Adapter, of_cell: dict[str, Any]) -> Iterator[Run]:
    """Yield the run of a trained adapter, and the run of another attempt that failed, where there is one."""
    name = name_of(adapter)
    trained = dag.artefact(config, "train", **vars(adapter))
    key = stage.sealed_key(trained) if trained.seal.exists() else None
    if key is not None:
        scored = of_cell.get("scored")
        # Which adapter was scored stands in the seal of the scores. Times of files say nothing: a pull makes new ones.
        of_another = scored and sealing.read_seal(scored).get("adapters", {}).get(trained.run) != key
        scores = {} if of_another else of_cell
        yield Run(name, key, trained=trained.folder, cell=adapter.cell, adapter=adapter, **scores)
    path = folders.failure(config.name, "train", str(adapter))
    if path.exists():
        failure = records.read(path)
        failed_key = failure.run_key or _hash(path.read_bytes())
        if failed_key != key:
            error = f"train failed: {_error(failure)}"
            yield Run(name, failed_key, cell=adapter.cell, adapter=adapter, failed=path, error=error)


def _scores(scored: dag.Artefact) -> dict[str, Any]:
    """Return the fields of Run that a cell's scores fill, or none if there are no scores."""
    if not scored.seal.exists():
        return {}
    return {"scored": scored.folder, "scores_key": stage.sealed_key(scored)}


def _cell_failure(name: str, cell: str) -> tuple[Path, records.Failure] | None:
    """Return the failure, with its file, that prevents a whole cell from having scores, if there is one."""
    segments = folders.failure(name, "segments", "_").parent.glob(f"*/*/{cell}.json")
    for path in (folders.failure(name, "evaluate", cell), *sorted(segments)):
        if path.exists() and isinstance(failure := records.read(path), records.Failure):
            return path, failure
    return None


def _error(record: records.Run) -> str:
    return record.error if isinstance(record, records.Failure) else ""


def name_of(adapter: Adapter) -> str:
    """Return the name of an adapter's run in a list of runs."""
    return f"{adapter.cell} {adapter.train_set} seed{adapter.seed}"


def adapter_of(head: Mapping[str, Any]) -> Adapter:
    """Return the adapter that the head of a record of its training describes."""
    cell = Cell(head["compressor"], Ratio.parse(head["ratio"]), head.get("options") or {}, head.get("positions") or "")
    return Adapter(head["train_set"], cell, head["seed"])


def tags(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags by which runs can be filtered; `record` may be the head of one that is not written yet."""
    fields = {name: str(record[name]) for name in TAGS if record.get(name) is not None}
    return {"kind": "adapter", "track": record["name"], **fields}


def params(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters by which runs can be compared: cell, adapter, and the stage's config without its sets."""
    place = [(name, record[name]) for name in PLACE if record.get(name) not in (None, {})]
    stage = {name: value for name, value in record["config"].items() if name not in ("sets", "skipped")}
    for one in record["config"].get("sets", []):
        if one["name"] == record.get("train_set") and one.get("learning_rate"):
            stage["learning_rate"] = one["learning_rate"]
    return {name: str(value) for name, value in (*place, *_flat(stage, f"{record['stage']}."))}


def values(curve: list[dict[str, float]]) -> Iterator[tuple[str, float, int]]:
    """Yield the values of a training curve as (name, value, step)."""
    for row in curve:
        yield from ((f"train/{name}", value, int(row["step"])) for name, value in row.items() if name != "step")


def details(run: Run, first_set: str) -> Details:
    """Read and verify all that a run has made. `first_set`: the test set whose realised ratio becomes the run's.

    Errors: DamagedError naming the file that is missing or altered.
    """
    scored = _records(run)
    if run.trained:
        sealing.verify(run.trained)
    path = run.trained / "record.json" if run.trained else run.failed
    base = records.read(path) if path else next(iter(scored.values()))
    head = base.model_dump(mode="json")
    if run.adapter:
        head |= {"train_set": run.adapter.train_set, "seed": run.adapter.seed}
    scoring_s = sum(record.seconds for record in scored.values())
    sealed = run.trained or run.scored
    trained_s = (sealed / SEAL if sealed else run.failed or Path()).stat().st_mtime
    realised = [f"{record.realised_ratio:.2f}" for record in scored.values() if record.test_set == first_set]
    more = {"realised_ratio": realised[0]} if realised else {}
    more |= {"error": run.error[:5000]} if run.error else {}
    # A record of training wins over one of evaluation where both have a parameter.
    heads = [head, *(record.model_dump(mode="json") for record in list(scored.values())[:1])]
    return Details(
        tags={**tags(head), **more},
        params={name: value for one in reversed(heads) for name, value in params(one).items()},
        metrics=dict(pair for record in scored.values() for pair in _metrics(record)),
        curve=_curve(run.trained) if run.trained else [],
        files=(_files(run.trained, "adapter") if run.trained else {}) | _predictions(run, scored),
        began_s=trained_s - base.seconds,
        trained_s=trained_s,
        ended_s=trained_s + (scoring_s if run.trained else 0),
    )


def report(config: Config) -> tuple[str, dict[str, Path]] | None:
    """Return the run key of the report and its files, or None if there is no report yet. Errors: DamagedError."""
    folder = dag.artefact(config, "report").folder
    if not (folder / SEAL).exists():
        return None
    return sealing.verify(folder)["run_key"], _files(folder, "report")


def _records(run: Run) -> dict[str, records.Record]:
    """Return a run's own results, by '<test set>/zero-shot-keep' or '<test set>/<train set>-seed<n>-keep'."""
    if not run.scored:
        return {}
    sealing.verify(run.scored)
    own = {run_name(run.cell, name) for name in (ZERO_SHOT, *([run.adapter.name] if run.adapter else []))}
    all_records = records.read_folder(run.scored).items()
    return {
        path.relative_to(run.scored).with_suffix("").as_posix(): record
        for path, record in all_records
        if isinstance(record, records.Record) and path.stem in own
    }


def _metrics(record: records.Record) -> Iterator[tuple[str, float]]:
    """Yield the scores of a record, and its rates, as (name, value)."""
    when = "adapted" if record.adapted else "zero_shot"
    yield from ((f"{record.test_set}/{metric}_{when}", scored.value) for metric, scored in record.scores.items())
    yield f"{record.test_set}/realised_ratio", record.realised_ratio
    yield f"{record.test_set}/audio_tokens_per_second", record.audio_tokens_per_second.mean


def _curve(folder: Path) -> list[dict[str, float]]:
    return jsonl.read(folder / "curve.jsonl")


def _predictions(run: Run, scored: Mapping[str, records.Record]) -> dict[str, Path]:
    """Return the files of predictions of some records, by their names in the tracker."""
    folder = run.scored or Path()
    return {f"predictions/{name}{end}": folder / f"{name}{end}" for name in scored for end in (".json", ".parquet")}


def _files(folder: Path, name: str) -> dict[str, Path]:
    """Return the sealed files of a folder that contain no code, by their names in the tracker.

    Files that are not sealed, and links, are left out, since nothing vouches for their content.
    """
    sealed = ((file, folder / file) for file in sealing.read_seal(folder)["files"])
    return {f"{name}/{file}": path for file, path in sealed if path.suffix in KINDS and not path.is_symlink()}


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield nested values as (dotted name, value)."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list) else value


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
