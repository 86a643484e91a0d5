"""Make reports of made-up results, and read them: the page, the tidy table."""

import contextlib
import csv
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from concertina import report
from concertina.config import Config
from concertina.reporting import scores
from concertina.reporting.board import Board
from concertina.reporting.evidence import read
from concertina.store import sealing
from helpers import made_results

ROOT = Path(__file__).parents[2]

HOSTILE = "open </script><img src=x onerror=alert(1)> the gate | `x` [link](y) \x07 & 'go'"
GRID = [
    {"compressor": "none", "ratios": [1]},
    {"compressor": "average", "ratios": [2, 3]},
    {"compressor": "sample", "ratios": [2, 3]},
    {"compressor": "segment", "ratios": [3, "natural"]},
]
SETS = [
    {"name": "clean", "corpus": "synthetic", "split": "clean", "task": "transcribe", "language": "en"},
    {"name": "hard-en-de", "corpus": "synthetic", "split": "hard", "task": "translate", "language": "en", "to": "de"},
]
SECTIONS: dict[str, Any] = {
    "segments": {"positions": "keep", "cells": GRID},
    "evaluate": {"sets": SETS},
    "report": {"bootstrap_samples": 100, "examples": 6},
}
UTTERANCES = 24


def make(folder: Path) -> Path:
    """Make up results of the small grid, with hostile texts among them, and their report."""
    shutil.copy(ROOT / "config.yaml", folder)
    shutil.copytree(ROOT / "reference", folder / "reference")
    with contextlib.chdir(folder):
        config, path = made_results.config(Path(), **SECTIONS)
        made_results.write(config, UTTERANCES, hostile=[HOSTILE, "</style></title></svg> one more " + HOSTILE])
        report.make(config, path)
    return folder


class Page(HTMLParser):
    """The tags, attributes and table cells of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        self.inside = tag in ("td", "th") or self.inside

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def evaluated(cell: str) -> Path:
    """Return the folder of the scores of a cell, which those with other positions share."""
    return Path("results/tiny/evaluate", cell.removesuffix("-keep"))


def tidy() -> list[dict[str, str]]:
    return list(csv.DictReader(Path("results/tiny/scores.csv").read_text(encoding="utf-8").splitlines()))


def page() -> str:
    return Path("results/tiny/report.html").read_text(encoding="utf-8")


def clean_board(config: Config) -> Board:
    results = [r for r in read(config).results if r.record.test_set == "clean"]
    drawn = scores.bootstraps(results, config.report.bootstrap_samples, config.report.confidence_percent)
    return Board(config.evaluate.sets[0], results, drawn["clean"], config.evaluate.metrics["transcribe"])


def reseal(folder: Path) -> None:
    """Seal a folder again after its files were changed."""
    with sealing.sealed(folder, {"run_key": folder.name}) as again:
        shutil.copytree(folder, again, dirs_exist_ok=True, ignore=shutil.ignore_patterns(sealing.SEAL))


def of_clean(row: dict[str, str]) -> bool:
    """Return whether a row of scores.csv is a WER on the test set `clean`."""
    return (row["metric"], row["split"], row["task"]) == ("wer", "clean", "transcribe")
