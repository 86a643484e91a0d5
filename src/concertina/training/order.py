"""Fix the order in which a training sees its items: it depends on the seed, and is the same for every compressor.

The items of a training set come in parts, and each part is drawn as often as its share says, however long it is.
Tensor names: D draws.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from concertina.model.batching import Item

SHELF = 16  # batches that are sorted by length together


def batches(
    parts: Sequence[Sequence[int]], shares: Sequence[float], batch: int, steps: int, seed: int
) -> Iterator[list[int]]:
    """Yield the items of each step, as their numbers among the items of all parts, end to end.

    `parts`: the lengths of each part's items before compression, because the order must not depend on the compressor.
    The parts take turns by their `shares`; within a part, one seeded permutation follows another. Within SHELF batches
    (or, if that is less, as many as there are items) items are sorted by length, so that little is padded.
    """
    draw = np.random.default_rng(seed)
    frames = [length for part in parts for length in part]
    firsts = np.cumsum([0, *map(len, parts)]).tolist()
    on_shelf = max(1, min(SHELF, len(frames) // batch))
    turns_D = turns(shares, -(-steps // on_shelf) * on_shelf * batch)
    waiting: list[list[int]] = [[] for _ in parts]
    for step in range(steps):
        if step % on_shelf == 0:
            counts = np.bincount(turns_D[step * batch : (step + on_shelf) * batch], minlength=len(parts)).tolist()
            shelf: list[int] = []
            for part, count in enumerate(counts):
                while len(waiting[part]) < count:
                    waiting[part] += (firsts[part] + draw.permutation(len(parts[part]))).tolist()
                shelf += waiting[part][:count]
                waiting[part] = waiting[part][count:]
            shelf.sort(key=frames.__getitem__)
            slots = draw.permutation(on_shelf)
        slot = int(slots[step % on_shelf])
        yield shelf[slot * batch : (slot + 1) * batch]


def turns(shares: Sequence[float], draws: int) -> np.ndarray:
    """Return which part each draw is from: int64 [D]. At any time each part has had its share, give or take a few.

    A part's draws are spaced evenly, and those of all parts are merged in time.
    """
    weights = np.asarray(shares, dtype=np.float64) / np.sum(shares)
    counts = np.ceil(draws * weights).astype(int) + 1
    due = np.concatenate([(np.arange(count) + 0.5) / weight for count, weight in zip(counts, weights, strict=True)])
    return np.repeat(np.arange(len(counts)), counts)[np.argsort(due, kind="stable")[:draws]]


def digest(items: Sequence[Item], steps: Sequence[Sequence[int]]) -> str:
    """Return a hash of the prompts, answers and utterances of each step: it is the same for every cell of a seed."""
    names = [f"{item.speech.rows[item.at]['id']} {item.prompt} {item.answer}" for item in items]
    return hashlib.sha256("\n".join(names[i] for step in steps for i in step).encode()).hexdigest()
