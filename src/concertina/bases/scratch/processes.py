"""The processes that train a base from scratch together, and what they exchange; a single one exchanges nothing."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessException

MEETING = "meeting-"  # the beginning of the name of the file by which they find each other


def spawn(work: Callable[..., None], arguments: tuple[Any, ...], size: int) -> None:
    """Run `work(rank, *arguments)` in `size` processes; Ctrl-C here stops them after their step."""
    if size == 1:
        work(0, *arguments)
        return
    context = torch.multiprocessing.spawn(work, arguments, nprocs=size, join=False)
    try:
        while not context.join():
            pass
    except KeyboardInterrupt:
        for process in context.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGUSR1)  # Ctrl-C has reached them too, and this one may come twice
        with contextlib.suppress(ProcessException):  # one that had not begun ends at once, and the others with it
            while not context.join():
                pass
        raise


@contextlib.contextmanager
def together(rank: int, size: int, folder: Path) -> Iterator[None]:
    """Be one of `size` processes of the same parent, which meet by a file in `folder`; the first speaks for all."""
    if size == 1:
        yield
        return
    meeting = f"file://{(folder / f'{MEETING}{os.getppid()}').resolve()}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.ExitStack() as quiet:
            if rank:  # an error goes to the parent another way
                quiet.enter_context(contextlib.redirect_stderr(nowhere))
            yield
    finally:
        dist.destroy_process_group()


def number() -> tuple[int, int]:
    """Return this process' rank, and the number of processes."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def wait() -> None:
    """Wait until all processes have called this."""
    add_up(torch.zeros(1))


def add_up(tensor: torch.Tensor) -> None:
    """Replace a tensor by its sum over all processes; each waits for the others."""
    if dist.is_initialized():
        dist.all_reduce(tensor)


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace gradients by their means over all processes."""
    _, size = number()
    if size == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    add_up(flat)
    flat /= size
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def any_of(flag: bool) -> bool:
    """Return whether the flag is set in any of the processes."""
    flags = torch.tensor(float(flag))
    add_up(flags)
    return bool(flags)
