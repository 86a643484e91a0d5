"""A LoRA step on a packed row beside the obvious one: peft's layers on a padded batch, through transformers' forward.

    PYTHONPATH=src python benchmarks/steps.py [--cell average-3] [--steps 12]

Needs the features and segments that `make reproduce` leaves in build/. The same LoRA, utterances, optimiser and
arithmetic on one thread; the two take turns, and of each step's repeats the least time counts, so that what else the
machine does counts little. Prints one JSON: CPU seconds per step of each, their ratio, the largest difference of
losses, and the largest difference of a first gradient, relative to that gradient's largest value.
"""

import argparse
import json
import time
from typing import Any

import peft
import torch

from concertina import config, train
from concertina.config import Cell, Config
from concertina.model import batching, devices, lalm
from concertina.model.batching import Item, Speech
from concertina.training import gradients, order

SEED = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default=config.DEFAULT)
    parser.add_argument("--cell", default="average-3")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=4, help="of each step; the least time counts")
    args = parser.parse_args()
    experiment = config.load(args.config)
    devices.fix(1)
    sides = {layout: Side(experiment, layout, experiment.cell(args.cell)) for layout in ("padded", "packed")}
    batches = sides["padded"].batches(args.steps)
    for _ in range(args.repeats):
        for number, batch in enumerate(batches):
            for side in sides.values():
                side.step(number, batch)
    padded, packed = sides.values()
    losses = zip(padded.losses, packed.losses, strict=True)
    result = {
        "cpu_seconds": {name: sum(side.seconds.values()) / len(side.seconds) for name, side in sides.items()},
        "ratio": sum(padded.seconds.values()) / sum(packed.seconds.values()),
        "difference_of_losses": max(abs(one - other) for one, other in losses),
        "difference_of_gradients": max(
            float((one - other).abs().max() / one.abs().max())
            for one, other in zip(padded.gradients, packed.gradients, strict=True)
            if one.abs().max() > 0
        ),
    }
    print(json.dumps(result, indent=1))
    return 0


class Side:
    """One way of doing steps: its model, its optimiser, and what was measured."""

    def __init__(self, experiment: Config, layout: str, cell: Cell) -> None:
        settings = experiment.train.model_copy(update={"layout": layout})
        self.config = experiment.model_copy(update={"train": settings})
        self.model = lalm.load(experiment.base, encoder=False, llm=True, device="cpu")
        parts = settings.sets[0].parts
        speech = Speech.of(experiment, parts, cell)
        self.items: list[Item] = [
            item for part in parts for item in batching.items(self.model, self.config, part, speech[part.place])
        ]
        gradients.ready(self.model, self.config)
        torch.manual_seed(SEED)
        adapted = peft.get_peft_model(self.model.model, train.lora(self.config, self.model))
        adapted.train()
        self.trainable = [p for p in adapted.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trainable, lr=settings.learning_rate)
        self.losses: list[float] = []
        self.seconds: dict[int, float] = {}
        self.gradients: list[Any] = []

    def batches(self, steps: int) -> list[list[int]]:
        """Which items each step sees, as in a training of one part."""
        frames = [int(item.speech.lengths_B[item.at]) for item in self.items]
        return list(order.batches([frames], [1.0], self.config.train.batch, steps, SEED))

    def step(self, number: int, batch: list[int]) -> None:
        """Do a step on these items, and keep its time where it is the least of this number."""
        began = time.process_time()
        items = [self.items[i] for i in batch]
        for parameter in self.trainable:
            parameter.grad = None
        loss = gradients.gradients(self.model, self.config, items)
        if not self.losses:
            self.gradients = [parameter.grad.clone() for parameter in self.trainable if parameter.grad is not None]
        torch.nn.utils.clip_grad_norm_(self.trainable, self.config.train.clip_norm)
        self.optimizer.step()
        taken = time.process_time() - began
        self.losses.append(loss)
        self.seconds[number] = min(taken, self.seconds.get(number, taken))


if __name__ == "__main__":
    raise SystemExit(main())
