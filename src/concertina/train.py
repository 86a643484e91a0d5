"""The train stage: LoRA on the LLM from cached frames, so that it learns to read compressed speech.

INPUTS   build/<name>/features/... and build/<name>/segments/... of the set's parts, the base model
OUTPUTS  build/<name>/train/<set>/<compressor>-<ratio>/seed<n>/: peft's own adapter files, compressor.json (what
         it was trained with), curve.jsonl, record.json

Tensor names: L positions that predict a label, V vocabulary.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peft
import torch

from concertina import config as configs
from concertina import console
from concertina.artefacts import keys, layout
from concertina.config import Config, ConfigError
from concertina.model import batching, devices, lalm
from concertina.model.batching import Item, Speech
from concertina.model.lalm import Lalm
from concertina.store import records, sealing
from concertina.store.provenance import provenance
from concertina.tracking import mlflow_client
from concertina.training import checkpoints, gradients, order
from concertina.training.checkpoints import Checkpoints
from concertina.training.gradients import Team

WINDOW = 20  # steps over which the loss is averaged when divergence is judged
PROBE = 4  # utterances on which a saved adapter is checked


class Asked(NamedTuple):
    """Which adapter."""

    train_set: str
    compressor: str
    ratio: str
    seed: int


class DivergedError(RuntimeError):
    """The loss is not finite, or has grown instead of falling; the message says when."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m concertina.train",
        description="Finetune LoRA on the LLM for one training set, compressor, ratio and seed, from cached frames.",
        epilog="example: python -m concertina.train --train-set english --compressor average --ratio 3 --seed 0",
    )
    parser.add_argument("--config", type=Path, default=configs.DEFAULT, help="config.yaml or an overlay over it")
    parser.add_argument("--train-set", required=True, help="a set of train.sets")
    parser.add_argument("--compressor", required=True, help="a compressor of segments.cells")
    parser.add_argument("--ratio", required=True, help="one of its ratios, spelled as in paths: 3, 2.5, natural")
    parser.add_argument("--seed", required=True, type=int, help="of the LoRA initialisation and the data order")
    return parser


@console.run
def main(argv: list[str] | None = None) -> int:
    """Train one adapter; a run that fails leaves a failed record."""
    asked = parser().parse_args(argv)
    config = configs.load(asked.config)
    config.cell(asked.compressor, asked.ratio)
    run = f"{asked.train_set}/{asked.compressor}-{asked.ratio}/seed{asked.seed}"
    head: dict[str, Any] = {
        "stage": "train",
        "name": config.name,
        "compressor": asked.compressor,
        "ratio": asked.ratio,
        "positions": config.segments.positions,
        "train_set": asked.train_set,
        "seed": asked.seed,
        "config": config.train.model_dump(mode="json", exclude={"checkpoint_s"}),
        "threads": config.train.threads,
        "run_key": "",
        "override": (config.gate and config.gate.override) or None,
        **provenance(devices.gpu_name()),
    }
    with records.failures(layout.failure(config.name, "train", run), head):
        adapter = Asked(asked.train_set, asked.compressor, asked.ratio, asked.seed)
        with gradients.gathered(config.train.processes, follow, config, adapter) as team:
            train(config, adapter, head, team)
    return 0


