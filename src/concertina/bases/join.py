"""The sub-step `base join` joins a pretrained Whisper encoder and a pretrained LLM to a base, by a projector.

The encoder is frozen and run once per utterance. First the projector alone learns to map frames to where the LLM's
token embeddings are (joined/alignment.py). Then projector and LLM learn through the LLM's own loss
(joined/finetuning.py). No pooled, merged or dropped tokens are ever seen.

INPUTS   build/<name>/data/... of the parts of base.assembled, the encoder's and the LLM's files
OUTPUTS  build/<name>/base/: a Qwen2-Audio checkpoint, curve.jsonl, record.json, and sentences.txt (hashes of the texts)
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import nn

from concertina import console
from concertina.artefacts import stage
from concertina.artefacts.stage import Run
from concertina.bases.joined import alignment, finetuning, heard, joined, pretrained
from concertina.bases.joined.heard import Heard
from concertina.bases.joined.recipe import Recipe, read_recipe
from concertina.model import devices
from concertina.model.lalm import Lalm
from concertina.store import folders, jsonl
from concertina.training import gradients
from concertina.training.checkpoints import Checkpoints
from concertina.training.gradients import backward
from concertina.training.steps import Row, Schedule, Training

Parts = list[list[Heard]]
Stop = Callable[[], bool]
CLIP_NORM = 1.0


def make(run: Run) -> None:
    """Join and train the config's base. Errors: as `pretrained`."""
    section = run.config.joined
    recipe = read_recipe(section.recipe, len(section.parts))
    run.head |= {"config": section.model_dump(mode="json"), "threads": recipe.threads, "seed": recipe.seed}
    devices.fix(recipe.threads)
    torch.manual_seed(recipe.seed)
    model = joined.join(pretrained.whisper(section.encoder), *pretrained.llm(section.llm))
    model.model.to(devices.device())
    parts = heard.read(model, run.config, recipe.longest_s)
    phases = [folders.checkpoints(f"{run.run_key}-{phase}") for phase in ("ctc", "lm")]
    kept = [Checkpoints(folder, recipe.checkpoint_s) for folder in phases]
    with console.stopping() as stop:
        first = align(model, parts, recipe, kept[0], stop)
        second = finetune(model, parts, recipe, kept[1], stop, first.began)
    joined.save(model, run.folder)
    curve = first.curve + second.curve
    jsonl.write(run.folder / "curve.jsonl", curve)
    (run.folder / "sentences.txt").write_text("\n".join(hashes(parts)) + "\n", encoding="ascii")
    facts = {"utterances": [len(part) for part in parts], "last_loss": curve[-1]["loss"]}
    run.record(facts, seconds=time.monotonic() - second.began)
    run.afterwards(*(phase.clear for phase in kept))


def align(model: Lalm, parts: Parts, recipe: Recipe, kept: Checkpoints, stop: Stop) -> Training:
    """Train the projector alone: the first phase, whose end is saved, so that an interrupted run does not repeat it."""
    settings = recipe.alignment
    aligner = alignment.Aligner(model, sorted({heard.spoken for part in parts for heard in part})).to(model.device)
    aligner.projector.requires_grad_(True)
    optimiser = torch.optim.AdamW(aligner.parameters(), lr=settings.learning_rate, weight_decay=finetuning.DECAY)
    batches = heard.batches(parts, recipe, settings.batch, np.random.default_rng([recipe.seed, 0]))

    def step(_: int) -> Row:
        return {"loss": backward([(next(batches), 1.0)], aligner, model.device.type, devices.computes_bfloat16())}

    training = _training("ctc", aligner, optimiser, settings.steps, recipe, step)
    _follow(training, batches, kept, stop)
    training.keep(kept)
    aligner.rescale(next(batches))
    aligner.projector.requires_grad_(False)
    return training


def finetune(model: Lalm, parts: Parts, recipe: Recipe, kept: Checkpoints, stop: Stop, began: float) -> Training:
    """Train projector and LLM together: the second phase. `began`: the start of the first, by `time.monotonic()`."""
    settings = recipe.finetuning
    optimiser = finetuning.optimiser(model, settings)
    batches = heard.batches(parts, recipe, settings.batch, np.random.default_rng([recipe.seed, 1]))
    loss_of = partial(finetuning.loss, model)

    def step(_: int) -> Row:
        divided = gradients.divided(next(batches), settings.batch_tokens, finetuning.positions)
        return {"loss": backward(divided, loss_of, model.device.type, devices.computes_bfloat16())}

    training = _training("lm", model.model, optimiser, settings.steps, recipe, step)
    training.began = began
    _follow(training, batches, kept, stop)
    model.model.requires_grad_(False).eval()
    return training


def _training(
    phase: str,
    learner: nn.Module,
    optimiser: torch.optim.Optimizer,
    steps: int,
    recipe: Recipe,
    step: Callable[[int], Row],
) -> Training:
    """Return the training of one phase of `steps` steps, whose cosine schedule begins with the first of them."""
    warmup = max(1, round(recipe.warmup_share * steps))
    return Training(
        model=learner,
        optimisers=[optimiser],
        schedule=Schedule(steps, warmup, falls_from=0),
        clip_norm=CLIP_NORM,
        gradients=step,
        label={"phase": phase},
        remedy="lower the learning rates of base.assembled.recipe",
    )


def _follow(training: Training, batches: Iterator[list[Heard]], kept: Checkpoints, stop: Stop) -> None:
    """Resume a phase from its checkpoint, skip the batches that it has seen, and run it to its end."""
    training.resume(kept)
    for _ in training.losses:
        next(batches)
    training.run(kept, stop)


def hashes(parts: list[list[Heard]]) -> list[str]:
    """Return 16 hexadecimal digits of the SHA-256 of every normalised text in the training speech."""
    texts = {heard.spoken for part in parts for heard in part}
    return sorted(hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts)


main = stage.command(
    "base_join",
    make,
    about="Join the encoder and the LLM of base.assembled by a projector, and train what joins them.",
    device=devices.gpu_name,
)


if __name__ == "__main__":
    raise SystemExit(main())
