"""The workflow on a real SLURM, a throw-away one: it runs there, and nothing that befalls a training changes its bits.

Each kind of trouble is a run of its own, on its own copy of a project, several at a time: mostly they wait. The commands
of docs/cluster.md are run as they are printed there.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path

import pytest
import yaml

import tiny_model
from concertina import config, layout
from planning import ROOT, copy_project, snakemake

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

SIDE_BY_SIDE = int(os.environ.get("SIDE_BY_SIDE", "4"))  # runs; there is a node with a GPU for each
PATIENCE_S = 400
CELL = ("average", "3")
ADAPTER = layout.train("tones", "english", *CELL, 0)
PAGE = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs/cluster.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in PAGE for line in block.splitlines()]
UP, TRIED, DOWN = COMMANDS[-3:]
TIMES = {"utterances_per_second"}  # of a curve
CORPUS = '''"""Words that are tones."""

import numpy as np

from concertina.config import Section
from concertina.corpora import Utterance

WORDS = ["one", "two", "three", "four"]


class Options(Section):
    splits: dict[str, int]


def splits(options):
    return list(options.splits)


def read(options, split, part):
    rng = np.random.default_rng(len(split))
    for i in range(options.splits[split]):
        words = rng.choice(len(WORDS), rng.integers(1, 5))
        wave = np.sin(np.cumsum(np.repeat(0.1 * (1 + words), 4000))) + rng.normal(0, 0.05, 4000 * len(words))
        text = " ".join(WORDS[word] for word in words)
        yield Utterance(f"{split}{i}", (8000 * wave).astype(np.int16), 16_000, text, "en", speaker=f"v{i % 3}")
'''


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
    """A project whose config.yaml trains one adapter for some ten seconds; made up to its segments."""
    folder = tmp_path_factory.mktemp("slurm") / "project"
    folder.mkdir()
    copy_project(folder)
    for part in ("Makefile", "pyproject.toml"):
        shutil.copy2(ROOT / part, folder / part)
    set_up(folder / ".venv")
    (folder / "src/concertina/corpora/tones.py").write_text(CORPUS, encoding="utf-8")
    part = {"corpus": "tones", "task": "transcribe", "language": "en"}
    with chdir(folder):
        base = tiny_model.make(Path("base"), window_s=5)
    changes = {
        "name": "tones",
        "base": base.model_dump(exclude={"recipe"}),
        "data": {"corpora": [{"name": "tones", "splits": {"train": 64, "dev": 8}}]},
        "features": {"threads": 1},
        "segments": {"cells": [{"compressor": CELL[0], "ratios": [int(CELL[1])]}]},
        "train": {
            "sets": [{"name": "english", "parts": [part | {"split": "train"}], "dev": [part | {"split": "dev"}]}],
            **{"steps": 1500, "batch": 8, "warmup_steps": 4, "dev_utterances": 8, "checkpoint_s": 2},
        },
        "evaluate": {"sets": [part | {"split": "dev", "name": "clean"}], "batch": 4},
        "report": {"bootstrap_samples": 50},
    }
    change(folder, changes)
    made = snakemake(folder, "--until", "segments")
    assert made.returncode == 0, made.stdout + made.stderr
    return folder


def set_up(environment: Path) -> None:
    """Make `make setup` find this environment, and find it complete."""
    environment.mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):
        (environment / part).symlink_to(Path(sys.prefix, part))
    files = "constraints.txt requirements.txt requirements-dev.txt pyproject.toml tools/setup.sh"
    lock = subprocess.check_output(f"cat {files} | cksum | tr ' ' -", shell=True, cwd=ROOT, text=True).strip()
    (environment / f"set-up-{lock}").touch()


def change(folder: Path, changes: dict[str, object]) -> None:
    """Merge into a project's config.yaml."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config.merge(yaml.safe_load(path.read_text(encoding="utf-8")), changes)))


def ask(*command: str) -> list[str]:
    """The lines that a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def wait_for(what: Callable[[], object], why: str, run: "Run | None" = None) -> None:
    """Until it is so. Errors: AssertionError when it takes too long, or the run ends first."""
    ends = time.monotonic() + PATIENCE_S
    while not what():
        assert run is None or run.process.poll() is None, f"the run ended before {why}:\n{run.told()}"
        assert time.monotonic() < ends, f"waited too long for {why}:\n{run.told() if run else ''}"
        time.sleep(0.1)


class Run:
    """A run towards the adapter of a project, on the cluster."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.began = folder, time.monotonic()
        command = [sys.executable, "tools/run.py", "--profile", "profiles/slurm", *options, "--", f"{ADAPTER}/seal.json"]
        environment = os.environ | {"PYTHONPATH": f"{folder}/src", "OMP_NUM_THREADS": "1"}
        self.console = folder / f"console-{self.began}.txt"
        with open(self.console, "w", encoding="utf-8") as console:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=console, stderr=console)

    def told(self) -> str:
        return self.console.read_text(encoding="utf-8")

    def job(self) -> str:
        """The SLURM job that trains."""
        wait_for(lambda: re.search(r"Job 0 has been submitted with SLURM jobid (\d+)", self.told()), "the job", self)
        return re.findall(r"Job 0 has been submitted with SLURM jobid (\d+)", self.told())[-1]

    def under_way(self) -> str:
        """Wait until the training has a checkpoint; its job."""
        job = self.job()
        wait_for(lambda: list(self.folder.glob("scratch/*/step-*")), "a checkpoint", self)
        return job

    def end(self) -> int:
        return self.process.wait(PATIENCE_S)


