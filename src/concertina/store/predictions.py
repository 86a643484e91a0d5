"""The predictions of one record, as Parquet beside it: what was decoded, and the statistics of every metric.

Shapes: U utterances, K statistics of a metric.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from concertina import metrics
from concertina.store import sealing
from concertina.store.records import RecordError, not_finite

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
        if where := not_finite(dict(row)):
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
        """stats_UK of a metric, in the order of its `columns`. Errors: RecordError when it was not scored."""
        names = [f"{metric}.{name}" for name in metrics.load(metric).columns]
        if missing := [name for name in names if name not in self.columns]:
            raise RecordError(f"the predictions have no column {missing[0]}: evaluate again with metric {metric}")
        return np.array([self.columns[name] for name in names], dtype=np.int64).T


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
