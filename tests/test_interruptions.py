"""Stages that are interrupted, killed, or cannot write: nothing half-made stays, and the same command makes it good.

The data stage has its own such test in test_data.py.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from concertina.store import sealing, shards
from helpers import made_results, tiny_run
from helpers.artefacts import folder_of
from helpers.interrupted import ADAPTER, CELL, PATIENCE_S, TRAIN, Project, Work, lasting, lives, serve
from helpers.mounts import mounted
from helpers.reports import SECTIONS

pytestmark = pytest.mark.slow
MINE, SPLIT = ["--config", "t.yaml"], ["--corpus", "synthetic", "--split", "long"]
UNIT = folder_of("evaluate_decode", "t", "average-3-keep", "clean-en-de", "english-seed0")
WORKS = {
    "features": Work(["features", *MINE, *SPLIT], folder_of("features", "t", "synthetic", "long"), "shard-00000.*"),
    "segments": Work(
        ["segments", *MINE, *SPLIT, *CELL], folder_of("segments", "t", "synthetic", "long", "average-3"), ""
    ),
    "train": Work(["train", *MINE, *TRAIN], ADAPTER, ""),
    "evaluate_decode": Work(["evaluate", *MINE, *CELL], UNIT, ""),
    "evaluate": Work(["evaluate", *MINE, *CELL], folder_of("evaluate", "t", "average-3"), "*/zero-shot-keep.json"),
    "report": Work(["report", "--config", "overlay.yaml"], folder_of("report", "tiny"), "scores.csv"),
}
DEV = folder_of("features", "t", "synthetic", "dev")
LONG = folder_of("data", "t", "synthetic", "long")
SCORED = folder_of("evaluate", "tiny", "average-3")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A working folder with everything that the stages read, and a process to run them."""
    with serve(root := tmp_path_factory.mktemp("interrupted")) as project:
        overlay = tiny_run.write(root, features={"batch_seconds": 4, "shard_mib": 1}, train={"steps": 6})
        tiny_run.split(overlay, "train", 24, seed=1)
        tiny_run.split(overlay, "dev", 8, seed=2)
        write_speech(utterances=200)
        made_results.write(made_results.config(root, **SECTIONS)[0], utterances=24)
        yield project


def write_speech(utterances: int) -> None:
    """The sealed data of the split `long`: noise."""
    rng = np.random.default_rng(0)
    with sealing.sealed(folder_of("data", "t", "synthetic", "long"), {"run_key": "0" * 16}) as folder:
        writer = shards.Writer(folder, "int16", None, 2**24)
        for i in range(utterances):
            writer.add(f"long{i}", rng.normal(0, 3000, int(rng.integers(30_000, 60_000))).astype(np.int16))
        writer.close()
        (folder / "manifest.jsonl").write_text("".join(f'{{"id": "long{i}"}}\n' for i in range(utterances)))


@pytest.fixture(scope="module")
def undisturbed(project: Project) -> dict[str, dict[str, Any]]:
    """What each stage makes when it is left alone."""
    made = {}
    for name, work in WORKS.items():
        status, told = project.run(*work.command)
        assert status == 0, told
        made[name] = lasting(work.folder)
    return made


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["SIGINT", "SIGKILL"])
@pytest.mark.parametrize("stage", WORKS)
def test_a_stage_that_was_stopped_runs_again_to_the_same_result(
    project: Project, undisturbed: dict[str, dict[str, Any]], stage: str, how: signal.Signals
) -> None:
    work = WORKS[stage]
    status, told = project.strike(work, how)
    hidden = [path.name for path in work.folder.parent.iterdir() if path.name.startswith(f".{work.folder.name}.")]
    if how == signal.SIGKILL:
        assert (status, len(hidden)) == (-9, 1)
    else:
        assert (status, hidden) == (130, [])
        assert told[-1].startswith(("interrupted", "stopped after step"))
    assert not Path("results/t/failed").exists()

    status, told = project.run(*work.command)
    assert status == 0, told
    assert lasting(work.folder) == undisturbed[stage]
    assert not [path.name for path in work.folder.parent.iterdir() if path.name.startswith(".")]