def fact(job: str, name: str) -> str:
    """What SLURM knows about a job."""
    found = re.search(rf"\b{name}=(\S*)", "\n".join(ask("scontrol", "show", "job", job)))
    assert found, f"job {job} has no {name}"
    return found[1]


def content(folder: Path) -> tuple[str, list[dict[str, float]], dict[str, object]]:
    """Of an adapter: its hash, its curve and what was measured, without times."""
    adapter = folder / ADAPTER
    weights = hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()
    rows = [json.loads(line) for line in (adapter / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    curve = [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
    return weights, curve, json.loads((adapter / "record.json").read_text(encoding="utf-8"))["facts"]


def requeue(folder: Path, cluster: Path) -> None:
    run = Run(folder)
    job = run.under_way()
    ask("scontrol", "requeue", job)
    assert run.end() == 0, run.told()
    assert fact(job, "Restarts") == "1"


def preemption(folder: Path, cluster: Path) -> None:
    run = Run(folder)
    job = run.under_way()
    ask("sbatch", "--partition=urgent", f"--nodelist={fact(job, 'BatchHost')}", "--gpus=1", "--output=/dev/null", "--wrap=sleep 1")
    assert run.end() == 0, run.told()
    assert fact(job, "Restarts") == "1"


def time_limit(folder: Path, cluster: Path) -> None:
    extra = "train:slurm_extra='--open-mode=append --signal=TERM@15'"
    run = Run(folder, "--set-resources", "train:runtime=1", extra)
    job = run.under_way()
    assert fact(job, "TimeLimit") == "00:01:00"
    assert run.end() == 0, run.told()
    assert int(fact(job, "Restarts")) >= 1


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
    node, training = fact(job, "BatchHost"), trainings(folder)
    os.kill(int((cluster / f"run/slurmd.{node}.pid").read_text()), signal.SIGKILL)
    for number in ask("pgrep", "-f", rf"slurmstepd: \[{job}\."):
        os.kill(int(number), signal.SIGKILL)
    assert trainings(folder) == training
    try:
        assert run.end() == 0, run.told()
        assert fact(job, "BatchHost") != node
        assert trainings(folder) == []
    finally:
        ask("slurmd", "-N", node)


def trainings(folder: Path) -> list[str]:
    """The processes that train in a project."""
    found = subprocess.run(["pgrep", "-f", "^[^ ]*python[^ ]* -m concertina.train "], capture_output=True, text=True)
    return [number for number in found.stdout.split() if Path(f"/proc/{number}/cwd").resolve() == folder]


def cancellation(folder: Path, cluster: Path) -> None:
    run = Run(folder)
    ask("scancel", run.under_way())
    assert run.end() != 0
    assert not (folder / ADAPTER).exists()
    kept = max(int(path.name.split("-")[1]) for path in folder.glob("scratch/*/step-*"))
    again = Run(folder)
    assert again.end() == 0, again.told()
    steps = re.findall(r"(\d+)/12000 utterances", (folder / "logs/train/english/average-3/seed0.log").read_text())
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


TROUBLE = [requeue, preemption, time_limit, controller, lost_node, cancellation, killed_run]


def page(folder: Path, cluster: Path) -> None:
    """Run the page's commands in a project, each with its effect."""


@pytest.fixture(scope="module")
def runs(cluster: Path, project: Path) -> Iterator[dict[str, Future[Path]]]:
    """Every run, begun side by side: by name, the folder in which it was made."""

    def work(trouble: Callable[[Path, Path], None]) -> Path:
        folder = Path(shutil.copytree(project, project.parent / trouble.__name__, symlinks=True))
        if trouble is time_limit:
            change(folder, {"train": {"steps": 5000}})
        began = time.monotonic()
        trouble(folder, cluster)
        print(f"{trouble.__name__}: {time.monotonic() - began:.0f} s")
        return folder

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        yield {trouble.__name__: pool.submit(work, trouble) for trouble in TROUBLE}


@pytest.fixture(scope="module")
def undisturbed(project: Path) -> Callable[[Path], object]:
    """What a project's adapter is when it is trained here, without a cluster and without trouble; once per config."""
    made: dict[bytes, object] = {}

    def train(folder: Path) -> object:
        chosen = (folder / "config.yaml").read_bytes()
        if chosen not in made:
            place = Path(shutil.copytree(project, project.parent / f"local-{len(made)}", symlinks=True))
            (place / "config.yaml").write_bytes(chosen)
            result = snakemake(place, "--", f"{ADAPTER}/seal.json")
            assert result.returncode == 0, result.stdout + result.stderr
            made[chosen] = content(place)
        return made[chosen]

    return train


@pytest.mark.parametrize("name", [trouble.__name__ for trouble in TROUBLE])
def test_trouble_changes_no_bit_of_an_adapter(
    runs: dict[str, Future[Path]], undisturbed: Callable[[Path], object], name: str
) -> None:
    folder = runs[name].result()
    assert content(folder) == undisturbed(folder)
    assert not list(folder.glob("scratch/*/step-*"))
    assert not list(ADAPTER.parent.glob(".*"))
