"""The evaluate stage: one cell, decoded and scored zero-shot and with each of its adapters, on every test set.

INPUTS   build/<name>/features/... and build/<name>/segments/... of the test sets, the cell's adapters, the base model
OUTPUTS  results/<name>/evaluate/<compressor>-<ratio>/<test set>/: a record (JSON) and the predictions (Parquet) of
         zero-shot and of <train set>-seed<n>
"""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peft
import torch

from concertina import config as configs
from concertina import console, metrics
from concertina.artefacts import keys, layout
from concertina.config import UNCOMPRESSED, Config, ConfigError, TestSet, TrainSet
from concertina.metrics import _normaliser
from concertina.metrics._loops import loops
from concertina.model import batching, devices, lalm
from concertina.model.batching import Item, Speech
from concertina.model.lalm import Generated, Lalm
from concertina.store import records, sealing
from concertina.store.predictions import write_predictions
from concertina.store.provenance import provenance


class Adapter(NamedTuple):
    """Which adapter: of a training set and a seed."""

    train_set: TrainSet
    seed: int


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m concertina.evaluate",
        description="Decode and score one cell on every test set: zero-shot, then with each adapter trained for it.",
        epilog="example: python -m concertina.evaluate --compressor average --ratio 3",
    )
    parser.add_argument("--config", type=Path, default=configs.DEFAULT, help="config.yaml or an overlay over it")
    parser.add_argument("--compressor", required=True, help="a compressor of segments.cells")
    parser.add_argument("--ratio", required=True, help="one of its ratios, spelled as in paths: 3, 2.5, natural")
    return parser


@console.run
def main(argv: list[str] | None = None) -> int:
    """Evaluate one cell."""
    asked = parser().parse_args(argv)
    config = configs.load(asked.config)
    config.cell(asked.compressor, asked.ratio)
    head: dict[str, Any] = {
        "stage": "evaluate",
        "name": config.name,
        "compressor": asked.compressor,
        "ratio": asked.ratio,
        "positions": config.segments.positions,
        "config": config.evaluate.model_dump(mode="json"),
        "threads": config.evaluate.threads,
        "run_key": "",
        "override": (config.gate and config.gate.override) or None,
        **provenance(devices.gpu_name()),
    }
    run = f"{asked.compressor}-{asked.ratio}"
    with records.failures(layout.failure(config.name, "evaluate", run), head):
        evaluate(config, asked.compressor, asked.ratio, head)
    return 0


def evaluate(config: Config, compressor: str, ratio: str, head: dict[str, Any]) -> None:
    """Decode and score one cell and seal its folder; puts the run key into `head`, the records' head."""
    devices.fix(config.evaluate.threads, config.evaluate.precision)
    sets = config.test_sets(compressor, ratio)
    splits = sorted({(test_set.corpus, test_set.split) for test_set in sets})
    opened = {split: Speech(config.name, *split, compressor, ratio) for split in splits}
    chosen = config.adapters(compressor, ratio)
    adapters = [Adapter(config.train_set(train_set), seed) for train_set, seed in chosen]
    folders = {
        (train_set.name, seed): layout.train(config.name, train_set.name, compressor, ratio, seed)
        for train_set, seed in adapters
    }
    inputs = [key for cached in opened.values() for key in cached.run_keys]
    inputs += [sealing.verify(folder)["run_key"] for folder in folders.values()]
    head["run_key"] = keys.run_key(keys.evaluate(config, compressor, ratio), inputs)
    target = layout.evaluate(config.name, compressor, ratio)
    with sealing.sealed(target, {"run_key": head["run_key"]}) as folder:
        for adapter in [None, *adapters]:
            model = lalm.load(config.base, encoder=False, llm=True, dtype=config.evaluate.precision)
            if adapter:
                attach(model, folders[adapter.train_set.name, adapter.seed])
            for test_set in sets:
                if adapter is None and (compressor, ratio) == UNCOMPRESSED and judged(config, test_set.name, folder):
                    continue
                told = f"{adapter.train_set.name}-seed{adapter.seed}" if adapter else "zero-shot"
                console.say(f"{test_set.name}, {told}")
                measure(model, config, test_set, opened[test_set.corpus, test_set.split], adapter, head, folder)


def judged(config: Config, test_set: str, folder: Path) -> bool:
    """Take over what the gate decoded of a set, so that it is not decoded twice; whether it did."""
    if config.gate is None or test_set not in config.gate.figures:
        return False
    source = layout.gate(config.name) / test_set
    sealing.verify(source.parent)
    (folder / test_set).mkdir(parents=True)
    for path in source.iterdir():
        sealing.link(path, folder / test_set / path.name)
    return True


def attach(model: Lalm, folder: Path) -> None:
    """Put an adapter's weights into the model's own, which decodes as fast as the base.

    In bfloat16 and in 4 bits the adapter stays unmerged: rounding would lose part of its small update, in adapted
    cells alone.
    """
    adapted = peft.PeftModel.from_pretrained(model.model, folder)
    if model.model.dtype == torch.float32 and not getattr(model.model, "is_quantized", False):
        adapted.merge_and_unload(safe_merge=True)
    model.model.eval()


