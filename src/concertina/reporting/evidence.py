"""Read what a report shows from sealed folders: results, failures, training curves and data sets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from concertina.artefacts import dag
from concertina.config import Adapter, Cell, Config, Ratio, Train
from concertina.reporting.parts import Records, names
from concertina.reporting.scores import Result
from concertina.store import folders, jsonl, predictions, records, sealing

STAGES = ("evaluate_gate", "segments", "train", "evaluate")  # whose failures are kept
UNFINISHED = "not finished: run `make reproduce`"
NOT_A_BUDGET = {
    "sets",
    "threads",
    "dev_every_steps",
    "dev_utterances",
    "checkpoint_s",
    "layout",
    "batch_tokens",
    "gradient_checkpointing",
}  # what may differ between compared cells


@dataclass(frozen=True)
class Failed:
    """A run that has no result to show: it failed, is not finished, or cannot be compared."""

    stage: str
    run: str
    error: str
    cell: Cell


@dataclass(frozen=True)
class Training:
    """One adapter's training: its curve, (step, loss), and what it took."""

    cell: Cell
    train_set: str
    seed: int
    losses: tuple[tuple[int, float], ...]
    dev_losses: tuple[tuple[int, float], ...]
    utterances_per_second: float | None
    minutes: float
    record: records.Run

    @property
    def steps(self) -> int:
        """The last step of the curve."""
        return max((step for step, _ in (*self.losses, *self.dev_losses)), default=0)

    @property
    def dev_loss(self) -> float | None:
        """The last dev loss, or None when there is none."""
        return self.dev_losses[-1][1] if self.dev_losses else None


@dataclass(frozen=True)
class Dataset:
    """One split of one corpus, counted from its manifest and its rejects file."""

    corpus: str
    split: str
    used_for: str
    utterances: int
    hours: float
    mean_s: float
    shortest_s: float
    longest_s: float
    speakers: int
    rejects: int


@dataclass(frozen=True)
class Evidence:
    """The results and failures of exactly a config's cells; `inputs` are the run keys of the folders read."""

    results: list[Result]
    failures: list[Failed]
    trainings: list[Training]
    datasets: list[Dataset]
    inputs: list[str]
    parts: Records = field(default_factory=dict)  # the records of the parts of the report, by kind
    assembled: records.Run | None = None  # the making of the base, where it was joined on this machine


def read(config: Config, partial: bool = False) -> Evidence:
    """Read and verify the evidence of a config. A result whose training failed since is left out.

    Errors: DamagedError for a result that is damaged, or (unless `partial`) missing without a record of a failure.
    """
    inputs: list[str] = []
    failed = list(_failures(config))
    trainings = list(_trainings(config, inputs))
    failed += _unlike(trainings, config.train)
    results: list[Result] = []
    for cell in config.cells:
        scored = dag.artefact(config, "evaluate", cell=cell.cuts)
        of_cell = [failure for failure in failed if failure.cell in (cell, cell.cuts)]
        if any(f.stage != "train" for f in of_cell):
            continue
        if scored.seal.exists() or not (of_cell or partial):
            inputs.append(str(sealing.verify(scored.folder).get("run_key", "")))
            failed_runs = {f.run for f in of_cell}
            results += (result for result in _results(config, cell, scored.folder) if _run(result) not in failed_runs)
        elif not of_cell:
            failed.append(Failed("evaluate", cell.cuts.name, UNFINISHED, cell.cuts))
    parts = {kind: list(_records(config, kind, inputs, partial)) for kind in names()}
    datasets = list(_datasets(config))
    return Evidence(results, failed, trainings, datasets, inputs, parts, _assembled(config))


def _records(config: Config, kind: str, inputs: list[str], partial: bool) -> Iterator[records.Run]:
    """Yield the records of a kind of artefact; `inputs` gains their run keys. Errors: DamagedError."""
    for artefact in dag.of_kind(config, kind):
        if artefact.seal.exists() or not partial:
            inputs.append(str(sealing.verify(artefact.folder)["run_key"]))
            yield records.read(artefact.folder / "record.json")


def _assembled(config: Config) -> records.Run | None:
    """Return the record of a base that was joined on this machine, or None."""
    for artefact in dag.of_kind(config, "base_join"):
        if artefact.seal.exists():
            return records.read(_checked(artefact.folder, "record.json"))
    return None


def _run(result: Result) -> str:
    """Return the name of the training that a result rests on; empty for a zero-shot result."""
    record = result.record
    return f"{record.train_set}/{result.cell}/seed{record.seed}" if record.adapted else ""


def _unlike(trainings: Sequence[Training], budget: Train) -> Iterator[Failed]:
    """Yield the trainings with another budget than the config's, where the budgets differ among the trainings.

    This happens when the config is edited during a run: such cells cannot be compared.
    """
    wanted = budget.model_dump(mode="json", exclude=NOT_A_BUDGET)
    budgets = [{key: training.record.config.get(key) for key in wanted} for training in trainings]
    if all(other == budgets[0] for other in budgets):
        return
    for training, budget_then in zip(trainings, budgets, strict=True):
        if odd := [key for key in wanted if budget_then[key] != wanted[key]]:
            run = f"{training.train_set}/{training.cell}/seed{training.seed}"
            error = (
                f"trained with {odd[0]}: {budget_then[odd[0]]}, not {wanted[odd[0]]} like others; run `make reproduce`"
            )
            yield Failed("train", run, error, training.cell)


