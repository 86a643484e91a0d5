"""Stages that are interrupted, killed, or cannot write: nothing half-made stays, and the same command makes it good.

The data stage has its own such test in test_data.py.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

import made_results
import tiny_run
from concertina.artefacts import layout
from concertina.store import sealing, shards
from test_integrity import mounted
from test_report import SECTIONS

pytestmark = pytest.mark.slow

SOURCES = Path(__file__).parents[1] / "src"
CELL = ["--compressor", "average", "--ratio", "3"]
ADAPTER = layout.train("t", "english", "average", "3", 0)
PATIENCE_S = 300  # for a machine that is busy with something else
TIMES = {"seconds", "date", "commit", "utterances_per_second"}  # what a second run may tell otherwise

# Importing torch takes seconds, so one process imports everything once, and each command is a fork of it in which
# `python -m concertina.<stage>` begins. A line in: the console's file, the stage, its arguments; out: the process'
# number, then its exit status.
COMMANDS = """
import json, os, runpy, sys
import peft, torch, transformers
from concertina import evaluate, features, report, segments, train
for line in sys.stdin:
    console, stage, *arguments = json.loads(line)
    if not (child := os.fork()):
        os.dup2(os.open(console, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(2, 1)
        sys.argv[1:] = arguments
        del sys.modules[f"concertina.{stage}"]
        runpy.run_module(f"concertina.{stage}", run_name="__main__", alter_sys=True)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Work(NamedTuple):
    """A command, the folder that it makes, and what appears (in its hidden folder) while it is at work."""

    command: list[str]
    folder: Path
    sign: str

    def at_work(self) -> bool:
        return any(self.folder.parent.glob(f".{self.folder.name}.*.tmp/{self.sign}"))


class Project:
    """The process that runs commands in the working folder."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        assert server.stdin is not None
        assert server.stdout is not None
        self.requests, self.answers = server.stdin, server.stdout
        self.console = Path("console.txt")

    def start(self, stage: str, *arguments: str) -> int:
        """Begin a stage's command; its process number."""
        self.console.write_text("", encoding="utf-8")
        self.requests.write(json.dumps([str(self.console), stage, *arguments]) + "\n")
        self.requests.flush()
        return int(self.answers.readline())

    def end(self) -> tuple[int, list[str]]:
        """Wait for the command; its exit status and the lines that it put on the console."""
        status = int(self.answers.readline())
        return status, self.console.read_text(encoding="utf-8").splitlines()

    def run(self, *command: str) -> tuple[int, list[str]]:
        self.start(*command)
        return self.end()

    def strike(self, work: Work, how: signal.Signals) -> tuple[int, list[str]]:
        """Send a signal to a command that is at work; the same again when it had ended before the signal came."""
        for _ in range(5):
            for old in (work.folder, *work.folder.parent.glob(f".{work.folder.name}.*")):
                shutil.rmtree(old, ignore_errors=True)
            process = self.start(*work.command)
            ends = time.monotonic() + PATIENCE_S
            while lives(process) and not work.at_work() and time.monotonic() < ends:
                time.sleep(0.001)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, how)
            status, told = self.end()
            if not work.folder.exists():
                return status, told
            sealing.verify(work.folder)
        raise AssertionError(f"{work.command[0]} is always faster than the signal")


def lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


MINE, SPLIT = ["--config", "t.yaml"], ["--corpus", "synthetic", "--split", "long"]
TRAIN = ["--train-set", "english", *CELL, "--seed", "0"]
WORKS = {
    "features": Work(["features", *MINE, *SPLIT], layout.features("t", "synthetic", "long"), "shard-00000.*"),
    "segments": Work(["segments", *MINE, *SPLIT, *CELL], layout.segments("t", "synthetic", "long", "average", "3"), ""),
    "train": Work(["train", *MINE, *TRAIN], ADAPTER, ""),
    "evaluate": Work(["evaluate", *MINE, *CELL], layout.evaluate("t", "average", "3"), "*/zero-shot.json"),
    "report": Work(["report", "--config", "overlay.yaml"], layout.report("tiny"), "scores.csv"),
}


@contextlib.contextmanager
def serve(root: Path) -> Iterator[Project]:
    """A process that runs commands in a working folder, which becomes this process' own meanwhile."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # under `pytest &` commands would not hear it
    command = [sys.executable, "-c", COMMANDS]
    environment = os.environ | {"PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with contextlib.chdir(root), subprocess.Popen(command, env=environment, **pipes) as server:
        yield Project(server)
    signal.signal(signal.SIGINT, before)


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
    with sealing.sealed(layout.data("t", "synthetic", "long"), {"run_key": "0" * 16}) as folder:
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


def lasting(folder: Path) -> dict[str, Any]:
    """The content of a sealed folder: the hash of each file; of records and curves the fields that tell no time."""
    sealing.verify(folder)
    content: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != layout.SEAL):
        name = path.relative_to(folder).as_posix()
        content[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        if name == "curve.jsonl" or name == "record.json" or (path.suffix == ".json" and "evaluate" in folder.parts):
            lines = path.read_text(encoding="utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            content[name] = [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]
    return content


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
    assert told[-1].startswith(f"error: cannot write {work.folder}")
    assert reason in told[-1]
    assert not any("Traceback" in line for line in told)
    failures = [path.relative_to("results/t/failed").parts[0] for path in Path("results/t").rglob("failed/**/*.json")]
    assert failures == ([] if stage == "features" else [stage])

    status, told = project.run(*work.command)
    assert status == 0, told
    assert lasting(work.folder) == undisturbed[stage]
    assert not list(Path("results/t").rglob("failed/**/*.json"))


DEV = layout.features("t", "synthetic", "dev")
LONG = layout.data("t", "synthetic", "long")
SCORED = layout.evaluate("tiny", "average", "3")


@pytest.mark.parametrize(
    ("stage", "folder", "file"),
    [
        ("features", LONG, "shard-00000.safetensors"),
        ("features", LONG, "manifest.jsonl"),
        ("segments", layout.features("t", "synthetic", "long"), "index.json"),
        ("train", DEV, "shard-00000.safetensors"),
        ("train", DEV, "manifest.jsonl"),
        ("evaluate", DEV, "shard-00000.safetensors"),
        ("evaluate", layout.segments("t", "synthetic", "dev", "average", "3"), "segments.safetensors"),
        ("evaluate", ADAPTER, "adapter_model.safetensors"),
        ("report", SCORED, "clean/zero-shot.json"),
        ("report", SCORED, "clean/zero-shot.parquet"),
        ("report", layout.train("tiny", "english", "average", "3", 0), "curve.jsonl"),
    ],
)
def test_a_flipped_byte_is_named_before_work_begins(
    project: Project, undisturbed: dict[str, dict[str, Any]], stage: str, folder: Path, file: str
) -> None:
    path, work = folder / file, WORKS[stage]
    sound = path.read_bytes()
    path.write_bytes(sound[:-3] + bytes([sound[-3] ^ 1]) + sound[-2:])
    try:
        status, told = project.run(*work.command)
    finally:
        path.write_bytes(sound)
    assert status == 1
    assert told[-1].startswith(f"error: {path} is ")
    assert "damaged" in told[-1]
    assert not [line for line in told[:-1] if "utterances" in line or "zero-shot" in line]
    assert lasting(work.folder) == undisturbed[stage]
    shutil.rmtree("results/t/failed", ignore_errors=True)
