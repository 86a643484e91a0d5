"""The assemble stage: a pretrained Whisper encoder and a pretrained LLM become a base, by a projector between them.

The encoder stays as it is, and hears every utterance once. First the projector alone learns to put frames where the
LLM's token embeddings are (assembly/alignment.py); then projector and LLM learn through the LLM's own loss
(assembly/finetuning.py). No pooled, merged or dropped tokens are ever seen.

INPUTS   build/<name>/data/... of the parts it hears, the encoder's and the LLM's files
OUTPUTS  build/<name>/base/: a Qwen2-Audio checkpoint, curve.jsonl, record.json, and sentences.txt (hashes of the texts)
"""

import argparse
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

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
from concertina.training import checkpoints
from concertina.training.checkpoints import Checkpoints

Row = dict[str, Any]
Batches = Iterator[list[Heard]]
Divide = Callable[[list[Heard]], Iterator[tuple[list[Heard], float]]]
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
    head["run_key"] = keys.run_key(keys.base(config), inputs)
    with sealing.sealed(layout.base(config.name), {"run_key": head["run_key"]}) as folder:
        began = time.monotonic()
        curve = align(model, parts, recipe) + finetune(model, parts, recipe, head["run_key"])
        joined.save(model, folder)
        (folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve), encoding="utf-8")
        (folder / "sentences.txt").write_text("\n".join(hashes(parts)) + "\n", encoding="ascii")
        facts = {"utterances": [len(part) for part in parts], "last_loss": curve[-1]["loss"]}
        records.write(folder / "record.json", records.run(facts=facts, seconds=time.monotonic() - began, **head))


def align(model: Lalm, parts: list[list[Heard]], recipe: Recipe) -> list[Row]:
    """The projector's first phase: its training curve."""
    chosen = recipe.alignment
    aligner = alignment.Aligner(model, sorted({heard.spoken for part in parts for heard in part})).to(model.device)
    aligner.projector.requires_grad_(True)
    optimiser = torch.optim.AdamW(aligner.parameters(), lr=chosen.learning_rate, weight_decay=finetuning.DECAY)
    batches = heard.batches(parts, recipe, chosen.batch, np.random.default_rng([recipe.seed, 0]))
    steps = range(chosen.steps)
    curve = list(_steps("ctc", aligner, _whole, optimiser, batches, steps, chosen.steps, recipe))
    aligner.rescale(next(batches))
    aligner.projector.requires_grad_(False)
    return curve


def finetune(model: Lalm, parts: list[list[Heard]], recipe: Recipe, run_key: str) -> list[Row]:
    """The second phase: its training curve. A phase that was killed goes on from its last checkpoint."""
    chosen = recipe.finetuning
    optimiser = finetuning.optimiser(model, chosen)
    kept = Checkpoints(run_key, recipe.checkpoint_s)
    curve: list[Row] = []
    if found := checkpoints.latest(run_key):
        checkpoints.scatter(found[0], model.model, optimiser)
        curve = found[1]["curve"]
    batches = heard.batches(parts, recipe, chosen.batch, np.random.default_rng([recipe.seed, 1]))
    for _ in curve:
        next(batches)
    model.model.train()
    with console.stopping() as stop:
        steps = range(len(curve), chosen.steps)
        loss_of, divide = partial(finetuning.loss, model), partial(finetuning.divided, recipe=chosen)
        for row in _steps("lm", loss_of, divide, optimiser, batches, steps, chosen.steps, recipe):
            kept.check()
            curve.append(row)
            if (kept.due() or stop()) and row["step"] < chosen.steps:
                kept.save(row["step"], checkpoints.gather(model.model, optimiser), {"curve": curve})
            if stop():
                raise console.Stopped(f"stopped after step {row['step']}; the same command goes on from there")
    kept.clear()
    model.model.requires_grad_(False).eval()
    return curve


def _whole(batch: list[Heard]) -> Iterator[tuple[list[Heard], float]]:
    yield batch, 1.0


def _steps(
    phase: str,
    loss_of: Callable[[list[Heard]], torch.Tensor],
    divide: Divide,
    optimiser: torch.optim.Optimizer,
    batches: Batches,
    steps: range,
    total: int,
    recipe: Recipe,
) -> Iterator[Row]:
    """Optimiser steps under a warm-up and a cosine to zero; yields a row of the curve after each."""
    learning = [p for group in optimiser.param_groups for p in group["params"]]
    peaks = [group.setdefault("peak", group["lr"]) for group in optimiser.param_groups]
    device = learning[0].device.type
    autocast = torch.autocast(device, torch.bfloat16, enabled=devices.computes_bfloat16())
    warmup = max(1, round(recipe.warmup_share * total))
    with console.Progress(total, "steps", done=steps.start) as progress:
        for step in steps:
            rate = min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / total)))
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * rate
            optimiser.zero_grad()
            mean = 0.0
            for part, share in divide(next(batches)):
                with autocast:
                    loss = loss_of(part) * share
                loss.backward()
                mean += loss.item()
            nn.utils.clip_grad_norm_(learning, CLIP_NORM)
            optimiser.step()
            progress.add(1, phase=phase, loss=mean)
            yield {"phase": phase, "step": step + 1, "loss": mean, "rate": rate}


def hashes(parts: list[list[Heard]]) -> list[str]:
    """16 hexadecimal digits of the SHA-256 of every text that was heard, normalised."""
    texts = {heard.spoken for part in parts for heard in part}
    return sorted(hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts)


if __name__ == "__main__":
    raise SystemExit(main())
