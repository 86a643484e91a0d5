"""A finished copy of the project, and what Snakemake would do in it: the real planner on artefacts made of paper."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

from concertina.artefacts import layout
from concertina.config import Config, load, ratio_text
from concertina.store import sealing

ROOT = Path(__file__).parents[2]
PARTS = [
    *("Snakefile", "config.yaml", "configs", "workflow", "profiles", "envs", "src", "tools", "models", "reference"),
    *("constraints.txt", "requirements.txt", "requirements-dev.txt"),
]


def copy_project(folder: Path) -> None:
    """Copy what a run is made of, without the weights: a plan needs only the hash that pins them."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(
                source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "*.safetensors")
            )
        elif source.exists():
            shutil.copy2(source, folder / part)


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a copy of the project, on the copy's own code."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a copy of the project."""
    return python(folder, "-m", "snakemake", *arguments)


def plan(folder: Path, config: str = "config.yaml") -> list[str]:
    """The jobs that a run would do, such as 'train english/average-3/seed0', in alphabetical order."""
    result = snakemake(folder, "-n", "--config", f"experiment={config}")
    assert result.returncode == 0, result.stdout + result.stderr
    jobs = re.findall(r"^Job \d+: (\w+(?: \S+)?)$", result.stdout + result.stderr, flags=re.MULTILINE)
    assert jobs or "Nothing to be done" in result.stdout + result.stderr, result.stdout + result.stderr
    return sorted(jobs)


def finish(folder: Path, config: str = "config.yaml") -> None:
    """Leave the copy as a whole run leaves it: every artefact sealed, every job on Snakemake's record."""
    with chdir(folder):
        chosen = load(config)
        for artefact in artefacts(chosen):
            if not (artefact / layout.SEAL).exists():
                with sealing.sealed(artefact, {"run_key": "0" * 16}) as temporary:
                    (temporary / "heavy.bin").write_bytes(str(artefact).encode() * 1000)
        for name in ("scores.csv", "report.html"):
            Path("results", chosen.name, name).write_text(name, encoding="utf-8")
    result = snakemake(folder, "--touch", "--forceall", "--config", f"experiment={config}")
    assert result.returncode == 0, result.stdout + result.stderr


def artefacts(config: Config) -> Iterator[Path]:
    """Every folder of a run, in the order in which a run makes them."""
    name = config.name
    cells = [(compressor, ratio_text(ratio)) for compressor, ratio in config.cells]
    yield from (layout.data(name, *place) for place in config.places)
    yield from (layout.features(name, *place) for place in config.places)
    yield from (layout.segments(name, *place, *cell) for place in config.places for cell in cells)
    for cell in cells:
        yield from (layout.train(name, train_set, *cell, seed) for train_set, seed in config.adapters(*cell))
    yield from (layout.evaluate(name, *cell) for cell in cells)
    yield layout.report(name)
    yield layout.track(name)
