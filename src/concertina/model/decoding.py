"""Decode the cached frames of test sets greedily into texts, zero-shot or with an adapter.

A unit is one cell on one test set with one adapter or none. Finished units are not decoded again, and the model is
loaded once for all that are missing. A unit holds no scores, so a metric that is added later needs no decoding.
"""

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch

from concertina import console
from concertina.artefacts import dag, keys, stage
from concertina.artefacts.dag import Artefact
from concertina.config import ZERO_SHOT, Cell, Config, ConfigError, TestSet
from concertina.metrics import _normaliser
from concertina.metrics._loops import loops
from concertina.model import answering, batching, devices, lalm
from concertina.model.answering import row
from concertina.model.batching import Item, Speech
from concertina.model.lalm import Generated, Lalm
from concertina.store import predictions, sealing

FILE = "predictions.parquet"


def make_missing(config: Config, units: Sequence[Artefact]) -> None:
    """Decode those units, of cells that cut alike, that `is_here` does not find. Errors: DamagedError, ConfigError."""
    missing = [unit for unit in units if not is_here(config, unit)]
    if not missing:
        return
    settings = config.evaluate
    devices.fix(settings.threads, settings.precision)
    model = lalm.load(config.base, encoder=False, llm=True, dtype=settings.precision)
    runs: dict[tuple[Cell, str], list[Artefact]] = {}
    for unit in missing:
        runs.setdefault((unit.where["cell"], unit.where["run"]), []).append(unit)
    for (cell, run), of_run in runs.items():
        speeches = Speech.of(config, [config.test_set(unit.where["test_set"]) for unit in of_run], cell)
        with adapted(model, config, cell, run):
            for unit in of_run:
                console.say(f"{cell}: {unit.where['test_set']}, {run}")
                with stage.making(config, unit, device=devices.gpu_name()) as making:
                    _fill(making, model, speeches)


def is_here(config: Config, unit: Artefact) -> bool:
    """Return whether a unit is undamaged and was decoded by this config and code from the present inputs."""
    with contextlib.suppress(sealing.DamagedError):
        wanted = keys.run_key(dag.key(config, unit), [stage.sealed_key(one) for one in dag.inputs(config, unit)])
        return stage.sealed_key(unit) == wanted and bool(sealing.verify(unit.folder))
    return False


@contextlib.contextmanager
def adapted(model: Lalm, config: Config, cell: Cell, run: str) -> Iterator[None]:
    """Give the model the weights of an adapter (none for 'zero-shot'), then restore the base's own exactly."""
    if run == ZERO_SHOT:
        yield
        return
    adapter = dag.artefact(config, "train", **vars(config.adapter(cell, run)))
    sealing.verify(adapter.folder)
    merges = _merges(model)
    base_weights = {name: p.detach().clone() for name, p in model.llm.named_parameters()} if merges else {}
    peft_model = attach(model, adapter.folder)
    try:
        yield
    finally:
        if merges:
            with torch.no_grad():
                for name, parameter in model.llm.named_parameters():
                    parameter.copy_(base_weights[name])
        else:
            peft_model.unload()
        model.model.eval()


def attach(model: Lalm, folder: Path) -> peft.PeftModel:
    """Put an adapter's weights into the model's own.

    In float32 the adapter is merged, so that decoding is as fast as with the base. In bfloat16 and in 4 bits it is
    not, because rounding would lose part of its small update, in adapted cells alone.
    """
    peft_model = peft.PeftModel.from_pretrained(model.model, folder)
    if _merges(model):
        peft_model.merge_and_unload(safe_merge=True)
    model.model.eval()
    return peft_model


def _merges(model: Lalm) -> bool:
    return model.model.dtype == torch.float32 and not getattr(model.model, "is_quantized", False)


