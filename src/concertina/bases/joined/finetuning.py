"""The second phase: projector and LLM together through the LLM's own loss on the answers, every frame read.

Tensor names: B utterances, T frames of all of them end to end, D width.
"""

import torch
from torch import nn

from concertina.bases.joined.heard import Heard
from concertina.bases.joined.recipe import Finetuning
from concertina.compressors._segments import Segments
from concertina.model import batching, lalm
from concertina.model.lalm import Lalm

DECAY = 0.01


def loss(model: Lalm, batch: list[Heard]) -> torch.Tensor:
    """Return the mean cross entropy of the answers' tokens."""
    frames_TD = torch.cat([heard.frames_TD.float() for heard in batch])
    frames_B = torch.tensor([len(heard.frames_TD) for heard in batch])
    every_frame = Segments.cut(torch.ones(len(frames_TD), dtype=torch.bool), frames_B)
    prompts, answers = [heard.prompt for heard in batch], [heard.answer for heard in batch]
    return lalm.loss(model, batching.inputs(model, frames_TD, frames_B.tolist(), every_frame, prompts, answers))


def positions(heard: Heard) -> int:
    """Return how many positions of the LLM an utterance with its answer takes."""
    before, after = heard.prompt
    return len(before) + len(heard.frames_TD) + len(after) + len(heard.answer)


def learners(model: Lalm) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters that learn: the projector's, and the LLM's without its embeddings."""
    projector = list(model.model.model.multi_modal_projector.parameters())
    return projector, [p for name, p in model.llm.named_parameters() if not name.startswith("embed_tokens")]


def optimiser(model: Lalm, recipe: Finetuning) -> torch.optim.Optimizer:
    """Return AdamW with a learning rate of its own for the projector."""
    projector, llm = learners(model)
    for parameter in (*projector, *llm):
        parameter.requires_grad_(True)
    groups = [
        {"params": projector, "lr": recipe.projector_learning_rate},
        {"params": llm, "lr": recipe.learning_rate},
    ]
    return torch.optim.AdamW(groups, weight_decay=DECAY, betas=(0.9, 0.98))
