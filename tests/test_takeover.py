"""Taking over: what another experiment here has made is linked, on the planned jobs and as Snakemake sees it."""

import contextlib
import json
import re
import shutil
from pathlib import Path

import pytest

from concertina.artefacts import dag
from concertina.config import load
from concertina.store import sealing
from helpers.artefacts import folder_of
from helpers.project_copy import ROOT, copy_project, finish, plan, python
from helpers.reruns import edit
from helpers.sound import record

pytestmark = pytest.mark.slow
CONFIGS = ("mine.yaml", "config.yaml")
ALIKE = ("data", "features", "segments", "train")  # what two experiments may share


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose default run is done, with a recording and the README's overlay for own speech beside it."""
    folder = tmp_path_factory.mktemp("finished")
    copy_project(folder)
    shutil.copy2(ROOT / "config.yaml", folder)
    finish(folder)
    [overlay] = re.findall(r"```yaml\n(name: mine\n.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    (folder / "mine.yaml").write_text(overlay, encoding="utf-8")
    (folder / "my").mkdir()
    record(folder / "my/meeting.wav", 1)
    row = {"audio_filepath": "meeting.wav", "text": "one two", "duration": 60.0}
    (folder / "my/test.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "project"))


def planned(project: Path, config: str) -> tuple[list[str], list[str]]:
    """What `make plan` would make, and what it would take over; a job that decodes names what, as it prints it."""
    result = python(project, "-m", "tools.plan", "--each", "--config", f"experiment={config}")
    assert result.returncode == 0, result.stdout + result.stderr
    made: list[str] = []
    taken: list[str] = []
    rule, into = "", made
    for line in result.stdout.split("\n\n")[1].splitlines()[1:]:
        if head := re.match(r"(\w+) +\d+ ", line):
            rule, into = head[1], taken if "taken over from tiny, by its run key" in line else made
        else:
            into.append(f"{rule} {line.strip()}")
    return made, taken


def settle(project: Path, config: str) -> str:
    """Do what tools/run.py does before Snakemake begins; returns what it says."""
    code = "import sys; from pathlib import Path; from concertina.config import load; from tools import settle; "
    code += "path = Path(sys.argv[1]); assert settle.settle(load(path), path); print(*settle.again(load(path)))"
    done = python(project, "-c", code, config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == ""
    return done.stderr


def test_an_overlay_for_own_speech_makes_only_what_is_new(project: Path) -> None:
    with contextlib.chdir(project):
        every, theirs = ({str(one) for one in dag.every(load(name)) if one.kind in ALIKE} for name in CONFIGS)
        cuts = [cell.name for cell in load("mine.yaml").cuts]
    own = ["data mine/test", "features mine/test", *(f"segments mine/test/{cell}" for cell in cuts)]
    assert every - theirs == set(own)
    made, taken = planned(project, "mine.yaml")
    assert sorted(made) == sorted([*own, *(f"evaluate {cell}" for cell in cuts)])
    assert sorted(taken) == sorted(every & theirs)
    told = settle(project, "mine.yaml")
    assert f"mine: {len(taken)} artefacts of other experiments here are taken over" in told
    jobs = [*own, *(f"evaluate {cell}" for cell in cuts), "report", "report_track"]
    assert plan(project, "mine.yaml") == sorted(jobs)


def test_what_is_taken_over_is_the_same_files_and_verifies(project: Path) -> None:
    settle(project, "mine.yaml")
    ours, theirs = (project / folder_of("train", name, "english", "average-3-keep", 0) for name in ("mine", "tiny"))
    assert (ours / "heavy.bin").stat().st_ino == (theirs / "heavy.bin").stat().st_ino
    assert json.loads((ours / "seal.json").read_text()) == json.loads((theirs / "seal.json").read_text())
    assert python(project, "-m", "tools.verify", "--config", "config.yaml").stderr.count("damaged") == 0
    told = python(project, "-m", "tools.verify", "--config", "mine.yaml").stderr
    assert "train/english" not in told
    (ours / "heavy.bin").unlink()
    (ours / "heavy.bin").write_bytes(b"x")
    assert f"{folder_of('train', 'mine', 'english', 'average-3-keep', 0)}/heavy.bin is damaged" in (
        python(project, "-m", "tools.verify", "--config", "mine.yaml").stderr
    )
    assert (theirs / "heavy.bin").stat().st_size > 1, "the other experiment's stays"


def test_a_damaged_twin_is_made_again(project: Path) -> None:
    twin = folder_of("train", "tiny", "english", "average-3-keep", 0)
    (project / twin / "heavy.bin").write_bytes(b"x")
    told = settle(project, "mine.yaml")
    assert f"train english/average-3-keep/seed0 is made again: {twin}/heavy.bin is damaged" in told
    assert not (project / folder_of("train", "mine", "english", "average-3-keep", 0)).exists()
    assert "train english/average-3-keep/seed0" in plan(project, "mine.yaml")
    assert "train english/average-3-keep/seed1" not in plan(project, "mine.yaml")


def test_the_wide_grid_takes_the_cells_of_the_default(tmp_path: Path) -> None:
    copy_project(tmp_path)
    shutil.copy2(ROOT / "config.yaml", tmp_path)
    finish(tmp_path)
    made, taken = planned(tmp_path, "configs/tiny-wide.yaml")
    default, wide = load(ROOT / "config.yaml"), load(ROOT / "configs/tiny-wide.yaml")
    for place in default.splits:
        assert {f"data {place}", f"features {place}"} <= set(taken)
    ours, theirs = ({str(one) for cell in c.cells for one in c.adapters(cell)} for c in (wide, default))
    assert {job for job in taken if job.startswith("train ")} == {f"train {one}" for one in ours & theirs}
    assert {job for job in made if job.startswith("train ")} == {f"train {one}" for one in ours - theirs}
    assert len(ours & theirs) > 9
    [decoded] = [job for job in made if job.startswith("evaluate average-3 ")]
    assert "accent zero-shot" in decoded
    assert not re.search(rf"\b({'|'.join(one.name for one in default.evaluate.sets)}) zero-shot", decoded)


def test_an_artefact_of_another_config_that_snakemake_does_not_know_is_made_again(project: Path) -> None:
    shutil.rmtree(project / ".snakemake")
    edit(project / "config.yaml", "average, ratios: [2, 4, 6, 8, 12]", "average, ratios: [2, 4, 6, 8]")
    seal = project / folder_of("train", "tiny", "english", "average-3-keep", 0) / "seal.json"
    sealing.write_seal(seal, {**sealing.read_seal(seal.parent), "run_key": "0" * 16})
    code = "from concertina.config import load; from tools import settle; print(*settle.again(load()))"
    done = python(project, "-c", code)
    assert done.returncode == 0, done.stderr
    force, *named = done.stdout.split()
    assert force == "--forcerun"
    assert named == [
        str(folder_of("train", "tiny", "english", "average-3-keep", 0) / "seal.json"),
        str(folder_of("report", "tiny") / "seal.json"),
    ]
    made, taken = planned(project, "config.yaml")
    assert "train english/average-3-keep/seed0" in made
    assert not taken