@dataclass
class Training:
    """One adapter in the making: what it learns from, in which order, and where it stands."""

    config: Config
    model: Lalm
    items: list[Item]
    dev: list[Item]
    steps: list[list[int]]
    adapted: peft.PeftModel
    optimizer: torch.optim.Optimizer
    team: Team
    run_key: str
    seed: int

    @property
    def trainable(self) -> list[torch.nn.Parameter]:
        return [p for p in self.adapted.parameters() if p.requires_grad]

    def resume(self) -> tuple[list[dict[str, float]], float]:
        """Go on from the last checkpoint, where there is one: its curve, and the seconds it took."""
        found = checkpoints.latest(self.run_key)
        curve, seconds = (found[1]["curve"], found[1]["seconds"]) if found else ([], 0.0)
        self.team.agree(sum("loss" in row for row in curve))
        if found:
            checkpoints.scatter(found[0], self.adapted, self.optimizer)
        return curve, seconds

    def step(self, number: int, stop: bool = False) -> tuple[float, float, bool]:
        """Do a step (from 1): its loss, its learning rate, and whether any of the team has been told to stop."""
        chosen = self.config.train
        self.adapted.train()
        if self.team.size > 1:  # each drops its own, and a checkpoint, which the leader writes, need not know which
            torch.manual_seed(int(np.random.SeedSequence([self.seed, number, self.team.rank]).generate_state(1)[0]))
        items = [self.items[i] for i in self.steps[number - 1]]
        loss, stopping = gradients.gradients(self.model, self.config, items, self.trainable, self.team, stop)
        torch.nn.utils.clip_grad_norm_(self.trainable, chosen.clip_norm)
        rate = chosen.learning_rate * learning_rate_at(number - 1, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return loss, rate, stopping


def prepare(config: Config, asked: Asked, team: Team) -> Training:
    """Everything that a training begins with, the same in each process of a team. Errors: DamagedError, ConfigError."""
    # 1. Everything random comes from the seed, everything parallel from the config.
    chosen = config.train
    devices.fix(chosen.threads, chosen.precision)
    torch.manual_seed(asked.seed)

    # 2. The data: the same items in the same order for every compressor and ratio.
    model = lalm.load(config.base, encoder=False, llm=True, dtype=lalm.held_in(config.base, chosen.precision))
    parts = config.train_set(asked.train_set)
    opened = {
        key: Speech(config.name, *key, asked.compressor, asked.ratio)
        for key in sorted({(part.corpus, part.split) for part in (*parts.parts, *parts.dev)})
    }
    items = [item for p in parts.parts for item in batching.items(model, config, p, opened[p.corpus, p.split])]
    dev = [
        item
        for p in parts.dev
        for item in batching.items(model, config, p, opened[p.corpus, p.split], chosen.dev_utterances)
    ]
    frames = [int(item.speech.lengths_B[item.at]) for item in items]
    steps = list(order.batches(frames, chosen.batch, chosen.steps, asked.seed))
    inputs = [key for cached in opened.values() for key in cached.run_keys]
    run_key = keys.run_key(keys.train(config, asked.train_set, asked.compressor, asked.ratio, asked.seed), inputs)

    # 3. LoRA on the LLM's linear layers, never on the encoder's layers of the same names.
    gradients.ready(model, config)
    adapted = peft.get_peft_model(model.model, lora(config, model))
    trainable = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=chosen.learning_rate, weight_decay=chosen.weight_decay)
    return Training(config, model, items, dev, steps, adapted, optimizer, team, run_key, asked.seed)


def follow(team: Team, config: Config, asked: Asked) -> None:
    """Do this process' share of every step; the leader watches, keeps and writes."""
    training = prepare(config, asked, team)
    curve, _ = training.resume()
    for number in range(sum("loss" in row for row in curve) + 1, len(training.steps) + 1):
        if training.step(number)[2]:
            return


def train(config: Config, asked: Asked, head: dict[str, Any], team: Team) -> None:
    """Train one adapter and seal its folder; puts the run key into `head`, the record's head. Errors: DivergedError."""
    began, chosen = time.monotonic(), config.train
    training = prepare(config, asked, team)
    head["run_key"] = training.run_key

    # 4. The steps. The place for the adapter is made first: a disk that cannot be written is found out now.
    target = layout.train(config.name, asked.train_set, asked.compressor, asked.ratio, asked.seed)
    with sealing.sealed(target, {"run_key": head["run_key"]}) as folder, console.stopping() as stop:
        kept = Checkpoints(head["run_key"], chosen.checkpoint_s)
        curve, before_s = training.resume()
        began -= before_s
        curve = curve or [{"step": 0, "dev_loss": dev_loss(training)}]
        losses = [row["loss"] for row in curve if "loss" in row]
        total, done = chosen.steps * chosen.batch, len(losses) * chosen.batch
        with mlflow_client.live(head, curve), console.Progress(total, "utterances", done=done) as progress:
            for step in range(len(losses) + 1, chosen.steps + 1):
                kept.check()
                tick = time.monotonic()
                loss, rate, stopping = training.step(step, stop())
                losses.append(loss)
                check_loss(losses, chosen.warmup_steps)
                speed = chosen.batch / (time.monotonic() - tick)
                curve.append({"step": step, "loss": loss, "learning_rate": rate, "utterances_per_second": speed})
                if step % chosen.dev_every_steps == 0 or step == chosen.steps:
                    curve.append({"step": step, "dev_loss": dev_loss(training)})
                progress.add(chosen.batch, step=step, loss=loss, dev_loss=_latest(curve, "dev_loss"))
                if kept.due() or stopping:
                    seconds = time.monotonic() - began
                    state = checkpoints.gather(training.adapted, training.optimizer)
                    kept.save(step, state, {"curve": curve, "seconds": seconds})
                if stopping and step < chosen.steps:
                    raise console.Stopped(f"stopped after step {step}; the same command goes on from there")

        # 5. Save through peft, read it back, and see that it is the adapter that was trained.
        parameters = sum(p.numel() for p in training.trainable)
        save(training, folder)
        sealing.write_json(folder / "compressor.json", description(config, asked.compressor, asked.ratio))
        (folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve), encoding="utf-8")
        facts = {
            "train_loss": float(np.mean(losses[-WINDOW:])),
            "dev_loss": _latest(curve, "dev_loss"),
            "zero_shot_dev_loss": curve[0]["dev_loss"],
            "utterances": len(training.items),
            "parameters": parameters,
            "order_sha256": order.digest(training.items, training.steps),
        }
        records.write(folder / "record.json", records.run(facts=facts, seconds=time.monotonic() - began, **head))
        kept.check()
    kept.clear()


