"""The report in words and Markdown: tables, headlines, recoveries, ties, and the pages that show them."""

import importlib.util
import re
import shutil
import statistics
from pathlib import Path

import pytest

from concertina import report
from concertina.config import Config
from concertina.config.values import UNCOMPRESSED
from concertina.reporting import browser, findings, prose, readme
from concertina.reporting.board import System
from concertina.reporting.evidence import read
from concertina.reporting.statistics import Interval
from helpers.reports import (
    ROOT,
    SECTIONS,
    UTTERANCES,
    Page,
    clean_board,
    evaluated,
    made_results,
    of_clean,
    page,
    reseal,
    tidy,
)


def test_the_headline_is_the_first_test_set_at_the_ratio_where_most_meet(made: Config) -> None:
    title, table, caption = (
        Path("results/tiny/report/headline.md").read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    )
    rows = [[field.strip() for field in line.split("|")[1:-1]] for line in table.splitlines()]
    assert title == "clean: WER, % ↓"
    assert [len(row) for row in rows] == [7] * 6
    assert [row[0] for row in rows[2:]] == ["none-1", "average-3-keep", "sample-3-keep", "segment-3-keep"]
    values = {
        row["compressor"]: float(row["value"])
        for row in tidy()
        if of_clean(row) and row["adapted"] == "true" and row["ratio"] in "13"
    }
    for row in rows[3:]:
        cell = made.cell(row[0])
        difference = clean_board(made).difference(System(cell, "english"), System(UNCOMPRESSED, "english"))
        assert difference is not None
        assert difference.value == pytest.approx(values[cell.compressor] - values["none"], abs=1e-3)
        assert row[5] == prose.signed(difference.value) + prose.bounds(difference, prose.signed)
        from_base = clean_board(made).difference(System(cell, "english"), System(UNCOMPRESSED, None))
        assert from_base is not None
        assert row[4] == prose.signed(from_base.value) + prose.bounds(from_base, prose.signed)
    assert "clean: 24 utterances" in caption


@pytest.mark.slow
def test_recoveries_have_their_interval_and_a_dash_where_nothing_was_surely_lost(here: Path) -> None:
    def harmless(compressor: str, ratio: str, adapted: bool, seed: int | None) -> float:
        return 0.1 if compressor in ("none", "average") else made_results.damage(compressor, ratio, adapted, seed)

    config, path = made_results.config(here, **SECTIONS)
    made_results.write(config, UTTERANCES, wrong=harmless)
    report.make(config, path)
    board = clean_board(config)
    for row in findings.main_rows(board, config.cells, "english", {}):
        gap = board.paired(lambda z, n: z - n, System(row.cell, None), System(UNCOMPRESSED, "english"))
        assert gap is not None
        lost = gap.low is not None and gap.low > 0
        assert (row.recovery is not None) == (lost and row.cell.compressor != "none")
    text = Path("results/tiny/report/table.md").read_text().split("\n\n")[1]
    shares = {
        tuple(f.strip() for f in line.split("|")[1:3]): line.split("|")[10].strip()
        for line in text.splitlines()
        if line.startswith("| ")
    }
    assert shares["none", "1"] == "reference"
    assert shares["average", "2"] == "–"
    assert re.fullmatch(r"\d+\s% \[\d+, \d+\]", shares["sample", "3"])


def test_the_caption_says_how_long_it_took(made: Config) -> None:
    evidence = read(made)
    decoded = statistics.median(result.record.seconds for result in evidence.results)
    adapter = statistics.median(training.record.seconds for training in evidence.trainings)
    sentence = f"Median time: {adapter:,.0f} s per adapter, {decoded:,.0f} s per test set."
    assert sentence in Path("results/tiny/report/table.md").read_text()


