"""The paper track: its config is the paper's grid, and its whole DAG is planned on miniature corpora."""

import re
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import yaml

from concertina import config, corpora
from concertina.artefacts import keys
from concertina.artefacts.sizes import Estimate
from concertina.config import Cell, ConfigError, Ratio
from helpers import paper_corpora
from helpers.paper_corpora import PAPER, overlay
from helpers.project_copy import ROOT, copy_project, python, snakemake
from tools.plan import table


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project with miniatures of the paper's corpora and a tiny base."""
    folder = paper_corpora.make(tmp_path_factory.mktemp("paper"))
    with chdir(folder):
        yield folder


def test_the_config_is_the_papers_grid() -> None:
    paper = config.load(PAPER)
    wanted = {Cell("none", Ratio(1)), Cell("segment", Ratio(None))}
    wanted |= {Cell(name, Ratio(k)) for name in ("average", "sample", "segment") for k in (2, 3, 4)}
    assert set(paper.cuts) == wanted
    assert {cell.positions for cell in paper.cells} == {"keep", "renumber", ""}
    pairs = {(s.language, s.to) for s in paper.evaluate.sets if s.to}
    assert pairs == {("en", "de"), ("de", "en"), ("en", "zh"), ("zh", "en"), ("es", "en"), ("fr", "en"), ("it", "en")}
    spoken = [s.name for s in paper.evaluate.sets if s.task == "transcribe"]
    assert spoken[:4] == ["test-clean", "test-other", "cv-en", "cv-zh"]
    assert spoken[-3:] == ["cv-fr", "test-clean-full", "test-other-full"]
    assert "cv-yue" in spoken or "zhconv" in paper.evaluate.skipped["cv-yue"]
    assert all(s.utterances == 2000 for s in paper.evaluate.sets if not s.name.endswith("-full"))
    assert "test-clean-full" in [s.name for s in paper.test_sets(paper.cell("average-3"))]
    assert "test-clean-full" not in [s.name for s in paper.test_sets(paper.cell("average-2"))]


def test_what_a_claim_rests_on_has_three_seeds_and_dev_sets_of_its_own_kind() -> None:
    paper = config.load(PAPER)
    headline = ("none-1", "average-3-renumber", "sample-3-renumber", "segment-3-renumber")
    for train_set in paper.train.sets:
        seeds = {
            name: sum(a.train_set == train_set.name for a in paper.adapters(paper.cell(name))) for name in headline
        }
        assert set(seeds.values()) == {3}
        kinds = {(part.corpus, part.task, part.language, part.to) for part in train_set.parts}
        assert {(part.corpus, part.task, part.language, part.to) for part in train_set.dev} == kinds
        assert {part.share for part in train_set.parts} == {1.0}
    spoken = [corpus for corpus in paper.data.corpora if corpus.kind != "librispeech"]
    assert all(corpus.utterances.keys() == {"train", "dev", "test"} for corpus in spoken)
    assert sum(corpus.options.get("source") == "en" for corpus in spoken) == 1
    assert sum(part.utterances or 0 for part in paper.trial) == 200


def test_every_choice_that_the_paper_does_not_give_is_marked() -> None:
    lines = PAPER.read_text(encoding="utf-8").split("\ntrain:")[1].split("\nevaluate:")[0].splitlines()
    settings = [line for line in lines if re.match(r"  (steps|batch|learning_rate|warmup_steps|lora|precision):", line)]
    assert len(settings) == 6
    assert all("# ours" in line for line in settings)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"evaluate": {"sets": [{"name": "a", "cells": ["average-33"]}]}}, r"no cell 'average-33'.*average-3"),
        ({"evaluate": {"sets": [{"name": "a", "cells": ["none-1"]}]}}, r"no set is for the cell average-3-keep"),
        ({"gate": {"published": "x", "figures": {"b": "y"}, "wer_points": 1, "bleu_points": 1}}, r"on a set 'b'"),
    ],
)
def test_a_set_or_gate_that_fits_no_cell_is_told(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    part = {"corpus": "synthetic", "split": "clean", "task": "transcribe", "language": "en"}
    for test_set in changes.get("evaluate", {}).get("sets", []):
        test_set |= part
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"name": "x", **changes}), encoding="utf-8")
    with chdir(ROOT), pytest.raises(ConfigError, match=told):
        config.load(tmp_path / "x.yaml")


