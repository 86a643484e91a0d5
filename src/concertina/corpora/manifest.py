"""Your own speech, described by JSON-lines manifests: one line per utterance, with the field names of NVIDIA NeMo.

  audio_filepath  the recording, relative to the manifest's folder or absolute
  text            what is said in it
  offset          seconds; where in the recording the utterance begins (optional)
  duration        seconds; how long it is (optional)
  language        a code such as en (optional if the corpus has a `language`)
  translation     by language: {"de": "..."} (optional)
  speaker         (optional)
  id              (optional; otherwise audio_filepath, followed by @offset or @offset+duration if there is an offset)

Other fields are ignored. A row that cannot be used is rejected with its line number, and the others are read.
Source: the manifest of NVIDIA NeMo's ASR collection.
"""

import contextlib
import json
import math
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from concertina.config import ConfigError, Language, Name, Section
from concertina.corpora import Reject, Size, Utterance, _decoders
from concertina.store import regular

ROWS_PER_PART = 1000
PROBED = 100  # recordings that are opened for their length if the rows have no `duration`
UNKNOWN_S = 10.0  # the assumed length of a recording if none of these can be opened


class Options(Section):
    """The config keys of this kind of corpus.

    splits: the manifest of each split. Instead, a single one may be given as `manifest` and `split` (default: test).
    language: the language of rows that have none.
    """

    splits: Annotated[dict[Name, str], Field(min_length=1)]
    language: Language | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_manifest(cls, values: Any) -> Any:
        """Turn `manifest` and `split` into `splits`."""
        if not isinstance(values, dict) or "manifest" not in values or "splits" in values:
            return values
        rest = {key: value for key, value in values.items() if key not in ("manifest", "split")}
        return {"splits": {values.get("split", "test"): values["manifest"]}, **rest}


def splits(options: Options) -> list[str]:
    """Return the configured splits."""
    return list(options.splits)


def parts(options: Options, split: str) -> int:
    """Return the number of parts, of up to ROWS_PER_PART rows each."""
    return max(1, math.ceil(sum(1 for _ in _lines(Path(options.splits[split]))) / ROWS_PER_PART))


def size(options: Options, split: str) -> Size:
    """Add up the durations in the rows; a row without one counts as the mean of the first recordings of such rows.

    A row lasts no longer than a recording of its file's size can, whatever it says.
    """
    path = Path(options.splits[split])
    rows, given_s, rows_without, probed_s = 0, 0.0, 0, list[float]()
    for _, line in _lines(path):
        rows += 1
        with contextlib.suppress(ValueError, OSError):  # a row that `read` will reject
            row = _parse(line)
            audio = path.parent / _path_text(row)
            if seconds := _seconds(row, "duration"):
                given_s += min(seconds, _decoders.longest_s(audio.stat().st_size))
                continue
            rows_without += 1
            if len(probed_s) < PROBED and (about_s := _decoders.about_s(audio)) is not None:
                probed_s.append(about_s)
    mean_s = sum(probed_s) / len(probed_s) if probed_s else UNKNOWN_S
    return Size(rows, (given_s + rows_without * mean_s) / 3600)


def ids(options: Options, split: str) -> Iterator[str]:
    """Yield the id of every row, or its line number where it has none."""
    for number, line in _lines(Path(options.splits[split])):
        try:
            yield _id(_parse(line), number)
        except ValueError:
            yield f"line {number}"


def read(options: Options, split: str, part: int) -> Iterator[Utterance | Reject]:
    """Yield the rows of one part of a manifest, in order."""
    path = Path(options.splits[split])
    for number, line in islice(_lines(path), part * ROWS_PER_PART, (part + 1) * ROWS_PER_PART):
        origin = f"{path} line {number}"
        try:
            row = _parse(line)
        except ValueError as error:
            yield Reject(f"line {number}", f"{origin}: {error}")
            continue
        id = _id(row, number)
        try:
            yield _utterance(row, id, path.parent, options.language, origin)
        except (ValueError, OSError) as error:
            yield Reject(id, f"{origin}: {error}")


