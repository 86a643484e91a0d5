"""Save the state of a training in sealed folders in scratch/<run key>/, so that its next attempt resumes from there.

An attempt is one process that trains towards a run key. The newest one owns the folder: an earlier attempt that is
still alive, for example on a node that was believed lost, notices this at its next step and stops. The name of a
checkpoint contains its attempt's, so that two attempts never write the same one.
"""

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from concertina import console
from concertina.store import sealing

KEPT = 2  # the last one, and the one before it in case the last is damaged
TENSORS, VALUES, OWNER = "state.safetensors", "state.json", "attempt"


def gather(model: nn.Module, optimisers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Collect what decides the next step besides the data: trained parameters, states of optimisers, random states."""
    tensors = {f"parameter.{name}": p.detach() for name, p in model.named_parameters() if p.requires_grad}
    for place, optimiser in enumerate(optimisers):
        for number, state in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser{place}.{number}.{name}": value for name, value in state.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    return tensors


def scatter(tensors: dict[str, Tensor], model: nn.Module, optimisers: Sequence[torch.optim.Optimizer]) -> None:
    """Restore what `gather` collected."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(tensors[f"parameter.{name}"])
    for place, optimiser in enumerate(optimisers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == f"optimiser{place}":
                number, _, key = rest.partition(".")
                state.setdefault(int(number), {})[key] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    torch.set_rng_state(tensors["random.cpu"])
    if torch.cuda.is_available() and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"])


def _folders(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


class Checkpoints:
    """The checkpoints of one training, whose newest attempt this process is. `every_s` 0 saves one at every step.

    Of several processes that train together one saves them (`owns`), and the others only read.
    """

    def __init__(self, folder: Path, every_s: float, owns: bool = True) -> None:
        self.folder, self.every_s, self.owns = folder, every_s, owns
        self.attempt = uuid.uuid4().hex[:12]
        self._saved_at = time.monotonic()
        if not owns:
            return
        with sealing.writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            claim = self.folder / f".{OWNER}-{self.attempt}"
            claim.write_text(self.attempt, encoding="ascii")
            os.replace(claim, self.folder / OWNER)

    def check(self) -> None:
        """Check that this is still the newest attempt. Errors: console.Stopped when it is not."""
        if not self.owns:
            return
        try:
            owner = (self.folder / OWNER).read_text(encoding="ascii")
        except FileNotFoundError:
            owner = ""  # the newest attempt has published its result and removed the folder
        if owner != self.attempt:
            raise console.Stopped("a later attempt at the same run has taken over; this one stops")

    def due(self) -> bool:
        """Return whether it is time for another checkpoint."""
        return self.owns and time.monotonic() - self._saved_at >= self.every_s

    def latest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the tensors and values of the last undamaged checkpoint, whichever attempt saved it."""
        for folder in _folders(self.folder):
            try:
                sealing.verify(folder)
            except sealing.DamagedError as error:
                console.say(f"{error.args[0].split(';')[0]}; going back to the checkpoint before it")
                continue
            return load_file(folder / TENSORS), sealing.read_json(folder / VALUES)
        return None

    def save(self, step: int, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Save the state after a step, and delete all but the last few checkpoints. Errors: OutputError."""
        if not self.owns:
            return
        with sealing.sealed(self.folder / f"step-{step:07d}-{self.attempt}", {"step": step}) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary / TENSORS)
            sealing.write_json(temporary / VALUES, values)
        for old in _folders(self.folder)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
        self._saved_at = time.monotonic()

    def clear(self) -> None:
        """Delete all checkpoints, once the result is published."""
        if not self.owns:
            return
        with contextlib.suppress(OSError):
            os.replace(self.folder, trash := self.folder.with_name(f".{self.folder.name}.{self.attempt}"))
            shutil.rmtree(trash, ignore_errors=True)
