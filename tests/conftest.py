"""What holds for every test, and the folders that several modules work in.

Commands run as from a user's shell. On the machine that guards the project (CI is set) a skipped test is a failed one,
since what is not run is not known.
"""

import os
import shutil
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from concertina.config import Config, load
from helpers import reports
from helpers.project_copy import ROOT, copy_project, finish

for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):  # `make test` hands these on, and an inner make then talks of itself
    os.environ.pop(name, None)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background jobs ignore it, and so would children


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped while CI is set: {report.longrepr}"
    return report


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose default run is done; tests work in copies of it."""
    folder = tmp_path_factory.mktemp("finished")
    copy_project(folder)
    finish(folder)
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "project"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the default config and what it refers to."""
    shutil.copy(ROOT / "config.yaml", tmp_path)
    shutil.copytree(ROOT / "reference", tmp_path / "reference")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reports.make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def made(made_once: Path, here: Path) -> Config:
    """The made-up results with their report, in the working folder."""
    shutil.copytree(made_once, here, dirs_exist_ok=True)
    return load("overlay.yaml")
