"""How the report writes words and numbers, and the tables that a README gets."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from concertina import report
from concertina.config import Config, load
from concertina.reporting import browser, prose, readme
from concertina.reporting.statistics import Interval
from helpers import made_results, reports
from helpers.project_copy import ROOT
from helpers.reports import SECTIONS, UTTERANCES


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the default config."""
    shutil.copy(ROOT / "config.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with made-up results of the small grid, hostile texts among them, and their report."""
    return reports.make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def made(made_once: Path, here: Path) -> Config:
    """The made-up results with their report, in the working folder."""
    shutil.copytree(made_once, here, dirs_exist_ok=True)
    return load("overlay.yaml")


@pytest.mark.slow
def test_a_readme_tells_the_test_sets_that_do_not_fit_its_table(here: Path) -> None:
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
    assert prose.bounds(Interval(1.0, -1.0, 2.0, None, ""), prose.signed) == " [−1.0, +2.0]"


def test_markdown_cannot_be_broken_out_of() -> None:
    assert readme.escape("a|b <i> [x](y) `c`\nd") == "a\\|b &lt;i&gt; [x] (y) 'c' d"


@pytest.mark.slow
def test_the_readme_gets_its_table(made: Config, here: Path) -> None:
    tool = importlib.util.spec_from_file_location("readme", ROOT / "tools" / "readme.py")
    assert tool is not None
    assert tool.loader is not None
    readme = importlib.util.module_from_spec(tool)
    tool.loader.exec_module(readme)
    file = here / "README.md"
    around = "# Top\n<!-- results:tiny -->\n{}<!-- /results:tiny -->\n"
    around += "<!-- results:other -->\nkept\n<!-- /results:other -->\n"
    file.write_text(around.format("old\n"))
    assert readme.main([str(file), "--check"]) == 1
    assert readme.main([str(file)]) == 0
    assert readme.main([str(file), "--check"]) == 0
    assert file.read_text() == around.format(Path("results/tiny/report/table.md").read_text())
    file.write_text("no markers")
    assert readme.main([str(file)]) == 1
