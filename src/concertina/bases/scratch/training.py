"""Train a base from scratch, phase after phase; finished phases and checkpoints are kept, so a killed run resumes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from concertina import console
from concertina.bases.scratch import processes
from concertina.bases.scratch.examples import Example, Mix, Pool, batches
from concertina.bases.scratch.model import Learner
from concertina.bases.scratch.muon import Muon
from concertina.bases.scratch.recipe import Phase, Recipe, digest
from concertina.model import devices, encoder
from concertina.store import jsonl, sealing
from concertina.training.checkpoints import Checkpoints
from concertina.training.steps import Row, Schedule, Training

CHECKPOINT_S = 300  # between the checkpoints of a phase


def _optimisers(learner: Learner, recipe: Recipe, peak: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside layers and AdamW for the rest; `peak`: the phase's factor on their rates."""
    inner = [p for name, p in learner.named_parameters() if ".layers." in name and p.ndim == 2]
    inner_ids = set(map(id, inner))
    outer = [p for p in learner.parameters() if id(p) not in inner_ids and p.requires_grad]
    return [
        Muon(inner, lr=peak * recipe.muon_learning_rate, weight_decay=0.01),
        torch.optim.AdamW(outer, lr=peak * recipe.adam_learning_rate, weight_decay=0.01, betas=(0.9, 0.98)),
    ]


def train(rank: int, recipe: Recipe, prompts: dict[Any, str], pool_folder: Path, scratch: Path) -> None:
    """Train all phases in one of `processes` processes, which average their gradients in every step."""
    torch.set_num_threads(1)
    with processes.together(rank, recipe.processes, scratch), console.stopping() as stop:
        pool = Pool(pool_folder)
        torch.manual_seed(recipe.seed)
        learner = Learner(scratch / "untrained", prompts)
        for number, phase in enumerate(recipe.phases, start=1):
            saved = saved_at(scratch, recipe.phases[:number])
            if not saved.exists():
                _phase(phase, number, recipe, pool, learner, saved, stop)
            processes.wait()  # until the first of them has saved it
            learner.load_state_dict(load_file(saved), strict=False)


def saved_at(scratch: Path, phases: list[Phase]) -> Path:
    """Return the file of the weights after these phases, from which a later run continues."""
    return scratch / f"phase{len(phases)}-{digest(''.join(p.model_dump_json() for p in phases))}.safetensors"


def _phase(
    phase: Phase, number: int, recipe: Recipe, pool: Pool, learner: Learner, saved: Path, stop: Callable[[], bool]
) -> None:
    """Train what is left of one phase, and save its weights and its curve; the first process writes."""
    rank, _ = processes.number()
    draw = np.random.default_rng([recipe.seed, rank, number])
    batch_mel, limit = int(recipe.batch_s * 100), recipe.window_s * 100 - encoder.CONTEXT_MEL
    transcribe = recipe.transcribe if phase.transcribe is None else phase.transcribe
    easy = Mix(recipe.languages, [1.0], recipe.single_noisy, transcribe)
    full = Mix(recipe.languages, recipe.joined, recipe.noisy, transcribe)
    single, joined = (batches(pool, mix, draw, batch_mel, limit) for mix in (easy, full))

    def examples(step: int) -> list[Example]:
        return next(single if step <= phase.single_steps else joined)

    def gradients(step: int) -> Row:
        seen = examples(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=devices.computes_bfloat16()):
            loss, ctc = learner(seen, phase.loss == "joint", recipe.ctc_weight)
        loss.backward()
        processes.average_gradients(learner.parameters())
        return {"loss": loss.item(), "ctc": ctc.item(), "examples": len(seen)}

    training = Training(
        model=learner,
        optimisers=_optimisers(learner, recipe, phase.peak),
        schedule=Schedule(phase.steps, recipe.warmup_steps, phase.floor),
        clip_norm=1.0,
        gradients=gradients,
        agree=processes.any_of,
        label={"phase": number},
        remedy="lower the learning rates of the recipe",
    )
    kept = Checkpoints(saved.with_suffix(""), CHECKPOINT_S, owns=rank == 0)
    training.resume(kept)
    for step in range(1, len(training.losses) + 1):
        examples(step)
    training.run(kept, stop)
    if rank == 0:
        rows = [*training.curve, {"seconds": time.monotonic() - training.began}]
        jsonl.write(saved.with_suffix(".jsonl"), rows)
        with sealing.replacing(saved) as temporary:
            save_file(_state(learner), temporary)
        kept.clear()


def _state(learner: Learner) -> dict[str, torch.Tensor]:
    """Return the learner's tensors without the tied head."""
    return {k: v.detach().contiguous() for k, v in learner.state_dict().items() if not k.endswith("lm_head.weight")}
