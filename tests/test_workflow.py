"""The re-run promises, on the jobs that Snakemake plans: what a change must do again, and what it must leave."""

import ast
import fcntl
import json
import os
import re
import shutil
import subprocess
import wave
from pathlib import Path

import pytest
import yaml

from concertina.config import merge
from planning import copy_project, finish, plan, python, snakemake

SPLITS = ["clean", "dev", "hard", "train"]
CELLS = [
    *("average-2", "average-3", "average-4", "none-1", "random-3", "sample-2", "sample-3", "sample-4"),
    *("segment-2", "segment-3", "segment-4", "segment-natural"),
]
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


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose default run is done; tests work in copies of it."""
    folder = tmp_path_factory.mktemp("finished")
    copy_project(folder)
    finish(folder)
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "project"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path} no longer says {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def overlay(project: Path, text: str) -> None:
    """Merge an edit into config.yaml, the way an overlay would be: mappings merge, lists replace."""
    values = merge(yaml.safe_load((project / "config.yaml").read_text(encoding="utf-8")), yaml.safe_load(text))
    (project / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def cells_again(cells: list[str]) -> list[str]:
    """The jobs that follow when the cuts of cells change."""
    segments = [f"segments synthetic/{split}/{cell}" for split in SPLITS for cell in cells]
    adapters = [f"train english/{cell}/seed0" for cell in cells]
    return sorted([*segments, *adapters, *(f"evaluate {cell}" for cell in cells), "report", "track"])


EVALUATED_AGAIN = sorted([*(f"evaluate {cell}" for cell in CELLS), "report", "track"])
TRAINED_AGAIN = sorted([*(f"train english/{cell}/seed0" for cell in CELLS), *EVALUATED_AGAIN])


def test_a_fresh_project_plans_every_stage_once_per_artefact(tmp_path: Path) -> None:
    copy_project(tmp_path)
    stages = [job.split()[0] for job in plan(tmp_path)]
    counts = {stage: stages.count(stage) for stage in dict.fromkeys(stages)}
    assert counts == {"data": 4, "evaluate": 12, "features": 4, "report": 1, "segments": 48, "track": 1, "train": 12}


@pytest.mark.slow
def test_a_finished_run_plans_nothing(finished: Path) -> None:
    assert plan(finished) == []


def test_an_unknown_key_is_one_line_with_the_nearest_valid_one(tmp_path: Path) -> None:
    copy_project(tmp_path)
    (tmp_path / "typo.yaml").write_text("train: {stepps: 3}\n", encoding="utf-8")
    result = snakemake(tmp_path, "-n", "--config", "experiment=typo.yaml")
    assert result.returncode != 0
    complaint = [line for line in (result.stdout + result.stderr).splitlines() if "profile" not in line]
    assert complaint == ["error: typo.yaml: unknown key train.stepps (did you mean 'steps'?)"]


def test_a_compressor_without_a_file_is_one_line_naming_the_file(tmp_path: Path) -> None:
    copy_project(tmp_path)
    text = "segments: {cells: [{compressor: averge, ratios: [2]}]}\n"
    (tmp_path / "typo.yaml").write_text(text, encoding="utf-8")
    result = snakemake(tmp_path, "-n", "--config", "experiment=typo.yaml")
    assert result.returncode != 0
    complaint = [line for line in (result.stdout + result.stderr).splitlines() if "profile" not in line]
    assert len(complaint) == 1
    assert "src/concertina/compressors/averge.py" in complaint[0]
    assert "'average'" in complaint[0]


@pytest.mark.slow
def test_a_changed_ratio_plans_that_cell_and_the_report(project: Path) -> None:
    edit(
        project / "config.yaml", "{compressor: average, ratios: [2, 3, 4]}", "{compressor: average, ratios: [2, 3, 5]}"
    )
    assert plan(project) == cells_again(["average-5"])


@pytest.mark.slow
def test_a_dropped_compressor_plans_the_report(project: Path) -> None:
    edit(project / "config.yaml", "    - {compressor: random, ratios: [3]}\n", "")
    assert plan(project) == ["report", "track"]


@pytest.mark.slow
def test_another_seed_plans_its_adapter_and_the_cell(project: Path) -> None:
    edit(
        project / "config.yaml", "{compressor: random, ratios: [3]}", "{compressor: random, ratios: [3], seeds: [0, 1]}"
    )
    assert plan(project) == ["evaluate random-3", "report", "track", "train english/random-3/seed1"]


@pytest.mark.slow
def test_a_compressors_option_plans_its_own_cells(project: Path) -> None:
    edit(project / "config.yaml", "options: {phase: 0}", "options: {phase: 1}")
    assert plan(project) == cells_again(["sample-2", "sample-3", "sample-4"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        "evaluate: {batch: 3, max_new_tokens_per_second: 7, max_new_tokens_at_least: 5, metrics: {transcribe: [cer]}}",
        "evaluate: {sets: [{name: d, corpus: synthetic, split: dev, task: transcribe, language: en, utterances: 9}]}",
    ],
)
def test_evaluation_keys_train_nothing(project: Path, change: str) -> None:
    overlay(project, change)
    assert plan(project) == EVALUATED_AGAIN


@pytest.mark.slow
def test_a_test_set_on_a_new_split_makes_the_split_and_trains_nothing(project: Path) -> None:
    edit(project / "config.yaml", "        clean: {en: 300}\n", "        clean: {en: 300}\n        accent: {en: 9}\n")
    new = "    - {name: accent, corpus: synthetic, split: accent, task: transcribe, language: en}\n"
    edit(project / "config.yaml", "    - {name: hard,", new + "    - {name: hard,")
    made = ["data synthetic/accent", "features synthetic/accent"]
    cuts = [f"segments synthetic/accent/{cell}" for cell in CELLS]
    assert plan(project) == sorted([*made, *cuts, *EVALUATED_AGAIN])


@pytest.mark.slow
def test_another_size_of_a_test_split_trains_nothing(project: Path) -> None:
    edit(project / "config.yaml", "clean: {en: 300}", "clean: {en: 301}")
    made = ["data synthetic/clean", "features synthetic/clean"]
    cuts = [f"segments synthetic/clean/{cell}" for cell in CELLS]
    assert plan(project) == sorted([*made, *cuts, *EVALUATED_AGAIN])


@pytest.mark.slow
def test_the_training_budget_plans_training_and_no_segments(project: Path) -> None:
    overlay(project, "train: {steps: 7}")
    assert plan(project) == TRAINED_AGAIN


@pytest.mark.slow
def test_how_often_a_training_is_kept_plans_nothing(project: Path) -> None:
    overlay(project, "train: {checkpoint_s: 7}")
    assert plan(project) == []


@pytest.mark.slow
def test_a_report_key_plans_the_report(project: Path) -> None:
    overlay(project, "report: {title: Another title, examples: 3}")
    assert plan(project) == ["report", "track"]


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
    for module in ("base", "config", "console", "integrity", "keys", "layout", "runs", "track", "tracking"):
        with open(project / f"src/concertina/{module}.py", "a", encoding="utf-8") as file:
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
    every = [f"features synthetic/{split}" for split in SPLITS]
    assert plan(project) == sorted([*every, *cells_again(CELLS)])


@pytest.mark.slow
def test_another_seed_of_compressors_plans_those_that_draw(project: Path) -> None:
    overlay(project, "segments: {seed: 5}")
    assert plan(project) == cells_again(["random-3"])


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


@pytest.mark.slow
def test_the_same_experiment_from_another_file_plans_nothing(project: Path) -> None:
    shutil.copy2(project / "config.yaml", project / "same.yaml")
    assert plan(project, "same.yaml") == []


def record(path: Path, value: int) -> None:
    """A tenth of a second of one constant sample value."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(value.to_bytes(2, "little") * 1600)


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
    adapters = [f"train own/{cell}/seed0" for cell in CELLS] if split == "heard" else []
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
    return python(project, "tools/accept.py", "--config", "config.yaml", "--why", why)


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
    assert "train english/average-5/seed0" in refused.stderr
    assert plan(project) == cells_again(["average-5"])


@pytest.mark.slow
def test_one_run_at_a_time(tmp_path: Path) -> None:
    copy_project(tmp_path)
    (tmp_path / "scratch").mkdir()
    with open(tmp_path / "scratch/run.lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        second = python(tmp_path, "tools/run.py", "-n")
        assert second.returncode == 1
        assert second.stderr == "error: another run is going on in this folder; wait for it to end\n"
    assert python(tmp_path, "tools/run.py", "-n").returncode == 0


@pytest.mark.slow
def test_a_lost_adapter_or_record_is_made_again(project: Path) -> None:
    shutil.rmtree(project / "build/tiny/train/english/average-3")
    shutil.rmtree(project / "results/tiny/evaluate/random-3")
    assert plan(project) == [
        *("evaluate average-3", "evaluate random-3", "report", "track", "train english/average-3/seed0")
    ]
