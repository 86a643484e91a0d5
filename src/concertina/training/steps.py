"""Run the optimiser steps of any training: schedule, clipping, a check of the loss, progress, checkpoints, stopping.

Adapters, joined bases and the base from scratch differ in what they train and in how they compute the gradients of a
step. They pass these in; everything else is the same for all of them.
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

WINDOW = 20  # the number of steps whose mean loss shows whether it diverges
Row = dict[str, Any]


class DivergedError(RuntimeError):
    """The loss is not finite, or it has grown instead of fallen; the message says at which step."""


@dataclass(frozen=True)
class Schedule:
    """The learning rate rises linearly to its peak, then falls as a cosine to `floor`, a share of the peak.

    The cosine begins where the warm-up ends, or at step `falls_from`. Where both apply, the lower value is used.
    """

    steps: int
    warmup: int
    floor: float = 0.0
    falls_from: int | None = None

    def share(self, step: int) -> float:
        """Return the learning rate at a step, counted from 0, as a share of the peak."""
        start = self.warmup if self.falls_from is None else self.falls_from
        fraction = min(1.0, max(0, step - start) / max(1, self.steps - start))
        cosine = 0.5 * (1 + math.cos(math.pi * fraction))
        return min((step + 1) / max(1, self.warmup), self.floor + (1 - self.floor) * cosine)


def check_loss(losses: Sequence[float], warmup: int, remedy: str = "lower the learning rate") -> None:
    """Stop a training whose loss is not finite or has grown too large. Errors: DivergedError."""
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
    """A training: the model, how it is trained, and the curve so far.

    `gradients`: leaves the gradients of a step (from 1) in the parameters of `model`, and returns the step's loss and
    further values for its row of the curve. `measure`: measures values such as the dev loss before the first step,
    after each `measure_every` steps and after the last. `agree`: turns this process' wish to stop into that of all the
    processes that train together. `label` is part of every row; `name` begins every line of progress.
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
    per_step: int = 1  # how many units a step counts for
    remedy: str = "lower the learning rate"  # what to do if the loss grows
    began: float = field(default_factory=time.monotonic)  # moved back by the time of earlier attempts
    curve: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.learning = [p for p in self.model.parameters() if p.requires_grad]
        self._peaks = [float(group["lr"]) for group in self._groups()]

    @property
    def losses(self) -> list[float]:
        """Return the loss of every step so far."""
        return [row["loss"] for row in self.curve if "loss" in row]

    def resume(self, kept: Checkpoints) -> None:
        """Continue from the last undamaged checkpoint, if there is one."""
        if latest := kept.latest():
            tensors, values = latest
            checkpoints.scatter(tensors, self.model, self.optimisers)
            self.curve[:] = values["curve"]
            self.began = time.monotonic() - values["seconds"]

    def run(self, kept: Checkpoints, stop: Callable[[], bool]) -> None:
        """Do the steps that remain; `stop` says whether a signal has asked this process to end.

        Errors: DivergedError; console.Stopped when it ends early, after saving a checkpoint.
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
        """Save a checkpoint of the training's present state."""
        values = {"curve": self.curve, "seconds": time.monotonic() - self.began}
        kept.save(len(self.losses), checkpoints.gather(self.model, self.optimisers), values)

    def step(self, number: int) -> Row:
        """Do one step (from 1), and return its row of the curve, with the first parameter group's learning rate."""
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
        """Return the optimisers' parameter groups, read anew because restoring an optimiser replaces them."""
        return [group for optimiser in self.optimisers for group in optimiser.param_groups]

    def _measure(self, number: int) -> None:
        """Measure if it is due: before the first step, every `measure_every` steps, and after the last."""
        if self.measure and (number % self.measure_every == 0 or number == self.schedule.steps):
            self.curve.append({"step": number, **self.measure()})

    def _shown(self, row: Row) -> Row:
        """Return the values for a line of progress: the step's own, and those measured last."""
        measured = next((row for row in reversed(self.curve) if "loss" not in row), {})
        facts = {**row, **measured, "step": row["step"]}
        return {key: value for key, value in facts.items() if key != "learning_rate"}
