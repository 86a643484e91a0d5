"""The report's page: hostile text stays text, failures are rows, and the same records give the same bytes."""

import json
import re
import shutil
from pathlib import Path

import pytest

from concertina import corpora, report
from concertina.config import Config, Corpus
from concertina.reporting.evidence import read
from concertina.store import folders, records, sealing
from helpers.reports import GRID, SECTIONS, UTTERANCES, Page, evaluated, made_results, page, tidy


def test_speech_is_called_synthetic_where_a_machine_speaks_the_test_set(made: Config, here: Path) -> None:
    assert "The speech of clean and hard-en-de is synthetic" in page()
    kinds = {"synthetic": True, "read_aloud": True, "prompts": False, "manifest": False, "librispeech": False}
    assert {kind: corpora.is_synthetic(Corpus(name="x", kind=kind)) for kind in kinds} == kinds


def test_hostile_text_stays_text(made: Config) -> None:
    found = Page(page())
    assert "script" not in found.tags
    assert "img" not in found.tags
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "onerror=alert(1)&gt;" in page()
    assert "\x07" not in page()
    assert found.tags.count("title") == found.tags.count("style") == 1


def test_the_page_needs_nothing_from_outside(made: Config) -> None:
    text, found = page(), Page(page())
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)
    assert all((value or "").startswith("#") for name, value in found.attributes if name in ("href", "src"))
    policy = next(value for name, value in found.attributes if name == "content" and value and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    ids = [value for name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_the_same_records_give_the_same_bytes(made: Config) -> None:
    before = sealing.verify(Path("results/tiny/report"))
    report.make(made, Path("overlay.yaml"))
    assert sealing.verify(Path("results/tiny/report")) == before
    for name in ("scores.csv", "report.html"):
        assert sealing.sha256(Path("results/tiny", name)) == before["files"][name]["sha256"]


@pytest.mark.slow
def test_cells_without_an_adapter_show_their_zero_shot_score(here: Path) -> None:
    config, path = made_results.config(here, **SECTIONS)
    every = [cell.name for cell in config.cuts]
    made_results.write(config, UTTERANCES, adapted=["sample-3"])
    report.make(config, path)
    row = next(row for row in Page(page()).rows if len(row) == 11 and row[0] == "sample" and row[1] == "3")
    assert (row[6], row[9], row[10]) == ("–", "–", "–")
    assert re.match(r"\d", row[5])
    assert row[8].startswith("+")  # from zero-shot `none`
    made_results.write(config, UTTERANCES, adapted=every)
    report.make(config, path)
    assert "every score is zero-shot" in page()
    assert "zero-shot" in Path("results/tiny/report/summary.txt").read_text()


@pytest.mark.slow
def test_failed_runs_are_rows(here: Path) -> None:
    config, path = made_results.config(here, **SECTIONS)
    made_results.write(config, UTTERANCES, cells=["sample-2"], adapted=["average-2"])
    for compressor, ratio in (("sample", "2"), ("average", "2"), ("segment", "3"), ("segment", "9")):
        place = {"compressor": compressor, "ratio": ratio, "positions": "keep", "train_set": "english", "seed": 0}
        run = made_results.head(config, stage="train", **place)
        failed = records.failed(f"loss is NaN <b>at</b> step 7 of {compressor}", **run)
        records.write(folders.failure("tiny", "train", f"english/{compressor}-{ratio}-keep/seed0"), failed)
    report.make(config, path)
    rows = Page(page()).rows
    listed = [row for row in rows if len(row) == 3 and row[0] == "train"]
    assert [row[1] for row in listed] == [
        f"english/{cell}-keep/seed0" for cell in ("average-2", "sample-2", "segment-3")
    ]
    assert "loss is NaN <b>at</b> step 7 of sample" in listed[1][2]
    older = [row for row in tidy() if row["compressor"] == "segment" and row["ratio"] == "3"]
    assert {row["adapted"] for row in older} == {"false"}  # of before the failure; 9 is no longer in the grid
    assert any(row[:2] == ["sample", "2"] and "NaN" in row[3] for row in rows)
    assert "3 without a result" in Path("results/tiny/report/summary.txt").read_text()


def test_a_result_that_is_missing_or_altered_is_an_error(made: Config, capsys: pytest.CaptureFixture[str]) -> None:
    (evaluated("none-1") / "clean" / "zero-shot.json").write_text("{}")
    assert report.main(["--config", "overlay.yaml"]) == 1
    assert "is damaged" in capsys.readouterr().err
    shutil.rmtree(evaluated("none-1"))
    assert report.main(["--config", "overlay.yaml"]) == 1
    assert "results/tiny/evaluate/none-1" in capsys.readouterr().err
    assert report.main(["--config", "overlay.yaml", "--partial"]) == 0
    assert ["evaluate", "none-1", "not finished: run `make reproduce`"] in Page(page()).rows
    assert "The run did not finish" in page()
    assert "The run did not finish" in capsys.readouterr().out


def test_a_failure_of_a_split_that_is_no_longer_used_hides_nothing(made: Config) -> None:
    for split in ("clean", "gone"):
        run = made_results.head(made, stage="segments", compressor="average", ratio="3")
        records.write(folders.failure("tiny", "segments", f"synthetic/{split}/average-3"), records.failed("x", **run))
    assert [failure.run for failure in read(made).failures] == ["synthetic/clean/average-3"]
    folders.failure("tiny", "segments", "synthetic/clean/average-3").unlink()
    assert read(made).failures == []
    shutil.rmtree("results/tiny/failed")


@pytest.mark.slow
def test_trainings_of_unlike_budgets_are_not_compared(here: Path) -> None:
    config, path = made_results.config(here, **SECTIONS)
    made_results.write(config, UTTERANCES)
    budget = config.train.model_dump(mode="json")
    for folder in Path("build/tiny/train/english").glob("*/seed0"):
        record = json.loads((folder / "record.json").read_text())
        kept = {name: (folder / name).read_text() for name in ("curve.jsonl",)}
        record["config"] = budget | ({"steps": 7} if folder.parent.name == "sample-2-keep" else {})
        with sealing.sealed(folder, {"run_key": folder.parent.name}) as again:
            sealing.write_json(again / "record.json", record)
            (again / "curve.jsonl").write_text(kept["curve.jsonl"])
    report.make(config, path)
    error = f"trained with steps: 7, not {config.train.steps} like others; run `make reproduce`"
    assert ["train", "english/sample-2-keep/seed0", error] in Page(page()).rows
    assert ("sample", "2", "true") not in {(row["compressor"], row["ratio"], row["adapted"]) for row in tidy()}


def test_the_command_prints_the_summary(made: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--config", "overlay.yaml"]) == 0
    out = capsys.readouterr().out
    assert "report: results/tiny/report.html" in out
    assert re.search(r"^  3 (average|sample|segment) \(kept\) +\d", out, re.M)
    assert "make reproduce CONFIG=overlay.yaml" in page()


@pytest.mark.slow
def test_what_is_shown_is_what_the_config_asks(made: Config, here: Path) -> None:
    smaller = [cell for cell in GRID if cell["compressor"] in ("none", "average")]
    fewer, path = made_results.config(here, **SECTIONS | {"segments": {"cells": smaller}})
    report.make(fewer, path)
    assert {row["compressor"] for row in tidy()} == {"none", "average"}
    assert json.loads(Path("results/tiny/report/seal.json").read_text())["run_key"]
