"""The whole workflow on the smoke config: same rules, every default compressor; only counts and steps are small."""

import csv
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from concertina.artefacts import dag
from concertina.artefacts.sizes import Estimate
from concertina.config import Config, load
from concertina.store import sealing
from helpers.project_copy import ROOT, artefacts, copy_project, plan, python, snakemake

SMOKE = "configs/smoke.yaml"
HEADER = (
    "name,corpus,split,task,source_language,target_language,compressor,ratio,positions,adapted,train_set,seed,"
    "metric,value,n_utterances,low,high,realised_ratio,audio_tokens_per_second,signature,run_key,options"
)

STAGES = ("data", "features", "segments", "train", "evaluate", "report")
PATIENCE_S = 300  # for a machine that is busy with something else

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the smoke config has run from nothing."""
    folder = tmp_path_factory.mktemp("smoke")
    copy_project(folder)
    shutil.copytree(ROOT / "models", folder / "models", dirs_exist_ok=True)
    result = snakemake(folder, "--config", f"experiment={SMOKE}")
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture
def config(done: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(done)
    return load(SMOKE)


def rows(name: str) -> list[dict[str, str]]:
    with open(Path("results", name, "scores.csv"), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_artefact_is_there_and_whole(config: Config) -> None:
    for folder in artefacts(config):
        assert sealing.verify(folder)["run_key"]


def test_scores_has_a_row_for_every_cell_set_and_metric_before_and_after_training(config: Config) -> None:
    assert Path("results", config.name, "scores.csv").read_text(encoding="utf-8").splitlines()[0] == HEADER
    found = sorted(
        (row["split"], row["task"], row["compressor"], row["ratio"], row["adapted"], row["metric"])
        for row in rows(config.name)
    )
    assert found == sorted(
        (test_set.split, test_set.task, cell.compressor, str(cell.ratio), adapted, metric)
        for test_set in config.evaluate.sets
        for cell in config.cells
        for adapted in ("false", *("true" for _ in config.adapters(cell)))
        for metric in config.evaluate.metrics[test_set.task]
    )


def runs(config: Config) -> int:
    """Count what every test set is decoded by: each cell zero-shot, and each adapter."""
    return sum(1 + len(config.adapters(cell)) for cell in config.cells)


def test_realised_ratios_are_those_asked_for(config: Config) -> None:
    for row in rows(config.name):
        realised = float(row["realised_ratio"])
        if row["ratio"] == "natural":
            assert 1 < realised < 10
        else:  # the last window of an utterance may be short, so a little less than nominal
            assert 0.9 * float(row["ratio"]) <= realised <= float(row["ratio"])


def test_every_result_has_a_run_key_of_its_own(config: Config) -> None:
    keys = [row["run_key"] for row in rows(config.name) if row["metric"] in ("wer", "bleu")]
    assert len(set(keys)) == len(keys) == runs(config) * len(config.evaluate.sets)


def test_records_say_how_they_were_made(config: Config) -> None:
    records = sorted(Path("results", config.name, "evaluate").rglob("*.json"))
    told = [json.loads(path.read_text(encoding="utf-8")) for path in records if path.name != "seal.json"]
    assert len(told) == runs(config) * len(config.evaluate.sets)
    for record in told:
        assert record["status"] == "ok"
        assert record["versions"]["torch"]
        assert record["threads"] == config.evaluate.threads
        assert all(score["signature"] for score in record["scores"].values())


def manifest(config: Config, split: str) -> list[dict[str, Any]]:
    path = Path("build", config.name, "features", "synthetic", split, "manifest.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def texts(row: dict[str, Any]) -> dict[str, str]:
    return {row["language"]: row["text"], **row["translation"]}


def test_nothing_that_is_tested_was_trained_on(config: Config) -> None:
    trained, dev, *tested = (manifest(config, split) for split in ("train", "dev", "clean", "hard"))
    groups = [trained, dev, [row for rows in tested for row in rows]]
    for one, other in itertools.combinations(groups, 2):
        assert not {row["speaker"] for row in one} & {row["speaker"] for row in other}
    base = set(Path("models/tiny/sentences.txt").read_text(encoding="utf-8").split())
    for row in (row for rows in groups for row in rows):
        for text in texts(row).values():
            assert hashlib.sha256(text.encode()).hexdigest()[:16] not in base
    for language in ("en", "de", "fr"):
        held_out = "\n".join(f" {texts(row)[language]} " for rows in groups[1:] for row in rows)
        assert not [row["id"] for row in trained if f" {texts(row)[language]} " in held_out]
    noises = [{row["tags"]["noise"] for row in manifest(config, split)} for split in ("train", "hard")]
    assert not noises[0] & noises[1]


def test_every_cell_was_trained_on_the_same_pairs_in_the_same_order(config: Config) -> None:
    made = [json.loads(path.read_text()) for path in Path("build", config.name, "train").rglob("record.json")]
    assert len(made) == runs(config) - len(config.cells)
    assert len({record["facts"]["order_sha256"] for record in made}) == 1
    assert all(record["config"] == made[0]["config"] for record in made)


def test_the_base_hears_before_it_is_compressed(config: Config) -> None:
    [wer] = [
        float(row["value"])
        for row in rows(config.name)
        if (row["compressor"], row["split"], row["adapted"], row["metric"]) == ("none", "clean", "false", "wer")
    ]
    assert wer < 15


def test_the_page_is_one_self_contained_file(config: Config) -> None:
    page = Path("results", config.name, "report.html").read_text(encoding="utf-8")
    assert page == Path("results", config.name, "report", "report.html").read_text(encoding="utf-8")
    assert "<script src=" not in page
    assert "<link " not in page
    assert all(cell.compressor in page for cell in config.cells)


def test_the_plan_estimates_what_is_written(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a factor of two for every stage, from a folder where nothing has run."""
    written: Counter[str] = Counter()
    for artefact in dag.every(config):
        files = [path for path in artefact.folder.rglob("*") if path.is_file()]
        written[artefact.kind.split("_")[0]] += sum(path.stat().st_size for path in files)
    written["report"] = sum(path.stat().st_size for path in Path("results", config.name).glob("report/*"))
    written["report"] += sum(
        Path("results", config.name, file).stat().st_size for file in ("report.html", "scores.csv")
    )
    (tmp_path / "models").symlink_to(Path("models").resolve())  # the shipped base, whose sizes the plan reads
    monkeypatch.chdir(tmp_path)
    estimate, planned = Estimate(config), Counter[str]()
    for artefact in dag.every(config):
        planned[artefact.kind.split("_")[0]] += dag.size(estimate, artefact).written
    for stage in STAGES:
        assert 0.5 <= planned[stage] / written[stage] <= 2, (stage, planned, written)


