"""The report: its numbers are the records', hostile text stays text, and the same records give the same bytes."""

import contextlib
import csv
import importlib.util
import json
import re
import shutil
import statistics
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

import made_results
from concertina import corpora, report
from concertina.artefacts import layout
from concertina.config import Config, Corpus, load
from concertina.config.values import UNCOMPRESSED, Cell, Ratio
from concertina.reporting import browser, findings, prose, readme, scores
from concertina.reporting.board import Board, System, cells
from concertina.reporting.evidence import read
from concertina.reporting.statistics import Interval
from concertina.store import records, sealing

REPOSITORY = Path(__file__).parent.parent
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
SECTIONS = {
    "segments": {"cells": GRID},
    "evaluate": {"sets": SETS},
    "report": {"bootstrap_samples": 100, "examples": 6},
}
UTTERANCES = 24


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the default config."""
    (tmp_path / "config.yaml").write_text((REPOSITORY / "config.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with made-up results of the small grid, hostile texts among them, and their report."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "config.yaml").write_text((REPOSITORY / "config.yaml").read_text())
    with contextlib.chdir(folder):
        config, path = made_results.config(Path(), **SECTIONS)
        made_results.write(config, UTTERANCES, hostile=[HOSTILE, "</style></title></svg> one more " + HOSTILE])
        report.make(config, path)
    return folder


@pytest.fixture
def made(made_once: Path, here: Path) -> Config:
    """The made-up results with their report, in the working folder."""
    shutil.copytree(made_once, here, dirs_exist_ok=True)
    return load("overlay.yaml")


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


def tidy() -> list[dict[str, str]]:
    return list(csv.DictReader(Path("results/tiny/scores.csv").read_text(encoding="utf-8").splitlines()))


def page() -> str:
    return Path("results/tiny/report.html").read_text(encoding="utf-8")


def test_the_tables_hold_the_records_numbers(made: Config) -> None:
    rows = [row for row in Page(page()).rows if len(row) == 10]
    markdown = Path("results/tiny/report/table.md").read_text().splitlines()[2:]
    for place, cell in enumerate(cells(made)):
        folder = layout.evaluate("tiny", cell.compressor, str(cell.ratio)) / "clean"
        zero, adapted = (records.read(folder / f"{run}.json") for run in ("zero-shot", "english-seed0"))
        row = [text.strip() for text in rows[place + 1]]
        assert isinstance(zero, records.Record)
        assert isinstance(adapted, records.Record)
        assert row[:3] == [cell.compressor, str(cell.ratio), f"{zero.realised_ratio:.2f}"]
        assert row[3].startswith(f"{zero.audio_tokens_per_second.mean:.1f}")
        assert row[4].startswith(f"{zero.scores['wer'].value:.1f}[")
        assert row[5].startswith(f"{adapted.scores['wer'].value:.1f}[")
        assert row[8:] == [f"{zero.loops} → {adapted.loops}", f"{zero.cap_hits} → {adapted.cap_hits}"]
        fields = [field.strip() for field in markdown[place].split("|")[1:-1]]
        assert fields[4] == f"{zero.scores['wer'].value:.1f}"
        assert fields[5].startswith(f"{adapted.scores['wer'].value:.1f} [")


def test_the_caption_says_how_long_it_took(made: Config) -> None:
    evidence = read(made)
    decoded = statistics.median(result.record.seconds for result in evidence.results)
    adapter = statistics.median(training.record.seconds for training in evidence.trainings)
    sentence = f"Median time: {adapter:,.0f} s per adapter, {decoded:,.0f} s per test set."
    assert sentence in Path("results/tiny/report/table.md").read_text()


def test_recoveries_have_their_interval_and_a_dash_where_nothing_was_surely_lost(here: Path) -> None:
    def harmless(compressor: str, ratio: str, adapted: bool, seed: int | None) -> float:
        return 0.1 if compressor in ("none", "average") else made_results.damage(compressor, ratio, adapted, seed)

    config, path = made_results.config(here, **SECTIONS)
    made_results.write(config, UTTERANCES, wrong=harmless)
    report.make(config, path)
    board = clean_board(config)
    for row in findings.main_rows(board, cells(config), "english", {}):
        gap = board.paired(lambda z, n: z - n, System(row.cell, None), System(UNCOMPRESSED, "english"))
        assert gap is not None
        assert (row.recovery is not None) == (gap.low is not None and gap.low > 0)
    text = Path("results/tiny/report/table.md").read_text()
    shares = {
        tuple(f.strip() for f in line.split("|")[1:3]): line.split("|")[7].strip()
        for line in text.splitlines()
        if line.startswith("| ")
    }
    assert shares["none", "1"] == "reference"
    assert shares["average", "2"] == "–"
    assert re.fullmatch(r"\d+\s% \[\d+, \d+\]", shares["sample", "3"])


def test_the_headline_is_five_columns_at_the_ratio_where_most_meet(made: Config) -> None:
    table, caption = Path("results/tiny/report/headline.md").read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    rows = [[field.strip() for field in line.split("|")[1:-1]] for line in table.splitlines()]
    assert [len(row) for row in rows] == [5] * 6
    assert [row[0] for row in rows[2:]] == ["none-1", "average-3", "sample-3", "segment-3"]
    values = {
        row["compressor"]: float(row["value"])
        for row in tidy()
        if of_clean(row) and row["adapted"] == "true" and row["ratio"] in "13"
    }
    for row in rows[3:]:
        cell = Cell(row[0].removesuffix("-3"), Ratio.parse(3))
        difference = clean_board(made).difference(System(cell, "english"), System(UNCOMPRESSED, "english"))
        assert difference is not None
        assert difference.value == pytest.approx(values[cell.compressor] - values["none"], abs=1e-3)
        assert row[4] == prose.signed(difference.value) + prose.bounds(difference, prose.signed)
    assert "clean: 24 utterances" in caption


def of_clean(row: dict[str, str]) -> bool:
    """Whether a row of scores.csv is a WER on the test set `clean`."""
    return (row["metric"], row["split"], row["task"]) == ("wer", "clean", "transcribe")


def test_metrics_and_picture_are_the_tables_own(made: Config) -> None:
    nested = json.loads(Path("results/tiny/report/metrics.json").read_text(encoding="utf-8"))
    flat = {
        (test_set, cell, run, metric): value
        for test_set, of_set in nested.items()
        for cell, of_cell in of_set.items()
        for run, values in of_cell.items()
        for metric, value in values.items()
    }
    names = {(s.split, s.task): s.name for s in made.evaluate.sets}
    assert flat == {
        (
            names[row["split"], row["task"]],
            f"{row['compressor']}-{row['ratio']}",
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


def clean_board(config: Config) -> Board:
    results = [r for r in read(config).results if r.record.test_set == "clean"]
    drawn = scores.bootstraps(results, config.report.bootstrap_samples, config.report.confidence_percent)
    return Board(config.evaluate.sets[0], results, drawn["clean"], config.evaluate.metrics["transcribe"])


def test_intervals_are_those_of_the_tidy_table(made: Config) -> None:
    board = clean_board(made)
    for row in filter(of_clean, tidy()):
        cell = Cell(row["compressor"], Ratio.parse(row["ratio"]))
        interval = board.interval(System(cell, row["train_set"] or None))
        assert interval is not None
        assert [interval.value, interval.low, interval.high] == pytest.approx(
            [float(row["value"]), float(row["low"]), float(row["high"])], abs=1e-4
        )


def test_an_exact_tie_is_a_tie(here: Path) -> None:
    config, path = made_results.config(here, **SECTIONS)
    made_results.write(config, UTTERANCES)
    for run in ("zero-shot", "english-seed0"):
        for kind in ("json", "parquet"):
            source = layout.evaluate("tiny", "average", "3") / "clean" / f"{run}.{kind}"
            shutil.copy(source, layout.evaluate("tiny", "segment", "3") / "clean" / f"{run}.{kind}")
        twin = layout.evaluate("tiny", "segment", "3") / "clean" / f"{run}.json"
        twin.write_text(twin.read_text().replace('"average"', '"segment"'))
    reseal(layout.evaluate("tiny", "segment", "3"))
    report.make(config, path)
    rows = {str(row.cell): row for row in findings.main_rows(clean_board(config), cells(config), "english", {})}
    assert [name for name, row in rows.items() if row.best and name.endswith("-3")] == ["average-3", "segment-3"]
    assert "at 3 frames per token, average and segment tie for best: WER" in page()
    assert ["average − segment", "3", "0.0[0.0, 0.0]", "0.0[0.0, 0.0]", "tie"] in Page(page()).rows
    assert "3 average, segment" in Path("results/tiny/report/summary.txt").read_text()


def reseal(folder: Path) -> None:
    """Seal a folder again whose files were changed."""
    with sealing.sealed(folder, {"run_key": folder.name}) as again:
        shutil.copytree(folder, again, dirs_exist_ok=True, ignore=shutil.ignore_patterns(layout.SEAL))


def test_speech_is_called_synthetic_where_a_machine_speaks_the_test_set(made: Config, here: Path) -> None:
    assert "The speech of clean and hard-en-de is synthetic" in page()
    kinds = {"synthetic": True, "read_aloud": True, "prompts": False, "manifest": False, "librispeech": False}
    assert {kind: corpora.is_synthetic(Corpus(name="x", kind=kind)) for kind in kinds} == kinds


def test_three_seeds_are_pooled_and_their_spread_stands_beside(here: Path) -> None:
    grid = [{**cell, "seeds": [0, 1, 2]} for cell in GRID[:2]]
    config, path = made_results.config(here, **SECTIONS | {"segments": {"cells": grid}})
    made_results.write(config, UTTERANCES)
    report.make(config, path)
    board = clean_board(config)
    for row in findings.main_rows(board, cells(config), "english", {}):
        found = [run.record.scores["wer"].value for run in board.runs[System(row.cell, "english")]]
        assert list(row.seeds) == found
        assert len(found) == 3
        assert row.adapted is not None
        assert row.adapted.value == pytest.approx(sum(found) / 3)  # equal reference words: pooled is the mean
        assert f"{min(found):.1f}–{max(found):.1f}" in page()
    assert "3 LoRA seeds" in page()


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
    before = sealing.verify(layout.report("tiny"))
    report.make(made, Path("overlay.yaml"))
    assert sealing.verify(layout.report("tiny")) == before
    for name in ("scores.csv", "report.html"):
        assert sealing.sha256(Path("results/tiny", name)) == before["files"][name]["sha256"]


def test_cells_without_an_adapter_show_their_zero_shot_score(here: Path) -> None:
    config, path = made_results.config(here, **SECTIONS)
    every = [f"{cell.compressor}-{cell.ratio}" for cell in cells(config)]
    made_results.write(config, UTTERANCES, adapted=["sample-3"])
    report.make(config, path)
    row = next(row for row in Page(page()).rows if len(row) == 10 and row[0] == "sample" and row[1] == "3")
    assert (row[5], row[7], row[8][-1]) == ("–", "–", "–")
    assert re.match(r"\d", row[4])
    made_results.write(config, UTTERANCES, adapted=every)
    report.make(config, path)
    assert "every score is zero-shot" in page()
    assert "zero-shot" in Path("results/tiny/report/summary.txt").read_text()


def test_failed_runs_are_rows(here: Path) -> None:
    config, path = made_results.config(here, **SECTIONS)
    made_results.write(config, UTTERANCES, cells=["sample-2"], adapted=["average-2"])
    for compressor, ratio in (("sample", "2"), ("average", "2"), ("segment", "3"), ("segment", "9")):
        run = made_results.head(config, stage="train", compressor=compressor, ratio=ratio, train_set="english", seed=0)
        failed = records.failed(f"loss is NaN <b>at</b> step 7 of {compressor}", **run)
        records.write(layout.failure("tiny", "train", f"english/{compressor}-{ratio}/seed0"), failed)
    report.make(config, path)
    rows = Page(page()).rows
    listed = [row for row in rows if len(row) == 3 and row[0] == "train"]
    assert [row[1] for row in listed] == [f"english/{cell}/seed0" for cell in ("average-2", "sample-2", "segment-3")]
    assert "loss is NaN <b>at</b> step 7 of sample" in listed[1][2]
    older = [row for row in tidy() if row["compressor"] == "segment" and row["ratio"] == "3"]
    assert {row["adapted"] for row in older} == {"false"}  # of before the failure; 9 is no longer in the grid
    assert any(row[:2] == ["sample", "2"] and "NaN" in row[2] for row in rows)
    assert "3 without a result" in Path("results/tiny/report/summary.txt").read_text()


def test_a_result_that_is_missing_or_altered_is_an_error(made: Config, capsys: pytest.CaptureFixture[str]) -> None:
    (layout.evaluate("tiny", "none", "1") / "clean" / "zero-shot.json").write_text("{}")
    assert report.main(["--config", "overlay.yaml"]) == 1
    assert "is damaged" in capsys.readouterr().err
    shutil.rmtree(layout.evaluate("tiny", "none", "1"))
    assert report.main(["--config", "overlay.yaml"]) == 1
    assert "results/tiny/evaluate/none-1" in capsys.readouterr().err
    assert report.main(["--config", "overlay.yaml", "--partial"]) == 0
    assert ["evaluate", "none-1", "not finished: run `make reproduce`"] in Page(page()).rows
    assert "The run did not finish" in page()
    assert "The run did not finish" in capsys.readouterr().out


def test_a_failure_of_a_split_that_is_no_longer_used_hides_nothing(made: Config) -> None:
    for split in ("clean", "gone"):
        run = made_results.head(made, stage="segments", compressor="average", ratio="3")
        records.write(layout.failure("tiny", "segments", f"synthetic/{split}/average-3"), records.failed("x", **run))
    assert [failure.run for failure in read(made).failures] == ["synthetic/clean/average-3"]
    layout.failure("tiny", "segments", "synthetic/clean/average-3").unlink()
    assert read(made).failures == []
    shutil.rmtree("results/tiny/failed")


def test_trainings_of_unlike_budgets_are_not_compared(here: Path) -> None:
    config, path = made_results.config(here, **SECTIONS)
    made_results.write(config, UTTERANCES)
    budget = config.train.model_dump(mode="json")
    for folder in Path("build/tiny/train/english").glob("*/seed0"):
        record = json.loads((folder / "record.json").read_text())
        kept = {name: (folder / name).read_text() for name in ("curve.jsonl",)}
        record["config"] = budget | ({"steps": 7} if folder.parent.name == "sample-2" else {})
        with sealing.sealed(folder, {"run_key": folder.parent.name}) as again:
            sealing.write_json(again / "record.json", record)
            (again / "curve.jsonl").write_text(kept["curve.jsonl"])
    report.make(config, path)
    error = f"trained with steps: 7, not {config.train.steps} like others; run `make reproduce`"
    assert ["train", "english/sample-2/seed0", error] in Page(page()).rows
    assert ("sample", "2", "true") not in {(row["compressor"], row["ratio"], row["adapted"]) for row in tidy()}


def test_the_command_prints_the_summary(made: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--config", "overlay.yaml"]) == 0
    out = capsys.readouterr().out
    assert "report: results/tiny/report.html" in out
    assert re.search(r"^  3 (average|sample|segment) +\d", out, re.M)
    assert "make reproduce CONFIG=overlay.yaml" in page()


def test_natural_is_compared_on_the_curve_and_never_outside_it(made: Config) -> None:
    grid, board = {str(cell): cell for cell in cells(made)}, clean_board(made)

    def adapted(name: str) -> float:
        return board.score(System(grid[name], "english"))

    averages = [cell for cell in grid.values() if cell.compressor == "average"]
    assert board.against_curve(grid["segment-natural"], averages, "english") == (None, None)
    value, difference = board.against_curve(grid["sample-2"], [grid["average-3"], UNCOMPRESSED], "english")
    assert value is not None
    assert difference is not None
    assert adapted("none-1") < value < adapted("average-3")
    assert difference.value == pytest.approx(adapted("sample-2") - value)


def test_transfer_is_shown_where_there_are_several_training_sets(here: Path) -> None:
    part = {"corpus": "synthetic", "split": "train", "task": "transcribe", "language": "en"}
    dev = {**part, "split": "dev"}
    sets = [{"name": name, "parts": [part], "dev": [dev]} for name in ("english", "speech-only")]
    config, path = made_results.config(here, **SECTIONS | {"segments": {"cells": GRID[:2]}}, train={"sets": sets})
    made_results.write(config, UTTERANCES)
    report.make(config, path)
    heads = [row for row in Page(page()).rows if row[-2:] == ["english", "speech-only"]]
    assert len(heads) == len(config.evaluate.sets)
    markdown = Path("results/tiny/report/table.md").read_text()
    first = config.evaluate.sets[0].name
    [row] = [line for line in markdown.split("Transfer, ")[1].splitlines() if line.startswith(f"| {first}: ")]
    ratio = markdown.split("Transfer, average at ")[1].split(":")[0]
    values = {
        row["train_set"]: f"{float(row['value']):.1f}"
        for row in tidy()
        if (row["compressor"], row["ratio"], row["metric"], row["split"]) == ("average", ratio, "wer", "clean")
    }
    assert [field.split("[")[0].strip() for field in row.split("|")[2:-1]] == [
        values[train_set] for train_set in ("", "english", "speech-only")
    ]


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


def test_the_pages_get_their_tables_and_the_picture(made: Config, here: Path) -> None:
    tool = importlib.util.spec_from_file_location("readme", REPOSITORY / "tools" / "readme.py")
    assert tool is not None
    assert tool.loader is not None
    readme = importlib.util.module_from_spec(tool)
    tool.loader.exec_module(readme)
    around = {
        Path("README.md"): "# Top\n<!-- headline: tiny -->\n{}<!-- end -->\nprose\n",
        Path(
            "docs/results.md"
        ): "<!-- results: tiny -->\n{}<!-- end -->\n<!-- results: other -->\nkept\n<!-- end -->\n",
    }
    Path("docs").mkdir()
    for page, text in around.items():
        page.write_text(text.format("old\n"), encoding="utf-8")
    assert readme.main(["--check"]) == 1
    assert readme.main([]) == 0
    assert readme.main(["--check"]) == 0
    made_tables = {
        page: Path("results/tiny/report", name) for page, name in zip(around, ("headline.md", "table.md"), strict=True)
    }
    for page, text in around.items():
        assert page.read_text(encoding="utf-8") == text.format(made_tables[page].read_text(encoding="utf-8"))
    assert Path("docs/quality.svg").read_bytes() == Path("results/tiny/report/quality.svg").read_bytes()
    Path("docs/quality.svg").write_text("older")
    assert readme.main(["--check"]) == 1
    Path("README.md").write_text("no markers")
    assert readme.main([]) == 1


def test_what_is_shown_is_what_the_config_asks(made: Config, here: Path) -> None:
    smaller = [cell for cell in GRID if cell["compressor"] in ("none", "average")]
    fewer, path = made_results.config(here, **SECTIONS | {"segments": {"cells": smaller}})
    report.make(fewer, path)
    assert {row["compressor"] for row in tidy()} == {"none", "average"}
    assert json.loads(Path("results/tiny/report/seal.json").read_text())["run_key"]
