"""Make the tiny base: a small Qwen2-Audio model trained from scratch on synthetic speech in three languages.

First the encoder alone, by CTC against the language model's own token embeddings, so that its frames
already live where the language model reads; half-way up it also learns phonemes, whose times the synthesiser knows
(what that helps was not measured). Then everything together through the
language model's loss, so that the encoder's last phase is not CTC alone (which makes frames spiky and flatters
segmentation). No pooled, merged or dropped tokens are ever seen.

    python -m concertina.base --config config.yaml --out models/tiny
"""

import argparse
import hashlib
import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import WhisperFeatureExtractor

from concertina import config as configs
from concertina import console, encoder, fingerprint, integrity, lalm
from concertina.config import Config, ConfigError, Section
from concertina.pretraining.examples import Mix, Pool, batches, make_pool
from concertina.pretraining.model import Learner, Shape, create
from concertina.pretraining.muon import Muon
from concertina.records import provenance
from concertina.spelling import nearest


class Phase(Section):
    """A stretch of training with a warm-up and a cosine of its own; `peak` and `floor` are shares of the rates.

    `transcribe`, the share of transcription, is the recipe's unless a phase has its own.
    """

    loss: Literal["ctc", "joint"]
    steps: int
    single_steps: int = 0
    peak: float
    floor: float
    transcribe: float | None = None


class Recipe(Shape):
    """How the base is made; see config.yaml."""

    clips: dict[str, int]
    phases: list[Phase]
    mean_of: int
    batch_s: float
    single_noisy: float
    muon_learning_rate: float
    adam_learning_rate: float
    warmup_steps: int
    ctc_weight: float
    languages: dict[str, float]
    joined: list[float]
    noisy: float
    transcribe: float
    processes: int
    seed: int


@console.run
def main(argv: list[str] | None = None) -> int:
    """Train the base, or what of it is not yet in scratch, and publish it."""
    parser = argparse.ArgumentParser(
        prog="concertina.base", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", default="config.yaml", help="the config whose base.recipe is followed")
    parser.add_argument("--out", type=Path, help="folder of the finished model (default: the config's base.model)")
    parser.add_argument("--scratch", type=Path, default=Path("scratch/base"), help="folder for mels and checkpoints")
    arguments = parser.parse_args(argv)
    config = configs.load(arguments.config)
    recipe = read_recipe(config, arguments.config)
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=recipe.window_s)
    speaking = fingerprint.code_hash("concertina.pretraining.examples", ["concertina.synthesis.espeak"])
    pool = arguments.scratch / f"clips-{_digest(str(recipe.clips), str(recipe.seed), str(recipe.window_s), speaking)}"
    recipe_text, prompts = recipe.model_dump_json(exclude={"phases", "mean_of"}), str(config.base.prompts)
    scratch = arguments.scratch / _digest(pool.name, recipe_text, prompts, fingerprint.code_hash("concertina.base"))
    if not (pool / "clips.json").exists():
        make_pool(pool, extractor, recipe.clips, recipe.seed, recipe.processes)
    texts = [
        text
        for clip in json.loads((pool / "clips.json").read_text(encoding="utf-8"))
        for text in clip["texts"].values()
    ]
    start = scratch / "untrained"
    if not start.exists():
        begun = start.with_suffix(".tmp")
        create(begun, recipe, list(recipe.clips), recipe.seed, texts, extractor)
        os.replace(begun, start)
    arguments_of_train = (recipe, config.base.prompts, pool, scratch)
    if recipe.processes > 1:
        torch.multiprocessing.spawn(_train, arguments_of_train, nprocs=recipe.processes)
    else:
        _train(0, *arguments_of_train)
    publish(scratch, arguments.out or Path(config.base.model), recipe, texts, arguments.config)
    return 0


def read_recipe(config: Config, path: str) -> Recipe:
    """The config's base.recipe. Errors: ConfigError naming the key and the nearest valid one."""
    try:
        return Recipe.model_validate(config.base.recipe)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(map(_explain, error.errors()))) from None