def _fill(run: stage.Run, model: Lalm, speeches: dict[Any, Speech]) -> None:
    """Decode one unit into its folder: the predictions, and a record of rates, loops and answers cut off."""
    began = time.monotonic()
    config, test_set = run.config, run.config.test_set(run.artefact.where["test_set"])
    speech = speeches[test_set.place]
    items, wordless = scorable(batching.items(model, config, test_set, speech, test_set.utterances), test_set)
    generated = decode(model, config, items)
    language = test_set.answer_language
    rows = [prediction(item, result, language) for item, result in zip(items, generated, strict=True)]
    predictions.write(run.folder / FILE, rows)
    facts = rates(rows) | {"peak_share": peak_share(rows, speech.peaks([item.at for item in items]))}
    facts |= {"loops": sum(row["loop"] for row in rows), "cap_hits": sum(row["cap_hit"] for row in rows)}
    facts |= {"left_out": wordless, "above_cap": above_cap(items, config, test_set)}
    run.record(facts, seconds=time.monotonic() - began)


def rates(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the realised ratio of a test set, and its audio tokens per second: mean, 5th and 95th percentile."""
    tokens, frames, seconds = (
        np.array([row[name] for row in rows]) for name in ("audio_tokens", "frames", "duration_s")
    )
    per_second = tokens / np.maximum(seconds, 1e-3)
    return {
        "realised_ratio": float(frames.sum() / tokens.sum()),
        "audio_tokens_per_second": {
            "mean": float(tokens.sum() / seconds.sum()),
            "p05": float(np.percentile(per_second, 5)),
            "p95": float(np.percentile(per_second, 95)),
        },
    }


def peak_share(rows: Sequence[dict[str, Any]], peaks: int | None) -> float | None:
    """Return the share of the cuts that are peaks; None for a compressor without peaks, or where nothing was cut."""
    cuts = sum(row["audio_tokens"] - 1 for row in rows)
    return peaks / cuts if peaks is not None and cuts else None


def scorable(items: list[Item], test_set: TestSet) -> tuple[list[Item], list[str]]:
    """Return the items whose reference has words left after normalisation, and the ids of the others ('[laughter]').

    Errors: ConfigError when no reference has any.
    """
    usable = [item for item in items if _normaliser.has_words(item.text, test_set.answer_language)]
    usable_ids = {id(item) for item in usable}
    others = [row(item)["id"] for item in items if id(item) not in usable_ids]
    if others:
        names = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        console.say(f"{test_set.name}: {len(others)} left out, whose reference has no words when normalised: {names}")
    if not usable:
        raise ConfigError(f"evaluate.sets.{test_set.name}: no reference has words when normalised")
    return usable, others


def decode(model: Lalm, config: Config, items: Sequence[Item]) -> list[Generated]:
    """Decode items greedily, and say how far it is; returns the texts in the items' order."""
    with console.Progress(len(items), "utterances") as progress:
        return answering.answers(model, config, items, config.evaluate.batch, progress.add)


def above_cap(items: Sequence[Item], config: Config, test_set: TestSet) -> int:
    """Return how many references have more tokens than an answer may have, and say so on the console."""
    longer = [item for item in items if len(item.answer) > answering.cap(row(item)["duration_s"], config)]
    if longer:
        needed = max(len(item.answer) / row(item)["duration_s"] for item in longer)
        console.say(
            f"{test_set.name}: {len(longer)} references are longer than an answer may be; set "
            f"evaluate.max_new_tokens_per_second to {math.ceil(needed)}, or raise evaluate.max_new_tokens_at_least"
        )
    return len(longer)


def prediction(item: Item, result: Generated, language: str) -> dict[str, Any]:
    """Return an item's row of the predictions."""
    manifest_row = row(item)
    return {
        "id": manifest_row["id"],
        "reference": item.text,
        "hypothesis": result.text,
        "audio_tokens": int(item.speech.segments.counts_B[item.at]),
        "frames": int(item.speech.lengths_B[item.at]),
        "duration_s": float(manifest_row["duration_s"]),
        "new_tokens": len(result.ids),
        "cap_hit": result.capped,
        "loop": loops(result.text, language),
        "speaker": manifest_row.get("speaker"),
        "tags": manifest_row.get("tags") or {},
    }
