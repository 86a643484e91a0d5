"""The speech that a base is assembled with: frames of the frozen encoder in memory, and the texts asked for.

Tensor names: B utterances, T frames of one of them, D width.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import Generator

from concertina import console, features
from concertina.artefacts import layout
from concertina.bases.joined.recipe import Recipe
from concertina.config import Config, ConfigError, Part
from concertina.metrics import _normaliser
from concertina.model import batching, encoder, lalm
from concertina.model.lalm import Lalm, Prompt
from concertina.store import sealing, shards

SHELF = 64  # batches that are sorted by length together
STRETCH = 1024  # utterances whose samples are in memory together


Place = tuple[str, str]  # a corpus and its split


class Heard(NamedTuple):
    """One utterance with a task."""

    frames_TD: torch.Tensor  # float16
    spoken: str  # what is said, normalised
    prompt: Prompt
    answer: list[int]


def read(model: Lalm, config: Config, longest_s: float) -> tuple[list[list[Heard]], list[str]]:
    """The utterances of each of the base's parts of at most so many seconds, and the run keys of their data.

    A split that several parts are of is encoded once. Errors: DamagedError; ConfigError when a part has none.
    """
    parts, run_keys = config.base.parts, []
    found: dict[int, list[Heard]] = {}
    for place in sorted({(part.corpus, part.split) for part in parts}):
        folder = layout.data(config.name, *place)
        run_keys.append(str(sealing.verify(folder)["run_key"]))
        rows = features.manifest(folder)
        numbers = [number for number, part in enumerate(parts) if (part.corpus, part.split) == place]
        usable = {
            n: [i for i in batching.subset(rows, parts[n]) if rows[i]["duration_s"] <= longest_s] for n in numbers
        }
        if empty := [parts[n] for n in numbers if not usable[n]]:
            raise ConfigError(f"base.assembled.parts: {'/'.join(place)} has nothing short enough to {empty[0].task}")
        frames = _encode(model, config, place, sorted({i for indices in usable.values() for i in indices}))
        found |= {n: _asked(model, config, parts[n], rows, frames, usable[n]) for n in numbers}
    return [found[number] for number in range(len(parts))], run_keys


def _encode(model: Lalm, config: Config, place: Place, indices: list[int]) -> dict[int, torch.Tensor]:
    """The frames of some utterances of a split, by their number in it."""
    audio = shards.Reader(layout.data(config.name, *place))
    budget = int(config.features.batch_seconds * encoder.RATE_HZ)
    console.say(f"{'/'.join(place)}: {len(indices)} utterances to hear")
    frames: dict[int, torch.Tensor] = {}
    with console.Progress(len(indices), "utterances") as progress:
        for start in range(0, len(indices), STRETCH):
            some = indices[start : start + STRETCH]
            encoded = features.encode(model, [audio.one(i) for i in some], budget, progress)
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