def measure(
    model: Lalm,
    config: Config,
    test_set: TestSet,
    cached: Speech,
    adapter: Adapter | None,
    head: dict[str, Any],
    folder: Path,
) -> None:
    """Decode one test set, score it, and write its record and predictions below `folder`."""
    began = time.monotonic()
    items, wordless = scorable(batching.items(model, config, test_set, cached, test_set.utterances), test_set)
    generated = decode(model, config, items)
    language = test_set.to or test_set.language
    scores = score(config, test_set.task, items, [g.text for g in generated], language)
    rows = [prediction(item, result, language) for item, result in zip(items, generated, strict=True)]
    tokens, frames, seconds = (
        np.array([row[name] for row in rows]) for name in ("audio_tokens", "frames", "duration_s")
    )
    per_second = tokens / np.maximum(seconds, 1e-3)
    cuts = int((tokens - 1).sum())
    peaks = cached.peaks([item.at for item in items])
    record = records.build(
        **head,
        test_set=test_set.name,
        corpus=test_set.corpus,
        split=test_set.split,
        task=test_set.task,
        source_language=test_set.language,
        target_language=test_set.to,
        adapted=adapter is not None,
        train_set=adapter.train_set.name if adapter else None,
        seed=adapter.seed if adapter else None,
        scores=scores,
        n_utterances=len(items),
        facts={"left_out": wordless},
        realised_ratio=float(frames.sum() / tokens.sum()),
        audio_tokens_per_second={
            "mean": float(tokens.sum() / seconds.sum()),
            "p05": float(np.percentile(per_second, 5)),
            "p95": float(np.percentile(per_second, 95)),
        },
        peak_share=peaks / cuts if peaks is not None and cuts else None,
        loops=sum(row["loop"] for row in rows),
        cap_hits=sum(row["cap_hit"] for row in rows),
        seconds=time.monotonic() - began,
    )
    path = folder / test_set.name / (f"{adapter.train_set.name}-seed{adapter.seed}" if adapter else "zero-shot")
    records.write(path.with_name(f"{path.name}.json"), record)
    write_predictions(path.with_name(f"{path.name}.parquet"), rows, scores)


def scorable(items: list[Item], test_set: TestSet) -> tuple[list[Item], list[str]]:
    """The items whose reference has words left when it is normalised, and the ids of the others ('[laughter]').

    Errors: ConfigError when there are only others.
    """
    found = [item for item in items if _normaliser.has_words(item.text, test_set.to or test_set.language)]
    kept = {id(item) for item in found}
    others = [row(item)["id"] for item in items if id(item) not in kept]
    if others:
        told = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        console.say(f"{test_set.name}: {len(others)} left out, whose reference has no words when normalised: {told}")
    if not found:
        raise ConfigError(f"evaluate.sets.{test_set.name}: no reference has words when normalised")
    return found, others


def decode(model: Lalm, config: Config, items: Sequence[Item]) -> list[Generated]:
    """Greedy texts in the items' order; batches are of like lengths, longest first."""
    chosen = config.evaluate
    by_length = sorted(range(len(items)), key=lambda i: -int(items[i].speech.lengths_B[items[i].at]))
    results: dict[int, Generated] = {}
    with console.Progress(len(items), "utterances") as progress:
        for start in range(0, len(items), chosen.batch):
            indices = by_length[start : start + chosen.batch]
            with torch.inference_mode():
                inputs = batching.batch(model, config, [items[i] for i in indices], pad_left=True)
            caps = [cap(row(items[i])["duration_s"], config) for i in indices]
            results |= zip(indices, lalm.generate(model, inputs, caps), strict=True)
            progress.add(len(indices))
    return [results[i] for i in range(len(items))]


def cap(duration_s: float, config: Config) -> int:
    """The most new tokens that audio of so many seconds may be answered with: one rule for every cell."""
    chosen = config.evaluate
    return max(chosen.max_new_tokens_at_least, math.ceil(chosen.max_new_tokens_per_second * duration_s))


def score(
    config: Config, task: str, items: Sequence[Item], hypotheses: list[str], language: str
) -> dict[str, metrics.Score]:
    """Each metric of the task. Errors: ConfigError (no metric), ScoreError naming the utterance."""
    names = {str(key): names for key, names in config.evaluate.metrics.items()}.get(task)
    if not names:
        raise ConfigError(f"evaluate.metrics: no metric for task {task}")
    try:
        return {name: metrics.load(name).score([i.text for i in items], hypotheses, language) for name in names}
    except metrics.ScoreError as error:
        if error.index is None:
            raise
        raise metrics.ScoreError(f"{row(items[error.index])['id']}: {error}", error.index) from None


def prediction(item: Item, result: Generated, language: str) -> dict[str, Any]:
    """One row of the predictions."""
    fact = row(item)
    return {
        "id": fact["id"],
        "reference": item.text,
        "hypothesis": result.text,
        "audio_tokens": int(item.speech.segments.counts_B[item.at]),
        "frames": int(item.speech.lengths_B[item.at]),
        "duration_s": float(fact["duration_s"]),
        "new_tokens": len(result.ids),
        "cap_hit": result.capped,
        "loop": loops(result.text, language),
        "speaker": fact.get("speaker"),
        "tags": fact.get("tags") or {},
    }


def row(item: Item) -> dict[str, Any]:
    """The manifest row of an item."""
    return item.speech.rows[item.at]


if __name__ == "__main__":
    raise SystemExit(main())
