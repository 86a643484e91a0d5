"""The speech that a base is assembled with: frames of the frozen encoder in memory, and the texts asked for.

Tensor names: B utterances, T frames of one of them, D width.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import Generator

from concertina import console
from concertina.artefacts import dag
from concertina.bases.joined.recipe import Recipe
from concertina.config import Config, ConfigError, Part, splits_of
from concertina.metrics import _normaliser
from concertina.model import batching, encoding, lalm
from concertina.model.lalm import Lalm, Prompt
from concertina.store import folders, jsonl, sealing, shards
from concertina.units import RATE_HZ

SHELF = 64  # batches that are sorted by length together
STRETCH = 1024  # utterances whose samples are in memory together


Place = tuple[str, str]  # a corpus and its split


class Heard(NamedTuple):
    """One utterance with a task."""

    frames_TD: torch.Tensor  # float16
    spoken: str  # what is said, normalised
    prompt: Prompt
    answer: list[int]


def read(model: Lalm, config: Config, longest_s: float) -> list[list[Heard]]:
    """The utterances of each of the base's parts of at most so many seconds.

    A split that several parts are of is encoded once. Errors: DamagedError; ConfigError when a part has none.
    """
    parts = config.base.parts
    found: dict[int, list[Heard]] = {}
    for place in splits_of(parts):
        folder = dag.artefact(config, "data", **place._asdict()).folder
        sealing.verify(folder)
        rows = jsonl.read(folder / folders.MANIFEST)
        numbers = [number for number, part in enumerate(parts) if part.place == place]
        usable = {
            n: [i for i in batching.subset(rows, parts[n]) if rows[i]["duration_s"] <= longest_s] for n in numbers
        }
        if empty := [parts[n] for n in numbers if not usable[n]]:
            raise ConfigError(f"base.assembled.parts: {place} has nothing short enough to {empty[0].task}")
        frames = _encode(model, config, folder, sorted({i for indices in usable.values() for i in indices}))
        found |= {n: _asked(model, config, parts[n], rows, frames, usable[n]) for n in numbers}
    return [found[number] for number in range(len(parts))]


def _encode(model: Lalm, config: Config, folder: Path, indices: list[int]) -> dict[int, torch.Tensor]:
    """The frames of some utterances of a split, by their number in it."""
    audio = shards.Reader(folder)
    budget = int(config.features.batch_seconds * RATE_HZ)
    console.say(f"{folder}: {len(indices)} utterances to hear")
    frames: dict[int, torch.Tensor] = {}
    with console.Progress(len(indices), "utterances") as progress:
        for start in range(0, len(indices), STRETCH):
            some = indices[start : start + STRETCH]
            encoded = encoding.encode(model, [audio.one(i) for i in some], budget, progress)
            frames |= {i: torch.from_numpy(f.astype(np.float16)) for i, f in zip(some, encoded, strict=True)}
    return frames


def _asked(
    model: Lalm,
    config: Config,
    part: Part,
    rows: list[dict[str, Any]],
    frames: dict[int, torch.Tensor],
    indices: list[int],
) -> list[Heard]:
    """A part's utterances with its task."""
    prompt = lalm.prompt_ids(model, config.base, part.task, part.language, part.to)
    spoken = _normaliser.normalise([rows[i]["text"] for i in indices], part.language)
    return [
        Heard(frames[i], said, prompt, lalm.answer_ids(model, str(batching.reference(rows[i], part))))
        for i, said in zip(indices, spoken, strict=True)
    ]


def batches(parts: list[list[Heard]], recipe: Recipe, batch: int, draw: Generator) -> Iterator[list[Heard]]:
    """Endless batches of like lengths, the parts mixed by their shares, each part in one permutation after another."""
    waiting: list[list[int]] = [[] for _ in parts]
    while True:
        which = draw.choice(len(parts), size=batch * SHELF, p=recipe.shares)
        shelf: list[Heard] = []
        for part in which:
            if not waiting[part]:
                waiting[part] = draw.permutation(len(parts[part])).tolist()
            shelf.append(parts[part][waiting[part].pop()])
        shelf.sort(key=lambda heard: len(heard.frames_TD) + len(heard.answer))
        for place in draw.permutation(SHELF):
            yield shelf[place * batch : (place + 1) * batch]
