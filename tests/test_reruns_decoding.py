"""What is decoded again after a change of a finished default run, on the jobs that `make plan` prints."""

import re
from pathlib import Path

import pytest

from helpers.project_copy import python
from helpers.reruns import CELLS, edit, overlay

pytestmark = pytest.mark.slow
SETS = ("clean", "hard", "clean-en-de")


def decoded(project: Path) -> dict[str, str]:
    """What the planned job of each cell decodes: 'nothing', 'clean zero-shot, hard english-seed0', or '' for all."""
    result = python(project, "-m", "tools.plan", "--each")
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [row for block in result.stdout.split("\nevaluate ")[1:] for row in block.splitlines()]
    jobs = [re.fullmatch(r" +(\S+-[0-9a-z.]+)(?: \(decodes (.*)\))?", row) for row in rows]
    return {job[1]: job[2] or "" for job in jobs if job}


def test_one_more_test_set_decodes_that_set_alone(project: Path) -> None:
    new = "    - {name: heard, corpus: synthetic, split: dev, task: transcribe, language: en}\n"
    edit(project / "config.yaml", "    - {name: hard,", new + "    - {name: hard,")
    assert decoded(project) == dict.fromkeys(CELLS, "heard zero-shot, heard english-seed0")


def test_another_size_of_a_test_set_decodes_that_set_alone(project: Path) -> None:
    edit(project / "config.yaml", "utterances: 200}", "utterances: 100}")
    assert decoded(project) == dict.fromkeys(CELLS, "clean-en-de zero-shot, clean-en-de english-seed0")


@pytest.mark.parametrize("metrics", ["[wer, cer, chrf]", "[cer, wer]", "[wer]"])
def test_a_metric_that_is_added_moved_or_dropped_decodes_nothing(project: Path, metrics: str) -> None:
    edit(project / "config.yaml", "transcribe: [wer, cer]", f"transcribe: {metrics}")
    assert decoded(project) == dict.fromkeys(CELLS, "nothing")


def test_another_learning_rate_leaves_zero_shot_alone(project: Path) -> None:
    overlay(project, "train: {learning_rate: 0.003}")
    again = ", ".join(f"{test_set} english-seed0" for test_set in SETS)
    assert decoded(project) == dict.fromkeys(CELLS, again)


def test_one_more_seed_decodes_its_own_adapter_alone(project: Path) -> None:
    edit(
        project / "config.yaml", "{compressor: random, ratios: [3]}", "{compressor: random, ratios: [3], seeds: [0, 1]}"
    )
    assert decoded(project) == {"random-3": ", ".join(f"{test_set} english-seed1" for test_set in SETS)}


def test_another_prompt_of_translation_decodes_translations_and_what_was_trained_with_it(project: Path) -> None:
    edit(project / "config.yaml", "<|translate|>", "<|translate|><|translate|>")
    zero_shot = "clean-en-de zero-shot"
    assert all(zero_shot in runs and "clean zero-shot" not in runs for runs in decoded(project).values())


def test_the_settings_of_decoding_decode_all_and_train_nothing(project: Path) -> None:
    overlay(project, "evaluate: {max_new_tokens_per_second: 7}")
    assert decoded(project) == dict.fromkeys(CELLS, "")
