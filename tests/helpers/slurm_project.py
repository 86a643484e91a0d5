"""Make a project that trains one adapter in about ten seconds, run it on a SLURM cluster, and ask SLURM about it."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import yaml

from concertina import config
from helpers import tiny_model
from helpers.artefacts import folder_of
from helpers.project_copy import ROOT, copy_project, snakemake

PATIENCE_S = 900
CELL = "average-3-keep"
ADAPTER = folder_of("train", "tones", "english", CELL, 0)
LOG = Path("logs").joinpath(*ADAPTER.parts[1:]).with_suffix(".log")
TIMES = {"utterances_per_second"}  # fields of a curve that differ from run to run
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


def make_project(folder: Path) -> None:
    """Write the project, and run it up to its segments."""
    folder.mkdir()
    copy_project(folder)
    set_up(folder)
    (folder / "src/concertina/corpora/tones.py").write_text(CORPUS, encoding="utf-8")
    part = {"corpus": "tones", "task": "transcribe", "language": "en"}
    with chdir(folder):
        base = tiny_model.make(Path("base"), window_s=5)
    changes: dict[str, object] = {
        "name": "tones",
        "base": base.model_dump(),
        "data": {"corpora": [{"name": "tones", "splits": {"train": 64, "dev": 8}}]},
        "features": {"threads": 1},
        "segments": {"positions": "keep", "cells": [{"compressor": "average", "ratios": [3]}]},
        "train": {
            "sets": [{"name": "english", "parts": [part | {"split": "train"}], "dev": [part | {"split": "dev"}]}],
            **{"steps": 1200, "batch": 8, "warmup_steps": 4, "dev_utterances": 8, "checkpoint_s": 2},
        },
        "evaluate": {"sets": [part | {"split": "dev", "name": "clean"}], "batch": 4},
        "report": {"bootstrap_samples": 50},
    }
    change(folder, changes)
    result = snakemake(folder, "--until", "segments")
    assert result.returncode == 0, result.stdout + result.stderr


def set_up(folder: Path) -> None:
    """Let `make` find this environment, complete, in a copy of the project."""
    for part in ("Makefile", "pyproject.toml"):
        shutil.copy2(ROOT / part, folder / part)
    venv = folder / ".venv"
    venv.mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):
        (venv / part).symlink_to(Path(sys.prefix, part))
    files = "constraints.txt requirements.txt requirements-dev.txt pyproject.toml tools/setup.sh"
    lock = subprocess.check_output(f"cat {files} | cksum | tr ' ' -", shell=True, cwd=ROOT, text=True).strip()
    (venv / f"set-up-{lock}").touch()


def change(folder: Path, changes: dict[str, object]) -> None:
    """Merge changes into a project's config.yaml."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config.merge(yaml.safe_load(path.read_text(encoding="utf-8")), changes)))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path} no longer says {old!r}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def ask(*command: str) -> list[str]:
    """Return the lines that a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def wait_for(what: Callable[[], object], why: str, run: "Run | None" = None) -> None:
    """Wait until `what` is true. Errors: AssertionError when it takes too long, or the run ends first."""
    ends = time.monotonic() + PATIENCE_S
    while not what():
        assert run is None or run.process.poll() is None, f"the run ended before {why}:\n{run.told()}"
        assert time.monotonic() < ends, f"waited too long for {why}:\n{run.told() if run else ''}"
        time.sleep(0.1)


class Run:
    """A run on the cluster that makes the adapter of a project."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.began = folder, time.monotonic()
        target = ["--workflow-profile", "profiles/slurm", "--", f"{ADAPTER}/seal.json"]
        command = [sys.executable, "-m", "tools.run", *target]
        self.console = folder / f"console-{self.began}.txt"
        with open(self.console, "w", encoding="utf-8") as console:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment(folder), stdout=console, stderr=console
            )

    def told(self) -> str:
        return self.console.read_text(encoding="utf-8")

    def job(self) -> str:
        """Return the number of the SLURM job that trains."""
        wait_for(lambda: re.search(r"Job 0 has been submitted with SLURM jobid (\d+)", self.told()), "the job", self)
        return re.findall(r"Job 0 has been submitted with SLURM jobid (\d+)", self.told())[-1]

    def under_way(self) -> str:
        """Wait until the training has a checkpoint, and return its job."""
        job = self.job()
        wait_for(lambda: list(self.folder.glob("scratch/*/step-*")), "a checkpoint", self)
        return job

    def end(self) -> int:
        return self.process.wait(PATIENCE_S)


def fact(job: str, name: str) -> str:
    """Return a field of what SLURM knows about a job."""
    match = re.search(rf"\b{name}=(\S*)", "\n".join(ask("scontrol", "show", "job", job)))
    assert match, f"job {job} has no {name}"
    return match[1]


def content(folder: Path) -> tuple[str, list[dict[str, float]], dict[str, object]]:
    """Return the hash of a project's adapter, its curve without times, and the facts of its record."""
    adapter = folder / ADAPTER
    weights = hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()
    rows = [json.loads(line) for line in (adapter / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    curve = [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
    return weights, curve, json.loads((adapter / "record.json").read_text(encoding="utf-8"))["facts"]


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which commands use a project's own code, and its own `bin/` first."""
    path = f"{folder}/bin:{os.environ['PATH']}"
    return os.environ | {"PYTHONPATH": f"{folder}/src", "OMP_NUM_THREADS": "1", "PATH": path}


def shell(folder: Path, command: str, fails: bool = False) -> str:
    """Run a command as a page prints it, and return its output."""
    result = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment(folder),
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE_S,
    )
    assert bool(result.returncode) == fails, result.stdout
    return result.stdout


def waiting(folder: Path) -> list[Path]:
    """Return the lock of a folder, once for each submitted run that has opened it."""
    runs = processes("tools.slurm.coordinator job ")
    files = [file for number in runs for file in Path(f"/proc/{number}/fd").glob("*")]
    return [file for file in files if file.resolve() == folder / "scratch/run.lock"]


def warned(process: int) -> bool:
    """Return whether a stopped process has been sent SIGTERM, or has ended because SLURM let it continue."""
    status = Path(f"/proc/{process}/status")
    pending = re.search(r"^ShdPnd:\s*(\w+)", status.read_text(), re.MULTILINE) if status.exists() else None
    return pending is None or bool(int(pending[1], 16) >> (signal.SIGTERM - 1) & 1)


def trainings(folder: Path) -> list[int]:
    """Return the processes that train in a project."""
    numbers = processes("^[^ ]*python[^ ]* -m concertina.train ")
    return [number for number in numbers if Path(f"/proc/{number}/cwd").resolve() == folder]


def processes(pattern: str) -> list[int]:
    """Return the processes whose command line matches."""
    result = subprocess.run(["pgrep", "-f", "--", pattern], capture_output=True, text=True, check=False)
    return [int(number) for number in result.stdout.split()]


def slow_squeue(folder: Path) -> Path:
    """Let squeue take a minute when Snakemake asks for its jobs; return the file that appears when it asks."""
    marker, slow = folder / "asked", folder / "bin/squeue"
    slow.parent.mkdir()
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *--name*) touch {marker}; sleep 60;; esac\nexec {shutil.which("squeue")} "$@"\n'
    )
    slow.chmod(0o755)
    return marker