def lora(config: Config, model: Lalm) -> peft.LoraConfig:
    """peft's config for the LLM's layers alone. Errors: ConfigError naming a target that the LLM does not have."""
    chosen = config.train.lora
    layers = {name.rsplit(".", 1)[-1] for name, m in model.llm.named_modules() if isinstance(m, torch.nn.Linear)}
    for target in chosen.targets:
        if target not in layers:
            raise ConfigError(f"train.lora.targets: the LLM has no {target!r} (it has {', '.join(sorted(layers))})")
    return peft.LoraConfig(
        r=chosen.rank,
        lora_alpha=chosen.alpha,
        lora_dropout=chosen.dropout,
        target_modules=rf".*\blanguage_model\..*\.({'|'.join(chosen.targets)})",
        bias="none",
    )


def learning_rate_at(step: int, config: Config) -> float:
    """Of the peak: a linear warm-up, then a cosine to zero. `step` counts from 0."""
    warmup, steps = config.train.warmup_steps, config.train.steps
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def check_loss(losses: Sequence[float], warmup_steps: int) -> None:
    """Stop a run that cannot end well. Errors: DivergedError."""
    if not math.isfinite(losses[-1]):
        raise DivergedError(f"the loss became {losses[-1]} at step {len(losses)}; lower train.learning_rate")
    recent = float(np.mean(losses[-WINDOW:]))
    if len(losses) >= warmup_steps + WINDOW and recent > (limit := 1 + 2 * losses[0]):
        raise DivergedError(
            f"diverged: up to step {len(losses)} the mean loss of {WINDOW} steps is {recent:.3g}, over {limit:.3g} "
            "(1 + twice the first loss); lower train.learning_rate"
        )


@torch.inference_mode()
def dev_loss(training: Training) -> float:
    """Mean loss per label token over all dev items, batched by length."""
    model, config = training.model, training.config
    model.model.eval()
    by_length = sorted(training.dev, key=lambda item: int(item.speech.segments.counts_B[item.at]))
    total, count = 0.0, 0
    autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=config.train.precision == "bfloat16")
    for start in range(0, len(by_length), config.train.batch):
        with autocast:
            batch, told = gradients.batch(model, config, by_length[start : start + config.train.batch])
            labels = int((batch.labels_BS != lalm.IGNORED).sum())
            total += lalm.loss(model, batch, **told).item() * labels
        count += labels
    return total / count


@torch.inference_mode()
def save(training: Training, folder: Path) -> None:
    """Save the adapter, and check it as a reader would find it. Errors: DamagedError when it is another one.

    On a probe batch its logits equal those at the end of training and differ from the base's.
    """
    model = training.model
    model.model.eval()
    inputs, told = gradients.batch(model, training.config, training.dev[:PROBE])
    trained_LV, _ = lalm.label_logits(model, inputs, **told)
    training.adapted.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    base = training.adapted.unload()
    base_LV, _ = lalm.label_logits(model, inputs, **told)
    peft.PeftModel.from_pretrained(base, folder).eval()
    reloaded_LV, _ = lalm.label_logits(model, inputs, **told)
    if not torch.allclose(reloaded_LV, trained_LV, rtol=1e-4, atol=1e-4):
        off = float((reloaded_LV - trained_LV).abs().max())
        raise sealing.DamagedError(f"the saved adapter is not the trained one: its logits are off by {off:.3g}")
    if torch.equal(reloaded_LV, base_LV):
        raise sealing.DamagedError("the saved adapter changes nothing: its logits are the base's")


def description(config: Config, compressor: str, ratio: str) -> dict[str, Any]:
    """What a reader of the adapter must do to the audio tokens before the LLM sees them, and which LLM that is."""
    return {
        "base": keys.identity(config),
        "name": compressor,
        "ratio": ratio,
        "options": config.cell(compressor, ratio).options,
        "positions": config.segments.positions,
        "pool_at": config.segments.pool_at,
    }


def _latest(curve: Sequence[dict[str, float]], key: str) -> float:
    return next(row[key] for row in reversed(curve) if key in row)


if __name__ == "__main__":
    raise SystemExit(main())