def test_training_that_is_interrupted_between_its_steps_leaves_nothing(
    project: Project, undisturbed: dict[str, dict[str, Any]]
) -> None:
    values = yaml.safe_load(Path("t.yaml").read_text(encoding="utf-8"))
    values["train"] |= {"steps": 100_000, "warmup_steps": 100_000}
    Path("endless.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    process = project.start("train", "--config", "endless.yaml", *TRAIN)
    ends = time.monotonic() + PATIENCE_S
    while lives(process) and " left, step " not in read(project.console) and time.monotonic() < ends:
        time.sleep(0.05)
    os.kill(process, signal.SIGINT)
    status, told = project.end()
    assert status == 130
    assert told[-1].startswith("stopped after step")
    assert lasting(ADAPTER) == undisturbed["train"]  # what an earlier command made stays
    assert [path.name for path in ADAPTER.parent.iterdir()] == [ADAPTER.name]
    assert not Path("results/t/failed").exists()


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


@pytest.mark.parametrize(
    ("options", "reason"),
    [("size=16k", "the disk is full; free some space"), ("ro", "it is on a read-only file system")],
)
@pytest.mark.parametrize("stage", ["features", "segments", "train", "evaluate"])
def test_a_stage_that_cannot_write_says_so_in_one_line(
    project: Project, undisturbed: dict[str, dict[str, Any]], stage: str, options: str, reason: str
) -> None:
    work = WORKS[stage]
    with mounted(work.folder.parent, "-t", "tmpfs", "-o", options, "tmpfs") as place:
        status, told = project.run(*work.command)
        assert list(place.iterdir()) == []
    assert status == 1
    places = tuple(f"error: cannot write {work.folder.parent}/{hidden}{work.folder.name}" for hidden in ("", "."))
    assert told[-1].startswith(places)
    assert reason in told[-1]
    assert not any("Traceback" in line for line in told)
    failures = [path.relative_to("results/t/failed").parts[0] for path in Path("results/t").rglob("failed/**/*.json")]
    assert failures == [stage]

    status, told = project.run(*work.command)
    assert status == 0, told
    assert lasting(work.folder) == undisturbed[stage]
    assert not list(Path("results/t").rglob("failed/**/*.json"))


@pytest.mark.parametrize(
    ("stage", "folder", "file"),
    [
        ("features", LONG, "shard-00000.safetensors"),
        ("features", LONG, "manifest.jsonl"),
        ("segments", folder_of("features", "t", "synthetic", "long"), "index.json"),
        ("train", DEV, "shard-00000.safetensors"),
        ("train", DEV, "manifest.jsonl"),
        ("evaluate_decode", DEV, "shard-00000.safetensors"),
        ("evaluate_decode", folder_of("segments", "t", "synthetic", "dev", "average-3"), "segments.safetensors"),
        ("evaluate_decode", ADAPTER, "adapter_model.safetensors"),
        ("report", SCORED, "clean/zero-shot-keep.json"),
        ("report", SCORED, "clean/zero-shot-keep.parquet"),
        ("report", folder_of("train", "tiny", "english", "average-3-keep", 0), "curve.jsonl"),
    ],
)
def test_a_flipped_byte_is_named_before_work_begins(
    project: Project, undisturbed: dict[str, dict[str, Any]], stage: str, folder: Path, file: str
) -> None:
    path, work = folder / file, WORKS[stage]
    held = work.folder.rename(work.folder.with_name("held"))  # so that there is something to do
    sound = path.read_bytes()
    path.write_bytes(sound[:-3] + bytes([sound[-3] ^ 1]) + sound[-2:])
    try:
        status, told = project.run(*work.command)
    finally:
        path.write_bytes(sound)
        assert not work.folder.exists()
        held.rename(work.folder)
    assert status == 1
    assert told[-1].startswith(f"error: {path} is ")
    assert "damaged" in told[-1]
    assert not [line for line in told[:-1] if "utterances" in line or "zero-shot" in line]
    assert lasting(work.folder) == undisturbed[stage]
    shutil.rmtree("results/t/failed", ignore_errors=True)