def sources(options: Options) -> list[Path]:
    """Return the manifests and the audio files that their rows name, each once."""
    paths: dict[Path, None] = {}
    for path in map(Path, options.splits.values()):
        paths[path] = None
        for _, line in _lines(path):
            with contextlib.suppress(ValueError):  # a row that `read` will reject
                paths[path.parent / _path_text(_parse(line))] = None
    return list(paths)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (line number, line) of the lines that are not empty. Errors: ConfigError when there is no such file."""
    try:
        with regular.open_regular(path) as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.strip():
                    yield number, line
    except (FileNotFoundError, regular.NoFileError) as error:
        told = error.strerror if isinstance(error, regular.NoFileError) else "no such manifest"
        raise ConfigError(
            f"{path}: {told}; correct its path in the `splits` of its corpus, under data.corpora"
        ) from None


def _parse(line: bytes) -> dict[str, Any]:
    """Read a line as a JSON object. Errors: ValueError with the reason."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    if not isinstance(row, dict):
        raise ValueError('not a row: a row is {"audio_filepath": "...", "text": "..."}')
    return row


def _id(row: dict[str, Any], number: int) -> str:
    """Return the id of a row, or one made from its path and offset, or its line number if it has neither."""
    for value in (row.get("id"), row.get("audio_filepath")):
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            continue
        if "id" in row or row.get("offset") is None:
            return str(value)
        return f"{value}@{row['offset']}" + (f"+{row['duration']}" if row.get("duration") else "")
    return f"line {number}"


def _utterance(row: dict[str, Any], id: str, folder: Path, language: str | None, origin: str) -> Utterance:
    """Turn a row into an utterance. Errors: ValueError saying what is wrong with the row."""
    if "id" in row and (isinstance(row["id"], bool) or not isinstance(row["id"], str | int) or row["id"] == ""):
        raise ValueError(f"id must be a text, not {row['id']!r}")
    name = _path_text(row)
    spoken = _text(row, "language") or language
    if spoken is None:
        raise ValueError("no language: give it in the row, or for all rows as `language` of the corpus")
    _check_language(spoken)
    path = folder / name
    if told := regular.wrong(path):
        raise ValueError(f"{path}: {told}")
    speaker = row.get("speaker")
    if isinstance(speaker, bool) or not isinstance(speaker, str | int | None):
        raise ValueError(f"speaker must be a text, not {speaker!r}")
    return Utterance(
        id=id,
        audio=path,
        rate_hz=0,
        text=_text(row, "text") or "",
        language=spoken,
        speaker=None if speaker is None else str(speaker),
        translation=_translation(row),
        offset_s=_seconds(row, "offset") or 0.0,
        duration_s=_seconds(row, "duration"),
        origin=origin,
    )


def _text(row: dict[str, Any], key: str) -> str | None:
    """Return the text in a field, or None if there is none. Errors: ValueError if it is no text."""
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} must be a text, not {value!r}")
    return value


def _path_text(row: dict[str, Any]) -> str:
    """Return the path of a row's recording as it is written. Errors: ValueError if no file can have it."""
    name = _text(row, "audio_filepath")
    if not name or "\0" in name:
        raise ValueError("audio_filepath is missing")
    os.fsencode(name)  # raises UnicodeEncodeError, a ValueError, if no file can have this name
    return name


def _seconds(row: dict[str, Any], key: str) -> float | None:
    """Return the seconds in a field, or None if there are none. Errors: ValueError if they are no number."""
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError(f"{key} must be a number of seconds, not {value!r}")
    return float(value)


def _translation(row: dict[str, Any]) -> dict[str, str]:
    """Return the translations of a row by language. Errors: ValueError."""
    by_language = row.get("translation")
    if by_language is None:
        return {}
    if not isinstance(by_language, dict):
        raise ValueError(f'translation must be texts by language, such as {{"de": "..."}}, not {by_language!r}')
    for language, text in by_language.items():
        _check_language(language)
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"the translation into {language} is empty or not a text")
    return {language: text.strip() for language, text in by_language.items()}


def _check_language(language: str) -> None:
    """Check the code of a language. Errors: ValueError."""
    if not re.fullmatch(r"[a-z]{2,3}", language):
        raise ValueError(f"a language must be a code of two or three letters, such as en, not {language!r}")
