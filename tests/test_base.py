"""`make base`, end to end and small: from synthetic speech to a checkpoint that the other stages load."""

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import WhisperFeatureExtractor

from concertina import base, config, encoder, integrity, lalm
from concertina.corpora import Utterance, synthetic
from concertina.pretraining.examples import Pool, make_pool
from concertina.pretraining.muon import Muon
from concertina.synthesis.grammar import KINDS, sentences

ROOT = Path(__file__).parents[1]
SMALL = {
    "clips": {"en": 30, "de": 12, "fr": 12},
    "width": 64,
    "encoder_layers": 1,
    "llm_layers": 1,
    "heads": 2,
    "phases": [
        {"loss": "ctc", "steps": 6, "single_steps": 3, "peak": 1.0, "floor": 0.1},
        {"loss": "joint", "steps": 4, "peak": 0.5, "floor": 0.0},
        {"loss": "joint", "steps": 2, "peak": 0.5, "floor": 0.0, "transcribe": 0.2},
    ],
    "mean_of": 2,
    "warmup_steps": 2,
    "batch_s": 12,
    "processes": 1,
}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a config and the base made from it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({"base": {"model": "base", "sha256": "", "recipe": SMALL}}))
    assert base.main(["--config", "small.yaml"]) == 0
    return tmp_path


@pytest.mark.slow
def test_the_base_is_sealed_loads_and_names_its_sentences(made: Path) -> None:
    integrity.verify(made / "base")
    chosen = config.load("small.yaml").base
    model = lalm.load(chosen, encoder=True, llm=True)
    assert model.model.config.audio_config.max_source_positions == 500
    assert model.feature_extractor.n_samples == 160_000
    for task, to in (("transcribe", None), ("translate", "de")):
        before, after = lalm.prompt_ids(model, chosen, task, "en", to)
        assert len(before) == 1
        assert len(after) == (3 if task == "transcribe" else 4)  # every mark of the prompt is one token
    hashes = set((made / "base" / "sentences.txt").read_text().split())
    spoken = itertools.islice(sentences("base", 0, list(KINDS)), 30)
    assert {hashlib.sha256(s.en.encode()).hexdigest()[:16] for s in spoken} <= hashes
    assert json.loads((made / "base" / "training.json").read_text())["recipe"]["width"] == 64


@pytest.mark.slow
def test_a_second_run_makes_the_same_weights_from_the_kept_phases(made: Path) -> None:
    first = integrity.sha256(made / "base" / "model.safetensors")
    (made / "base" / "model.safetensors").unlink()
    assert base.main(["--config", "small.yaml"]) == 0
    assert integrity.sha256(made / "base" / "model.safetensors") == first


def test_what_an_example_sounds_like_is_what_it_says(tmp_path: Path) -> None:
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=10)
    make_pool(tmp_path, extractor, {"en": 12}, seed=0, jobs=1)
    pool = Pool(tmp_path)
    for clip, spoken in zip(pool.clips, itertools.islice(sentences("base", 0, list(KINDS)), 12), strict=True):
        assert clip.texts["en"] == spoken.en
    [again] = synthetic.read(synthetic.Options(splits={"base": {"en": 1}}), "base", 0)
    assert isinstance(again, Utterance)
    mel_BML, lengths_B = encoder.log_mel(extractor, [np.asarray(again.audio, np.float32) / 32768], extractor.n_samples)
    first = pool.clips[0]
    kept_LM = pool.mel_LM[: first.length]
    assert abs(first.length - int(lengths_B)) <= 2  # eSpeak's first call in a process is like no other
    n = min(first.length, int(lengths_B))
    assert np.corrcoef(kept_LM[:n].ravel(), mel_BML[0, :, :n].T.numpy().ravel())[0, 1] > 0.9


@pytest.mark.parametrize("shape", [(8, 24), (24, 8)])
def test_muon_steps_as_that_of_torch_does(shape: tuple[int, int]) -> None:
    start = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    ours, theirs = ([torch.nn.Parameter(matrix.clone()) for matrix in start] for _ in range(2))
    optimisers = Muon(ours, 0.1, 0.01), torch.optim.Muon(theirs, 0.1, 0.01)
    for step in range(3):
        gradients = torch.randn(3, *shape, generator=torch.Generator().manual_seed(step + 1))
        for matrices, optimiser in zip((ours, theirs), optimisers, strict=True):
            for matrix, gradient in zip(matrices, gradients, strict=True):
                matrix.grad = gradient.clone()
            optimiser.step()
    moved, off = torch.stack(theirs) - start, torch.stack(ours) - torch.stack(theirs)
    assert off.abs().max() < 0.02 * moved.abs().max()  # theirs is computed in bfloat16
