"""Make a copy of the project, finish it with dummy artefacts, and ask the real Snakemake what it would do there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from concertina.artefacts import dag
from concertina.config import Config

ROOT = Path(__file__).parents[2]
PLAIN = Path(__file__).with_name("plain.yaml")
PARTS = [
    *("Snakefile", "config.yaml", "configs", "workflow", "profiles", "envs", "src", "tools", "models", "reference"),
    *("constraints.txt", "requirements.txt", "requirements-dev.txt"),
]


def copy_project(folder: Path) -> None:
    """Copy what a run needs, without the weights: a plan needs only the hash that pins them.

    The config has the keys of plain.yaml, so that tests can name its cells whatever the default becomes.
    """
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(
                source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "*.safetensors")
            )
        elif source.exists():
            shutil.copy2(source, folder / part)
    (folder / "config.yaml").write_text(plain(), encoding="utf-8")


def plain() -> str:
    """Return config.yaml as it is, text and all, with the keys of plain.yaml in place of its own."""
    text, own = (path.read_text(encoding="utf-8") for path in (ROOT / "config.yaml", PLAIN))
    for section, body in re.findall(r"^(\w+):\n((?:  .*\n)+)", own, flags=re.MULTILINE):
        for key, block in re.findall(r"^  (\w+):(.*\n(?:    .*\n)*)", body, flags=re.MULTILINE):
            found = re.search(rf"^{section}:.*\n(?:  .*\n)*?  {key}:(.*\n(?:    .*\n)*)", text, flags=re.MULTILINE)
            assert found, f"config.yaml has no {section}.{key}"
            text = text[: found.start(1)] + block + text[found.end(1) :]
    return text


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a copy of the project, on the copy's own code."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a copy of the project."""
    return python(folder, "-m", "snakemake", *arguments)


def plan(folder: Path, config: str = "config.yaml") -> list[str]:
    """Return the jobs that a run would do, such as 'train english/average-3-keep/seed0', in alphabetical order."""
    result = snakemake(folder, "-n", "--config", f"experiment={config}")
    assert result.returncode == 0, result.stdout + result.stderr
    jobs = re.findall(r"^Job \d+: (\w+(?: \S+)?)$", result.stdout + result.stderr, flags=re.MULTILINE)
    assert jobs or "Nothing to be done" in result.stdout + result.stderr, result.stdout + result.stderr
    return sorted(jobs)


def finish(folder: Path, config: str = "config.yaml") -> None:
    """Leave the copy as a whole run leaves it: every artefact sealed with its run key, every job on record."""
    sealed = python(folder, str(Path(__file__).with_name("finished.py")), config)
    assert sealed.returncode == 0, sealed.stdout + sealed.stderr
    result = snakemake(folder, "--touch", "--forceall", "--config", f"experiment={config}")
    assert result.returncode == 0, result.stdout + result.stderr


def artefacts(config: Config) -> list[Path]:
    """Return every folder that a run leaves, in the order in which it makes them."""
    return [one.folder for one in dag.every(config) if not one.kind.endswith("_share")]
