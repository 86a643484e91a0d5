"""The baseline gate: its published figures, and a base that is off stops the run unless it is overridden."""

import json
import re
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
import yaml

from concertina import config, data, evaluate, features, report, segments, train
from concertina.artefacts import dag
from concertina.checks import gate, prompts
from concertina.config import ConfigError
from concertina.store import folders, jsonl, records, sealing
from concertina.store.folders import MANIFEST
from concertina.store.records import Record
from helpers import paper_corpora
from helpers.artefacts import folder_of
from helpers.paper_corpora import PAPER, RUN, overlay
from helpers.project_copy import ROOT


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project with miniatures of the paper's corpora and a tiny base."""
    folder = paper_corpora.make(tmp_path_factory.mktemp("paper"))
    with chdir(folder):
        yield folder


def test_published_figures_are_those_of_the_converted_base() -> None:
    chosen = config.load(PAPER).gate
    assert chosen is not None
    figures = gate.published(chosen.model_copy(update={"published": str(ROOT / chosen.published)}))
    assert (figures["test-clean-full"].value, figures["test-other-full"].value) == (1.7, 4.0)
    assert {name for name, figure in figures.items() if figure.stops} == {"test-clean-full", "test-other-full"}
    assert figures["en-zh"].value == 45.6
    wrong = chosen.model_copy(update={"published": str(ROOT / chosen.published), "figures": {"x": "covost2/en-dd"}})
    with pytest.raises(ConfigError, match=r"gate\.figures\.x: .* no figure 'covost2/en-dd'.*'covost2/en-de'"):
        gate.published(wrong)


def run(chosen: str) -> int:
    """Every stage of the config in order, in this process; the gate's exit code, or the last stage's."""
    settings = config.load(chosen)
    name, flag = settings.name, ["--config", chosen]
    wanted = list(dag.of_kind(settings, "segments"))
    for corpus, split in settings.splits:
        place = ["--corpus", corpus, "--split", split]
        if not (folder_of("features", name, corpus, split) / sealing.SEAL).exists():
            assert data.main([*flag, *place, "--jobs", "1"]) == 0
            assert features.main([*flag, *place]) == 0
            for cell in settings.cuts:
                if dag.artefact(settings, "segments", corpus=corpus, split=split, cell=cell) in wanted:
                    assert segments.main([*flag, *place, "--cell", str(cell)]) == 0
    if settings.gate and (status := gate.main(flag)):
        return status
    for cell in settings.cuts:
        for one in (adapter for placed in settings.placed(cell) for adapter in settings.adapters(placed)):
            adapter = ["--train-set", one.train_set, "--cell", str(one.cell), "--seed", str(one.seed)]
            assert train.main([*flag, *adapter]) == 0
        assert evaluate.main([*flag, "--cell", str(cell)]) == 0
    return report.main(flag)


