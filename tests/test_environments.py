"""envs/: what conda or a container makes of the lock is what a job needs, and holds what the lock pins."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from helpers.project_copy import ROOT, copy_project, snakemake

SMOKE = "experiment=configs/smoke.yaml"
STAND_IN = ROOT / "tests/conda/bin"


def pins(path: Path) -> dict[str, str]:
    """The packages that a file pins, by name."""
    found = re.findall(r"^(?: +- )?([a-z0-9_.-]+)==(\S+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(found)


@pytest.mark.slow
def test_a_rule_runs_in_an_environment_made_from_the_cpu_file(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through Snakemake and its conda: the data and the features of a split."""
    folder = tmp_path_factory.mktemp("e")  # short, for eSpeak NG takes no long path
    copy_project(folder)
    shutil.copytree(ROOT / "models", folder / "models", dirs_exist_ok=True)
    told = "import sys\nprint(sys.executable, *sys.orig_argv, file=open('told.txt', 'a'))\n"  # by every interpreter
    (folder / "src/sitecustomize.py").write_text(told, encoding="utf-8")
    monkeypatch.setenv("PATH", f"{STAND_IN}:{os.environ['PATH']}")
    target = "build/smoke/features/synthetic/dev/seal.json"
    asked = ["--sdm", "conda", "--conda-prefix", "conda", "--config", SMOKE, "--", target]
    result = snakemake(folder, *asked)
    assert result.returncode == 0, result.stdout + result.stderr
    made = [path.parent.parent for path in (folder / "conda").glob("*/bin/python")]
    assert len(made) == 1
    told = (folder / "told.txt").read_text(encoding="utf-8")
    for stage in ("data", "features"):
        jobs = [line for line in told.splitlines() if f"-m concertina.{stage}" in line]
        assert jobs
        assert all(line.startswith(str(made[0])) for line in jobs), jobs
    listed = subprocess.run(["uv", "pip", "freeze", "--python", made[0]], capture_output=True, text=True, check=True)
    (folder / "found.txt").write_text(listed.stdout, encoding="utf-8")
    found = {name: version.partition("+")[0] for name, version in pins(folder / "found.txt").items()}
    assert pins(ROOT / "envs/cpu.yaml").items() <= found.items()
    assert not {"pytest", "ruff", "snakemake"} & set(found)
    assert "Nothing to be done" in (again := snakemake(folder, *asked)).stdout + again.stderr


@pytest.mark.slow
def test_the_cuda_files_packages_resolve_to_the_lock(tmp_path: Path) -> None:
    """Against the index that it names none beside: PyPI, whose torch is built for CUDA. Nothing is installed."""
    wanted = pins(ROOT / "envs/cuda.yaml")
    (tmp_path / "wanted.txt").write_text("".join(f"{name}=={version}\n" for name, version in wanted.items()))
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--python-version", "3.11"]
    command += ["--python-platform", "x86_64-unknown-linux-gnu", "--constraints", str(ROOT / "constraints.txt")]
    result = subprocess.run([*command, "wanted.txt"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (tmp_path / "resolved.txt").write_text(result.stdout, encoding="utf-8")
    resolved, lock = pins(tmp_path / "resolved.txt"), pins(ROOT / "constraints.txt")
    assert wanted.items() <= resolved.items()
    assert any(name.startswith("nvidia-") for name in resolved)
    assert {name: version for name, version in resolved.items() if lock.get(name, version) != version} == {}


def test_the_container_is_made_from_the_lock() -> None:
    """Every file that it copies is there, and every package that it installs is held by constraints.txt."""
    text = (ROOT / "envs/Containerfile").read_text(encoding="utf-8")
    assert re.search(r"^FROM \S+/python:3\.11-", text, flags=re.MULTILINE)
    for sources in re.findall(r"^COPY (.+) \S+$", text, flags=re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split()), sources
    installs = re.findall(r"^RUN .*pip install.*$", text, flags=re.MULTILINE)
    assert len(installs) == 2
    assert all("-c constraints.txt" in line for line in installs)
    [options] = re.findall(r"^RUN (sed .*) > options.txt$", text, flags=re.MULTILINE)
    for environment, said in (("cpu", "--extra-index-url https://download.pytorch.org/whl/cpu\n"), ("cuda", "")):
        shell = {**os.environ, "ENVIRONMENT": environment}
        done = subprocess.run(["sh", "-c", options], cwd=ROOT, env=shell, capture_output=True, text=True, check=True)
        assert done.stdout == said