def _results(config: Config, cell: Cell, folder: Path) -> Iterator[Result]:
    """Yield the results of one cell that belong to this config: its test sets, training sets and seeds."""
    adapters = {(None, None), *((adapter.train_set, adapter.seed) for adapter in config.adapters(cell))}
    sets = {test_set.name for test_set in config.test_sets(cell)}
    for path, record in records.read_folder(folder).items():
        if not isinstance(record, records.Record) or record.test_set not in sets:
            continue
        if (record.positions or "", (record.train_set, record.seed)) in ((cell.positions, one) for one in adapters):
            yield Result(record, predictions.read(path.with_suffix(".parquet")))


def _failures(config: Config) -> Iterator[Failed]:
    """Yield the failures on record that concern a cell, a split and an adapter of this config."""
    grid = {*config.cuts, *config.cells}
    places = set(_uses(config))
    for stage in STAGES:
        folder = folders.failure(config.name, stage, "_").parent
        for path, record in records.read_folder(folder).items():
            if not isinstance(record, records.Failure) or not record.compressor or not record.ratio:
                continue
            cell = Cell(record.compressor, Ratio.parse(record.ratio), record.options, record.positions or "")
            if cell not in grid:
                continue
            if stage == "segments" and path.relative_to(folder).parts[:2] not in places:
                continue
            adapters = [(adapter.train_set, adapter.seed) for adapter in config.adapters(cell)]
            if stage != "train" or (record.train_set, record.seed) in adapters:
                run = path.relative_to(folder).with_suffix("").as_posix()
                yield Failed(stage, run, record.error, cell)


def _trainings(config: Config, inputs: list[str]) -> Iterator[Training]:
    """Yield the training of every adapter that is on this machine; their run keys are added to `inputs`."""
    for cell in config.cells:
        for adapter in config.adapters(cell):
            trained = dag.artefact(config, "train", **vars(adapter))
            if trained.seal.exists():
                inputs.append(str(sealing.read_seal(trained.folder).get("run_key", "")))
                yield _training(adapter, trained.folder)


def _training(adapter: Adapter, folder: Path) -> Training:
    """Read the curve and the record of one adapter."""
    rows = jsonl.read(_checked(folder, "curve.jsonl"))
    record = records.read(_checked(folder, "record.json"))
    speeds = [row["utterances_per_second"] for row in rows if "utterances_per_second" in row]
    return Training(
        adapter.cell,
        adapter.train_set,
        adapter.seed,
        tuple((row["step"], row["loss"]) for row in rows if "loss" in row),
        tuple((row["step"], row["dev_loss"]) for row in rows if "dev_loss" in row),
        median(speeds) if speeds else None,
        record.seconds / 60,
        record,
    )


def _datasets(config: Config) -> Iterator[Dataset]:
    """Yield the figures of every split that is used and whose data is on this machine."""
    for (corpus, split), used in _uses(config).items():
        folder = dag.artefact(config, "data", corpus=corpus, split=split).folder
        if (folder / sealing.SEAL).exists():
            rows = jsonl.read(_checked(folder, folders.MANIFEST))
            durations = [row["duration_s"] for row in rows]
            speakers = {row["speaker"] for row in rows if row.get("speaker") is not None}
            rejects = len(jsonl.read(_checked(folder, "rejects.jsonl")))
            yield Dataset(
                corpus, split, ", ".join(dict.fromkeys(used)), len(rows), sum(durations) / 3600,
                sum(durations) / len(durations), min(durations), max(durations), len(speakers), rejects,
            )  # fmt: skip


def _uses(config: Config) -> dict[tuple[str, str], list[str]]:
    """Return what each (corpus, split) is used for: training, dev loss or testing."""
    uses: dict[tuple[str, str], list[str]] = {}
    for train_set in config.train.sets:
        for kind, parts in (("training", train_set.parts), ("dev loss", train_set.dev)):
            for part in parts:
                uses.setdefault((part.corpus, part.split), []).append(f"{kind} of {train_set.name}")
    for test_set in config.evaluate.sets:
        uses.setdefault((test_set.corpus, test_set.split), []).append(f"test set {test_set.name}")
    return uses


def _checked(folder: Path, name: str) -> Path:
    """Return the path of one verified file of a sealed folder; the audio and weights beside it are not read."""
    path, fact = folder / name, sealing.read_seal(folder)["files"].get(name)
    if fact is None or not path.exists() or sealing.sha256(path) != fact["sha256"]:
        raise sealing.DamagedError(f"{path} is missing or damaged; delete {folder} and run `make reproduce`")
    return path
