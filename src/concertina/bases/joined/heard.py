"""The speech on which a joined base is trained: the frozen encoder's frames in memory, and the answers to learn.

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

SHELF = 64  # batches whose utterances are sorted by length together
STRETCH = 1024  # utterances whose samples are in memory at the same time


class Heard(NamedTuple):
    """One encoded utterance with a task: its frames, transcript, prompt and answer."""

    frames_TD: torch.Tensor  # float16
    spoken: str  # the transcript, normalised
    prompt: Prompt
    answer: list[int]


def read(model: Lalm, config: Config, longest_s: float) -> list[list[Heard]]:
    """Read and encode the utterances of each of the base's parts that last at most `longest_s` seconds.

    A split that several parts use is encoded once. Errors: DamagedError; ConfigError when a part has no utterance.
    """
    parts = config.base.parts
    by_part: dict[int, list[Heard]] = {}
    for place in splits_of(parts):
        folder = dag.artefact(config, "data", **place._asdict()).folder
        sealing.verify(folder)
        rows = jsonl.read(folder / folders.MANIFEST)
        numbers = [number for number, part in enumerate(parts) if part.place == place]
        usable = {
            n: [i for i in batching.subset(rows, parts[n]) if rows[i]["duration_s"] <= longest_s] for n in numbers
        }
        if empty := [parts[n] for n in numbers if not usable[n]]:
            raise ConfigError(
                f"base.assembled.parts: {place} has no utterance of at most {longest_s:g} s to {empty[0].task}"
            )
        frames = _encode(model, config, folder, sorted({i for indices in usable.values() for i in indices}))
        by_part |= {n: _with_task(model, config, parts[n], rows, frames, usable[n]) for n in numbers}
    return [by_part[number] for number in range(len(parts))]


def _encode(model: Lalm, config: Config, folder: Path, indices: list[int]) -> dict[int, torch.Tensor]:
    """Return the frames of some utterances of a split, by their number in it."""
    audio = shards.Reader(folder)
    budget = int(config.features.batch_seconds * RATE_HZ)
    console.say(f"{folder}: {len(indices)} utterances to encode")
    frames: dict[int, torch.Tensor] = {}
    with console.Progress(len(indices), "utterances") as progress:
        for start in range(0, len(indices), STRETCH):
            some = indices[start : start + STRETCH]
            encoded = encoding.encode(model, [audio.one(i) for i in some], budget, progress)
            frames |= {i: torch.from_numpy(f.astype(np.float16)) for i, f in zip(some, encoded, strict=True)}
    return frames


def _with_task(
    model: Lalm,
    config: Config,
    part: Part,
    rows: list[dict[str, Any]],
    frames: dict[int, torch.Tensor],
    indices: list[int],
) -> list[Heard]:
    """Return a part's utterances with the prompt and the answers of its task."""
    prompt = lalm.prompt_ids(model, config.base, part.task, part.language, part.to)
    transcripts = _normaliser.normalise([rows[i]["text"] for i in indices], part.language)
    return [
        Heard(frames[i], transcript, prompt, lalm.answer_ids(model, str(batching.reference(rows[i], part))))
        for i, transcript in zip(indices, transcripts, strict=True)
    ]


def batches(parts: list[list[Heard]], recipe: Recipe, batch: int, draw: Generator) -> Iterator[list[Heard]]:
    """Yield endless batches of utterances of similar length.

    The parts are mixed by the recipe's shares; each is drawn in one permutation after another.
    """
    waiting: list[list[int]] = [[] for _ in parts]
    while True:
        which = draw.choice(len(parts), size=batch * SHELF, p=recipe.shares)
        shelf: list[Heard] = []
        for part in which:
            if not waiting[part]:
                waiting[part] = draw.permutation(len(parts[part])).tolist()
            shelf.append(parts[part][waiting[part].pop()])
        shelf.sort(key=lambda heard: len(heard.frames_TD) + len(heard.answer))
        for number in draw.permutation(SHELF):
            yield shelf[number * batch : (number + 1) * batch]
