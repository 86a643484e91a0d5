"""scores.csv: the tidy table, one row per record and metric, with bootstrap intervals.

Shapes: U utterances, K statistics of a metric, M = K of several systems side by side, S resamples.
"""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from concertina import metrics
from concertina.reporting import statistics
from concertina.store import records
from concertina.store.predictions import Predictions, read_predictions

HEADER = [
    *("name", "corpus", "split", "task", "source_language", "target_language"),
    *("compressor", "ratio", "positions", "adapted", "train_set", "seed"),
    *("metric", "value", "n_utterances", "low", "high", "realised_ratio", "audio_tokens_per_second"),
    *("signature", "run_key"),
]


class Result(NamedTuple):
    """A record and its predictions."""

    record: records.Record
    predictions: Predictions


def read(folder: Path) -> list[Result]:
    """Every evaluate record below a folder, such as results/<name>/evaluate, with its predictions."""
    found = records.read_folder(folder)
    return [
        Result(record, read_predictions(path.with_suffix(".parquet")))
        for path, record in found.items()
        if isinstance(record, records.Record)
    ]


def rows(
    results: Sequence[Result],
    samples: int = statistics.SAMPLES,
    confidence_percent: float = statistics.CONFIDENCE_PERCENT,
) -> list[dict[str, Any]]:
    """The table's rows, keys as in HEADER, sorted by test set, then compressor, ratio, adapter and metric."""
    intervals = score_intervals(results, samples, confidence_percent)
    table = []
    for i, (record, _) in enumerate(results):
        for metric, scored in record.scores.items():
            fields = record.model_dump() | {"metric": metric, "value": scored.value, "signature": scored.signature}
            fields |= {"low": intervals[i, metric].low, "high": intervals[i, metric].high}
            fields["audio_tokens_per_second"] = record.audio_tokens_per_second.mean
            table.append({key: fields[key] for key in HEADER})
    return sorted(table, key=_order)


def score_intervals(
    results: Sequence[Result],
    samples: int = statistics.SAMPLES,
    confidence_percent: float = statistics.CONFIDENCE_PERCENT,
) -> dict[tuple[int, str], statistics.Interval]:
    """The interval of every score, by place in `results` and metric.

    Systems on the same utterances share one resampling: the draws are the costly part.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, (_, predictions) in enumerate(results):
        groups.setdefault((tuple(predictions["id"]), tuple(predictions["speaker"])), []).append(i)
    found = {}
    for (_, speakers), members in groups.items():
        drawn = statistics.units(speakers)
        wanted = [(i, metric) for i in members for metric in results[i].record.scores]
        blocks = [results[i].predictions.statistics(metric) for i, metric in wanted]
        sums_SM = statistics.resampled_sums(np.hstack(blocks), drawn, samples)
        ends = np.cumsum([block.shape[1] for block in blocks])
        for (i, metric), block, end in zip(wanted, blocks, ends, strict=True):
            values_S = metrics.load(metric).combine(sums_SM[:, end - block.shape[1] : end])
            value = results[i].record.scores[metric].value
            found[i, metric] = statistics.percentile(value, values_S, drawn.label, confidence_percent)
    return found


def text(table: Sequence[dict[str, Any]]) -> str:
    """The table as CSV: numbers to at most 4 decimals, booleans 'true' and 'false', nothing for what is not there."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows([_cell(row[key]) for key in HEADER] for row in table)
    return out.getvalue()


def nested(results: Sequence[Result]) -> dict[str, Any]:
    """Every value by test set, cell, run ('zero-shot' or '<train set>-seed<n>') and metric, to 4 decimals."""
    tree: dict[str, Any] = {}
    for record, _ in results:
        run = f"{record.train_set}-seed{record.seed}" if record.adapted else "zero-shot"
        cell = tree.setdefault(record.test_set, {}).setdefault(f"{record.compressor}-{record.ratio}", {})
        cell[run] = {metric: round(scored.value, 4) for metric, scored in record.scores.items()}
    return tree


def write(path: Path, table: Sequence[dict[str, Any]]) -> None:
    """Write scores.csv atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8", newline="") as file:
        file.write(text(table))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    """Sets first, then cells with ratios as numbers ('natural' last), zero-shot before adapted."""
    ratio = float("inf") if row["ratio"] == "natural" else float(row["ratio"])
    head = [row[key] or "" for key in ("corpus", "split", "task", "source_language", "target_language", "compressor")]
    return (*head, ratio, row["positions"], row["adapted"], row["train_set"] or "", row["seed"] or 0, row["metric"])
