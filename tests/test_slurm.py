"""The workflow on a real SLURM, a throw-away one: it runs there, and nothing that befalls a training changes a bit.

Each kind of trouble is a run of its own, on its own copy of a project, several at a time: mostly they wait. The
commands of docs/cluster.md are run as they are printed there.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import yaml

from concertina import config
from concertina.store import sealing
from concertina.store.sealing import SEAL
from helpers.project_copy import ROOT, artefacts, copy_project, plan, snakemake
from helpers.slurm_project import (
    ADAPTER,
    LOG,
    Run,
    ask,
    content,
    edit,
    environment,
    fact,
    make_project,
    processes,
    set_up,
    shell,
    slow_squeue,
    trainings,
    wait_for,
    waiting,
    warned,
)

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

SIDE_BY_SIDE = int(os.environ.get("SIDE_BY_SIDE", "4"))  # runs; there is a node with a GPU for each
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs/cluster.md").read_text(encoding="utf-8"), re.M | re.S)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
UP, TRIED, DOWN = COMMANDS[-3:]
SMOKE = "configs/smoke.yaml"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A throw-away cluster, started and ended as the page says; yields its folder."""
    if os.getuid() != 0:
        pytest.skip("a throw-away SLURM cluster needs root")
    up = subprocess.run(UP, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    if up.returncode:
        pytest.skip(up.stderr.splitlines()[-1])
    folder = Path(UP.split()[1])
    yield folder
    subprocess.run(DOWN, shell=True, cwd=ROOT, check=True)
    assert not folder.exists()
    assert not Path("/etc/slurm/slurm.conf").is_symlink()
    assert not [name for name in ask("ps", "-e", "-o", "comm=") if name.startswith(("slurm", "munged"))]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slurm") / "project"
    make_project(folder)
    return folder


def requeue(folder: Path, cluster: Path) -> None:
    run = Run(folder)
    job = run.under_way()
    ask("scontrol", "requeue", job)
    assert run.end() == 0, run.told()
    assert fact(job, "Restarts") == "1"


def preemption(folder: Path, cluster: Path) -> None:
    run = Run(folder)
    job = run.under_way()
    urgent = ["--partition=urgent", f"--nodelist={fact(job, 'BatchHost')}", "--gpus=1"]
    ask("sbatch", *urgent, "--output=/dev/null", "--wrap=sleep 1")
    assert run.end() == 0, run.told()
    assert fact(job, "Restarts") == "1"


def time_limit(folder: Path, cluster: Path) -> None:
    edit(folder / "profiles/slurm/config.yaml", "train: {runtime: 720,", "train: {runtime: 2,")
    edit(folder / "profiles/slurm/config.yaml", "--signal=TERM@120", "--signal=TERM@60")
    run = Run(folder)
    job = run.under_way()
    assert fact(job, "TimeLimit") == "00:02:00"
    [training] = trainings(folder)
    os.kill(training, signal.SIGSTOP)  # so that it takes too long on any machine
    wait_for(lambda: warned(training), "SLURM's warning", run)
    with contextlib.suppress(ProcessLookupError):
        os.kill(training, signal.SIGCONT)
    assert run.end() == 0, run.told()
    assert int(fact(job, "Restarts")) >= 1


def own_time_limit(folder: Path, cluster: Path) -> None:
    """The submitted Snakemake comes near its own, in the training."""
    options = "--time=2 --signal=B:USR1@60 --job-name=near"  # a name that nobody cancels here
    slow_squeue(folder)
    told = re.search(r"^job (\d+) runs it", shell(folder, f'make submit SBATCH="{options}"'), re.MULTILINE)
    assert told
    wait_for(lambda: list(folder.glob("scratch/*/step-*")), "a checkpoint")
    [training] = trainings(folder)
    os.kill(training, signal.SIGSTOP)  # so that it cannot end meanwhile; SLURM lets it go on when it is cancelled
    wait_for(lambda: fact(told[1], "Restarts") == "1", "the requeueing")
    with contextlib.suppress(ProcessLookupError):
        os.kill(training, signal.SIGCONT)
    (folder / "bin/squeue").unlink()
    ask("scontrol", "update", f"job={told[1]}", "TimeLimit=30")
    assert f"job {told[1]} ended with status 0\n" in shell(folder, "make attach")


def second_run(folder: Path, cluster: Path) -> None:
    """A submitted one that waits for the first is cancelled, and takes none of the first's jobs with it."""
    run = Run(folder)
    job = run.under_way()
    told = re.search(r"^job (\d+) runs it", shell(folder, 'make submit SBATCH="--job-name=second"'), re.MULTILINE)
    assert told
    wait_for(lambda: waiting(folder), "its waiting", run)
    ask("scancel", told[1])
    assert run.end() == 0, run.told()
    assert fact(job, "JobState") == "COMPLETED"


def controller(folder: Path, cluster: Path) -> None:
    run = Run(folder)
    job = run.under_way()
    number = int((cluster / "run/slurmctld.pid").read_text())
    os.kill(number, signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{number}").exists(), "the controller's end")
    time.sleep(2)
    ask("slurmctld")
    assert run.end() == 0, run.told()
    assert fact(job, "Restarts") == "0"


def lost_node(folder: Path, cluster: Path) -> None:
    run = Run(folder)
    job = run.under_way()
    node, orphans = fact(job, "BatchHost"), trainings(folder)
    os.kill(int((cluster / f"run/slurmd.{node}.pid").read_text()), signal.SIGKILL)
    for number in processes(rf"slurmstepd: \[{job}\."):
        os.kill(number, signal.SIGKILL)
    try:
        assert len(orphans) == 1
        assert trainings(folder) == orphans
        assert run.end() == 0, run.told()
        assert fact(job, "BatchHost") != node
        assert trainings(folder) == []
    finally:
        for number in processes(f"snakefile {folder}/"):
            os.kill(number, signal.SIGKILL)
        ask("slurmd", "-N", node)


def cancellation(folder: Path, cluster: Path) -> None:
    run = Run(folder)
    ask("scancel", run.under_way())
    assert run.end() != 0
    assert not (folder / ADAPTER / SEAL).exists()
    kept = max(int(path.name.split("-")[1]) for path in folder.glob("scratch/*/step-*"))
    again = Run(folder)
    assert again.end() == 0, again.told()
    steps = re.findall(r"(\d+)/9600 utterances", (folder / LOG).read_text(encoding="utf-8"))
    assert int(steps[0]) > 8 * kept


def killed_run(folder: Path, cluster: Path) -> None:
    run = Run(folder)
    job = run.under_way()
    run.process.kill()
    assert run.end() == -signal.SIGKILL
    assert fact(job, "JobState") == "RUNNING"
    again = Run(folder)
    assert again.end() == 0, again.told()
    assert f"cancelling SLURM jobs that an earlier run left behind: {job}\n" in again.told()
    assert fact(job, "JobState") == "CANCELLED"


def page(folder: Path, cluster: Path) -> None:
    """Run the page's commands, each with its effect; the submitted run is stopped in its training, and goes on."""
    reproduce, submit, attach, submit_long, cancel, unlock = COMMANDS[:-3]
    report = Path("results/tones/report")
    shell(folder, reproduce)
    sealing.verify(folder / report)

    shutil.rmtree(folder / report)
    assert re.search(r"^job \d+ runs it", shell(folder, submit), re.MULTILINE)
    assert "ended with status 0\n" in shell(folder, attach)
    sealing.verify(folder / report)

    shutil.rmtree(folder / ADAPTER)
    asked = slow_squeue(folder)
    told = re.search(r"^job (\d+) runs it", shell(folder, submit_long), re.MULTILINE)
    assert told
    assert fact(told[1], "TimeLimit") == "2-00:00:00"
    wait_for(lambda: list(folder.glob("scratch/*/step-*")), "a checkpoint")
    [training] = trainings(folder)
    os.kill(training, signal.SIGSTOP)  # so that it cannot end meanwhile; SLURM lets it go on when it cancels it
    assert f"job {told[1]} is running in this folder" in shell(folder, submit, fails=True)
    wait_for(asked.exists, "Snakemake's question for the states of its jobs")
    shell(folder, cancel)
    wait_for(lambda: not [job for job in ask("squeue", "-h", "-o", "%Z") if Path(job) == folder], "the jobs' end")
    assert "`make submit` goes on from there" in shell(folder, attach, fails=True)
    assert not (folder / ADAPTER / SEAL).exists()
    (folder / "bin/squeue").unlink()
    shell(folder, submit)
    shell(folder, attach)
    sealing.verify(folder / report)

    plain = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm", "--forcerun", "report"]
    with subprocess.Popen(plain, cwd=folder, env=environment(folder), stderr=subprocess.DEVNULL) as killed:
        wait_for(lambda: str(folder) in ask("squeue", "-h", "--states=RUNNING", "-o", "%Z"), "a job of this folder")
        killed.kill()
    assert "--unlock" in shell(folder, shlex.join(plain), fails=True)
    shell(folder, unlock)
    assert not list(folder.glob(".snakemake/locks/*"))


def smoke(folder: Path) -> Path:
    """The default experiment with few cells, from speech to its report."""
    copy_project(folder)
    set_up(folder)
    shutil.copytree(ROOT / "models", folder / "models", dirs_exist_ok=True)
    cells = {"cells": [{"compressor": "none", "ratios": [1]}, {"compressor": "average", "ratios": [3]}]}
    path = folder / SMOKE
    values = yaml.safe_load(path.read_text(encoding="utf-8")) | {"segments": cells}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    # two shares of the training split:
    edit(folder / "src/concertina/artefacts/scatter.py", "HOURS = 10", "HOURS = 0.03")
    edit(folder / "src/concertina/corpora/synthetic.py", "PART = 250", "PART = 32")
    edit(folder / "src/concertina/features.py", "BATCHES_IN_MEMORY = 32", "BATCHES_IN_MEMORY = 1")
    told = shell(folder, TRIED)
    for stage in ("data", "features"):
        assert len(re.findall(rf"^Job \d+ has been submitted .*/rule_{stage}_share/", told, re.MULTILINE)) == 2
    groups = re.findall(r"^Job [0-9a-f-]{36} has been submitted with SLURM jobid (\d+)", told, re.MULTILINE)
    assert [fact(job, "NumCPUs") for job in groups] == ["4"]  # 8 cuts in one job, 4 at a time
    return folder


TROUBLE = [page, time_limit, own_time_limit, killed_run, cancellation, preemption]  # the longest first
TROUBLE += [requeue, second_run, controller, lost_node]


@pytest.fixture(scope="module")
def runs(cluster: Path, project: Path) -> Iterator[dict[str, Future[Path]]]:
    """Every run, begun side by side: by name, the folder in which it was made."""

    def work(trouble: Callable[[Path, Path], None]) -> Path:
        folder = Path(shutil.copytree(project, project.parent / trouble.__name__, symlinks=True))
        began = time.monotonic()
        trouble(folder, cluster)
        print(f"{trouble.__name__}: {time.monotonic() - began:.0f} s")
        return folder

    whole = project.parent / "smoke"
    whole.mkdir()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        begun = {"smoke": pool.submit(smoke, whole)} | {t.__name__: pool.submit(work, t) for t in TROUBLE[:-1]}
        yield begun | {
            "lost_node": pool.submit(lambda: wait(begun.values()) and work(lost_node))
        }  # others on that node would end


@pytest.fixture(scope="module")
def undisturbed(project: Path) -> object:
    """What the adapter is when it is trained here, without a cluster and without trouble."""
    folder = Path(shutil.copytree(project, project.parent / "undisturbed", symlinks=True))
    result = snakemake(folder, "--", f"{ADAPTER}/seal.json")
    assert result.returncode == 0, result.stdout + result.stderr
    return content(folder)


@pytest.mark.parametrize("name", [trouble.__name__ for trouble in TROUBLE])
def test_trouble_changes_no_bit_of_an_adapter(runs: dict[str, Future[Path]], undisturbed: object, name: str) -> None:
    folder = runs[name].result()
    assert content(folder) == undisturbed
    assert not list(folder.glob("scratch/*/step-*"))
    assert not list((folder / ADAPTER).parent.glob(".*"))


def test_the_whole_workflow_runs_on_the_cluster(runs: dict[str, Future[Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = runs["smoke"].result()
    monkeypatch.chdir(folder)
    for artefact in artefacts(config.load(SMOKE)):
        sealing.verify(artefact)
    assert plan(folder, SMOKE) == []
