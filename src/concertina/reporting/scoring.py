"""Score a decoded unit: write a record with its scores, and its predictions with each utterance's statistics."""

from pathlib import Path
from typing import Any

from concertina import metrics
from concertina.artefacts import keys, stage
from concertina.artefacts.dag import Artefact
from concertina.config import ZERO_SHOT, Config, ConfigError, TestSet, run_name
from concertina.store import predictions, records
from concertina.store.predictions import Predictions

DECODED = "predictions.parquet"


def score_unit(run: stage.Run, unit: Artefact) -> records.Record:
    """Score one decoded unit and write its record and predictions into the run's folder, below its test set's name.

    Errors: ConfigError (no metric for the task), ScoreError naming the utterance, DamagedError.
    """
    config, cell = run.config, unit.where["cell"]
    test_set = config.test_set(unit.where["test_set"])
    decoded = records.read(unit.folder / "record.json")
    rows = predictions.read(unit.folder / DECODED)
    scores = score(config, test_set, rows)
    adapter = None if unit.where["run"] == ZERO_SHOT else config.adapter(cell, unit.where["run"])
    facts: dict[str, Any] = dict(decoded.facts)
    where = {
        **stage.cell_fields(cell),
        "test_set": test_set.name,
        "corpus": test_set.corpus,
        "split": test_set.split,
        "task": test_set.task,
        "source_language": test_set.language,
        "target_language": test_set.to,
        "adapted": adapter is not None,
        "train_set": adapter.train_set if adapter else None,
        "seed": adapter.seed if adapter else None,
    }
    made = {
        "stage": "evaluate",
        "run_key": keys.run_key(keys.scores(config, test_set.task), [stage.sealed_key(unit)]),
        "device": decoded.device,
        "threads": decoded.threads,
        "seconds": decoded.seconds,
        "facts": {name: facts.pop(name) for name in ("left_out", "above_cap")},
    }
    record = records.build(**{**run.head, **where, **made, **facts, "scores": scores, "n_utterances": len(rows)})
    path = record_path(run.folder, unit)
    records.write(path, record)
    predictions.write(path.with_name(f"{path.stem}.parquet"), rows.rows(), scores)
    return record


def score(config: Config, test_set: TestSet, rows: Predictions) -> dict[str, metrics.Score]:
    """Return each metric's score of some predictions. Errors: ConfigError, ScoreError naming the utterance."""
    names = {str(task): names for task, names in config.evaluate.metrics.items()}.get(test_set.task)
    if not names:
        raise ConfigError(f"evaluate.metrics: no metric for task {test_set.task}")
    references, hypotheses = rows["reference"], rows["hypothesis"]
    try:
        return {n: metrics.load(n).score(references, hypotheses, test_set.answer_language) for n in names}
    except metrics.ScoreError as error:
        if error.index is None:
            raise
        raise metrics.ScoreError(f"{rows['id'][error.index]}: {error}", error.index) from None


def record_path(folder: Path, unit: Artefact) -> Path:
    """Return where the record of a unit lies in a folder of scores."""
    return folder / unit.where["test_set"] / f"{run_name(unit.where['cell'], unit.where['run'])}.json"
