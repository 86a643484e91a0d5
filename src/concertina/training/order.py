"""Fix the order in which a training sees its items: it depends on the seed, and is the same for every compressor."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from concertina.model.batching import Item

SHELF = 16  # batches that are sorted by length together


def batches(frames: Sequence[int], batch: int, steps: int, seed: int) -> Iterator[list[int]]:
    """Yield the items of each step: one seeded permutation after another, cut into batches.

    Within SHELF batches (or one permutation) items are sorted by length, so that little is padded. `frames` are their
    lengths before compression, because the order must not depend on the compressor.
    """
    draw = np.random.default_rng(seed)
    on_shelf = max(1, min(SHELF, len(frames) // batch))
    waiting: list[int] = []
    for step in range(steps):
        if step % on_shelf == 0:
            while len(waiting) < batch * on_shelf:
                waiting += draw.permutation(len(frames)).tolist()
            shelf = sorted(waiting[: batch * on_shelf], key=frames.__getitem__)
            waiting = waiting[batch * on_shelf :]
            slots = draw.permutation(on_shelf)
        slot = int(slots[step % on_shelf])
        yield shelf[slot * batch : (slot + 1) * batch]


def digest(items: Sequence[Item], steps: Sequence[Sequence[int]]) -> str:
    """Return a hash of the prompts, answers and utterances of each step: it is the same for every cell of a seed."""
    names = [f"{item.speech.rows[item.at]['id']} {item.prompt} {item.answer}" for item in items]
    return hashlib.sha256("\n".join(names[i] for step in steps for i in step).encode()).hexdigest()