@pytest.mark.slow
def test_the_gate_stops_a_base_that_is_off_and_an_override_is_in_every_result(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = {"segments": {"cells": RUN, "positions": ["renumber"]}}
    paper = yaml.safe_load(PAPER.read_text(encoding="utf-8"))
    sets, train_sets = paper["evaluate"]["sets"], paper["train"]["sets"]
    for narrowed in (*sets, *train_sets):
        if "cells" in narrowed:
            narrowed["cells"] = ["none-1", "average-3"]
    small = {**cells, "evaluate": {"sets": sets}, "train": {"sets": train_sets}}
    assert run(overlay(**small)) == 1
    told = capsys.readouterr().err
    pattern = r"test-clean-full: wer_qwen [\d.]+ \[.*\], published 1\.7: beyond the tolerance of 0\.2 points"
    assert re.search(pattern, told)
    assert "set gate.override to the reason" in told
    assert re.search(r"en-de: bleu [\d.]+ \[.*published 29\.6: a warning", told)
    assert not list(Path("build/paper/train").rglob("seal.json"))
    failure = records.read(folders.failure("paper", "evaluate_gate", "evaluate_gate"))
    assert failure.status == "failed"
    assert "BaselineError" in failure.error  # type: ignore[attr-defined]
    assert report.main(["--config", "small.yaml", "--partial"]) == 0
    assert "BaselineError" in Path("results/paper/report.html").read_text(encoding="utf-8")

    reason = "a base of noise, for a test"
    assert run(overlay(**small, gate={"override": reason})) == 0
    assert "none-1: test-clean-full, zero-shot" not in capsys.readouterr().err, "what the gate decoded is decoded once"
    found = [
        record
        for cell in config.load("small.yaml").cuts
        for record in records.read_folder(folder_of("evaluate", "paper", cell)).values()
    ]
    trained = [records.read(path) for path in Path("build/paper/train").rglob("record.json")]
    assert len(trained) == 7
    drawn = next(record.facts["drawn"] for record in trained if record.train_set == "multilingual")
    assert [(part["corpus"], part["draws"]) for part in drawn] == [
        (n, 1) for n in ("librispeech", "cv-zh", "cv-yue", "cv-fr")
    ]
    english = [row["translation"] for row in jsonl.read(folder_of("features", "paper", "from-en", "dev") / MANIFEST)]
    assert [set(translation) for translation in english] == [{"de", "zh"}] * 2
    assert {record.override for record in (*found, *trained)} == {reason}
    scored = {(r.compressor, r.test_set, r.train_set) for r in found if isinstance(r, Record)}
    assert {("average", "test-clean-full", None), ("none", "en-zh", "translation")} < scored
    assert not [one for one in scored if one[0] == "segment" and one[1].endswith("-full")]
    asr = next(record for record in found if isinstance(record, Record) and record.test_set == "cv-zh")
    assert set(asr.scores) == {"wer", "wer_qwen"}
    own = sealing.read_seal(folder_of("evaluate_gate", "paper"))["files"]["cv-zh/zero-shot.json"]["sha256"]
    taken = sealing.read_seal(folder_of("evaluate", "paper", "none-1"))["files"]["cv-zh/zero-shot.json"]["sha256"]
    assert own == taken
    page = Path("results/paper/report.html").read_text(encoding="utf-8")
    assert f"The gate was overridden: {reason}" in page
    judged = json.loads((folder_of("evaluate_gate", "paper") / "record.json").read_text(encoding="utf-8"))["facts"]
    assert judged["cv-fr"]["verdict"] == "warn"
    own_prompt, other = judged["base.prompts"]["translate"]
    assert set(own_prompt["scores"]) == set(other["scores"]) == {"de-en-dev", "en-zh-dev"}
    assert own_prompt["prompt"] == config.load("small.yaml").base.prompts["translate"]
    assert "Prompt of translate: " in page


@pytest.mark.slow
def test_a_prompt_that_is_clearly_better_stops_the_run_and_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wordings = ["<|AUDIO|>{source}", "the an in<|AUDIO|>", "<|AUDIO|>the the the"]
    heard = {"corpus": "librispeech", "split": "dev-clean", "task": "transcribe", "language": "en", "name": "heard"}
    paper = yaml.safe_load(PAPER.read_text(encoding="utf-8"))
    smaller = {
        "segments": {"cells": [{"compressor": "none", "ratios": [1]}]},
        "train": {"sets": paper["train"]["sets"][:1]},
        "evaluate": {"sets": [one for one in paper["evaluate"]["sets"] if "cells" not in one]},
        "report": {"confidence_percent": 80},  # of three utterances
    }

    def asking(used: str, others: list[str]) -> str:
        values = yaml.safe_load(Path(overlay(**smaller, base={"prompts": {"transcribe": used}})).read_text())
        figures = {"cv-fr": "common_voice_15/fr"}
        values["gate"] |= {"prompts": {"transcribe": others}, "trial": [heard], "figures": figures}
        Path("asked.yaml").write_text(yaml.safe_dump(values | {"name": "asked"}), encoding="utf-8")
        return "asked.yaml"

    flag = ["--config", asking(wordings[0], wordings[1:])]
    place = ["--corpus", "librispeech", "--split", "dev-clean"]
    assert data.main([*flag, *place, "--jobs", "1"]) == features.main([*flag, *place]) == 0
    assert segments.main([*flag, *place, "--cell", "none-1"]) == 0
    scores = {row["prompt"]: row["scores"]["heard"] for row in prompts.compare(config.load("asked.yaml"))["transcribe"]}
    worst, *_, best = sorted(scores, key=lambda prompt: -scores[prompt])
    assert scores[worst] > scores[best] + 10
    capsys.readouterr()
    assert gate.main(["--config", asking(worst, [best])]) == 1
    told = capsys.readouterr().err
    assert f"error: base.prompts.transcribe: {best!r} is better (+" in told
    assert "or set gate.override to the reason" in told
    assert prompts.better(prompts.compare(config.load(asking(best, [worst])))["transcribe"]) is None
