"""Prediction files of any kind, read into one form: the ids, references, hypotheses and speakers of their utterances.

Kinds: Parquet (Concertina's predictions, or any with such columns), JSON lines (NeMo's manifests, and the Open ASR
Leaderboard's, whose long recordings are in chunks), and text with one utterance a line. Shapes: U utterances.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concertina.store import records, sealing

Row = Mapping[str, Any]
FIELDS = {  # what a field may be called; the first that a file has is taken
    "id": ("id", "audio_filepath"),
    "reference": ("reference", "text"),
    "hypothesis": ("hypothesis", "pred_text"),
    "speaker": ("speaker", "speaker_id"),
}
SESSION, CHUNK = "parent_id", "chunk_index"  # the leaderboard's fields of a recording that was decoded in chunks
PARQUET, JSON_LINES, TEXT = "Parquet", "JSON lines", "text"
KINDS = {".parquet": PARQUET, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".json": JSON_LINES, ".txt": TEXT}


class InputError(ValueError):
    """A file cannot be compared; the message names the file, the utterance and the remedy."""


@dataclass(frozen=True)
class Utterances:
    """What a file says of its U utterances, in its order; None where it says nothing.

    `places`: where each stands in the file, such as 'line 3'. `language` and `task` are known from the record that
    lies beside Concertina's predictions.
    """

    path: Path
    places: list[str]
    ids: list[str] | None = None
    references: list[str] | None = None
    hypotheses: list[str] | None = None
    speakers: list[str | None] | None = None
    language: str | None = None
    task: str | None = None

    def __len__(self) -> int:
        return len(self.places)


def read(path: Path) -> Utterances:
    """Read a file of predictions. Errors: InputError, OSError."""
    found = _read(path)
    if found.hypotheses is None:
        raise _without(path, "hypothesis")
    return found


def read_references(path: Path) -> Utterances:
    """Read a file of references: a text's lines are references here. Errors: InputError, OSError."""
    found = _read(path)
    if _kind(path) == TEXT:
        return Utterances(path, found.places, references=found.hypotheses)
    if found.references is None:
        raise _without(path, "reference")
    return found


def _read(path: Path) -> Utterances:
    kind = _kind(path)
    if kind == PARQUET:
        found = _of_rows(path, _parquet_rows(path), _told_beside(path))
    elif kind == JSON_LINES:
        found = _of_rows(path, _json_rows(path))
    else:
        lines = _lines(path)
        found = Utterances(path, [f"line {i}" for i in range(1, len(lines) + 1)], hypotheses=lines)
    if not len(found):
        raise InputError(f"{path} holds no utterances")
    return found


def _kind(path: Path) -> str:
    """What a file is: as its name ends, otherwise as it begins."""
    if kind := KINDS.get(path.suffix.lower()):
        return kind
    with path.open("rb") as file:
        line = file.readline()
    if line.startswith(b"PAR1"):
        return PARQUET
    return TEXT if _object(line) is None else JSON_LINES


def _object(line: str | bytes) -> Row | None:
    """The JSON object of a line; None where it is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _lines(path: Path) -> list[str]:
    """The lines of a text file; only a line feed ends one, since other separators may stand inside a text."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if not lines[-1] else lines


def _json_rows(path: Path) -> dict[str, Row]:
    """The rows of a JSON-lines file by place; an empty line is none."""
    rows = {}
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            row = _object(line)
            if row is None:
                raise InputError(f'{path} line {number} is no JSON object such as {{"id": ..., "pred_text": ...}}')
            rows[f"line {number}"] = row
    return rows


def _parquet_rows(path: Path) -> dict[str, Row]:
    """The rows of a Parquet file by place; of other columns than FIELDS nothing is read."""
    import pyarrow
    import pyarrow.parquet

    wanted = {SESSION, CHUNK}.union(*FIELDS.values())
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            table = file.read([name for name in file.schema_arrow.names if name in wanted])
    except pyarrow.ArrowException as error:
        raise InputError(f"{path} is not Parquet: {error}") from None
    return {f"row {i}": row for i, row in enumerate(table.to_pylist(), start=1)}


