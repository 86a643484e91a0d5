"""`make plan`: what would run and why, in a user's words, and whether the disk will hold it."""

import json
import re
import shutil
from contextlib import chdir
from pathlib import Path

import pytest

from concertina.artefacts import dag
from concertina.artefacts.sizes import Estimate
from concertina.config import load
from concertina.store import sealing
from helpers.artefacts import folder_of
from helpers.mounts import mounted
from helpers.project_copy import ROOT, copy_project, finish, python
from helpers.reruns import edit, overlay
from helpers.sound import record
from tools.plan.rates import Rates

pytestmark = pytest.mark.slow

MINE = """
name: mine
data: {corpora: [{name: mine, kind: manifest, splits: {all: all.jsonl}, language: en}]}
segments: {cells: [{compressor: none, ratios: [1]}]}
train:
  sets:
    - name: own
      parts: [{corpus: mine, split: all, task: transcribe, language: en}]
      dev: [{corpus: mine, split: all, task: transcribe, language: en}]
evaluate: {sets: [{name: all, corpus: mine, split: all, task: transcribe, language: en}]}
"""


def told(project: Path, *arguments: str) -> dict[str, tuple[int, str]]:
    """Each stage's number of jobs and the reason, of a plan whose stages have one reason each."""
    result = python(project, "-m", "tools.plan", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = re.findall(r"^(\w+) +(\d+)  .*?  (\S[^\n]*?)$", result.stdout.split("\n\n")[1], flags=re.MULTILINE)
    reasons = {stage: (int(count), re.split(r"  +", rest)[-1]) for stage, count, rest in rows}
    assert len(reasons) == len(rows), result.stdout
    return reasons


AGAIN = "inputs are made again"


def test_a_finished_run_has_nothing_to_do(finished: Path) -> None:
    result = python(finished, "-m", "tools.plan")
    assert (result.returncode, result.stdout.count("\n")) == (0, 1)
    assert result.stdout.startswith("tiny (config.yaml): nothing to do")


def test_a_changed_value_is_named_with_both_values(project: Path) -> None:
    overlay(project, "train: {learning_rate: 0.003, lora: {rank: 8}}")
    reason = "train.learning_rate 0.002 -> 0.003; train.lora.rank 16 -> 8"
    assert told(project) == {
        "train": (12, reason),
        "evaluate": (12, AGAIN),
        "report": (1, AGAIN),
        "report_track": (1, AGAIN),
    }


def test_a_compressors_option_makes_other_cells_and_a_metric_is_named(project: Path) -> None:
    edit(project / "config.yaml", "sample, ratios: [2, 3, 4]}", "sample, ratios: [2, 3, 4], options: {phase: 1}}")
    edit(project / "config.yaml", "transcribe: [wer, cer]", "transcribe: [wer]")
    result = python(project, "-m", "tools.plan", "--each").stdout
    assert re.search(r"^segments +12 .* new$", result, flags=re.MULTILINE)
    assert "evaluate.metrics.transcribe - cer" in result
    assert len(re.findall(r"^ +synthetic/\w+/sample-\d-phase=1$", result, flags=re.MULTILINE)) == 12


def test_changed_code_is_named(project: Path) -> None:
    with open(project / "src/concertina/train.py", "a", encoding="utf-8") as file:
        file.write("\nANOTHER_NUMBER = 5\n")
    assert told(project)["train"] == (12, "code of train")


def test_what_was_lost_is_told_from_what_is_new(project: Path) -> None:
    shutil.rmtree(project / "build/tiny/train/english/average-3-keep")
    shutil.rmtree(project / "results/tiny/evaluate/average-3")
    edit(project / "config.yaml", "{compressor: random, ratios: [3]}", "{compressor: random, ratios: [5]}")
    result = python(project, "-m", "tools.plan").stdout
    for row in ("train +1 .* gone", "train +1 .* new", "segments +4 .* new", "evaluate +1 .* gone"):
        assert re.search(f"^{row}$", result, flags=re.MULTILINE), result
    assert re.search(r"^report .* report.cells \+ random-5-keep - random-3-keep; ", result, flags=re.MULTILINE)


def test_an_added_test_set_and_another_size_of_one_are_named(project: Path) -> None:
    edit(project / "config.yaml", "utterances: 200}", "utterances: 100}")
    new = "    - {name: heard, corpus: synthetic, split: dev, task: transcribe, language: en}\n"
    edit(project / "config.yaml", "    - {name: hard,", new + "    - {name: hard,")
    reason = told(project)["evaluate"][1]
    assert "evaluate.sets + heard" in reason
    assert "evaluate.sets.clean-en-de.utterances 200 -> 100" in reason


def test_your_own_speech_is_counted_and_a_replaced_recording_named(project: Path) -> None:
    (project / "mine.yaml").write_text(MINE, encoding="utf-8")
    rows = [{"audio_filepath": "a.wav", "text": "one", "duration": 60.0}] * 2 + [{"audio_filepath": "a.wav"}]
    (project / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    record(project / "a.wav", 1, seconds=60)
    mine = ["--config", "experiment=mine.yaml"]
    assert re.search(r"^data +1 .* 5.76 MB ", python(project, "-m", "tools.plan", *mine).stdout, flags=re.MULTILINE)
    finish(project, "mine.yaml")
    record(project / "a.wav", 2)
    assert told(project, *mine)["data"] == (1, "files of the corpus changed")


def test_a_corpus_tells_its_size_or_is_said_to_be_unknown(project: Path) -> None:
    own = project / "src/concertina/corpora/beeps.py"
    text = "def splits(options): return ['all']\ndef read(options, split, part): yield None\n"
    own.write_text(text, encoding="utf-8")
    edit(project / "config.yaml", "    - name: synthetic\n", "    - {name: beeps}\n    - name: synthetic\n")
    new = "    - {name: beeps, corpus: beeps, split: all, task: transcribe, language: en}\n"
    edit(project / "config.yaml", "    - {name: hard,", new + "    - {name: hard,")
    assert "How much speech beeps/all holds is not known" in python(project, "-m", "tools.plan").stdout
    own.write_text(text + "def size(options, split): return 1000, 10.0\n", encoding="utf-8")
    result = python(project, "-m", "tools.plan").stdout
    assert re.search(r"^data +1 .* 1\.15 GB ", result, flags=re.MULTILINE)
    assert "not known" not in result


def test_a_run_that_the_disk_will_not_hold_is_refused(project: Path) -> None:
    shutil.rmtree(project / "build")
    with mounted(project / "build", "-t", "tmpfs", "-o", "size=100m", "tmpfs") as small:
        for tool in ("plan", "run"):
            result = python(project, "-m", f"tools.{tool}", "--quiet", "all")
            assert result.returncode == 1
            [error] = [line for line in result.stderr.splitlines() if line.startswith("error")]
            assert re.match(r"error: the run needs about 1\.\d+ GB of disk in .*/build, and \d+ MB are free; ", error)
        assert list(small.iterdir()) == []


def test_a_config_that_is_wrong_is_one_line(project: Path) -> None:
    (project / "typo.yaml").write_text("train: {stepps: 3}\n", encoding="utf-8")
    result = python(project, "-m", "tools.plan", "--config", "experiment=typo.yaml")
    assert result.returncode == 1
    assert result.stderr == "error: typo.yaml: unknown key train.stepps (did you mean 'steps'?)\n"


def test_the_shipped_models_sizes_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load()
    made = Estimate(config)
    assert made.model.lora(config) == 282_624  # as the records of its adapters say
    file = Path(config.base.model, "model.safetensors").stat().st_size
    assert 0.9 < 4 * (made.model.llm + made.model.embeddings + made.model.encoder) / file < 1.1


def test_recorded_times_are_used_and_slower_machines_plan_longer(tmp_path: Path) -> None:
    copy_project(tmp_path)
    with chdir(tmp_path):
        config = load()
        estimate = Estimate(config)
        parts = [dag.size(estimate, dag.artefact(config, "train", train_set="english", cell="average-3", seed=0))]
        assert Rates(estimate, on_gpu=False).recorded == set()
        for seconds in (100.0, 300.0):
            adapter(config.base.sha256, seconds)
            recorded = Rates(estimate, on_gpu=False)
            assert recorded.seconds("train", parts, threads=1) == pytest.approx(seconds, rel=0.1)
            assert recorded.recorded == {"train"}
            assert Rates(estimate, on_gpu=True).recorded == set()


def adapter(base: str, seconds: float) -> None:
    """The record of a training of the default config that took so long."""
    values = load().train.model_dump(mode="json")
    head = {"stage": "train", "name": "tiny", "ratio": "3", "train_set": "english", "device": "cpu (made up)"}
    with sealing.sealed(folder_of("train", "tiny", "english", "average-3-keep", 0)) as folder:
        sealing.write_json(folder / "record.json", {**head, "config": values, "seconds": seconds, "status": "ok"})
        sealing.write_json(folder / "compressor.json", {"base": base})


def test_a_base_that_is_to_be_assembled_is_sized_by_its_parts(project: Path) -> None:
    result = python(project, "-m", "tools.plan", "--config", "experiment=configs/small.yaml").stdout
    assert re.search(r"^base_join +1 ", result, flags=re.MULTILINE), result
    assert re.search(r"^data_fetch +\d+ ", result, flags=re.MULTILINE)
    assert "Qwen2-Audio-7B" not in result
    assert "one card" not in result
