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
from concertina.checks import gate
from concertina.config import ConfigError
from concertina.store import folders, records, sealing
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
            for cell in settings.cells:
                if dag.artefact(settings, "segments", corpus=corpus, split=split, cell=cell) in wanted:
                    assert segments.main([*flag, *place, "--cell", str(cell)]) == 0
    if settings.gate and (status := gate.main(flag)):
        return status
    for cell in settings.cells:
        for one in settings.adapters(cell):
            adapter = ["--train-set", one.train_set, "--cell", str(cell), "--seed", str(one.seed)]
            assert train.main([*flag, *adapter]) == 0
        assert evaluate.main([*flag, "--cell", str(cell)]) == 0
    return report.main(flag)


@pytest.mark.slow
def test_the_gate_stops_a_base_that_is_off_and_an_override_is_in_every_result(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = {"segments": {"cells": RUN}}
    sets = yaml.safe_load(PAPER.read_text(encoding="utf-8"))["evaluate"]["sets"]
    for test_set in sets:
        if test_set["name"].endswith("-full"):
            test_set["cells"] = ["none-1", "average-3"]
    small = {**cells, "evaluate": {"sets": sets}}
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
        for cell in config.load("small.yaml").cells
        for record in records.read_folder(folder_of("evaluate", "paper", cell)).values()
    ]
    trained = [records.read(path) for path in Path("build/paper/train").rglob("record.json")]
    assert len(trained) == 9
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
