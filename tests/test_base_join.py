"""A base that is joined from a Whisper and an LLM: the stage as a user runs it, stopped, run again, and read."""

import json
import signal
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from concertina import config, console, features
from concertina.artefacts import keys
from concertina.bases import join
from concertina.bases.joined import alignment, finetuning, heard, pretrained
from concertina.config import ConfigError, Pretrained
from concertina.model import encoding, lalm
from concertina.store import records, sealing
from helpers import small_parts
from helpers.artefacts import folder_of
from helpers.small_parts import OVERLAY, RECIPE


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a small Whisper, a small LLM, some speech, and the base that the stage makes of them."""
    folder = small_parts.make(tmp_path_factory.mktemp("joined"))
    with chdir(folder):
        yield folder


@pytest.mark.slow
def test_the_base_is_a_checkpoint_like_any_other(project: Path) -> None:
    chosen = config.load("joint.yaml")
    model = lalm.load(chosen.base, encoder=True, llm=True)
    assert model.model.lm_head.weight is model.llm.embed_tokens.weight
    (frames_TD,) = encoding.encode(model, [np.zeros(16_000, np.int16)], 10**6)
    assert frames_TD.shape == (25, 64)
    prompt = lalm.prompt_ids(model, chosen.base, "transcribe", "en", None)
    tokens_ND = lalm.project(model, torch.from_numpy(frames_TD))
    inputs = lalm.embed(model, [prompt], tokens_ND, [25], torch.arange(25), [25], pad_left=True)
    (said,) = lalm.generate(model, inputs, [5])
    assert len(said.ids) <= 5
    assert features.main(["--config", "joint.yaml", "--corpus", "synthetic", "--split", "clean"]) == 0


@pytest.mark.slow
def test_the_encoder_is_untouched_and_the_rest_has_learnt(project: Path) -> None:
    base = lalm.load(config.load("joint.yaml").base, encoder=True, llm=True)
    before = pretrained.whisper(Pretrained(model="whisper")).model.encoder.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.encoder.state_dict().items())
    llm, _ = pretrained.llm(Pretrained(model="llm"))
    weight = "layers.0.self_attn.q_proj.weight"
    assert not torch.equal(base.llm.state_dict()[weight], llm.model.state_dict()[weight])
    curve = [json.loads(line) for line in Path("build/joint/base/curve.jsonl").read_text().splitlines()]
    assert [row["phase"] for row in curve] == ["ctc"] * 6 + ["lm"] * 4
    record = records.read(Path("build/joint/base/record.json"))
    sentences = Path("build/joint/base/sentences.txt").read_text().splitlines()
    assert record.facts["utterances"] == [len(sentences)] * 2


@pytest.mark.slow
def test_made_again_it_is_the_same_to_the_last_bit(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = Path("build/joint/base/model.safetensors")
    before = sealing.sha256(weights)
    assert join.main(["--config", "joint.yaml"]) == 0
    assert sealing.sha256(weights) == before
    assert capsys.readouterr().err.count("utterances to encode") == 1  # by both parts of the split


@pytest.mark.slow
def test_a_stopped_finetuning_goes_on_to_the_same_base(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = Path("build/joint/base/model.safetensors")
    before, loss, done = sealing.sha256(weights), finetuning.loss, list[int]()
    often = config.merge(OVERLAY, {"base": {"assembled": {"recipe": {"checkpoint_s": 0}}}})
    Path("often.yaml").write_text(yaml.safe_dump(often), encoding="utf-8")

    def fails_at_the_third(*about: Any) -> torch.Tensor:
        done.append(1)
        if len(done) == 3:
            raise console.Stopped("the power is gone")
        return loss(*about)

    monkeypatch.setattr(finetuning, "loss", fails_at_the_third)
    assert join.main(["--config", "often.yaml"]) != 0
    assert join.main(["--config", "often.yaml"]) == 0
    assert len(done) == 3 + 2  # two of four steps were kept
    assert sealing.sha256(weights) == before


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 6])
def test_a_stopped_alignment_goes_on_to_the_same_base(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: int
) -> None:
    weights = Path("build/joint/base/model.safetensors")
    before, forward, done = sealing.sha256(weights), alignment.Aligner.forward, list[int]()

    def signals(self: alignment.Aligner, batch: list[heard.Heard]) -> torch.Tensor:
        done.append(1)
        if len(done) == step:
            signal.raise_signal(signal.SIGTERM)
        return forward(self, batch)

    monkeypatch.setattr(alignment.Aligner, "forward", signals)
    assert join.main(["--config", "joint.yaml"]) == 130
    assert f"stopped after {'step 2' if step == 2 else 'step 1'}; " in capsys.readouterr().err
    assert join.main(["--config", "joint.yaml"]) == 0
    assert len(done) == 6  # no step twice
    assert sealing.sha256(weights) == before
    assert list(Path("scratch").glob("*-ctc")) == list(Path("scratch").glob("*-lm")) == []


@pytest.mark.slow
def test_what_reads_a_base_knows_which_one_it_was(project: Path) -> None:
    chosen = config.load("joint.yaml")
    assert keys.identity(chosen) == sealing.read_seal(folder_of("base_join", "joint"))["run_key"]
    harmed = Path("build/joint/base/config.json")
    whole = harmed.read_bytes()
    harmed.write_bytes(whole + b" ")
    with pytest.raises(sealing.DamagedError, match=r"config\.json is damaged"):
        lalm.load(chosen.base, encoder=True, llm=True)
    harmed.write_bytes(whole)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shares": [0.5, 0.2, 0.3]}, r"shares: give one for each of the 2 parts"),
        ({"treads": 2}, r"unknown key base\.assembled\.recipe\.treads.*threads"),
        ({"longest_s": -1}, r"base\.assembled\.recipe\.longest_s"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_told(change: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        join.read_recipe({**RECIPE, **change}, 2)


def test_the_config_says_what_is_wrong_with_a_base(tmp_path: Path) -> None:
    base = {**OVERLAY["base"], "revision": "main"}  # type: ignore[dict-item]
    for bad, told in (
        ({**OVERLAY, "base": base}, "exclude each other"),
        ({**OVERLAY, "base": {**base, "revision": "", "assembled": {"encoder": {}}}}, "either `package`"),
    ):
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump(bad), encoding="utf-8")
        with pytest.raises(ConfigError, match=told):
            config.load(tmp_path / "bad.yaml")