def _explain(fact: Any) -> str:
    where = ".".join(map(str, ("base.recipe", *fact["loc"])))
    if fact["type"] != "extra_forbidden":
        return f"{where}: {fact['msg']}"
    model = Phase if "phases" in fact["loc"] else Recipe
    return f"unknown key {where}{nearest(str(fact['loc'][-1]), list(model.model_fields))}"


# ---- training


def _optimisers(learner: Learner, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside layers, AdamW for everything else."""
    inner = [p for name, p in learner.named_parameters() if ".layers." in name and p.ndim == 2]
    chosen = set(map(id, inner))
    outer = [p for p in learner.parameters() if id(p) not in chosen and p.requires_grad]
    return [
        Muon(inner, lr=recipe.muon_learning_rate, weight_decay=0.01),
        torch.optim.AdamW(outer, lr=recipe.adam_learning_rate, weight_decay=0.01, betas=(0.9, 0.98)),
    ]


def _rate(step: int, phase: Phase, warmup: int) -> float:
    """Warm-up, then cosine to the floor: most of what is learned is learned while the rate falls."""
    if step < warmup:
        return (step + 1) / warmup
    fallen = (1 + math.cos(math.pi * (step - warmup) / (phase.steps - warmup))) / 2
    return phase.floor + (1 - phase.floor) * fallen


def _train(rank: int, recipe: Recipe, prompts: dict[Any, str], pool_folder: Path, scratch: Path) -> None:
    """All phases in one of `processes` processes, gradients averaged after every step."""
    torch.set_num_threads(1)
    if recipe.processes > 1:
        meeting = f"file://{(scratch / f'meeting-{os.getppid()}').resolve()}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=recipe.processes)
    pool = Pool(pool_folder)
    torch.manual_seed(recipe.seed)
    learner = Learner(scratch / "untrained", prompts)
    for number, phase in enumerate(recipe.phases, start=1):
        saved = _saved(scratch, recipe.phases[:number])
        if not saved.exists():
            _phase(phase, number, rank, recipe, pool, learner, saved)
        if recipe.processes > 1:
            dist.barrier()
        learner.load_state_dict(load_file(saved), strict=False)
    if recipe.processes > 1:
        dist.destroy_process_group()


def _saved(scratch: Path, phases: list[Phase]) -> Path:
    """Where the weights after these phases are kept: a second run goes on from there, with one more phase or none."""
    return scratch / f"phase{len(phases)}-{_digest(''.join(p.model_dump_json() for p in phases))}.safetensors"


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def _phase(phase: Phase, number: int, rank: int, recipe: Recipe, pool: Pool, learner: Learner, saved: Path) -> None:
    draw = np.random.default_rng([recipe.seed, rank, number])
    batch_mel, limit = int(recipe.batch_s * 100), recipe.window_s * 100 - encoder.CONTEXT_MEL
    transcribe = recipe.transcribe if phase.transcribe is None else phase.transcribe
    easy = Mix(recipe.languages, [1.0], recipe.single_noisy, transcribe)
    full = Mix(recipe.languages, recipe.joined, recipe.noisy, transcribe)
    single, joined = (batches(pool, mix, draw, batch_mel, limit) for mix in (easy, full))
    optimisers = _optimisers(learner, recipe)
    peaks = [phase.peak * optimiser.param_groups[0]["lr"] for optimiser in optimisers]
    learner.zero_grad(set_to_none=True)  # as a process that begins with this phase has it, to the last bit
    curve: list[dict[str, float]] = []
    started = time.monotonic()
    with console.Progress(phase.steps, "steps") as progress:
        for step in range(phase.steps):
            examples = next(single if step < phase.single_steps else joined)
            for optimiser, peak in zip(optimisers, peaks, strict=True):
                optimiser.param_groups[0]["lr"] = peak * _rate(step, phase, recipe.warmup_steps)
                optimiser.zero_grad(set_to_none=False)
            with torch.autocast("cpu", torch.bfloat16, enabled=lalm.computes_bfloat16()):
                loss, ctc = learner(examples, phase.loss == "joint", recipe.ctc_weight)
            loss.backward()
            _average_gradients(learner, recipe.processes)
            nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
            for optimiser in optimisers:
                optimiser.step()
            curve.append({"step": step, "loss": loss.item(), "ctc": ctc.item(), "examples": len(examples)})
            if rank == 0:
                progress.add(1, phase=number, loss=loss.item(), ctc=ctc.item())
    if rank == 0:
        curve.append({"seconds": time.monotonic() - started})
        saved.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve), encoding="utf-8")
        save_file(_state(learner), saved.with_suffix(".tmp"))
        os.replace(saved.with_suffix(".tmp"), saved)


def _state(learner: Learner) -> dict[str, torch.Tensor]:
    """The learner's tensors, the tied head left out."""
    return {k: v.detach().contiguous() for k, v in learner.state_dict().items() if not k.endswith("lm_head.weight")}


def _average_gradients(learner: Learner, processes: int) -> None:
    if processes == 1:
        return
    gradients = [p.grad for p in learner.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= processes
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


# ---- publishing


def publish(scratch: Path, out: Path, recipe: Recipe, texts: list[str], config: str) -> None:
    """Write the finished model to `out`, sealed, with its card and the hashes of its training sentences."""
    phases = [_saved(scratch, recipe.phases[: n + 1]) for n in range(len(recipe.phases))]
    seconds = sum(json.loads(p.with_suffix(".jsonl").read_text().splitlines()[-1])["seconds"] for p in phases)
    learner = Learner(scratch / "untrained", {})
    learner.load_state_dict(_mean(phases[-recipe.mean_of :]), strict=False)
    learner.lalm.lm_head.weight = nn.Parameter(learner.lalm.model.language_model.embed_tokens.weight.detach().clone())
    with integrity.sealed(out) as folder:
        learner.lalm.save_pretrained(folder)
        for path in (scratch / "untrained").iterdir():
            if not (folder / path.name).exists():
                shutil.copy(path, folder / path.name)
        hashes = sorted({hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts})
        (folder / "sentences.txt").write_text("\n".join(hashes) + "\n", encoding="ascii")
        card = {"recipe": recipe.model_dump(), "seconds": round(seconds), **provenance("cpu")}
        integrity.write_json(folder / "training.json", card)
        text = _card(recipe, seconds, config, len(hashes), card["commit"])
        (folder / "README.md").write_text(text, encoding="utf-8")
    console.say(f"{out}: set base.sha256 to {integrity.sha256(out / 'model.safetensors')}")


def _mean(saved: list[Path]) -> dict[str, torch.Tensor]:
    """The mean of some phases' weights: better than the last alone where each began at the one before."""
    states = [load_file(path) for path in saved]
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def _card(recipe: Recipe, seconds: float, config: str, sentences: int, commit: str) -> str:
    clips = ", ".join(f"{count:,} {language}" for language, count in recipe.clips.items())
    shares = ", ".join(f"{100 * share:.0f} % {language}" for language, share in recipe.languages.items())
    return f"""---
library_name: transformers
license: apache-2.0
language: [{", ".join(recipe.clips)}]
---
# The tiny base of Concertina

A Qwen2-Audio-architecture model ({recipe.encoder_layers} encoder and {recipe.llm_layers} language-model layers of
width {recipe.width}, a window of {recipe.window_s} s), trained from nothing on synthetic speech. It transcribes
English, German and French and translates en-de, en-fr, de-en and fr-en, by prompt. It is a test bench: it knows no
human voice.

Made by `python -m concertina.base --config {config}` in {seconds / 60:.0f} minutes of training on 2 cores, at commit
{commit}; versions and the whole recipe stand in training.json.
Clips: {clips}; examples: {shares}; 1 to {recipe.window_s} s,
joined, in white, pink and band noise, with time and frequency masking. It never saw pooled, merged or dropped tokens.
The encoder's last phases trained through the language model's loss; the weights are the mean of those after the
last {recipe.mean_of}.

sentences.txt holds the first 16 hexadecimal digits of the SHA-256 of each of its {sentences:,} training sentences, in
every language; no sentence of an adapter's training, of dev or of test is among them.
"""


if __name__ == "__main__":
    raise SystemExit(main())
