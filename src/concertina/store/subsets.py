"""Choose a fixed subset of utterances by a hash of their ids, whatever else a split holds and in whatever order.

Subsets are nested: a smaller one is part of every larger one.
"""

import hashlib
from collections.abc import Iterable

Rank = bytes


def rank(id: str) -> Rank:
    """Return the place of an utterance in the order in which subsets take them: the SHA-256 of its id."""
    return hashlib.sha256(id.encode("utf-8", "surrogatepass")).digest()


def last(ids: Iterable[str], at_most: int) -> Rank | None:
    """Return the rank of the last utterance of the subset of that size; None where the subset is all of them."""
    ranks = sorted({rank(id) for id in ids})
    return ranks[at_most - 1] if len(ranks) > at_most else None
