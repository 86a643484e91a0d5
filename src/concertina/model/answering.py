"""Have the model answer a list of items greedily, in batches of similar length."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from concertina.config import Config
from concertina.model import batching, lalm, windows
from concertina.model.batching import Item
from concertina.model.lalm import Generated, Lalm


def answers(
    model: Lalm, config: Config, items: Sequence[Item], batch: int, done: Callable[[int], None] = lambda count: None
) -> list[Generated]:
    """Return greedy answers in the items' order; batches hold similar lengths, the longest first.

    An utterance longer than the encoder's window is answered piece by piece (see windows.py). `batch`: utterances that
    are decoded together; `done` is called with the number of utterances that each batch has answered.
    """
    owners, parts = zip(*windows.pieces_of(items), strict=True) if items else ((), ())
    by_length = sorted(range(len(parts)), key=lambda i: -int(parts[i].speech.lengths_B[parts[i].at]))
    results: dict[int, Generated] = {}
    for start in range(0, len(parts), batch):
        indices = by_length[start : start + batch]
        with torch.inference_mode():
            inputs = batching.batch(model, config, [parts[i] for i in indices], pad_left=True)
        caps = [cap(row(parts[i])["duration_s"], config) for i in indices]
        results |= zip(indices, lalm.generate(model, inputs, caps), strict=True)
        done(sum(i == 0 or owners[i - 1] != owners[i] for i in indices))  # an utterance counts with its first piece
    answered: list[list[Generated]] = [[] for _ in items]
    for i, owner in enumerate(owners):
        answered[owner].append(results[i])
    return [windows.joined(of_item) for of_item in answered]


def cap(duration_s: float, config: Config) -> int:
    """Return how many new tokens the answer to audio of so many seconds may have: one rule for every cell."""
    settings = config.evaluate
    return max(settings.max_new_tokens_at_least, math.ceil(settings.max_new_tokens_per_second * duration_s))


def row(item: Item) -> dict[str, Any]:
    """Return the manifest row of an item."""
    return item.speech.rows[item.at]
