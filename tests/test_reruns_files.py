"""The re-run promises for edited, touched, lost and accepted files and code, on the jobs that Snakemake plans."""

import ast
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from helpers.project_copy import copy_project, finish, plan, python
from helpers.reruns import CELLS, EVALUATED_AGAIN, SPLITS, TRAINED_AGAIN, adapter, cells_again, edit
from helpers.sound import record

MANIFEST = """
name: mine
data:
  corpora:
    - {name: mine, kind: manifest, splits: {heard: heard.jsonl, unheard: unheard.jsonl}, language: en}
train:
  sets:
    - name: own
      parts: [{corpus: mine, split: heard, task: transcribe, language: en}]
      dev: [{corpus: mine, split: heard, task: transcribe, language: en}]
evaluate:
  sets: [{name: unheard, corpus: mine, split: unheard, task: transcribe, language: en}]
"""


@pytest.mark.slow
def test_an_edited_compressor_plans_its_own_cells(project: Path) -> None:
    with open(project / "src/concertina/compressors/average.py", "a", encoding="utf-8") as file:
        file.write("\nANOTHER_NUMBER = 5\n")
    assert plan(project) == cells_again(["average-2", "average-3", "average-4"])


@pytest.mark.slow
def test_an_edited_stage_plans_itself_and_what_follows(project: Path) -> None:
    with open(project / "src/concertina/train.py", "a", encoding="utf-8") as file:
        file.write("\nANOTHER_NUMBER = 5\n")
    assert plan(project) == TRAINED_AGAIN


@pytest.mark.slow
def test_code_that_decides_no_result_plans_nothing(project: Path) -> None:
    paths = [project / "src/concertina" / module for module in ("base.py", "console.py", "nearest.py")]
    for room in ("artefacts", "config", "tracking"):
        paths += (project / "src/concertina" / room).glob("*.py")
    assert len(paths) > 10
    for path in paths:
        with open(path, "a", encoding="utf-8") as file:
            file.write("\nANOTHER_NUMBER = 5\n")
    assert plan(project) == []


