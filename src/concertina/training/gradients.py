"""The gradients of one optimiser step: in micro-batches that fit the memory, and over the processes of a team.

However a step is divided, its loss is the mean over all its label tokens, so that the division changes nothing but
the order of additions.
"""

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from concertina import console
from concertina.config import Config
from concertina.model import batching, lalm
from concertina.model.batching import Item
from concertina.model.inputs import Inputs, pack
from concertina.model.lalm import Lalm

PATIENCE = timedelta(hours=2)  # how long a process waits for the others
SECONDS_TO_END = 5.0  # what a process that has failed takes to end
GRACE_S = 60.0  # in which the leader must notice by itself that a process has failed
T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """The processes that train one adapter; alone it has one."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process speaks, watches the dev loss and writes."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This process' part of a step's items."""
        return list(items[self.rank :: self.size])

    def add_up(self, parameters: Sequence[torch.nn.Parameter], *values: float) -> list[float]:
        """Make gradients, and some values, the sums over all processes; one that has no gradient adds zeros."""
        if self.size == 1:
            return list(values)
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        told = torch.tensor(values, dtype=torch.float32, device=gradients[0].device)
        flat = torch.cat([*(gradient.flatten().float() for gradient in gradients), told])
        _exchange(flat, dist.ReduceOp.SUM)
        parts = flat.split([*(gradient.numel() for gradient in gradients), len(values)])
        for parameter, part in zip(parameters, parts[:-1], strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)
        return [float(value) for value in parts[-1]]

    def agree(self, steps: int) -> None:
        """Wait until all have read where they go on from, and see that it is the same step. Errors: TeamError."""
        if self.size == 1:
            return
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        spread = torch.tensor([steps, -steps], device=device)
        _exchange(spread, dist.ReduceOp.MAX)
        if int(spread.sum()):
            raise TeamError("the processes found different checkpoints; the same command starts them anew")


class TeamError(RuntimeError):
    """The processes of a team cannot go on together: one has ended, the message says which, or they differ."""


def _exchange(tensor: torch.Tensor, by: Any) -> None:
    try:
        dist.all_reduce(tensor, by)
    except RuntimeError as error:
        raise TeamError("another process of the team has ended") from error


@contextlib.contextmanager
def gathered(size: int, follow: Callable[..., None], *about: Any) -> Iterator[Team]:
    """Lead a team of so many processes, in each of which `follow(team, *about)` runs; alone where the size is 1.

    Each has a GPU to itself, where there are enough. Errors: TeamError.
    """
    if size == 1:
        yield Team()
        return
    with tempfile.TemporaryDirectory(prefix="concertina-") as folder:
        meeting = f"file://{folder}/meeting"
        context = torch.multiprocessing.get_context("spawn")
        others = [
            context.Process(target=_follow, args=(rank, size, meeting, follow, about), daemon=True)
            for rank in range(1, size)
        ]
        for other in others:
            other.start()
        try:
            with _watched(others):
                yield _join(0, size, meeting)
                for other in others:
                    other.join(PATIENCE.total_seconds())
        except TeamError as error:
            if lost := [rank for rank, other in enumerate(others, start=1) if _ended_badly(other)]:
                raise TeamError(_told(lost[0], size)) from error
            raise
        finally:
            for other in others:
                other.terminate()
            if dist.is_initialized():
                dist.destroy_process_group()


def _told(rank: int, size: int) -> str:
    return f"process {rank} of {size} has ended; its own message stands above"


@contextlib.contextmanager
def _watched(others: Sequence[Any]) -> Iterator[None]:
    """End this process where another has failed and it has not noticed: between GPUs it would wait for hours."""
    over = threading.Event()

    def watch() -> None:
        ranks = {other.sentinel: rank for rank, other in enumerate(others, start=1)}
        while ranks and not over.is_set():
            for sentinel in connection.wait(list(ranks), timeout=1.0):
                rank = ranks.pop(sentinel)
                if not over.wait(GRACE_S) and others[rank - 1].exitcode:
                    console.say(f"error: {_told(rank, len(others) + 1)}")
                    for other in others:
                        other.kill()
                    os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _ended_badly(process: Any) -> bool:
    process.join(SECONDS_TO_END)
    return process.exitcode not in (None, 0)


def _follow(rank: int, size: int, meeting: str, follow: Callable[..., None], about: tuple[Any, ...]) -> None:
    """What another process than the leader does; when the run is to stop, the leader tells it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    try:
        follow(_join(rank, size, meeting), *about)
    except TeamError:
        return  # whoever has ended says why
    except Exception as error:
        if not isinstance(error, OSError) and not console.raised_by_us(error):
            raise
        console.say(f"error in process {rank} of {size}: {' '.join(str(error).split())}")
        raise SystemExit(1) from None


def _join(rank: int, size: int, meeting: str) -> Team:
    on_gpus = torch.cuda.is_available() and torch.cuda.device_count() >= size
    if on_gpus:
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if on_gpus else "gloo", init_method=meeting, rank=rank, world_size=size, timeout=PATIENCE
    )
    return Team(rank, size)


def ready(model: Lalm, config: Config) -> None:
    """Set the model up for the config's use of memory."""
    if config.train.gradient_checkpointing:
        model.model.gradient_checkpointing_enable({"use_reentrant": False})


def batch(model: Lalm, config: Config, items: Sequence[Item]) -> tuple[Inputs, dict[str, Any]]:
    """A batch with its answers, in the config's layout, and what the LLM is to be told of it."""
    inputs = batching.batch(model, config, items, answers=True)
    if config.train.layout == "padded":
        return inputs, {}
    row, packing = pack(inputs)
    return row, {"packing": packing}


def gradients(
    model: Lalm,
    config: Config,
    items: Sequence[Item],
    parameters: Sequence[torch.nn.Parameter],
    team: Team,
    stop: bool = False,
) -> tuple[float, bool]:
    """Leave a step's gradients in the parameters; returns its loss, and whether any process has been told to stop."""
    autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=config.train.precision == "bfloat16")
    labels = sum(len(item.answer) for item in items)
    total = 0.0
    for parameter in parameters:
        parameter.grad = None
    for part in microbatches(team.share(items), config.train.batch_tokens, positions):
        with autocast:
            inputs, told = batch(model, config, part)
            share = sum(len(item.answer) for item in part) / labels
            loss = lalm.loss(model, inputs, **told)
            loss = loss if share == 1 else loss * share
        loss.backward()
        total += loss.item()
    loss_of_all, stopping = team.add_up(parameters, total, float(stop))
    return loss_of_all, stopping > 0


def microbatches(items: Sequence[T], budget: int | None, positions_of: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in order, in groups of at most `budget` positions, padding included; at least one in each."""
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
    """How many positions of the LLM an item with its answer takes."""
    before, after = item.prompt
    tokens = int(item.speech.segments.counts_B[item.at])
    return len(before) + tokens + len(after) + len(item.answer)
