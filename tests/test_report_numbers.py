"""The report: its numbers are the records'."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from concertina import report
from concertina.config import Config, run_name
from concertina.config.values import UNCOMPRESSED, Cell, Ratio
from concertina.reporting import findings
from concertina.reporting.board import System
from concertina.store import records
from helpers.reports import (
    GRID,
    SECTIONS,
    UTTERANCES,
    Page,
    clean_board,
    evaluated,
    made_results,
    of_clean,
    page,
    tidy,
)


def test_the_tables_hold_the_records_numbers(made: Config) -> None:
    rows = [row for row in Page(page()).rows if len(row) == 11]
    details = [row for row in Page(page()).rows if len(row) > 7 and "→" in row[5]]
    markdown = Path("results/tiny/report/table.md").read_text().splitlines()[4:]
    for place, cell in enumerate(made.cells):
        folder = evaluated(cell.name) / "clean"
        runs = (run_name(cell, run) for run in ("zero-shot", "english-seed0"))
        zero, adapted = (records.read(folder / f"{run}.json") for run in runs)
        row = [text.strip() for text in rows[place + 1]]
        assert isinstance(zero, records.Record)
        assert isinstance(adapted, records.Record)
        assert row[:3] == [cell.compressor, str(cell.ratio), cell.positions or "–"]
        assert row[3] == f"{zero.realised_ratio:.2f}"
        assert row[4].startswith(f"{zero.audio_tokens_per_second.mean:.1f}")
        assert row[5].startswith(f"{zero.scores['wer'].value:.1f}[")
        assert row[6].startswith(f"{adapted.scores['wer'].value:.1f}[")
        assert details[place][5:7] == [f"{zero.loops} → {adapted.loops}", f"{zero.cap_hits} → {adapted.cap_hits}"]
        fields = [field.strip() for field in markdown[place].split("|")[1:-1]]
        assert fields[:3] == row[:3]
        assert fields[5] == f"{zero.scores['wer'].value:.1f}"
        assert fields[6].startswith(f"{adapted.scores['wer'].value:.1f} [")


def test_metrics_and_picture_are_the_tables_own(made: Config) -> None:
    nested = json.loads(Path("results/tiny/report/metrics.json").read_text(encoding="utf-8"))
    flat = {
        (test_set, cell, run, metric): value
        for test_set, of_set in nested.items()
        for cell, of_cell in of_set.items()
        for run, values in of_cell.items()
        for metric, value in values.items()
    }
    names = {(s.split, str(s.task)): s.name for s in made.evaluate.sets}
    assert flat == {
        (
            names[row["split"], row["task"]],
            "-".join(filter(None, [row["compressor"], row["ratio"], row["positions"]])),
            f"{row['train_set']}-seed{row['seed']}" if row["adapted"] == "true" else "zero-shot",
            row["metric"],
        ): pytest.approx(float(row["value"]), abs=1e-4)
        for row in tidy()
    }
    picture = ElementTree.parse("results/tiny/report/quality.svg").getroot()
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    words = " ".join(picture.itertext())
    assert all(name in words for name in ("clean: English transcription", "average", "segment", "zero-shot"))
    used = set(re.findall(r"var\((--[\w-]+)\)", Path("results/tiny/report/quality.svg").read_text(encoding="utf-8")))
    assert used <= set(re.findall(r"(--[\w-]+):", words)), "colours are its own"


def test_intervals_are_those_of_the_tidy_table(made: Config) -> None:
    board = clean_board(made)
    for row in filter(of_clean, tidy()):
        cell = next(cell for cell in made.cells if cell.cuts == Cell(row["compressor"], Ratio.parse(row["ratio"])))
        assert row["positions"] == cell.positions
        interval = board.interval(System(cell, row["train_set"] or None))
        assert interval is not None
        assert [interval.value, interval.low, interval.high] == pytest.approx(
            [float(row["value"]), float(row["low"]), float(row["high"])], abs=1e-4
        )


@pytest.mark.slow
def test_three_seeds_are_pooled_and_their_spread_stands_beside(here: Path) -> None:
    grid = [{**cell, "seeds": [0, 1, 2]} for cell in GRID[:2]]
    config, path = made_results.config(here, **SECTIONS | {"segments": {"positions": "keep", "cells": grid}})
    made_results.write(config, UTTERANCES)
    report.make(config, path)
    board = clean_board(config)
    for row in findings.main_rows(board, config.cells, "english", {}):
        found = [run.record.scores["wer"].value for run in board.runs[System(row.cell, "english")]]
        assert list(row.seeds) == found
        assert len(found) == 3
        assert row.adapted is not None
        assert row.adapted.value == pytest.approx(sum(found) / 3)  # equal reference words: pooled is the mean
        assert ", ".join(f"{value:.1f}" for value in found) in page()
    assert "3 LoRA seeds" in page()


def test_natural_is_compared_on_the_curve_and_never_outside_it(made: Config) -> None:
    grid, board = {str(cell): cell for cell in made.cells}, clean_board(made)

    def adapted(name: str) -> float:
        return board.score(System(grid[name], "english"))

    averages = [cell for cell in grid.values() if cell.compressor == "average"]
    assert board.against_curve(grid["segment-natural-keep"], averages, "english") == (None, None)
    value, difference = board.against_curve(grid["sample-2-keep"], [grid["average-3-keep"], UNCOMPRESSED], "english")
    assert value is not None
    assert difference is not None
    assert adapted("none-1") < value < adapted("average-3-keep")
    assert difference.value == pytest.approx(adapted("sample-2-keep") - value)


@pytest.mark.slow
def test_transfer_is_shown_where_there_are_several_training_sets(here: Path) -> None:
    part = {"corpus": "synthetic", "split": "train", "task": "transcribe", "language": "en"}
    dev = {**part, "split": "dev"}
    sets = [{"name": name, "parts": [part], "dev": [dev]} for name in ("english", "speech-only")]
    grid = {"segments": {"positions": "keep", "cells": GRID[:2]}}
    config, path = made_results.config(here, **SECTIONS | grid, train={"sets": sets})
    made_results.write(config, UTTERANCES)
    report.make(config, path)
    heads = [row for row in Page(page()).rows if row[-2:] == ["english", "speech-only"]]
    assert len(heads) == len(config.evaluate.sets)
    markdown = Path("results/tiny/report/table.md").read_text()
    first = config.evaluate.sets[0].name
    [row] = [line for line in markdown.split("Transfer, ")[1].splitlines() if line.startswith(f"| {first}: ")]
    ratio = markdown.split("Transfer, average at ")[1].split(",")[0]
    values = {
        row["train_set"]: f"{float(row['value']):.1f}"
        for row in tidy()
        if (row["compressor"], row["ratio"], row["metric"], row["split"]) == ("average", ratio, "wer", "clean")
    }
    assert [field.split("[")[0].strip() for field in row.split("|")[2:-1]] == [
        values[train_set] for train_set in ("", "english", "speech-only")
    ]
