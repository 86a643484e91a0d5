"""The assemble stage: a pretrained Whisper encoder and a pretrained LLM become a base, by a projector between them.

The encoder stays as it is, and hears every utterance once. First the projector alone learns to put frames where the
LLM's token embeddings are (joined/alignment.py); then projector and LLM learn through the LLM's own loss
(joined/finetuning.py). No pooled, merged or dropped tokens are ever seen.

INPUTS   build/<name>/data/... of the parts it hears, the encoder's and the LLM's files
OUTPUTS  build/<name>/base/: a Qwen2-Audio checkpoint, curve.jsonl, record.json, and sentences.txt (hashes of the texts)
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from concertina import config as configs
from concertina import console
from concertina.artefacts import keys, layout
from concertina.bases.joined import alignment, finetuning, heard, joined, pretrained
from concertina.bases.joined.heard import Heard
from concertina.bases.joined.recipe import Recipe, read_recipe
from concertina.config import Config, ConfigError
from concertina.model import devices
from concertina.model.lalm import Lalm
from concertina.store import records, sealing
from concertina.store.provenance import provenance
from concertina.training import gradients
from concertina.training.checkpoints import Checkpoints
from concertina.training.gradients import backward
from concertina.training.steps import Row, Schedule, Training

Parts = list[list[Heard]]
Stop = Callable[[], bool]
CLIP_NORM = 1.0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m concertina.bases.join",
        description="Join the encoder and the LLM of base.assembled by a projector, and train what joins them.",
        epilog="Reads build/<name>/data and downloads/, writes build/<name>/base.",
    )
    parser.add_argument("--config", type=Path, default=configs.DEFAULT, help="config.yaml or an overlay over it")
    return parser


@console.run
def main(argv: list[str] | None = None) -> int:
    """Assemble the config's base; a run that fails leaves a failed record."""
    config = configs.load(parser().parse_args(argv).config)
    if config.base.assembled is None:
        raise ConfigError("base.assembled: this config has none; its base is fetched, or there already")
    recipe = read_recipe(config.base.assembled.recipe, len(config.base.parts))
    head: Row = {
        "stage": "assemble",
        "name": config.name,
        "config": config.base.assembled.model_dump(mode="json"),
        "threads": recipe.threads,
        "seed": recipe.seed,
        "run_key": "",
        **provenance(devices.gpu_name()),
    }
    with records.failures(layout.failure(config.name, "assemble", "base"), head):
        assemble(config, recipe, head)
    return 0


def assemble(config: Config, recipe: Recipe, head: Row) -> None:
    """Make the base and seal its folder; puts the run key into `head`, the record's head. Errors: as `pretrained`."""
    made = config.base.assembled
    assert made is not None
    devices.fix(recipe.threads)
    torch.manual_seed(recipe.seed)
    model = joined.join(pretrained.whisper(made.encoder), *pretrained.llm(made.llm))
    model.model.to(devices.device())
    parts, inputs = heard.read(model, config, recipe.longest_s)
    inputs += [str(sealing.read_seal(part.folder)["run_key"]) for part in (made.encoder, made.llm) if part.comes]
    head["run_key"] = run_key = keys.run_key(keys.base(config), inputs)
    with sealing.sealed(layout.base(config.name), {"run_key": run_key}) as folder, console.stopping() as stop:
        folders = [layout.checkpoints(f"{run_key}-{phase}") for phase in ("ctc", "lm")]
        kept = [Checkpoints(each, recipe.checkpoint_s) for each in folders]
        first = align(model, parts, recipe, kept[0], stop)
        second = finetune(model, parts, recipe, kept[1], stop, first.began)
        joined.save(model, folder)
        curve = first.curve + second.curve
        (folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve), encoding="utf-8")
        (folder / "sentences.txt").write_text("\n".join(hashes(parts)) + "\n", encoding="ascii")
        facts = {"utterances": [len(part) for part in parts], "last_loss": curve[-1]["loss"]}
        records.write(folder / "record.json", records.run(facts=facts, seconds=time.monotonic() - second.began, **head))
    for phase in kept:
        phase.clear()


def align(model: Lalm, parts: Parts, recipe: Recipe, kept: Checkpoints, stop: Stop) -> Training:
    """Train the projector alone: the first phase, whose end is kept, so that the second need not do it again."""
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
    """Train projector and LLM together: the second phase. `began`: when the first did, as `time.monotonic()` says."""
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
    """A phase of so many steps; its cosine begins with the first of them."""
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
    """Go on from where the phase stands, past the batches that it has seen."""
    training.resume(kept)
    for _ in training.losses:
        next(batches)
    training.run(kept, stop)


def hashes(parts: list[list[Heard]]) -> list[str]:
    """16 hexadecimal digits of the SHA-256 of every text that was heard, normalised."""
    texts = {heard.spoken for part in parts for heard in part}
    return sorted(hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts)


if __name__ == "__main__":
    raise SystemExit(main())
