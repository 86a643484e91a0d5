"""The paper track: its config, its published figures, its gate, and its whole DAG on miniature corpora."""

import json
import re
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

import tiny_model
from concertina import config, data, evaluate, features, report, segments, train
from concertina.artefacts import keys, layout
from concertina.checks import gate
from concertina.config import ConfigError, ratio_text
from concertina.store import records, sealing
from concertina.store.records import Record
from planning import ROOT, copy_project, python, snakemake

PAPER = ROOT / "configs/paper.yaml"
VOICES = "corpora/cv-corpus-15.0-2023-09-08"
OLD_VOICES = "corpora/cv-corpus-4"
COLUMNS = "client_id path sentence up_votes down_votes age gender accents variant locale segment".split()
SPLITS = ("train", "dev", "test")
SENTENCES = {"zh-CN": "今天天气", "yue": "你好嗎", "fr": "Bonjour à tous", "de": "Guten Tag", "es": "Buenos días"}
PAIRS = ("en_de", "de_en", "en_zh-CN", "zh-CN_en", "es_en", "fr_en", "it_en")
ASR, TRANSLATION = "<|audio_bos|><|AUDIO|><|audio_eos|><|transcribe|>{source}", "<|AUDIO|><|translate|>{target_name}"
SMALL: dict[str, Any] = {
    "base": {
        "model": "base",
        "revision": "",
        "sha256": "",
        "prompts": {"transcribe": ASR, "translate": TRANSLATION},
    },
    "features": {"precision": "float32", "dtype": "float16"},
    "train": {"steps": 2, "batch": 2, "warmup_steps": 1, "dev_every_steps": 2, "precision": "float32", "threads": 1},
    "evaluate": {"precision": "float32", "threads": 1},
    "report": {"bootstrap_samples": 50},
}
RUN = [{"compressor": "none", "ratios": [1]}, {"compressor": "average", "ratios": [3]}]
RUN += [{"compressor": "segment", "ratios": ["natural"]}]


def wave(seconds: float, seed: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(16_000 * seconds))


def librispeech(root: Path) -> None:
    for n, split in enumerate(("train-clean-100", "dev-clean", "test-clean", "test-other")):
        folder = root / split / "84" / f"12112{n}"
        folder.mkdir(parents=True)
        lines = [f"84-12112{n}-{i:04d} GO DO YOU HEAR NUMBER {'ONE' if i else 'TWO'}\n" for i in range(3)]
        (folder / f"84-12112{n}.trans.txt").write_text("".join(lines))
        for i in range(3):
            soundfile.write(folder / f"84-12112{n}-{i:04d}.flac", wave(0.6 + 0.2 * i, i), 16_000)


def common_voice(folder: Path, language: str) -> None:
    """One language: two clips in each split, and validated.tsv, which CoVoST looks up."""
    (folder / "clips").mkdir(parents=True)
    every = []
    for s, split in enumerate(SPLITS):
        said = SENTENCES.get(language, "Good morning to all")
        rows = [[f"{s}" * 128, f"c_{split}_{i}.mp3", f"{said} {split}", "2", "0", *[""] * 6] for i in range(2)]
        for row in rows:
            soundfile.write(folder / "clips" / row[1], wave(0.8, s), 16_000, format="MP3")
        every += rows
        (folder / f"{split}.tsv").write_text("".join("\t".join(row) + "\n" for row in [COLUMNS, *rows]))
    (folder / "validated.tsv").write_text("".join("\t".join(row) + "\n" for row in [COLUMNS, *every]))


def covost2(folder: Path) -> None:
    folder.mkdir(parents=True)
    for pair in PAIRS:
        target = pair.rpartition("_")[2]
        said = SENTENCES.get(target, "Good morning")
        rows = [[f"c_{split}_{i}.mp3", f"{said} {i}", split] for split in SPLITS for i in range(2)]
        lines = "".join("\t".join(row) + "\n" for row in [["path", "translation", "split"], *rows])
        (folder / f"covost_v2.{pair}.tsv").write_text(lines)


