"""The optimiser steps of every training: schedule, clipping, a check of the loss, progress, checkpoints, stopping.

Adapters, joined bases and the base from scratch differ in what learns and in how the gradients of a step are found;
they hand that in. What is here is the same for all of them.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from torch import nn

from concertina import console
from concertina.training import checkpoints
from concertina.training.checkpoints import Checkpoints

WINDOW = 20  # steps over which the loss is averaged when divergence is judged
Row = dict[str, Any]


class DivergedError(RuntimeError):
    """The loss is not finite, or has grown instead of falling; the message says when."""


@dataclass(frozen=True)
class Schedule:
    """A linear warm-up to the peak, and a cosine down to `floor`, a share of the peak.

    The cosine begins where the warm-up ends, or at step `falls_from`; the lower of the two holds.
    """

    steps: int
    warmup: int
    floor: float = 0.0
    falls_from: int | None = None

    def share(self, step: int) -> float:
        """The learning rate at a step, counted from 0, as a share of the peak."""
        begins = self.warmup if self.falls_from is None else self.falls_from
        done = min(1.0, max(0, step - begins) / max(1, self.steps - begins))
        fallen = 0.5 * (1 + math.cos(math.pi * done))
        return min((step + 1) / max(1, self.warmup), self.floor + (1 - self.floor) * fallen)


def check_loss(losses: Sequence[float], warmup: int, remedy: str = "lower the learning rate") -> None:
    """Stop a training that cannot end well. Errors: DivergedError."""
    if not math.isfinite(losses[-1]):
        raise DivergedError(f"the loss became {losses[-1]} at step {len(losses)}; {remedy}")
    recent = fmean(losses[-WINDOW:])
    if len(losses) >= warmup + WINDOW and recent > (limit := 1 + 2 * losses[0]):
        raise DivergedError(
            f"diverged: up to step {len(losses)} the mean loss of {WINDOW} steps is {recent:.3g}, over {limit:.3g} "
            f"(1 + twice the first loss); {remedy}"
        )


@dataclass
class Training:
    """A training: what learns, how, and where it stands.

    `gradients`: leaves the gradients of a step (from 1) in the parameters of `model`, and returns the step's loss and
    what else its row of the curve holds. `measure`: what is measured before the first step, after each
    `measure_every` steps and after the last, such as the dev loss. `agree`: makes of this process' wish to stop that
    of all the processes that train together. `label` stands in every row; `name` in front of every line of progress.
    """

    model: nn.Module
    optimisers: Sequence[torch.optim.Optimizer]
    schedule: Schedule
    clip_norm: float
    gradients: Callable[[int], Row]
    measure: Callable[[], Row] | None = None
    measure_every: int = 1
    agree: Callable[[bool], bool] = bool
    label: Row = field(default_factory=dict)
    name: str = ""
    unit: str = "steps"
    per_step: int = 1  # how many units a step does
    remedy: str = "lower the learning rate"  # of a loss that grows
    began: float = field(default_factory=time.monotonic)  # earlier, where it goes on from an earlier attempt
    curve: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.learning = [p for p in self.model.parameters() if p.requires_grad]
        self._peaks = [float(group["lr"]) for group in self._groups()]

    @property
    def losses(self) -> list[float]:
        """The loss of every step that was done."""
        return [row["loss"] for row in self.curve if "loss" in row]

    def resume(self, kept: Checkpoints) -> None:
        """Go on from the last sound checkpoint, where there is one."""
        if found := kept.latest():
            tensors, values = found
            checkpoints.scatter(tensors, self.model, self.optimisers)
            self.curve[:] = values["curve"]
            self.began = time.monotonic() - values["seconds"]

    def run(self, kept: Checkpoints, stop: Callable[[], bool]) -> None:
        """Do the steps that are left; `stop` says whether a signal has asked to end.

        Errors: DivergedError; console.Stopped when it was asked to end, with a checkpoint.
        """
        total, size, losses = self.schedule.steps, self.per_step, self.losses
        if not self.curve:
            self._measure(0)
        done = len(losses)
        with console.Progress(total * size, self.unit, done=done * size, name=self.name) as progress:
            for number in range(done + 1, total + 1):
                kept.check()
                began = time.monotonic()
                row = self.step(number)
                losses.append(row["loss"])
                check_loss(losses, self.schedule.warmup, self.remedy)
                self.curve.append({**row, f"{self.unit}_per_second": size / (time.monotonic() - began)})
                self._measure(number)
                progress.add(size, **self._shown(row))
                stopping = self.agree(stop())
                if kept.due() or stopping:
                    self.keep(kept)
                if stopping and number < total:
                    raise console.Stopped(f"stopped after step {number}; the same command goes on from there")

    def keep(self, kept: Checkpoints) -> None:
        """Make a checkpoint of where the training stands."""
        values = {"curve": self.curve, "seconds": time.monotonic() - self.began}
        kept.save(len(self.losses), checkpoints.gather(self.model, self.optimisers), values)

    def step(self, number: int) -> Row:
        """Do one step (from 1); its row of the curve. `learning_rate` is that of the first group of parameters."""
        self.model.train()
        for parameter in self.learning:
            parameter.grad = None
        facts = self.gradients(number)
        nn.utils.clip_grad_norm_(self.learning, self.clip_norm)
        share = self.schedule.share(number - 1)
        for group, peak in zip(self._groups(), self._peaks, strict=True):
            group["lr"] = peak * share
        for optimiser in self.optimisers:
            optimiser.step()
        return {**self.label, "step": number, **facts, "learning_rate": share * self._peaks[0]}

    def _groups(self) -> list[dict[str, Any]]:
        """The optimisers' groups of parameters, anew each time: an optimiser that is restored has other ones."""
        return [group for optimiser in self.optimisers for group in optimiser.param_groups]

    def _measure(self, number: int) -> None:
        """Measure, where it is time: before the first step, after so many, and after the last."""
        if self.measure and (number % self.measure_every == 0 or number == self.schedule.steps):
            self.curve.append({"step": number, **self.measure()})

    def _shown(self, row: Row) -> Row:
        """What a line of progress says: what a step gave, and what was measured last."""
        measured = next((row for row in reversed(self.curve) if "loss" not in row), {})
        facts = {**row, **measured, "step": row["step"]}
        return {key: value for key, value in facts.items() if key != "learning_rate"}
