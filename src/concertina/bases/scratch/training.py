"""Training a base model, phase after phase; what is done is kept, so that a run that was killed goes on from there."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn

from concertina import console
from concertina.bases.scratch.examples import Mix, Pool, batches
from concertina.bases.scratch.model import Learner
from concertina.bases.scratch.muon import Muon
from concertina.bases.scratch.recipe import Phase, Recipe, digest
from concertina.model import devices, encoder


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


def train(rank: int, recipe: Recipe, prompts: dict[Any, str], pool_folder: Path, scratch: Path) -> None:
    """All phases in one of `processes` processes, gradients averaged after every step."""
    torch.set_num_threads(1)
    if recipe.processes > 1:
        meeting = f"file://{(scratch / f'meeting-{os.getppid()}').resolve()}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=recipe.processes)
    pool = Pool(pool_folder)
    torch.manual_seed(recipe.seed)
    learner = Learner(scratch / "untrained", prompts)
    for number, phase in enumerate(recipe.phases, start=1):
        saved = saved_at(scratch, recipe.phases[:number])
        if not saved.exists():
            _phase(phase, number, rank, recipe, pool, learner, saved)
        if recipe.processes > 1:
            dist.barrier()
        learner.load_state_dict(load_file(saved), strict=False)
    if recipe.processes > 1:
        dist.destroy_process_group()


def saved_at(scratch: Path, phases: list[Phase]) -> Path:
    """Where the weights after these phases are kept: a second run goes on from there, with one more phase or none."""
    return scratch / f"phase{len(phases)}-{digest(''.join(p.model_dump_json() for p in phases))}.safetensors"


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
            with torch.autocast("cpu", torch.bfloat16, enabled=devices.computes_bfloat16()):
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
