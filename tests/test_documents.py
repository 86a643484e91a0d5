"""The pages that a person reads: their links lead somewhere, and the examples of plug-ins do what the text promises."""

import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from concertina.corpora import Reject, Utterance

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def headings(page: Path) -> set[str]:
    """The names by which links reach the headings of a page."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def example(page: str, opening: str) -> ModuleType:
    """The Python block of a page whose docstring begins with `opening`, executed as a module."""
    blocks = FENCE.findall((ROOT / page).read_text(encoding="utf-8"))
    [block] = [code for language, code in blocks if language == "python" and code.startswith(f'"""{opening}:')]
    module = ModuleType(opening.lower())
    exec(compile(block, f"{page}: {opening}", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if not link.startswith("http")]
    for link in links:
        name, _, heading = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not heading or heading in headings(target), f"{page.name}: {link}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize(("page", "opening"), [("README.md", "Average"), ("CONTRIBUTING.md", "Energy")])
def test_an_example_of_a_compressor_cuts_and_weighs(page: str, opening: str) -> None:
    lengths_B = torch.tensor([7, 1, 12])
    frames_TD = torch.arange(1.0, 61.0).reshape(20, 3)
    answer = example(page, opening).cut(SimpleNamespace(lengths_B=lengths_B, frames_TD=frames_TD), 3.0)
    assert answer.counts_B.tolist() == [3, 1, 4]
    assert answer.lengths_N.tolist() == [3, 3, 1, 1, 3, 3, 3, 3]
    weights = [part.tolist() for part in answer.weights_T.split(answer.lengths_N.tolist())]
    assert [sum(token) for token in weights] == pytest.approx([1.0] * 8)
    assert (weights[0][0] < weights[0][2]) == (opening == "Energy")


def test_the_example_of_a_corpus_reads_and_rejects(tmp_path: Path) -> None:
    for name in ("one", "two"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(1600), 16_000)
    (tmp_path / "one.txt").write_text("a word")
    corpus = example("CONTRIBUTING.md", "Folder")
    options = corpus.Options(splits={"test": str(tmp_path)})
    assert corpus.splits(options) == ["test"]
    first, second = corpus.read(options, "test", 0)
    assert isinstance(first, Utterance)
    assert (first.id, first.text) == ("one", "a word")
    assert isinstance(second, Reject)
    assert len(corpus.sources(options)) == 3


def test_the_example_of_a_metric_counts_sentences() -> None:
    metric = example("CONTRIBUTING.md", "Sentence error rate in percent")
    score = metric.score(["a red boat", "the sea", "two"], ["A red boat.", "see", "two"], "en")
    assert score.value == pytest.approx(100 / 3)
    assert metric.combine(score.stats_UK[:2].sum(0)[None]) == pytest.approx([50.0])
