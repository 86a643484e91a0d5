"""tools/, the Makefile and dvc.yaml: what they say of each other and of the DAG holds."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from concertina.artefacts import dag

ROOT = Path(__file__).parents[1]


def test_dvc_knows_the_metrics_and_the_picture_of_every_track() -> None:
    """DVC wants them in lists of their own, which a new track has to be added to."""
    values = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    folders = [dag.row("report").folder.format(name=name) for name in values["stages"]["track"]["foreach"]]
    assert values["metrics"] == [f"{folder}/metrics.json" for folder in folders]
    assert values["plots"] == [f"{folder}/quality.svg" for folder in folders]


@pytest.mark.parametrize("target", ["clean", "unlock", "readme", "help"])
def test_what_needs_no_environment_sets_none_up(target: str) -> None:
    result = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout
    assert "setup.sh" not in result.stdout


def test_the_help_lists_every_target_that_a_user_types() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"^([a-z-]+): ", text, flags=re.MULTILINE))
    assert targets == set(re.findall(r"^  make ([a-z-]+) ", listed, flags=re.MULTILINE))
    assert {"reproduce", "plan", "doctor", "push", "pull", "verify", "submit", "attach", "unlock", "check"} < targets