@pytest.mark.slow
def test_comments_docstrings_and_layout_plan_nothing(project: Path) -> None:
    for path in (project / "src").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if ast.get_docstring(tree):
            tree.body[0] = ast.Expr(ast.Constant("Something else."))
        path.write_text("# A comment.\n" + ast.unparse(tree) + "\n\n\n# Another.\n", encoding="utf-8")
    for path in (project / "workflow").rglob("*.smk"):
        path.write_text("# A comment.\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert plan(project) == []


@pytest.mark.slow
@pytest.mark.parametrize("what", ["build", "."])
def test_a_touch_plans_nothing(project: Path, what: str) -> None:
    for path in (project / what).rglob("*"):
        if path.is_file() and ".snakemake" not in path.parts:
            os.utime(path)
    assert plan(project) == []


@pytest.mark.slow
def test_a_checkout_and_a_linter_upgrade_plan_nothing(project: Path) -> None:
    for part in ("src", "workflow", "profiles", "envs", "models"):
        shutil.rmtree(project / part)
    checkout = project.parent / "checkout"
    checkout.mkdir()
    copy_project(checkout)
    for path in checkout.rglob("*"):
        if path.is_file():
            os.utime(path)
    shutil.copytree(checkout, project, dirs_exist_ok=True)
    pins = re.sub(r"^ruff==.*$", "ruff==99.0", (project / "constraints.txt").read_text(encoding="utf-8"), flags=re.M)
    assert "ruff==99.0" in pins
    (project / "constraints.txt").write_text(pins, encoding="utf-8")
    (project / "requirements-dev.txt").write_text("ruff==99.0\n", encoding="utf-8")
    assert plan(project) == []


@pytest.mark.slow
def test_another_tokenizer_plans_everything_but_the_data(project: Path) -> None:
    edit(project / "models/tiny/tokenizer.json", "{", "{ ")
    (project / "models/tiny/seal.json").unlink()  # as the plan asks for, where it is changed on purpose
    every = [f"features synthetic/{split}" for split in SPLITS]
    assert plan(project) == sorted([*every, *cells_again(CELLS)])


@pytest.mark.slow
def test_a_new_compressor_is_one_file_and_one_line(project: Path) -> None:
    own = project / "src/concertina/compressors/middle.py"
    shutil.copy(project / "src/concertina/compressors/average.py", own)
    line = "    - {compressor: random, ratios: [3]}\n"
    edit(project / "config.yaml", line, line + "    - {compressor: middle, ratios: [3]}\n")
    assert plan(project) == cells_again(["middle-3"])


@pytest.mark.slow
def test_a_new_corpus_is_one_file_and_one_line(project: Path) -> None:
    text = (
        "from concertina.corpora import Utterance\n"
        "def splits(options): return ['all']\n"
        "def read(options, split, part): yield Utterance('a', b'', 16_000, 'one', 'en')\n"
    )
    (project / "src/concertina/corpora/beeps.py").write_text(text, encoding="utf-8")
    edit(project / "config.yaml", "    - name: synthetic\n", "    - {name: beeps}\n    - name: synthetic\n")
    assert plan(project) == []
    new = "    - {name: beeps, corpus: beeps, split: all, task: transcribe, language: en}\n"
    edit(project / "config.yaml", "    - {name: hard,", new + "    - {name: hard,")
    cuts = [f"segments beeps/all/{cell}" for cell in CELLS]
    assert plan(project) == sorted(["data beeps/all", "features beeps/all", *cuts, *EVALUATED_AGAIN])


@pytest.fixture
def own_speech(finished: Path, tmp_path: Path) -> Path:
    """A project whose run on two manifests is done."""
    project = Path(shutil.copytree(finished, tmp_path / "project"))
    (project / "mine.yaml").write_text(MANIFEST, encoding="utf-8")
    for split in ("heard", "unheard"):
        record(project / f"{split}.wav", 1)
        row = f'{{"audio_filepath": "{split}.wav", "text": "one two"}}\n'
        (project / f"{split}.jsonl").write_text(row, encoding="utf-8")
    finish(project, "mine.yaml")
    assert plan(project, "mine.yaml") == []
    return project


def follows_from(split: str) -> list[str]:
    cuts = [f"segments mine/{split}/{cell}" for cell in CELLS]
    adapters = [f"train {adapter(cell, 'own')}" for cell in CELLS] if split == "heard" else []
    return sorted([f"data mine/{split}", f"features mine/{split}", *cuts, *adapters, *EVALUATED_AGAIN])


@pytest.mark.slow
def test_an_edited_manifest_row_plans_what_follows_from_it(own_speech: Path) -> None:
    edit(own_speech / "heard.jsonl", "one two", "one too")
    assert plan(own_speech, "mine.yaml") == follows_from("heard")


@pytest.mark.slow
def test_a_replaced_recording_plans_what_follows_from_it(own_speech: Path) -> None:
    before = (own_speech / "unheard.wav").stat()
    record(own_speech / "unheard.wav", 2)
    os.utime(own_speech / "unheard.wav", ns=(before.st_atime_ns, before.st_mtime_ns))  # as `cp -p` would
    assert plan(own_speech, "mine.yaml") == follows_from("unheard")


@pytest.mark.slow
def test_a_touched_or_rewritten_recording_plans_nothing(own_speech: Path) -> None:
    os.utime(own_speech / "heard.jsonl")
    record(own_speech / "unheard.wav", 1)
    assert plan(own_speech, "mine.yaml") == []


def accept(project: Path, why: str) -> subprocess.CompletedProcess[str]:
    return python(project, "-m", "tools.dvc.accept", "--config", "config.yaml", "--why", why)


@pytest.mark.slow
def test_an_accepted_edit_plans_nothing_and_is_on_record(project: Path) -> None:
    with open(project / "src/concertina/train.py", "a", encoding="utf-8") as file:
        file.write("\nANOTHER_NUMBER = 5\n")
    assert "WHY" in accept(project, " ").stderr
    assert accept(project, "nothing reads it").returncode == 0
    assert plan(project) == []
    entry = json.loads((project / "results/tiny/accepted.jsonl").read_text(encoding="utf-8"))
    assert entry["why"] == "nothing reads it"
    assert entry["jobs"] == TRAINED_AGAIN


@pytest.mark.slow
def test_what_was_never_made_cannot_be_accepted(project: Path) -> None:
    edit(project / "config.yaml", "compressor: average, ratios: [2, 3, 4]", "compressor: average, ratios: [2, 3, 5]")
    refused = accept(project, "it will be alike")
    assert refused.returncode == 1
    assert "train english/average-5-keep/seed0" in refused.stderr
    assert plan(project) == cells_again(["average-5"])


@pytest.mark.slow
def test_a_lost_adapter_or_record_is_made_again(project: Path) -> None:
    shutil.rmtree(project / "build/tiny/train/english/average-3-keep")
    shutil.rmtree(project / "results/tiny/evaluate/random-3")
    assert plan(project) == [
        *("evaluate average-3", "evaluate random-3", "report", "report_track", "train english/average-3-keep/seed0")
    ]
