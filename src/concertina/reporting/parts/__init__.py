"""Parts of the report that one stage's own records make: a file per kind of artefact, named as the rule that makes it.

A file offers any of these functions, each of the records of its kind in this experiment and of the config:

    def sentences(records, config) -> list[str]     for 'What this is conditional on'
    def caption(records, config) -> list[str]       for the caption of the tables in docs/results.md
    def table(records, config) -> Table             a section of its own, with one table

The DAG's row of that kind must say `reported=True`, so that the report waits for it. Its artefact holds record.json.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from concertina.config import Config
from concertina.store.records import Run

Records = Mapping[str, Sequence[Run]]  # by kind of artefact


class Table(NamedTuple):
    """A section with one table; the first column holds names, the others texts that are numbers."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def names() -> list[str]:
    """Return the kinds of artefact that have a part."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def collect(function: str, records: Records, config: Config) -> list[Any]:
    """Call a function of every part that offers it and has records; the answers in the order of the kinds."""
    answers = []
    for kind in names():
        part = importlib.import_module(f"{__name__}.{kind}")
        if records.get(kind) and hasattr(part, function):
            answers.append(getattr(part, function)(records[kind], config))
    return answers


def sentences(function: str, records: Records, config: Config) -> list[str]:
    """Return the sentences that a function of the parts gives, one after the other."""
    return [sentence for answer in collect(function, records, config) for sentence in answer]