@pytest.mark.slow
def test_an_exact_tie_is_a_tie(here: Path) -> None:
    config, path = made_results.config(here, **SECTIONS)
    made_results.write(config, UTTERANCES)
    for run in ("zero-shot-keep", "english-seed0-keep"):
        for kind in ("json", "parquet"):
            source = evaluated("average-3") / "clean" / f"{run}.{kind}"
            shutil.copy(source, evaluated("segment-3") / "clean" / f"{run}.{kind}")
        twin = evaluated("segment-3") / "clean" / f"{run}.json"
        twin.write_text(twin.read_text().replace('"average"', '"segment"'))
    reseal(evaluated("segment-3"))
    report.make(config, path)
    rows = {str(row.cell): row for row in findings.main_rows(clean_board(config), config.cells, "english", {})}
    assert [name for name, row in rows.items() if row.best and "-3" in name] == ["average-3-keep", "segment-3-keep"]
    assert "at 3 frames per token, average (kept) and segment (kept) tie for the lowest WER on clean" in page()
    tie = ["average − segment", "3", "keep", "0.0[0.0, 0.0]", "0.0[0.0, 0.0]", "ties with segment"]
    assert tie in Page(page()).rows
    assert "3 average (kept); segment (kept)" in Path("results/tiny/report/summary.txt").read_text()


@pytest.mark.slow
def test_a_table_has_the_test_sets_that_do_not_fit_its_table(here: Path) -> None:
    part = {"corpus": "synthetic", "split": "clean", "task": "transcribe", "language": "en"}
    sets = [{**part, "name": name} for name in ("one", "two", "three", "four")]
    config, path = made_results.config(here, **SECTIONS | {"evaluate": {"sets": sets}})
    made_results.write(config, UTTERANCES)
    report.make(config, path)
    main, others = Path("results/tiny/report/table.md").read_text().split("The other test sets, at")
    assert "three: WER" in main
    assert "four: WER" not in main
    assert [line for line in others.splitlines() if line.startswith("| four: WER, % ↓ | ")]


def test_words_are_marked_without_case_and_punctuation() -> None:
    parts = browser.differences("Anna sails, past the Island.", "anna sails the island again")
    assert [(part.op, part.text) for part in parts] == [
        ("equal", "anna sails"), ("del", "past"), ("equal", "the island"), ("ins", "again"),
    ]  # fmt: skip
    assert browser.differences("a b", "") == (browser.Part("del", "a b"),)


@pytest.mark.parametrize(
    ("value", "text"),
    [(6.66, "6.7"), (None, "–"), (-0.04, "−0.0"), (12, "12.0")],
    ids=["round", "none", "minus", "whole"],
)
def test_numbers_are_written_alike(value: float | None, text: str) -> None:
    assert prose.number(value) == text


def test_signs() -> None:
    assert [prose.signed(x) for x in (0.5, -0.5, 0.01, None)] == ["+0.5", "−0.5", "0.0", "–"]
    assert prose.bounds(Interval(1.0, -1.0, 2.0), prose.signed) == " [−1.0, +2.0]"


def test_markdown_cannot_be_broken_out_of() -> None:
    assert readme.escape("a|b <i> [x](y) `c`\nd") == "a\\|b &lt;i&gt; [x] (y) 'c' d"


@pytest.mark.slow
def test_the_pages_get_their_tables_and_the_picture(made: Config, here: Path) -> None:
    tool = importlib.util.spec_from_file_location("readme", ROOT / "tools" / "readme.py")
    assert tool is not None
    assert tool.loader is not None
    readme = importlib.util.module_from_spec(tool)
    tool.loader.exec_module(readme)
    around = {
        Path("README.md"): "# Top\n<!-- headline: tiny -->\n{}<!-- end -->\nprose\n",
        Path(
            "docs/results.md"
        ): "<!-- results: tiny -->\n{}<!-- end -->\n<!-- results: other -->\nkept\n<!-- end -->\n",
        Path("docs/positions.md"): "<!-- positions: tiny -->\n{}<!-- end -->\n",
    }
    Path("docs").mkdir()
    for file, text in around.items():
        file.write_text(text.format("old\n"), encoding="utf-8")
    assert readme.main(["--check"]) == 1
    assert readme.main([]) == 0
    assert readme.main(["--check"]) == 0
    names = ("headline.md", "table.md", "positions.md")
    made_tables = {file: Path("results/tiny/report", name) for file, name in zip(around, names, strict=True)}
    for file, text in around.items():
        assert file.read_text(encoding="utf-8") == text.format(made_tables[file].read_text(encoding="utf-8"))
    for picture in ("quality.svg", "positions.svg"):
        assert Path("docs", picture).read_bytes() == Path("results/tiny/report", picture).read_bytes()
    Path("docs/quality.svg").write_text("older")
    assert readme.main(["--check"]) == 1
    Path("README.md").write_text("no markers")
    assert readme.main([]) == 1