def test_a_second_run_has_nothing_to_do(done: Path) -> None:
    assert plan(done, SMOKE) == []


def test_an_artefact_that_was_lost_is_made_again_with_the_same_scores(done: Path, config: Config) -> None:
    before = rows(config.name)
    shutil.rmtree(Path("build", config.name, "train", "english", "average-3-keep"))
    shutil.rmtree(Path("results", config.name, "evaluate", "average-3"))
    result = snakemake(done, "--config", f"experiment={SMOKE}")
    assert result.returncode == 0, result.stdout + result.stderr
    assert rows(config.name) == before


@pytest.mark.parametrize(
    ("stage", "how"),
    [("train/english", signal.SIGKILL), ("evaluate", signal.SIGKILL), ("train/english", signal.SIGINT)],
)
def test_a_run_that_is_stopped_goes_on_to_the_same_scores(
    done: Path, config: Config, stage: str, how: signal.Signals
) -> None:
    before = rows(config.name)
    for made in ("build", "results"):
        for folder in ("train/english", "evaluate"):
            for cell in Path(made, config.name, folder).glob("average-3*"):
                shutil.rmtree(cell)
    root = Path("results" if stage == "evaluate" else "build", config.name, stage)
    command = [sys.executable, "-m", "tools.run", "--config", f"experiment={SMOKE}"]
    environment = {**os.environ, "PYTHONPATH": str(done / "src")}
    with open("console.txt", "w", encoding="utf-8") as console:
        run = subprocess.Popen(command, env=environment, stdout=console, stderr=console, start_new_session=True)
        ends = time.monotonic() + PATIENCE_S
        while not list(root.rglob(".*.tmp")) and run.poll() is None and time.monotonic() < ends:
            time.sleep(0.01)
        assert run.poll() is None, Path("console.txt").read_text(encoding="utf-8")
        os.killpg(run.pid, how)
        assert run.wait(PATIENCE_S) != 0
    again = python(done, "-m", "tools.run", "--config", f"experiment={SMOKE}")
    assert again.returncode == 0, again.stdout + again.stderr
    assert rows(config.name) == before
    assert not list(root.rglob(".*.tmp"))


def test_damage_is_named_on_the_console_and_stops_nothing_else(done: Path, config: Config) -> None:
    shard = next(Path("build", config.name, "features", "synthetic", "dev").glob("*.safetensors"))
    sound = shard.read_bytes()
    for cell in Path("build", config.name, "train", "english").glob("average-3-*"):
        shutil.rmtree(cell)
    shutil.rmtree(Path("results", config.name, "evaluate", "average-3"))
    try:
        shard.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
        result = snakemake(done, "--config", f"experiment={SMOKE}")
        assert result.returncode != 0
        told = result.stdout + result.stderr
        assert f"error: {shard} is damaged" in told
        assert "Traceback" not in told
    finally:
        shard.write_bytes(sound)
    assert snakemake(done, "--config", f"experiment={SMOKE}").returncode == 0
