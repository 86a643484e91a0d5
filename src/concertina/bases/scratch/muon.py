"""Muon (Jordan et al., kellerjordan.github.io/posts/muon): momentum with orthogonal updates, for matrices.

torch has it too, in bfloat16 alone and a matrix at a time: on a processor that cannot multiply bfloat16 a step takes
minutes. Here matrices of one shape go together, in float32, and the processes share them out.

Tensor names: K matrices of one shape, R rows, C columns.
"""

from collections.abc import Iterable
from typing import Any

import torch

from concertina.bases.scratch import processes

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the quintic Newton-Schulz iteration, steepest at zero
ITERATIONS = 5
MOMENTUM = 0.95


class Muon(torch.optim.Optimizer):
    """The optimiser: every process holds the same gradients, computes the updates of a share, and receives the rest."""

    def __init__(self, matrices: Iterable[torch.nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(list(matrices), {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[torch.nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    shapes.setdefault(matrix.shape, []).append(matrix)
            for (rows, columns), matrices in shapes.items():
                update_KRC = shared_out(torch.stack([self._momentum(matrix) for matrix in matrices]))
                rate = group["lr"] * max(1, rows / columns) ** 0.5
                for matrix, update in zip(matrices, update_KRC, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=rate)

    def _momentum(self, matrix: torch.nn.Parameter) -> torch.Tensor:
        """Return Nesterov's momentum: the gradient, moved towards the running mean."""
        assert matrix.grad is not None
        mean = self.state[matrix].setdefault("mean", torch.zeros_like(matrix))
        mean.lerp_(matrix.grad, 1 - MOMENTUM)
        return matrix.grad.lerp(mean, MOMENTUM)


def shared_out(matrices_KRC: torch.Tensor) -> torch.Tensor:
    """Compute `orthogonal` of all matrices, a share of them in each process."""
    rank, size = processes.number()
    if size == 1:
        return orthogonal(matrices_KRC)
    done_KRC = torch.zeros_like(matrices_KRC)
    done_KRC[rank::size] = orthogonal(matrices_KRC[rank::size])
    processes.add_up(done_KRC)
    return done_KRC


def orthogonal(matrices_KRC: torch.Tensor) -> torch.Tensor:
    """Return the nearest matrices whose singular values are all about 1 (between 0.5 and 1.5)."""
    if matrices_KRC.shape[1] > matrices_KRC.shape[2]:
        return orthogonal(matrices_KRC.mT).mT
    a, b, c = COEFFICIENTS
    x_KRC = matrices_KRC / matrices_KRC.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram_KRR = x_KRC @ x_KRC.mT
        x_KRC = a * x_KRC + (b * gram_KRR + c * gram_KRR @ gram_KRR) @ x_KRC
    return x_KRC