def overlay(**changes: Any) -> str:
    """The paper's config with a small base and few steps, and changes."""
    paper = yaml.safe_load(PAPER.read_text(encoding="utf-8"))
    paper["data"]["corpora"][0]["folder"] = "corpora/LibriSpeech"
    Path("small.yaml").write_text(yaml.safe_dump(config.merge(config.merge(paper, SMALL), changes)), encoding="utf-8")
    return "small.yaml"


@pytest.fixture(scope="module")
def corpora_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    librispeech(folder / "corpora/LibriSpeech")
    for language in ("en", "zh-CN", "yue", "fr"):
        common_voice(folder / VOICES / language, language)
    for language in ("en", "de", "zh-CN", "es", "fr", "it"):
        common_voice(folder / OLD_VOICES / language, language)
    covost2(folder / "corpora/covost2")
    tiny_model.make(folder / "base")
    return folder


@pytest.fixture(scope="module")
def project(corpora_folder: Path) -> Iterator[Path]:
    copy_project(corpora_folder)
    with chdir(corpora_folder):
        yield corpora_folder


def test_the_config_is_the_papers_grid() -> None:
    paper = config.load(PAPER)
    wanted = {("none", 1.0), ("segment", "natural")}
    wanted |= {(name, float(k)) for name in ("average", "sample", "segment") for k in (2, 3, 4)}
    assert set(paper.cells) == wanted
    pairs = {(s.language, s.to) for s in paper.evaluate.sets if s.to}
    assert pairs == {("en", "de"), ("de", "en"), ("en", "zh"), ("zh", "en"), ("es", "en"), ("fr", "en"), ("it", "en")}
    spoken = [s.name for s in paper.evaluate.sets if s.task == "transcribe"]
    assert spoken[:4] == ["test-clean", "test-other", "cv-en", "cv-zh"]
    assert spoken[-3:] == ["cv-fr", "test-clean-full", "test-other-full"]
    assert "cv-yue" in spoken or "zhconv" in paper.evaluate.skipped["cv-yue"]
    assert all(s.utterances == 2000 for s in paper.evaluate.sets if not s.name.endswith("-full"))
    assert "test-clean-full" in [s.name for s in paper.test_sets("average", "3")]
    assert "test-clean-full" not in [s.name for s in paper.test_sets("average", "2")]


def test_every_choice_that_the_paper_does_not_give_is_marked() -> None:
    lines = PAPER.read_text(encoding="utf-8").split("\ntrain:")[1].split("\nevaluate:")[0].splitlines()
    settings = [line for line in lines if re.match(r"  (steps|batch|learning_rate|warmup_steps|lora|precision):", line)]
    assert len(settings) == 6
    assert all("# ours" in line for line in settings)


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


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"evaluate": {"sets": [{"name": "a", "cells": ["average-33"]}]}}, r"no cell 'average-33'.*average-3"),
        ({"evaluate": {"sets": [{"name": "a", "cells": ["none-1"]}]}}, r"no set is for the cell average-2"),
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
    assert [name for name, _ in jobs].count("train") == 39
    assert sorted(what for name, what in jobs if name == "evaluate") == sorted(
        f"{name}-{ratio_text(ratio)}" for name, ratio in config.load(chosen).cells
    )
    names = [name for name, _ in jobs]
    assert names.index("hub") < names.index("features") < names.index("gate") < names.index("train")
    told = python(project, "tools/plan.py", "--config", f"experiment={chosen}").stdout
    assert re.search(r"24 GB \(RTX 4090 \).*not .*train.*set base\.four_bit", told), told
    assert re.search(r"141 GB \(H200     \).* yes", told)
    assert "Hours are arithmetic: 35 % of the peak" in told


