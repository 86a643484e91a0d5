"""docs/tracking.md: every command on the page is run as it stands there, on a project whose results are made up."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from concertina import report
from concertina.config import load
from helpers import made_results, tracked_runs
from helpers.artefacts import folder_of
from helpers.project_copy import ROOT, copy_project, finish, plan

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs/tracking.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
RUN = ["make reproduce", "make track", "make ui", ".venv/bin/python", "export MLFLOW_TRACKING_URI", "pg_virtualenv"]
PATIENCE_S = 300  # for a machine that is busy with something else


def command(begins: str) -> str:
    """The one command of the page that begins so."""
    [found] = [text for text in COMMANDS if text.startswith(begins)]
    return found


def environment(project: Path) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return ours | {"PYTHONPATH": str(project / "src")}


def sh(project: Path, text: str, **variables: str) -> str:
    """Run a command of the page to its end and return what it says; what it started ends with it."""
    with open(project / "console.txt", "w+", encoding="utf-8") as console:
        options: dict[str, Any] = {"cwd": project, "env": environment(project) | variables, "start_new_session": True}
        shell = subprocess.Popen(["sh", "-euc", text], stdout=console, stderr=subprocess.STDOUT, **options)
        try:
            status = shell.wait(PATIENCE_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
        console.seek(0)
        said = console.read()
    assert status == 0, said
    return said


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which all is made but what is recorded."""
    folder = tmp_path_factory.mktemp("project")
    copy_project(folder)
    for part in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / part, folder)
    stand_in(folder)
    with contextlib.chdir(folder):
        config = load()
        made_results.write(config, utterances=6)
        report.make(config)
    finish(folder)
    shutil.rmtree(folder / folder_of("report_track", "tiny"))
    return folder


def stand_in(project: Path) -> None:
    """Make the environment that runs this test the project's own, set up."""
    (project / ".venv").mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):
        if (Path(sys.prefix) / part).exists():
            (project / ".venv" / part).symlink_to(Path(sys.prefix) / part)
    lock = re.search(r"^lock=\$\((.*)\)$", (ROOT / "tools/setup.sh").read_text(encoding="utf-8"), re.MULTILINE)
    assert lock
    subprocess.run(f'touch ".venv/set-up-$({lock[1]})"', cwd=project, shell=True, check=True)


def test_every_command_of_the_page_is_run_here() -> None:
    assert len(COMMANDS) == len(RUN)
    assert [command(begins) for begins in RUN] == COMMANDS


def test_make_reproduce_records_the_runs_and_then_has_nothing_to_do(project: Path) -> None:
    assert plan(project) == ["report_track"]
    assert "runs recorded at sqlite:///mlflow.db: 12 new" in sh(project, command("make reproduce"))
    found = tracked_runs.runs(tracked_runs.client(project))
    assert len(found) == 13
    assert {run.info.status for run in found} == {"FINISHED"}
    assert len(list((project / "mlartifacts").glob("*/artifacts/adapter"))) == 12
    assert plan(project) == []


def test_make_track_makes_what_was_lost_again_and_nothing_twice(project: Path) -> None:
    before = tracked_runs.contents(tracked_runs.client(project))
    (project / "mlflow.db").rename(project / "lost.db")
    (project / "mlartifacts").rename(project / "lost")
    assert "12 new" in sh(project, command("make track"))
    assert "12 known" in sh(project, command("make track"))
    assert tracked_runs.contents(tracked_runs.client(project)) == before


def test_the_runs_are_a_table_in_python(project: Path) -> None:
    said = sh(project, command(".venv/bin/python")).splitlines()
    table = [line.split() for line in said if re.match(r"^ *\d", line)]
    assert sorted(row[1] for row in table) == ["average", "random", "sample", "segment"]
    scores = json.loads((project / "results/tiny/evaluate/average-3/hard/english-seed0-keep.json").read_text())[
        "scores"
    ]
    [average] = [row for row in table if row[1] == "average"]
    assert float(average[3]) == pytest.approx(scores["wer"]["value"], abs=1e-4)


