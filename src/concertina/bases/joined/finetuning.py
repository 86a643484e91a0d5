"""The second phase: projector and LLM together through the LLM's own loss on the answers, every frame read.

Tensor names: B utterances, N frames of all of them end to end, D width.
"""

from collections.abc import Iterator

import torch
from torch import nn

from concertina.bases.joined.heard import Heard
from concertina.bases.joined.recipe import Finetuning
from concertina.model import lalm
from concertina.model.lalm import Lalm
from concertina.training import gradients

DECAY = 0.01


def loss(model: Lalm, batch: list[Heard]) -> torch.Tensor:
    """The mean cross entropy of the answers' tokens."""
    counts_B = [len(heard.frames_TD) for heard in batch]
    frames_ND = torch.cat([heard.frames_TD.float() for heard in batch]).to(model.device)
    inputs = lalm.embed(
        model,
        [heard.prompt for heard in batch],
        lalm.project(model, frames_ND),
        counts_B,
        torch.cat([torch.arange(count) for count in counts_B]),
        counts_B,
        [heard.answer for heard in batch],
    )
    return lalm.loss(model, inputs)


def divided(batch: list[Heard], recipe: Finetuning) -> Iterator[tuple[list[Heard], float]]:
    """A step's micro-batches, each with its share of the step's label tokens."""
    labels = sum(len(heard.answer) for heard in batch)
    for part in gradients.microbatches(batch, recipe.batch_tokens, positions):
        yield part, sum(len(heard.answer) for heard in part) / labels


def positions(heard: Heard) -> int:
    """How many positions of the LLM an utterance with its answer takes."""
    before, after = heard.prompt
    return len(before) + len(heard.frames_TD) + len(after) + len(heard.answer)


def learners(model: Lalm) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What learns: the projector's parameters, and the LLM's without its embeddings, which the projector reads."""
    projector = list(model.model.model.multi_modal_projector.parameters())
    return projector, [p for name, p in model.llm.named_parameters() if not name.startswith("embed_tokens")]


def optimiser(model: Lalm, recipe: Finetuning) -> torch.optim.Optimizer:
    """AdamW, the projector at a rate of its own."""
    projector, llm = learners(model)
    for parameter in (*projector, *llm):
        parameter.requires_grad_(True)
    groups = [
        {"params": projector, "lr": recipe.projector_learning_rate},
        {"params": llm, "lr": recipe.learning_rate},
    ]
    return torch.optim.AdamW(groups, weight_decay=DECAY, betas=(0.9, 0.98))