def test_a_corpus_that_is_not_there_is_named_with_where_to_get_it() -> None:
    with chdir(ROOT), pytest.raises(ConfigError, match=r"data\.corpora\.cv-en: .*https://commonvoice\.mozilla\.org"):
        keys.check(config.load(PAPER))


@pytest.mark.slow
def test_the_plan_holds_every_cell_and_says_what_it_costs_by_card(project: Path) -> None:
    chosen = overlay(base={"model": "Qwen/Qwen2-Audio-7B", "revision": "main"})
    done = snakemake(project, "-n", "--config", f"experiment={chosen}")
    jobs = re.findall(r"^Job \d+: (\w+)(?: (\S+))?$", done.stdout + done.stderr, flags=re.MULTILINE)
    assert [name for name, _ in jobs].count("train") == 52
    assert sorted(what for name, what in jobs if name == "evaluate") == sorted(map(str, config.load(chosen).cuts))
    names = [name for name, _ in jobs]
    assert names.index("base_hub") < names.index("features") < names.index("evaluate_gate") < names.index("train")
    told = python(project, "-m", "tools.plan", "--config", f"experiment={chosen}").stdout
    assert re.search(r"24 GB \(RTX 4090 \).*not .*train.*set base\.four_bit", told), told
    assert re.search(r"141 GB \(H200     \).* yes", told)
    assert "Hours are calculated: 35 % of the peak" in told


@pytest.mark.slow
def test_the_plan_answers_before_what_a_user_brings_is_there(tmp_path: Path) -> None:
    copy_project(tmp_path)
    told = python(tmp_path, "-m", "tools.plan", "--config", "experiment=configs/paper.yaml").stdout
    assert re.search(r"cv-en is missing: corpora/\S+/en: no such folder.*https://commonvoice\.mozilla\.org", told)
    assert "from-en is missing: corpora/cv-corpus-4/en: no such folder" in told
    assert "data.corpora.cv-fr.utterances" not in told
    assert re.search(r"^train +52 ", told, flags=re.MULTILINE)
    done = snakemake(tmp_path, "-n", "--config", "experiment=configs/paper.yaml")
    assert done.returncode
    assert "data.corpora.cv-en: corpora/" in done.stdout + done.stderr


def test_a_split_that_is_read_and_hardly_used_is_told_with_the_remedy(project: Path) -> None:
    chosen = config.load(overlay(train={"steps": 2, "batch": 2}))
    table_of_clips = Path("corpora/cv-corpus-15.0-2023-09-08/fr/train.tsv")
    whole = table_of_clips.read_text(encoding="utf-8")
    table_of_clips.write_text(whole + 998 * whole.splitlines(keepends=True)[-1], encoding="utf-8")
    remedy = "at most 1 are used; to read and encode fewer, set data.corpora.cv-fr.utterances.train."
    told = list(table.hardly_used(Estimate(chosen)))
    assert [line for line in told if "cv-fr" in line] == [f"Of 1,000 utterances of cv-fr/train, {remedy}"]
    limited = yaml.safe_load(Path("small.yaml").read_text(encoding="utf-8"))
    limited["data"]["corpora"][4]["utterances"]["train"] = 10
    Path("limited.yaml").write_text(yaml.safe_dump(limited), encoding="utf-8")
    assert "cv-fr" not in " ".join(table.hardly_used(Estimate(config.load("limited.yaml"))))
    table_of_clips.write_text(whole, encoding="utf-8")


def test_every_corpus_of_the_paper_tells_the_ids_that_it_reads(project: Path) -> None:
    for corpus in config.load(overlay()).data.corpora:
        plugin, options = corpora.load(corpus.kind), corpora.options(corpus)
        for split in plugin.splits(options):
            parts = range(corpora.parts(plugin, options, split))
            read = [item.id for part in parts for item in plugin.read(options, split, part)]
            assert list(plugin.ids(options, split)) == read, f"{corpus.name}/{split}"


def test_a_language_that_the_tokenizer_lacks_is_told_before_anything_runs(project: Path) -> None:
    chosen = config.load(overlay(base={"prompts": {"transcribe": "<|AUDIO|><|{source}|>", "translate": "<|AUDIO|>"}}))
    with pytest.raises(ConfigError, match=r"base\.prompts\.transcribe: base has no token <\|zh\|>; does it know this"):
        keys.check(chosen)
