"""The speech that a base is assembled with: frames of the frozen encoder in memory, and the texts asked for.

Tensor names: B utterances, T frames of one of them, D width.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator

from concertina import console, encoder, features, integrity, lalm, layout, speech, store
from concertina.assembly.recipe import Recipe
from concertina.config import Config, ConfigError
from concertina.lalm import Lalm, Prompt
from concertina.schema import Part

SHELF = 64  # batches that are sorted by length together


class Heard(NamedTuple):
    """One utterance with a task."""

    frames_TD: torch.Tensor  # float16
    spoken: str  # what is said
    prompt: Prompt
    answer: list[int]


def read(model: Lalm, config: Config, part: Part, longest_s: float) -> tuple[list[Heard], str]:
    """Every utterance of a part of at most so many seconds, encoded; and the run key of its data.

    Errors: DamagedError; ConfigError when there is none.
    """
    folder = layout.data(config.name, part.corpus, part.split)
    seal = integrity.verify(folder)
    audio = store.Reader(folder)
    rows = features.manifest(folder)
    chosen = [i for i, row in enumerate(rows) if speech.reference(row, part) and row["duration_s"] <= longest_s]
    if not chosen:
        raise ConfigError(f"base.assembled.parts: {part.corpus}/{part.split} has nothing to {part.task}")
    prompt = lalm.prompt_ids(model, config.base, part.task, part.language, part.to)
    frames: list[torch.Tensor] = []
    budget = int(config.features.batch_seconds * encoder.RATE_HZ)
    console.say(f"{part.corpus}/{part.split}: {len(chosen)} utterances to {part.task}")
    with console.Progress(len(chosen), "utterances") as progress:
        for start in range(0, len(chosen), 1024):
            waves = [audio.one(i) for i in chosen[start : start + 1024]]
            encoded = features.encode(model, waves, budget, progress)
            frames += [torch.from_numpy(frames_TD.astype(np.float16)) for frames_TD in encoded]
    texts = [str(speech.reference(rows[i], part)) for i in chosen]
    found = [
        Heard(frames_TD, rows[i]["text"], prompt, lalm.answer_ids(model, text))
        for i, frames_TD, text in zip(chosen, frames, texts, strict=True)
    ]
    return found, str(seal["run_key"])


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