def test_a_server_gets_the_same_runs(project: Path) -> None:
    assert re.search(r"recorded at http://127.0.0.1:5002: .*12 new", sh(project, command("export MLFLOW_TRACKING_URI")))
    (project / "server").mkdir(exist_ok=True)
    shutil.copy(project / "server.db", project / "server/mlflow.db")
    assert len(tracked_runs.runs(tracked_runs.client(project / "server"))) == 13
    assert len(list((project / "server").glob("*/*/artifacts/predictions/clean/zero-shot*.parquet"))) == 12


def test_postgresql_gets_the_same_runs(project: Path) -> None:
    if not shutil.which("pg_virtualenv"):
        pytest.skip("no postgresql: sudo sh tools/test-needs.sh")
    assert re.search(r"recorded at postgresql://localhost:\d+/postgres: 12 new", sh(project, command("pg_virtualenv")))


def test_a_dead_server_fails_no_run_and_the_next_run_tries_again(project: Path) -> None:
    dead = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    assert "not recorded yet, the next run and `make track` try again" in sh(project, "make reproduce", **dead)
    assert plan(project) == ["report_track"]
    sh(project, "make reproduce")
    assert plan(project) == []


@contextlib.contextmanager
def started(project: Path, text: str) -> Iterator[str]:
    """Run a command that goes on until it is stopped; yields the address it prints, once that answers."""
    options: dict[str, Any] = {"cwd": project, "env": environment(project), "start_new_session": True, "text": True}
    with subprocess.Popen(["sh", "-euc", text], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **options) as shell:
        try:
            assert shell.stdout
            name, _, address = shell.stdout.readline().strip().partition(": ")
            assert name == "tiny"
            until(lambda: urllib.request.urlopen(f"{address.partition('/#')[0]}/health").status == 200)
            yield address
        finally:
            os.killpg(shell.pid, signal.SIGTERM)


def until(true: Callable[[], Any]) -> Any:
    """Wait until something is true, and return it."""
    ends = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(OSError):
            if found := true():
                return found
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.2)


@pytest.fixture
def browser() -> Iterator[Any]:
    from selenium import webdriver

    if not (driver := shutil.which("chromedriver")):
        pytest.skip("no chromedriver: sudo sh tools/test-needs.sh")
    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(option)
    options.add_argument("--window-size=1700,900")
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def test_the_pages_list_the_runs_with_their_scores_and_draw_a_curve(project: Path, browser: Any) -> None:
    def found(selector: str, what: str) -> list[str]:
        """A property of every element that a selector finds."""
        return list(browser.execute_script(f"return [...document.querySelectorAll('{selector}')].map(e => {what})"))

    [run] = [
        run
        for run in tracked_runs.runs(tracked_runs.client(project))
        if run.info.run_name == "average-3-keep english seed0"
    ]
    with started(project, command("make ui")) as address:
        server = address.partition("/#")[0]
        browser.get(f"{server}/health")
        browser.execute_script("localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')")
        browser.execute_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
        browser.get(address)
        until(lambda: any("average-3-keep english seed0" in text for text in found(".ag-row", "e.innerText")))
        rows = "\n".join(found(".ag-row", "e.innerText"))
        for cell in ("average-2", "average-3", "average-4", "random-3", "sample-2", "segment-natural"):
            assert f"{cell}-keep english seed0" in rows
        assert str(run.data.metrics["clean/wer_adapted"])[:8] in rows
        headers = set(found(".ag-header-cell", "e.innerText.trim()"))
        assert {"compressor", "ratio", "realised_ratio", "clean/wer_zero_shot", "clean/wer_adapted"} <= headers
        browser.get(f"{server}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/model-metrics")
        search = 'input[placeholder="Search metric charts"]'
        until(lambda: browser.find_elements("css selector", search))[0].send_keys("train/loss")
        line = ".js-plotly-plot .scatterlayer path.js-line"
        until(lambda: any(len(re.findall(r"[\d.]+,", path)) >= 25 for path in found(line, 'e.getAttribute("d")')))


def test_a_failed_cell_is_a_failed_run(project: Path) -> None:
    shutil.rmtree(project / folder_of("evaluate", "tiny", "random-3"))
    with pytest.raises(AssertionError, match="error: "):
        sh(project, "make reproduce")
    failed = [run for run in tracked_runs.runs(tracked_runs.client(project)) if run.info.status == "FAILED"]
    assert [run.info.run_name for run in failed] == ["random-3-keep english seed0", "tiny"]
    assert failed[0].data.tags["error"].startswith("evaluate failed: DamagedError: ")