@pytest.mark.slow
def test_the_plan_answers_before_what_a_user_brings_is_there(tmp_path: Path) -> None:
    copy_project(tmp_path)
    told = python(tmp_path, "tools/plan.py", "--config", "experiment=configs/paper.yaml").stdout
    assert re.search(r"cv-en is yet to bring: corpora/\S+/en: no such folder.*https://commonvoice\.mozilla\.org", told)
    assert "en-de is yet to bring: corpora/cv-corpus-4/en: no such folder" in told
    assert re.search(r"^train +39 ", told, flags=re.MULTILINE)
    done = snakemake(tmp_path, "-n", "--config", "experiment=configs/paper.yaml")
    assert done.returncode
    assert "data.corpora.cv-en: corpora/" in done.stdout + done.stderr


def run(chosen: str) -> int:
    """Every stage of the config in order, in this process; the gate's exit code, or the last stage's."""
    settings = config.load(chosen)
    name, flag = settings.name, ["--config", chosen]
    cells = [["--compressor", compressor, "--ratio", ratio_text(ratio)] for compressor, ratio in settings.cells]
    for corpus, split in settings.places:
        place = ["--corpus", corpus, "--split", split]
        if not (layout.features(name, corpus, split) / layout.SEAL).exists():
            assert data.main([*flag, *place, "--jobs", "1"]) == 0
            assert features.main([*flag, *place]) == 0
            for cell in cells:
                assert segments.main([*flag, *place, *cell]) == 0
    if settings.gate and (status := gate.main(flag)):
        return status
    for (compressor, ratio), cell in zip(settings.cells, cells, strict=True):
        for train_set, seed in settings.adapters(compressor, ratio_text(ratio)):
            assert train.main([*flag, "--train-set", train_set, *cell, "--seed", str(seed)]) == 0
        assert evaluate.main([*flag, *cell]) == 0
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
    assert re.search(r"test-clean-full: wer_qwen [\d.]+ \[.*\], published 1\.7: further off than 0\.2 points", told)
    assert "set gate.override to the reason" in told
    assert re.search(r"en-de: bleu [\d.]+ \[.*published 29\.6: a warning", told)
    assert not list(Path("build/paper/train").rglob("seal.json"))
    failure = records.read(layout.failure("paper", "gate", "gate"))
    assert failure.status == "failed"
    assert "BaselineError" in failure.error  # type: ignore[attr-defined]
    assert report.main(["--config", "small.yaml", "--partial"]) == 0
    assert "BaselineError" in Path("results/paper/report.html").read_text(encoding="utf-8")

    reason = "a base of noise, for a test"
    assert run(overlay(**small, gate={"override": reason})) == 0
    assert "the uncompressed base was decoded before" in capsys.readouterr().err
    found = [
        record
        for compressor, ratio in config.load("small.yaml").cells
        for record in records.read_folder(layout.evaluate("paper", compressor, ratio_text(ratio))).values()
    ]
    trained = [records.read(path) for path in Path("build/paper/train").rglob("record.json")]
    assert len(trained) == 9
    assert {record.override for record in (*found, *trained)} == {reason}
    scored = {(r.compressor, r.test_set, r.train_set) for r in found if isinstance(r, Record)}
    assert {("average", "test-clean-full", None), ("none", "en-zh", "translation")} < scored
    assert not [one for one in scored if one[0] == "segment" and one[1].endswith("-full")]
    asr = next(record for record in found if isinstance(record, Record) and record.test_set == "cv-zh")
    assert set(asr.scores) == {"wer", "wer_qwen"}
    own = sealing.read_seal(layout.gate("paper"))["files"]["cv-zh/zero-shot.json"]["sha256"]
    taken = sealing.read_seal(layout.evaluate("paper", "none", "1"))["files"]["cv-zh/zero-shot.json"]["sha256"]
    assert own == taken
    page = Path("results/paper/report.html").read_text(encoding="utf-8")
    assert f"The gate was overridden: {reason}" in page
    assert json.loads((layout.gate("paper") / "record.json").read_text())["facts"]["cv-fr"]["verdict"] == "warn"
