"""The predictions of one record, as Parquet beside it: the decoded texts, and the statistics of every metric.

Shapes: U utterances, K statistics of a metric.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from concertina.store import sealing
from concertina.store.records import RecordError, not_finite

COLUMNS: dict[str, str] = {  # column -> Arrow type
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


def write(path: Path, rows: Sequence[Mapping[str, Any]], scores: Mapping[str, Any] | None = None) -> None:
    """Write the predictions of one record as Parquet, atomically.

    `rows`: one mapping per utterance with the keys of COLUMNS, `tags` a mapping.
    `scores`: each metric's Score of these utterances; its statistics become columns `<metric>.<statistic>`.
    Errors: RecordError naming what is missing, unknown or not finite; OutputError.
    """
    import pyarrow
    import pyarrow.parquet

    for index, row in enumerate(rows):
        if odd := set(row) ^ set(COLUMNS):
            raise RecordError(f"prediction {index}: missing or unknown {', '.join(sorted(odd))}")
        if where := not_finite(dict(row)):
            raise RecordError(f"prediction {index}: {where} is not a finite number")
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in COLUMNS}
    columns["tags"] = [json.dumps(tags, ensure_ascii=False, sort_keys=True) for tags in columns["tags"]]
    arrays = {name: pyarrow.array(values, type=COLUMNS[name]) for name, values in columns.items()}
    for metric, score in (scores or {}).items():
        if len(score.stats_UK) != len(rows):
            raise RecordError(
                f"{metric} scored {len(score.stats_UK)} utterances, but there are {len(rows)} predictions"
            )
        arrays |= {f"{metric}.{name}": pyarrow.array(score.stats_UK[:, k]) for k, name in enumerate(score.columns)}
    with sealing.replacing(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(arrays), temporary, compression="zstd")


class Predictions:
    """The predictions of one record: columns as lists, statistics as arrays."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns["id"])

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name]

    def rows(self) -> list[dict[str, Any]]:
        """Return the predictions as `write` takes them."""
        return [dict(zip(COLUMNS, row, strict=True)) for row in zip(*(self[name] for name in COLUMNS), strict=True)]

    def statistics(self, metric: str) -> np.ndarray:
        """Return stats_UK of a metric, in the order of its `columns`. Errors: RecordError when it was not scored."""
        names = [name for name in self.columns if name.startswith(f"{metric}.")]
        if not names:
            raise RecordError(f"the predictions have no statistics of {metric}: evaluate again with metric {metric}")
        return np.array([self.columns[name] for name in names]).T


def read(path: Path) -> Predictions:
    """Read predictions from their file, tags as mappings. Errors: DamagedError when it is missing or not Parquet."""
    import pyarrow
    import pyarrow.parquet

    try:
        columns = pyarrow.parquet.ParquetFile(path).read().to_pydict()
    except FileNotFoundError:
        raise sealing.DamagedError(f"{path} is missing; run `make reproduce` to make it") from None
    except (pyarrow.ArrowInvalid, OSError):
        raise sealing.DamagedError(f"{path} is not Parquet; delete it and run `make reproduce`") from None
    return Predictions({**columns, "tags": [json.loads(tags) for tags in columns["tags"]]})
