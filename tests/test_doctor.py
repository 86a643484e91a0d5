"""`make doctor` on machines that are well and on machines that are not: each trouble is one line with its remedy."""

import re
import shutil
from pathlib import Path

import pytest

from helpers.mounts import mounted
from helpers.project_copy import ROOT, copy_project, python
from helpers.reruns import edit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with its weights."""
    folder = tmp_path_factory.mktemp("whole")
    copy_project(folder)
    shutil.copytree(ROOT / "models", folder / "models", dirs_exist_ok=True)
    return folder


@pytest.fixture
def project(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "project"))


def asked(project: Path, *arguments: str) -> tuple[int, list[str]]:
    """The doctor's status, and its lines other than `ok`."""
    result = python(project, "-m", "tools.doctor", *arguments)
    assert re.fullmatch(r"((ok  |note|FAIL) \S.*\n)+", result.stdout), result.stdout + result.stderr
    return result.returncode, [line for line in result.stdout.splitlines() if not line.startswith("ok")]


def test_a_machine_that_is_well_passes_and_nothing_is_left_there(project: Path) -> None:
    status, trouble = asked(project)
    assert (status, [line for line in trouble if line.startswith("FAIL")]) == (0, [])
    assert not list(project.rglob(".doctor-*"))


def test_every_trouble_is_told_at_once_with_its_remedy(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(project / "constraints.txt", "numpy==2.4.6", "numpy==1.26.0")
    edit(project / "requirements.txt", "numpy\n", "numpy\nno-such-package\n")
    broken = project / "src/transformers-5.10.2.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 5.10.2\n", encoding="utf-8")
    weights = project / "models/tiny/model.safetensors"
    sound = weights.read_bytes()
    weights.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    slurm = project / "bin/sinfo"
    slurm.parent.mkdir()
    slurm.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    slurm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slurm.parent}:{Path('/usr/bin')}:{Path('/bin')}")
    monkeypatch.setenv("OMP_PROC_BIND", "TRUE")
    with mounted(project / "build", "-t", "tmpfs", "-o", "ro", "tmpfs"):
        status, trouble = asked(project)
    assert status == 1
    for line in (
        "FAIL packages: no-such-package not installed; run `make setup`",
        "note packages: numpy 2.4.6 .locked: 1.26.0., transformers 5.10.2 .locked: .*; run `make setup`",
        "FAIL transformers 5.10.2: it ties .*; run `make setup` .transformers 5.23.0.",
        "note OMP_PROC_BIND=TRUE: .*; unset OMP_PROC_BIND",
        "note Slurm: sinfo does not answer.*",
        "FAIL build/ cannot be written .*: it is on a read-only file system; make that writable.*",
        "FAIL model: the weights in models/tiny are not those that base.sha256 pins; get it again.*",
    ):
        assert [told for told in trouble if re.fullmatch(line, told)], (line, trouble)


def test_a_small_disk_a_long_path_and_slurm_that_is_needed_fail(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Path(shutil.copytree(whole, tmp_path / ("d" * 100) / "project"))
    (project / "src/espeakng_loader").mkdir()
    (project / "src/espeakng_loader/__init__.py").touch()
    bare = project / "bin"  # neither git nor sinfo
    bare.mkdir()
    for program in ("bash", "sh", "which"):  # Snakemake's own needs
        (bare / program).symlink_to(str(shutil.which(program)))
    profile = project / "profiles/slurm-here"
    profile.mkdir()
    (profile / "config.yaml").write_text("jobs: 2\n", encoding="utf-8")
    with mounted(project / "build", "-t", "tmpfs", "-o", "size=20m", "tmpfs"), monkeypatch.context() as patch:
        patch.setenv("PATH", str(bare))
        status, trouble = asked(project, "--profile", "profiles/slurm-here")
    assert status == 1
    assert "FAIL Slurm: not on this machine, and the profile submits to it" in trouble
    assert [line for line in trouble if re.match(r"FAIL disk: the run needs about 1\.\d+ GB of disk in .*build", line)]
    assert [line for line in trouble if re.match("FAIL speech synthesis: .* work in a folder with a shorter", line)]
    assert [line for line in trouble if line.startswith("note git: absent")]


def test_a_config_that_cannot_run_fails(project: Path) -> None:
    (project / "typo.yaml").write_text("train: {stepps: 3}\n", encoding="utf-8")
    status, trouble = asked(project, "--config", "experiment=typo.yaml")
    assert status == 1
    assert "FAIL config: typo.yaml: unknown key train.stepps (did you mean 'steps'?)" in trouble
