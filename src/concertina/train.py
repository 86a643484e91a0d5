"""The train stage: LoRA on the LLM from cached frames, so that it learns to read compressed speech.

INPUTS   build/<name>/features/... and build/<name>/segments/... of the set's parts, the base model
OUTPUTS  build/<name>/train/<set>/<cell>/seed<n>/: peft's own adapter files, compressor.json (what
         it was trained with), curve.jsonl, record.json

Tensor names: L positions that predict a label, V vocabulary.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch

from concertina import console
from concertina.artefacts import keys, stage
from concertina.artefacts.stage import Run
from concertina.config import Adapter, Cell, Config, ConfigError, TrainPart
from concertina.model import batching, devices, lalm
from concertina.model.batching import Item, Speech
from concertina.model.lalm import Lalm
from concertina.store import folders, jsonl, sealing
from concertina.tracking import mlflow_client
from concertina.training import gradients, order, steps
from concertina.training.checkpoints import Checkpoints
from concertina.training.dev import Dev
from concertina.training.steps import Schedule, Training

PROBE = 4  # utterances on which a saved adapter is checked


@dataclass
class Material:
    """What goes into one adapter: the model with LoRA on it, what it learns from, and in which order."""

    config: Config
    model: Lalm
    items: list[Item]
    dev: Dev
    batches: list[list[int]]  # which items each step sees
    drawn: list[dict[str, Any]]  # what each part of the training set has, and how often it is drawn
    adapted: peft.PeftModel
    learning_rate: float

    def gradients(self, step: int) -> steps.Row:
        """Leave the gradients of a step (from 1) in the parameters; its loss."""
        items = [self.items[i] for i in self.batches[step - 1]]
        return {"loss": gradients.gradients(self.model, self.config, items)}


def make(run: Run) -> None:
    """Train one adapter. Errors: DivergedError, DamagedError, ConfigError."""
    config, adapter = run.config, Adapter(**run.artefact.where)
    material = prepare(config, adapter)
    training = training_of(material, str(adapter))
    training.began = run.began

    # 4. The steps, from the last checkpoint of an earlier attempt on, where there is one.
    kept = Checkpoints(folders.checkpoints(run.run_key), config.train.checkpoint_s)
    with console.stopping() as stop:
        training.resume(kept)
        with mlflow_client.live({**run.head, "run_key": run.run_key}, training.curve):
            training.run(kept, stop)

    # 5. Save through peft, read it back, and see that it is the adapter that was trained.
    parameters = sum(p.numel() for p in training.learning)
    save(material, run.folder)
    sealing.write_json(run.folder / "compressor.json", description(config, adapter.cell))
    jsonl.write(run.folder / "curve.jsonl", training.curve)
    measured = [row for row in training.curve if "dev_loss" in row]
    facts = {
        "train_loss": float(np.mean(training.losses[-steps.WINDOW :])),
        **{name: value for name, value in measured[-1].items() if name != "step"},
        **{f"zero_shot_{name}": value for name, value in measured[0].items() if name != "step"},
        "learning_rate": material.learning_rate,
        "utterances": len(material.items),
        "drawn": material.drawn,
        "parameters": parameters,
        "order_sha256": order.digest(material.items, material.batches),
    }
    run.record(facts, seconds=time.monotonic() - training.began)
    kept.check()
    run.afterwards(kept.clear)


def prepare(config: Config, adapter: Adapter) -> Material:
    """Everything that a training begins with. Errors: DamagedError, ConfigError."""
    # 1. Everything random comes from the seed, everything parallel from the config.
    settings = config.train
    devices.fix(settings.threads, settings.precision)
    torch.manual_seed(adapter.seed)

    # 2. The data: the same items in the same order for every cell.
    model = lalm.load(config.base, encoder=False, llm=True, dtype=lalm.held_in(config.base, settings.precision))
    learnt = config.train_set(adapter.train_set)
    opened = Speech.of(config, [*learnt.parts, *learnt.dev], adapter.cell)
    parts = [batching.items(model, config, part, opened[part.place], part.utterances) for part in learnt.parts]
    items = [item for part in parts for item in part]
    frames = [[int(item.speech.lengths_B[item.at]) for item in part] for part in parts]
    shares = [part.share for part in learnt.parts]
    batches = list(order.batches(frames, shares, settings.batch, settings.steps, adapter.seed))

    # 3. LoRA on the LLM's linear layers, never on the encoder's layers of the same names.
    gradients.ready(model, config)
    adapted = peft.get_peft_model(model.model, lora(config, model))
    dev = Dev.of(config, model, learnt.dev, opened)
    rate = learnt.learning_rate or settings.learning_rate
    return Material(config, model, items, dev, batches, drawn(learnt.parts, parts, batches), adapted, rate)


def drawn(
    parts: Sequence[TrainPart], items: Sequence[Sequence[Item]], batches: Sequence[Sequence[int]]
) -> list[dict[str, Any]]:
    """Return a row per part for the record: what it is, how many utterances it has, and how many draws it gets."""
    part_of_item = np.repeat(np.arange(len(parts)), [len(part) for part in items])
    draws = np.bincount(part_of_item[np.concatenate(batches)], minlength=len(parts)).tolist()
    return [
        {**part.model_dump(exclude={"share", "utterances"}), "utterances": len(held), "draws": count}
        for part, held, count in zip(parts, items, draws, strict=True)
    ]


def training_of(material: Material, name: str) -> Training:
    """How the adapter learns; `name` stands in front of its lines of progress."""
    settings = material.config.train
    trainable = [p for p in material.adapted.parameters() if p.requires_grad]
    return Training(
        model=material.adapted,
        optimisers=[torch.optim.AdamW(trainable, lr=material.learning_rate, weight_decay=settings.weight_decay)],
        schedule=Schedule(settings.steps, settings.warmup_steps),
        clip_norm=settings.clip_norm,
        gradients=material.gradients,
        measure=material.dev.measure,
        measure_every=settings.dev_every_steps,
        name=name,
        unit="utterances",
        per_step=settings.batch,
        remedy="lower train.learning_rate",
    )


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
def save(material: Material, folder: Path) -> None:
    """Save the adapter, and check it as a reader would find it. Errors: DamagedError when it is another one.

    On a probe batch its logits equal those at the end of training and differ from the base's.
    """
    model = material.model
    model.model.eval()
    inputs, extra = gradients.batch(model, material.config, material.dev.items[:PROBE])
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


def description(config: Config, cell: Cell) -> dict[str, Any]:
    """What a reader of the adapter must do to the audio tokens before the LLM sees them, and which LLM that is."""
    return {
        "base": keys.identity(config),
        "name": cell.compressor,
        "ratio": str(cell.ratio),
        "options": dict(cell.options),
        "positions": cell.positions or "keep",
        "pool_at": config.segments.pool_at,
    }


main = stage.command(
    "train",
    make,
    about="Finetune LoRA on the LLM for one training set, cell and seed, from cached frames.",
    example="--train-set english --cell average-3-keep --seed 0",
    device=devices.gpu_name,
)


if __name__ == "__main__":
    raise SystemExit(main())
