"""The train stage: LoRA on the LLM from cached frames, so that it learns to read compressed speech.

INPUTS   build/<name>/features/... and build/<name>/segments/... of the set's parts, the base model
OUTPUTS  build/<name>/train/<set>/<compressor>-<ratio>/seed<n>/: peft's own adapter files, compressor.json (what
         it was trained with), curve.jsonl, record.json

Tensor names: L positions that predict a label, V vocabulary.
"""

import argparse
import json
import time
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
from concertina.tracking import mlflow_client
from concertina.training import gradients, order, steps
from concertina.training.checkpoints import Checkpoints
from concertina.training.steps import Schedule, Training

PROBE = 4  # utterances on which a saved adapter is checked


class Asked(NamedTuple):
    """Which adapter."""

    train_set: str
    compressor: str
    ratio: str
    seed: int


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
        **records.provenance(devices.gpu_name()),
    }
    with records.failures(layout.failure(config.name, "train", run), head):
        adapter = Asked(asked.train_set, asked.compressor, asked.ratio, asked.seed)
        train(config, adapter, head)
    return 0


@dataclass
class Material:
    """What goes into one adapter: the model with LoRA on it, what it learns from, and in which order."""

    config: Config
    model: Lalm
    items: list[Item]
    dev: list[Item]
    batches: list[list[int]]  # which items each step sees
    adapted: peft.PeftModel
    run_key: str

    def gradients(self, step: int) -> steps.Row:
        """Leave the gradients of a step (from 1) in the parameters; its loss."""
        items = [self.items[i] for i in self.batches[step - 1]]
        return {"loss": gradients.gradients(self.model, self.config, items)}


def prepare(config: Config, asked: Asked) -> Material:
    """Everything that a training begins with. Errors: DamagedError, ConfigError."""
    # 1. Everything random comes from the seed, everything parallel from the config.
    settings = config.train
    devices.fix(settings.threads, settings.precision)
    torch.manual_seed(asked.seed)

    # 2. The data: the same items in the same order for every compressor and ratio.
    model = lalm.load(config.base, encoder=False, llm=True, dtype=lalm.held_in(config.base, settings.precision))
    parts = config.train_set(asked.train_set)
    opened = {
        key: Speech(config.name, *key, asked.compressor, asked.ratio)
        for key in sorted({(part.corpus, part.split) for part in (*parts.parts, *parts.dev)})
    }
    items = [item for p in parts.parts for item in batching.items(model, config, p, opened[p.corpus, p.split])]
    dev = [
        item
        for p in parts.dev
        for item in batching.items(model, config, p, opened[p.corpus, p.split], settings.dev_utterances)
    ]
    frames = [int(item.speech.lengths_B[item.at]) for item in items]
    batches = list(order.batches(frames, settings.batch, settings.steps, asked.seed))
    inputs = [key for cached in opened.values() for key in cached.run_keys]
    run_key = keys.run_key(keys.train(config, asked.train_set, asked.compressor, asked.ratio, asked.seed), inputs)

    # 3. LoRA on the LLM's linear layers, never on the encoder's layers of the same names.
    gradients.ready(model, config)
    adapted = peft.get_peft_model(model.model, lora(config, model))
    return Material(config, model, items, dev, batches, adapted, run_key)


def training_of(material: Material, name: str) -> Training:
    """How the adapter learns; `name` stands in front of its lines of progress."""
    settings = material.config.train
    trainable = [p for p in material.adapted.parameters() if p.requires_grad]
    return Training(
        model=material.adapted,
        optimisers=[torch.optim.AdamW(trainable, lr=settings.learning_rate, weight_decay=settings.weight_decay)],
        schedule=Schedule(settings.steps, settings.warmup_steps),
        clip_norm=settings.clip_norm,
        gradients=material.gradients,
        measure=lambda: {"dev_loss": dev_loss(material)},
        measure_every=settings.dev_every_steps,
        name=name,
        unit="utterances",
        per_step=settings.batch,
        remedy="lower train.learning_rate",
    )


def train(config: Config, asked: Asked, head: dict[str, Any]) -> None:
    """Train one adapter and seal its folder; puts the run key into `head`, the record's head. Errors: DivergedError."""
    began = time.monotonic()
    material = prepare(config, asked)
    head["run_key"] = material.run_key
    training = training_of(material, f"{asked.train_set}/{asked.compressor}-{asked.ratio}/seed{asked.seed}")
    training.began = began

    # 4. The steps. The place for the adapter is made first: a disk that cannot be written is found out now.
    target = layout.train(config.name, asked.train_set, asked.compressor, asked.ratio, asked.seed)
    with sealing.sealed(target, {"run_key": head["run_key"]}) as folder, console.stopping() as stop:
        kept = Checkpoints(layout.checkpoints(material.run_key), config.train.checkpoint_s)
        training.resume(kept)
        with mlflow_client.live(head, training.curve):
            training.run(kept, stop)

        # 5. Save through peft, read it back, and see that it is the adapter that was trained.
        parameters = sum(p.numel() for p in training.learning)
        save(material, folder)
        sealing.write_json(folder / "compressor.json", description(config, asked.compressor, asked.ratio))
        curve = training.curve
        (folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve), encoding="utf-8")
        dev_losses = [row["dev_loss"] for row in curve if "dev_loss" in row]
        facts = {
            "train_loss": float(np.mean(training.losses[-steps.WINDOW :])),
            "dev_loss": dev_losses[-1],
            "zero_shot_dev_loss": dev_losses[0],
            "utterances": len(material.items),
            "parameters": parameters,
            "order_sha256": order.digest(material.items, material.batches),
        }
        seconds = time.monotonic() - training.began
        records.write(folder / "record.json", records.run(facts=facts, seconds=seconds, **head))
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


@torch.inference_mode()
def dev_loss(material: Material) -> float:
    """Mean loss per label token over all dev items, batched by length."""
    model, config = material.model, material.config
    model.model.eval()
    by_length = sorted(material.dev, key=lambda item: int(item.speech.segments.counts_B[item.at]))
    total, count = 0.0, 0
    autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=config.train.precision == "bfloat16")
    for start in range(0, len(by_length), config.train.batch):
        with autocast:
            batch, extra = gradients.batch(model, config, by_length[start : start + config.train.batch])
            labels = int((batch.labels_BS != lalm.IGNORED).sum())
            total += lalm.loss(model, batch, **extra).item() * labels
        count += labels
    return total / count


@torch.inference_mode()
def save(material: Material, folder: Path) -> None:
    """Save the adapter, and check it as a reader would find it. Errors: DamagedError when it is another one.

    On a probe batch its logits equal those at the end of training and differ from the base's.
    """
    model = material.model
    model.model.eval()
    inputs, extra = gradients.batch(model, material.config, material.dev[:PROBE])
    trained_LV, _ = lalm.label_logits(model, inputs, **extra)
    material.adapted.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    base = material.adapted.unload()
    base_LV, _ = lalm.label_logits(model, inputs, **extra)
    peft.PeftModel.from_pretrained(base, folder).eval()
    reloaded_LV, _ = lalm.label_logits(model, inputs, **extra)
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


if __name__ == "__main__":
    raise SystemExit(main())
