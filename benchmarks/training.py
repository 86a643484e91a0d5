"""LoRA from cached frames, beside the same LoRA with the frozen encoder in the loop.

    PYTHONPATH=src python benchmarks/training.py [--config CONFIG] [--data build/tiny/data/synthetic/train]

Runs the same optimiser steps on the same utterances on one thread: with frames from memory, as the train stage
reads them, and with the encoder run (at true length) in every step. Prints one JSON: utterances per second of each
(CPU time, so that other work on the machine counts little), their ratio, and the difference of the last losses.
Without --data the utterances are noise of 1 to 4.3 seconds with made-up answers.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peft
import torch
from features import speech as recordings

from concertina import config, segments, train
from concertina.compressors._utterances import Utterances
from concertina.model import batching, devices, encoding, lalm
from concertina.model.lalm import Lalm
from concertina.units import RATE_HZ

ANSWER = "the red light is over there at three"
Frames = Callable[[list[int]], list[np.ndarray]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default=config.DEFAULT)
    parser.add_argument("--data", type=Path, help="a folder of the data stage")
    parser.add_argument("--cell", default="average-3")
    parser.add_argument("--steps", type=int, default=8)
    args = parser.parse_args()
    experiment = config.load(args.config)
    devices.fix(1)
    decide = segments.decider(experiment.cell(args.cell))
    waves = recordings(args.data, args.steps * experiment.train.batch)
    budget = int(experiment.features.batch_seconds * RATE_HZ)

    model = lalm.load(experiment.base, encoder=True, llm=True, device="cpu")
    cached = encoding.encode(model, waves, budget)
    rates, losses = {}, {}
    for name in ("cached", "encoder_in_the_loop"):
        model = lalm.load(experiment.base, encoder=True, llm=True, device="cpu")

        def frames(indices: list[int], model: Lalm = model, name: str = name) -> list[np.ndarray]:
            if name == "cached":
                return [cached[i] for i in indices]
            return encoding.encode(model, [waves[i] for i in indices], budget)

        rates[name], losses[name] = steps(model, experiment, frames, decide, len(waves), args.steps)
    result = {
        "utterances_per_second": rates,
        "ratio": rates["cached"] / rates["encoder_in_the_loop"],
        "difference_of_last_losses": abs(losses["cached"] - losses["encoder_in_the_loop"]),
    }
    print(json.dumps(result, indent=1))
    return 0


def steps(
    model: Lalm, experiment: config.Config, frames: Frames, decide: segments.Decide, utterances: int, count: int
) -> tuple[float, float]:
    """Some optimiser steps as the train stage takes them: utterances per CPU second, and the last loss."""
    torch.manual_seed(0)
    adapted = peft.get_peft_model(model.model, train.lora(experiment, model))
    adapted.train()
    trainable = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=experiment.train.learning_rate)
    prompt = lalm.prompt_ids(model, experiment.base, "transcribe", "en", None)
    answer = lalm.answer_ids(model, ANSWER)
    batch = experiment.train.batch
    taken = []
    for step in range(count):
        indices = [i % utterances for i in range(step * batch, (step + 1) * batch)]
        began = time.process_time()
        model.model.model.audio_tower.eval()
        read = frames(indices)
        with torch.autocast("cpu", torch.bfloat16, enabled=experiment.train.precision == "bfloat16"):
            lengths_B = torch.tensor([len(one) for one in read])
            frames_TD = torch.from_numpy(np.concatenate(read))
            columns = {"frames": frames_TD, "seeds": torch.zeros(batch, dtype=torch.long)}
            cut = decide(Utterances(lengths_B, columns))
            inputs = batching.inputs(
                model,
                frames_TD,
                lengths_B.tolist(),
                cut,
                [prompt] * batch,
                [answer] * batch,
                pool_at=experiment.segments.pool_at,
            )
            loss = lalm.loss(model, inputs)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, experiment.train.clip_norm)
        optimizer.step()
        taken.append(time.process_time() - began)
    return batch / float(np.median(taken[1:])), loss.item()


if __name__ == "__main__":
    raise SystemExit(main())