def _of_rows(path: Path, rows: dict[str, Row], told: records.Record | None = None) -> Utterances:
    if any(row.get(SESSION) is not None for row in rows.values()):
        rows = _sessions(path, rows)
    return Utterances(
        path,
        list(rows),
        _ids(path, rows),
        _column(path, rows, "reference"),
        _column(path, rows, "hypothesis"),
        _speakers(path, rows),
        (told.target_language or told.source_language) if told else None,
        told.task if told else None,
    )


def _sessions(path: Path, rows: dict[str, Row]) -> dict[str, Row]:
    """Join the chunks of each recording, as the leaderboard does: their predictions in order, and one reference."""
    heard = dict(zip(rows, _column(path, rows, "hypothesis") or [""] * len(rows), strict=True))
    chunks: dict[str, dict[int, str]] = {}  # of each recording, the places of its chunks
    for place, row in rows.items():
        session, chunk = row.get(SESSION), row.get(CHUNK)
        if not isinstance(session, str | int) or not isinstance(chunk, int):
            raise InputError(
                f"{path} {place}: other rows are chunks of a recording, so this needs {SESSION} and {CHUNK}"
            )
        if chunks.setdefault(str(session), {}).setdefault(chunk, place) != place:
            raise InputError(f"{path} {place}: recording {session} has had a chunk {chunk} before")
    joined: dict[str, Row] = {}
    for session, places in chunks.items():
        if missing := set(range(len(places))) - set(places):
            raise InputError(f"{path}: chunk {min(missing)} of recording {session} is missing")
        text = " ".join(filter(None, (heard[places[i]].strip() for i in range(len(places)))))
        hypothesis = {name: text for name in [_name(rows, "hypothesis")] if name}
        joined[f"recording {session}"] = {**rows[places[0]], "id": session, **hypothesis}
    return joined


def _name(rows: dict[str, Row], field: str) -> str | None:
    """What a file calls a field: the first name that any row knows."""
    return next((name for name in FIELDS[field] if any(name in row for row in rows.values())), None)


def _column(path: Path, rows: dict[str, Row], field: str) -> list[str] | None:
    """The texts of a field; null is an empty text, as where a model failed. Errors: InputError naming the row."""
    name = _name(rows, field)
    if name is None:
        return None
    for place, row in rows.items():
        if name not in row or not isinstance(row[name], str | None):
            raise InputError(f"{path} {place}: {name} is {'missing' if name not in row else 'not a text'}")
    return [row[name] or "" for row in rows.values()]


def _ids(path: Path, rows: dict[str, Row]) -> list[str] | None:
    """The ids; None where there are none, or only the leaderboard's 'sample_<row>', which count rows."""
    name = _name(rows, "id")
    if name is None:
        return None
    for place, row in rows.items():
        if isinstance(row.get(name), bool) or not isinstance(row.get(name), str | int):
            raise InputError(f"{path} {place}: {name} is missing, or neither a text nor a whole number")
    ids = [str(row[name]) for row in rows.values()]
    return None if ids == [f"sample_{i}" for i in range(len(ids))] else ids


def _speakers(path: Path, rows: dict[str, Row]) -> list[str | None] | None:
    name = _name(rows, "speaker")
    if name is None:
        return None
    speakers = [row.get(name) for row in rows.values()]
    for place, speaker in zip(rows, speakers, strict=True):
        if isinstance(speaker, bool) or not isinstance(speaker, str | int | None):
            raise InputError(f"{path} {place}: {name} is neither a text nor a whole number")
    return [None if speaker is None else str(speaker) for speaker in speakers]


def _told_beside(path: Path) -> records.Record | None:
    """The record of Concertina's own predictions, which lies beside them; None where there is no such."""
    try:
        found = records.read(path.with_suffix(".json"))
    except (records.RecordError, sealing.DamagedError):
        return None
    return found if isinstance(found, records.Record) else None


def _without(path: Path, field: str) -> InputError:
    names: Sequence[str] = FIELDS[field]
    return InputError(f"{path} has no field {' or '.join(names)}: it says no {field} of any utterance")
