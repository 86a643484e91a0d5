"""A training that is stopped, killed or overtaken: what follows equals a training that was left alone, to the bit."""

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from concertina.store import folders, sealing
from helpers import tiny_run
from helpers.interrupted import ADAPTER, TRAIN, Project, lasting, lives, serve

pytestmark = pytest.mark.slow

STEPS = 150
COMMAND = ["train", "--config", "t.yaml", *TRAIN]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A working folder in which everything is ready for a training with a checkpoint at every step, and dropout."""
    with serve(tmp_path_factory.mktemp("checkpoints")) as project:
        train = {"steps": STEPS, "checkpoint_s": 0, "dev_every_steps": 40, "lora": {"dropout": 0.1}}
        overlay = tiny_run.write(Path.cwd(), train=train)
        tiny_run.split(overlay, "train", 24, seed=1)
        tiny_run.split(overlay, "dev", 8, seed=2)
        yield project


@pytest.fixture(scope="module")
def undisturbed(project: Project) -> dict[str, Any]:
    """What the training makes when it is left alone."""
    status, told = project.run(*COMMAND)
    assert status == 0, told
    return lasting(ADAPTER)


@pytest.fixture(autouse=True)
def _from_nothing(undisturbed: dict[str, Any]) -> None:
    shutil.rmtree(ADAPTER)
    for folder in checkpoints():
        shutil.rmtree(folder)


def checkpoints() -> list[Path]:
    """Of the only run, the last first."""
    return sorted(Path("scratch").glob("*/step-*"), reverse=True)


def step_of(folder: Path) -> int:
    return int(folder.name.split("-")[1])


def strike(project: Project, how: signal.Signals, step: int) -> tuple[int, list[str]]:
    """Begin, or go on with, the training, and send it a signal at a step."""
    process = project.start(*COMMAND)
    while lives(process) and step_of(next(iter(checkpoints()), Path("step-0"))) < step:
        time.sleep(0.001)
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself: its status and console tell why
        os.kill(process, how)
    return project.end()


def test_killed_again_and_again(project: Project, undisturbed: dict[str, Any]) -> None:
    for step in sorted(random.sample(range(1, STEPS - 20), 5)):
        status, told = strike(project, signal.SIGKILL, step)
        assert status == -9, told
        assert step_of(checkpoints()[0]) >= step
    status, told = project.run(*COMMAND)
    assert status == 0, told
    assert lasting(ADAPTER) == undisturbed
    assert checkpoints() == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1], ids=lambda how: how.name)
def test_asked_to_stop(project: Project, undisturbed: dict[str, Any], how: signal.Signals) -> None:
    Path("t.yaml").write_text(seldom := Path("t.yaml").read_text().replace("checkpoint_s: 0", "checkpoint_s: 1000"))
    process = project.start(*COMMAND)
    while lives(process) and not list(Path("scratch").glob("*/attempt")):
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.5))
    os.kill(process, how)
    status, told = project.end()
    Path("t.yaml").write_text(seldom.replace("checkpoint_s: 1000", "checkpoint_s: 0"))
    [last] = checkpoints()
    assert status == 130
    assert told[-1] == f"stopped after step {step_of(last)}; the same command goes on from there"
    assert not ADAPTER.exists()

    status, told = project.run(*COMMAND)
    assert status == 0, told
    assert lasting(ADAPTER) == undisturbed


@pytest.mark.parametrize("damage", ["truncated", "flipped", "unsealed"])
def test_a_damaged_checkpoint_is_passed_over(project: Project, undisturbed: dict[str, Any], damage: str) -> None:
    strike(project, signal.SIGKILL, 50)
    last, before, *_ = checkpoints()
    path = last / ("seal.json" if damage == "unsealed" else "state.safetensors")
    content = path.read_bytes()
    if damage == "unsealed":
        path.unlink()
    else:
        path.write_bytes(
            content[:-9] if damage == "truncated" else content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        )
    status, told = project.run(*COMMAND)
    assert status == 0, told
    assert [line for line in told if last.name in line and line.endswith("going back to the checkpoint before it")]
    assert lasting(ADAPTER) == undisturbed
    assert step_of(before) < step_of(last)


def test_an_overtaken_attempt_stops_and_damages_nothing(project: Project, undisturbed: dict[str, Any]) -> None:
    """As when a node is taken for lost, and its process lives on."""
    process = project.start(*COMMAND)
    while lives(process) and step_of(next(iter(checkpoints()), Path("step-0"))) < 20:
        time.sleep(0.001)
    [claim] = Path("scratch").glob("*/attempt")
    claim.write_text("another")
    status, told = project.end()
    assert status == 130
    assert told[-1] == "a later attempt at the same run has taken over; this one stops"
    assert not ADAPTER.exists()
    assert not folders.failure("t", "train", "english/average-3-keep/seed0").exists()

    status, told = project.run(*COMMAND)
    assert status == 0, told
    assert lasting(ADAPTER) == undisturbed


def test_the_interval_changes_no_key(project: Project) -> None:
    values = yaml.safe_load(Path("t.yaml").read_text())
    values["train"]["checkpoint_s"] = 7
    Path("t7.yaml").write_text(yaml.safe_dump(values))
    status, told = project.run("train", "--config", "t7.yaml", *TRAIN)
    assert status == 0, told
    seal = sealing.read_seal(ADAPTER)
    status, told = project.run(*COMMAND)
    assert status == 0, told
    assert sealing.read_seal(ADAPTER)["run_key"] == seal["run_key"]
