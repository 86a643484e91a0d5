"""The lease on a GPU: real processes on made-up devices, killed for real."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.project_copy import ROOT

LEASE = [sys.executable, str(ROOT / "tools/gpu.py")]
PATIENCE_S = 60
Job = Callable[..., "Held"]


class Held:
    """A job that tells which device it sees, and then keeps it."""

    def __init__(self, folder: Path, number: int, environment: dict[str, str]) -> None:
        self.told, self.console = folder / f"told{number}", folder / f"console{number}"
        command = 'echo "$CUDA_VISIBLE_DEVICES" > "$0.tmp"; mv "$0.tmp" "$0"; exec sleep 300'
        with open(self.console, "w", encoding="utf-8") as console:
            self.process = subprocess.Popen(
                [*LEASE, "sh", "-c", command, str(self.told)], env=environment, stderr=console
            )

    def device(self) -> str:
        self.wait(self.told.exists)
        return self.told.read_text(encoding="utf-8").strip()

    def waits(self) -> str:
        self.wait(lambda: self.console.stat().st_size > 0)
        assert not self.told.exists()
        return self.console.read_text(encoding="utf-8")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def wait(self, until: Callable[[], bool]) -> None:
        ends = time.monotonic() + PATIENCE_S
        while not until() and self.process.poll() is None and time.monotonic() < ends:
            time.sleep(0.01)
        assert until(), self.console.read_text(encoding="utf-8")


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """Starts jobs on made-up devices, and ends those that are left."""
    jobs: list[Held] = []

    def start(**changes: str) -> Held:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "SLURM_"))}
        environment |= {"CONCERTINA_GPU_LOCKS": str(tmp_path / "locks"), **changes}
        jobs.append(Held(tmp_path, len(jobs), environment))
        return jobs[-1]

    yield start
    for held in jobs:
        held.kill()


def smi(folder: Path, *lines: str) -> str:
    """A PATH whose nvidia-smi lists these devices."""
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + "\nEND\n", encoding="utf-8")
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def test_three_jobs_on_two_gpus_and_one_that_is_killed(job: Job, tmp_path: Path) -> None:
    path = smi(tmp_path, *(f"GPU {i}: NVIDIA A100 (UUID: GPU-{i}{i}-{i}{i})" for i in range(2)))
    first, second = job(PATH=path), job(PATH=path)
    assert {first.device(), second.device()} == {"0", "1"}
    third = job(PATH=path)
    assert third.waits() == "waiting for a free GPU; taken: 0, 1\n"
    first.kill()
    assert third.device() == first.device()
    assert third.console.read_text(encoding="utf-8").count("\n") == 1


def test_two_jobs_share_a_gpu_where_that_is_said_and_empty_ones_go_first(job: Job) -> None:
    chosen = {"CUDA_VISIBLE_DEVICES": "4,6", "CONCERTINA_JOBS_PER_GPU": "2"}
    devices = []
    for _ in range(4):
        devices.append(job(**chosen).device())
    assert sorted(devices[:2]) == sorted(devices[2:]) == ["4", "6"]
    assert "taken: 4, 6" in job(**chosen).waits()


def test_devices_that_are_given_by_uuid_are_the_only_ones(job: Job, tmp_path: Path) -> None:
    path = smi(tmp_path, *(f"GPU {i}: NVIDIA A100 (UUID: GPU-{i}{i}-{i}{i})" for i in range(4)))
    given = {"PATH": path, "CUDA_VISIBLE_DEVICES": "GPU-33-33,MIG-1a2b"}
    assert {job(**given).device(), job(**given).device()} == {"GPU-33-33", "MIG-1a2b"}
    job(**given).waits()


def test_a_divided_gpu_is_its_parts(job: Job, tmp_path: Path) -> None:
    parts = [f"  MIG 3g.20gb     Device  {i}: (UUID: MIG-{i}aaa)" for i in range(2)]
    path = smi(tmp_path, "GPU 0: NVIDIA A100 (UUID: GPU-00)", *parts, "GPU 1: NVIDIA A100 (UUID: GPU-11)")
    assert {job(PATH=path).device() for _ in range(3)} == {"MIG-0aaa", "MIG-1aaa", "1"}


def test_slurm_jobs_do_not_wait_for_each_other(job: Job) -> None:
    jobs = [job(CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID=number) for number in ("7", "8")]
    assert [held.device() for held in jobs] == ["0", "0"]
    job(CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="7").waits()


@pytest.mark.parametrize("given", ["", "-1", "NoDevFiles"])
def test_a_machine_told_to_use_no_gpu_waits_for_none(job: Job, given: str) -> None:
    assert [job(CUDA_VISIBLE_DEVICES=given).device() for _ in range(2)] == [given, given]


def test_a_machine_without_a_gpu_pays_nothing(tmp_path: Path) -> None:
    if Path("/proc/driver/nvidia/gpus").exists():
        pytest.skip("this machine has a GPU; the test is for one without")
    environment = {"PATH": "/usr/bin:/bin", "CONCERTINA_GPU_LOCKS": str(tmp_path / "locks")}

    def cpu_seconds(command: list[str]) -> float:
        before = os.times()
        subprocess.run(command, env=environment, check=True)
        after = os.times()
        return after.children_user - before.children_user + after.children_system - before.children_system

    bare = min(cpu_seconds([sys.executable, "-c", "pass"]) for _ in range(5))
    leased = min(cpu_seconds([*LEASE, "true"]) for _ in range(5))
    assert leased - bare < 0.05
    assert not (tmp_path / "locks").exists()


@pytest.mark.parametrize("status", [0, 7])
def test_the_commands_status_is_the_jobs(status: int) -> None:
    assert subprocess.run([*LEASE, "sh", "-c", f"exit {status}"], check=False).returncode == status


def test_a_number_of_jobs_that_is_none_is_one_line() -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "0", "CONCERTINA_JOBS_PER_GPU": "0.5"}
    result = subprocess.run([*LEASE, "true"], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == "error: CONCERTINA_JOBS_PER_GPU must be a whole number, at least 1; it is '0.5'\n"


def test_no_more_jobs_are_started_than_have_a_place(tmp_path: Path) -> None:
    """Snakemake counts places as the lease does, and the rules of the stages that compute on a GPU ask for one."""
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "CONCERTINA_JOBS_PER_GPU": "2",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}",
    }
    asked = "from tools import run; print(*run.gpu_limit([]), *run.gpu_limit(['--profile', 'profiles/slurm']))"
    result = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "--resources gpu=4\n"
    for rule in ("1_base_join", "3_features", "5_train", "6_evaluate", "6_evaluate_gate", "6_evaluate_whisper"):
        text = (ROOT / f"workflow/rules/{rule}.smk").read_text(encoding="utf-8")
        assert "gpu=1," in text
        assert '"python tools/gpu.py python -m concertina.' in text
