"""`make base`, end to end and small: from synthetic speech to a checkpoint that the other stages load."""

import contextlib
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import WhisperFeatureExtractor

from concertina import base, config, metrics, transcribe
from concertina.bases.scratch import recipe as recipes
from concertina.bases.scratch.examples import Mix, Pool, make_pool
from concertina.bases.scratch.muon import Muon
from concertina.corpora import Utterance, synthetic
from concertina.corpora.synthesis.grammar import KINDS, sentences
from concertina.model import encoder, lalm
from concertina.store import sealing

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "models/tiny/recipe.yaml"
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


def write(folder: Path, **changes: Any) -> None:
    """A folder with a config, and beside its base the shipped recipe with changes."""
    (folder / "config.yaml").write_text((ROOT / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "small.yaml").write_text(yaml.safe_dump({"base": {"model": "base", "sha256": ""}}), encoding="utf-8")
    (folder / "base").mkdir()
    recipe = yaml.safe_load(SHIPPED.read_text(encoding="utf-8")) | changes
    (folder / "base/recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a config and the base made from it."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, **SMALL)
    assert base.main(["--config", "small.yaml"]) == 0
    return tmp_path


@pytest.mark.slow
def test_the_base_is_sealed_loads_and_names_its_sentences(made: Path) -> None:
    sealing.verify(made / "base")
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
    assert recipes.read_recipe(made / "base" / "recipe.yaml").width == 64


@pytest.mark.slow
def test_a_second_run_makes_the_same_weights_from_the_kept_phases(made: Path) -> None:
    first = sealing.sha256(made / "base" / "model.safetensors")
    (made / "base" / "model.safetensors").unlink()
    assert base.main(["--config", "small.yaml"]) == 0
    assert sealing.sha256(made / "base" / "model.safetensors") == first


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_training_that_is_killed_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    write(tmp_path, **SMALL | {"processes": processes})
    Path("base").rename("kept")
    command = [sys.executable, "-m", "concertina.base", "--config", "small.yaml", "--recipe", "kept/recipe.yaml"]
    with subprocess.Popen(command, start_new_session=True) as process:
        ends = time.monotonic() + 300
        while not list(Path("scratch").glob("base/*/phase1-*.safetensors")) and time.monotonic() < ends:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not Path("base").exists()
    weights = []
    for scratch in ("scratch/base", "scratch/another"):
        subprocess.run([*command, "--scratch", scratch], check=True)
        weights.append(sealing.sha256(Path("base", "model.safetensors")))
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2])
def test_training_that_is_asked_to_stop_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    phases = [{"loss": "ctc", "steps": 12, "single_steps": 6, "peak": 1.0, "floor": 0.1}]
    write(tmp_path, **SMALL | {"phases": phases, "mean_of": 1, "processes": size})
    Path("base").rename("kept")
    command = [sys.executable, "-m", "concertina.base", "--config", "small.yaml", "--recipe", "kept/recipe.yaml"]
    with open("console", "w", encoding="utf-8") as stderr, subprocess.Popen(command, stderr=stderr) as process:
        while not list(Path("scratch").glob("base/*/*/attempt")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 130
    assert Path("console").read_text(encoding="utf-8").count("ends after its present step") == 1  # one speaks for all
    [checkpoint] = Path("scratch").rglob("step-*")  # its first steps, which are not done again
    assert not Path("base").exists()
    weights = []
    for _ in range(2):
        subprocess.run(command, check=True)
        weights.append(sealing.sha256(Path("base", "model.safetensors")))
        for phase in Path("scratch").rglob("phase1-*"):
            phase.unlink()  # the second time from the start, without a stop
    assert not checkpoint.exists()
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ({"widht": 64}, "unknown key widht (did you mean 'width'?)"),
        ({"phases": [{"loss": "ctc", "stepps": 6}]}, "unknown key phases.0.stepps (did you mean 'steps'?)"),
        ({"heads": "four"}, "base/recipe.yaml: heads: "),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recipe: dict[str, Any],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, **recipe)
    assert base.main(["--config", "small.yaml"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: base/recipe.yaml: ")
    assert told in line


def test_a_base_without_a_recipe_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    Path("base/recipe.yaml").unlink()
    assert base.main(["--config", "small.yaml"]) == 1
    assert capsys.readouterr().err.startswith("error: base/recipe.yaml: no such recipe; name one with --recipe")


def test_a_recipe_in_a_config_is_an_unknown_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    Path("old.yaml").write_text(yaml.safe_dump({"base": {"recipe": SMALL}}), encoding="utf-8")
    assert base.main(["--config", "old.yaml"]) == 1
    assert capsys.readouterr().err.startswith("error: old.yaml: unknown key base.recipe")


def test_the_shipped_recipe_is_the_one_that_made_the_shipped_base() -> None:
    made = json.loads((ROOT / "models/tiny/training.json").read_text(encoding="utf-8"))["recipe"]
    shipped = recipes.read_recipe(SHIPPED).model_dump()
    assert {key: shipped[key] for key in made} == made


def test_fetching_a_base_imports_nothing_heavy() -> None:
    seen = (
        "import contextlib, sys; from concertina import base\n"
        "with contextlib.suppress(SystemExit): base.main(['hub', '--help'])\n"
        "print({'torch', 'transformers'} & set(sys.modules), file=sys.stderr)"
    )
    path = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run([sys.executable, "-c", seen], env=path, capture_output=True, text=True, check=True)
    assert result.stderr == "set()\n"


@pytest.mark.slow
def test_a_language_gets_the_share_that_the_recipe_gives_it(tmp_path: Path) -> None:
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=10)
    make_pool(tmp_path, extractor, {"en": 4, "de": 4, "fr": 4}, seed=0, jobs=1)
    mix = Mix({"fr": 0.1, "en": 0.7, "de": 0.2}, [1.0], noisy=0.5, transcribe=1.0)
    pool, draw = Pool(tmp_path), np.random.default_rng(0)
    drawn = [pool.example(draw, mix, 960).language for _ in range(600)]
    for language, share in mix.languages.items():
        assert abs(drawn.count(language) / len(drawn) - share) < 0.08


@pytest.fixture(scope="module")
def shipped() -> tuple[config.Config, lalm.Lalm]:
    with contextlib.chdir(ROOT):
        chosen = config.load()
        return chosen, lalm.load(chosen.base, encoder=True, llm=True)


@pytest.mark.slow
@pytest.mark.parametrize("pair", ["en", "de", "fr", "en-de", "en-fr", "de-en", "fr-en"])
def test_the_shipped_base_hears_and_translates(shipped: tuple[config.Config, lalm.Lalm], pair: str) -> None:
    chosen, model = shipped
    source, _, target = pair.partition("-")
    said = list(synthetic.read(synthetic.Options(splits={"clean": {source: 20}}), "clean", 0))
    prompt = lalm.prompt_ids(model, chosen.base, "translate" if target else "transcribe", source, target or None)
    method = transcribe.choose(chosen, None, None, None, {})
    answers, references = [], []
    for utterance in said:
        assert isinstance(utterance, Utterance)
        answers.append(transcribe.transcribe(model, chosen, np.asarray(utterance.audio), method, prompt).text)
        references.append(utterance.translation[target] if target else utterance.text)
    score = metrics.load("bleu" if target else "wer").score(references, answers, target or source).value
    assert score > 50 if target else score < 20


@pytest.mark.slow
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
    mine, reference = (torch.stack([matrix.detach() for matrix in matrices]) for matrices in (ours, theirs))
    moved, off = reference - start, mine - reference
    assert off.abs().max() < 0.02 * moved.abs().max()  # theirs is computed in bfloat16
