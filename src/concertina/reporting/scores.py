"""scores.csv: the tidy table, one row per record and metric, with bootstrap intervals."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from concertina.config import Cell, Ratio
from concertina.reporting.statistics import Bootstrap
from concertina.store import records
from concertina.store.predictions import Predictions
from concertina.store.sealing import DamagedError

HEADER = [
    "name",
    "corpus",
    "split",
    "task",
    "source_language",
    "target_language",
    "compressor",
    "ratio",
    "positions",
    "adapted",
    "train_set",
    "seed",
    "metric",
    "value",
    "n_utterances",
    "low",
    "high",
    "realised_ratio",
    "audio_tokens_per_second",
    "signature",
    "run_key",
    "options",
]
Row = dict[str, Any]


class Result(NamedTuple):
    """A record and its predictions."""

    record: records.Record
    predictions: Predictions

    @property
    def cell(self) -> Cell:
        """The cell that was scored."""
        record = self.record
        return Cell(record.compressor, Ratio.parse(record.ratio), record.options, record.positions or "")


def bootstraps(results: Sequence[Result], samples: int, confidence_percent: float) -> dict[str, Bootstrap]:
    """Draw the resamples of each test set; sets of the same utterances share them.

    Errors: DamagedError naming a result on other utterances than the rest of its test set.
    """
    drawn: dict[Any, Bootstrap] = {}
    shared: dict[str, Bootstrap] = {}
    for result in results:
        test_set, predictions = result.record.test_set, result.predictions
        utterances = (tuple(predictions["id"]), tuple(predictions["speaker"]))
        if utterances not in drawn:
            drawn[utterances] = Bootstrap(predictions["speaker"], samples, confidence_percent)
        if shared.setdefault(test_set, drawn[utterances]) is not drawn[utterances]:
            raise DamagedError(
                f"{result.cell} was scored on other utterances of {test_set} than the others; run `make reproduce`"
            )
    return shared


def rows(name: str, results: Sequence[Result], bootstraps: Mapping[str, Bootstrap]) -> list[Row]:
    """Return the table's rows, keys as in HEADER, sorted by test set, then compressor, ratio, adapter and metric.

    `name` is the experiment's; the record of a result that was taken over still has the other experiment's name.
    """
    table = []
    for test_set, bootstrap in bootstraps.items():
        here = [result for result in results if result.record.test_set == test_set]
        wanted = [(i, metric) for i, result in enumerate(here) for metric in result.record.scores]
        systems = {(i, metric): (metric, here[i].predictions.statistics(metric)) for i, metric in wanted}
        for (i, metric), scored in bootstrap.resampled(systems).items():
            record, interval = here[i].record, bootstrap.interval(scored)
            fields = record.model_dump() | {"name": name, "metric": metric, "value": record.scores[metric].value}
            fields |= {"low": interval.low, "high": interval.high, "signature": record.scores[metric].signature}
            fields["audio_tokens_per_second"] = record.audio_tokens_per_second.mean
            fields["options"] = " ".join(f"{option}={value}" for option, value in sorted(record.options.items()))
            table.append({key: fields[key] for key in HEADER})
    return sorted(table, key=_order)


def text(table: Sequence[Row]) -> str:
    """Write the table as CSV: numbers to at most 4 decimals, booleans as 'true' and 'false', None as nothing."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows([_field(row[key]) for key in HEADER] for row in table)
    return out.getvalue()


def nested(results: Sequence[Result]) -> dict[str, Any]:
    """Return every value by test set, cell, run ('zero-shot' or '<train set>-seed<n>') and metric, to 4 decimals."""
    tree: dict[str, Any] = {}
    for result in results:
        record = result.record
        run = f"{record.train_set}-seed{record.seed}" if record.adapted else "zero-shot"
        of_cell = tree.setdefault(record.test_set, {}).setdefault(result.cell.name, {})
        of_cell[run] = {metric: round(scored.value, 4) for metric, scored in record.scores.items()}
    return tree


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _order(row: Row) -> tuple[Any, ...]:
    """Return a row's sort key: test set, compressor, ratio as a number ('natural' last), zero-shot before adapted."""
    head = [row[key] or "" for key in ("corpus", "split", "task", "source_language", "target_language", "compressor")]
    adapter = (row["positions"] or "", row["adapted"], row["train_set"] or "", row["seed"] or 0)
    return (*head, Ratio.parse(row["ratio"]), *adapter, row["metric"])
