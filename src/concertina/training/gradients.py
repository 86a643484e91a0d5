"""Compute the gradients of one optimiser step in micro-batches that fit into memory.

However a step is divided, its loss is the mean over all its label tokens. The division therefore changes nothing but
the order of additions.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import torch

from concertina.config import Config
from concertina.model import batching, lalm
from concertina.model.batching import Item
from concertina.model.inputs import Inputs, pack
from concertina.model.lalm import Lalm

T = TypeVar("T")


class Answered(Protocol):
    """Anything that has an answer as token ids."""

    @property
    def answer(self) -> list[int]: ...


A = TypeVar("A", bound=Answered)


def ready(model: Lalm, config: Config) -> None:
    """Prepare the model to use memory as the config says."""
    if config.train.gradient_checkpointing:
        # newer releases of transformers warn about the old name
        enable = getattr(model.model, "activation_checkpointing_enable", model.model.gradient_checkpointing_enable)
        enable({"use_reentrant": False})


def batch(model: Lalm, config: Config, items: Sequence[Item]) -> tuple[Inputs, dict[str, Any]]:
    """Return a batch with its answers in the config's layout, and the further arguments of `lalm.loss` for it."""
    inputs = batching.batch(model, config, items, answers=True)
    if config.train.layout == "padded":
        return inputs, {}
    row, packing = pack(inputs)
    return row, {"packing": packing}


def gradients(model: Lalm, config: Config, items: Sequence[Item]) -> float:
    """Add a step's gradients to those in the parameters; returns its mean loss per label token, in nats."""

    def loss(part: list[Item]) -> torch.Tensor:
        inputs, extra = batch(model, config, part)
        return lalm.loss(model, inputs, **extra)

    parts = divided(items, config.train.batch_tokens, positions)
    return backward(parts, loss, model.device.type, config.train.precision == "bfloat16")


def backward(
    parts: Iterable[tuple[list[T], float]], loss_of: Callable[[list[T]], torch.Tensor], device: str, bfloat16: bool
) -> float:
    """Add the gradients of a step's parts to those in the parameters; returns the step's loss.

    Each part comes with its share of the step; `loss_of` returns a part's mean loss. With `bfloat16`, autocast computes
    in that type where it is safe.
    """
    autocast = torch.autocast(device, torch.bfloat16, enabled=bfloat16)
    total = 0.0
    for part, share in parts:
        with autocast:
            loss = loss_of(part) * share
        loss.backward()
        total += loss.item()
    return total


def divided(
    items: Sequence[A], budget: int | None, positions_of: Callable[[A], int]
) -> Iterator[tuple[list[A], float]]:
    """Yield a step's micro-batches, each with its share of the step's label tokens."""
    labels = sum(len(item.answer) for item in items)
    for part in microbatches(items, budget, positions_of):
        yield part, sum(len(item.answer) for item in part) / labels


def microbatches(items: Sequence[T], budget: int | None, positions_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield the items in order, in groups of at most `budget` positions, padding included; each has at least one."""
    group: list[T] = []
    longest = 0
    for item in items:
        longest_then = max(longest, positions_of(item))
        if group and budget is not None and longest_then * (len(group) + 1) > budget:
            yield group
            group, longest_then = [], positions_of(item)
        group.append(item)
        longest = longest_then
    if group:
        yield group


def positions(item: Item) -> int:
    """Return how many positions of the LLM an item takes up with its answer."""
    before, after = item.prompt
    tokens = int(item.speech.segments.counts_B[item.at])
    return len(before) + tokens + len(after) + len(item.answer)
