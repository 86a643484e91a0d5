"""The reasons of `make plan`: what differs between two keys of a job, in a user's words and once."""

from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import yaml

from concertina import config
from concertina.artefacts import dag
from concertina.config import Config
from tools.plan import reasons

ROOT = Path(__file__).parents[1]
PART = {"corpus": "synthetic", "task": "transcribe", "language": "en"}


def load(folder: Path, changes: dict[str, Any]) -> Config:
    """The default config with changes."""
    overlay = folder / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(changes), encoding="utf-8")
    return config.load(overlay)


def key(experiment: Config) -> dict[str, Any]:
    """The key of one cell's evaluation as the rule gives it to Snakemake: with those of what it decodes inside."""
    artefact = dag.artefact(experiment, "evaluate", cell="average-3")
    inner = dag.inputs(experiment, artefact)
    assert len(inner) > 2
    return {**dag.key(experiment, artefact), **{one.run: dag.key(experiment, one) for one in inner}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"evaluate": {"batch": 7}}, "evaluate.batch {batch} -> 7"),
        ({"evaluate": {"metrics": {"translate": ["bleu"]}}}, "code of evaluate; evaluate.metrics.translate - chrf"),
        ({"base": {"sha256": "0" * 64}}, "base.sha256 {sha256} -> {zeros}"),
        ({"train": {"learning_rate": 1.0}}, "inputs are made again"),
    ],
)
def test_what_changed_for_every_decoded_set_is_named_once(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with chdir(ROOT):
        default = load(tmp_path, {})
        before, now = key(default), key(load(tmp_path, changes))
    texts = {"batch": default.evaluate.batch, "sha256": f"{default.base.sha256[:57]}...", "zeros": "0" * 57 + "..."}
    params = f"Params have changed since last execution: before: {before} now: {now} "
    job = {"rule": "evaluate", "wildcards": {"cell": "average-3"}, "outputs": ["results/x/seal.json"]}
    job["reason"] = params if before != now else "Input files updated by another job: a"
    assert reasons.why(job) == reason.format(**texts)


def test_a_new_test_set_and_another_size_of_one_are_named(tmp_path: Path) -> None:
    with chdir(ROOT):
        default = load(tmp_path, {})
        sets = [one.model_dump(mode="json") for one in default.evaluate.sets]
        more = [{**sets[0], "utterances": 9}, *sets[1:], {**PART, "split": "dev", "name": "heard"}]
        before, now = key(default), key(load(tmp_path, {"evaluate": {"sets": more}}))
    job = {"rule": "evaluate", "wildcards": {"cell": "average-3"}, "outputs": ["results/x/seal.json"]}
    job["reason"] = f"Params have changed since last execution: before: {before} now: {now} "
    name = sets[0]["name"]
    assert reasons.why(job) == f"evaluate.sets + heard; evaluate.sets.{name}.utterances unset -> 9"
