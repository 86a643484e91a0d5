"""Utterances longer than the encoder's window, as the pieces that they were encoded in: each is answered by itself.

Tensor names: B pieces, T frames and N tokens of all of them end to end, D width.
"""

from collections.abc import Iterator, Sequence

import torch

from concertina.compressors import _contract
from concertina.compressors._segments import Segments
from concertina.model import encoding
from concertina.model.batching import Item, Speech
from concertina.model.lalm import Generated
from concertina.units import FRAMES_PER_SECOND, RATE_HZ


class Pieces(Speech):
    """One long utterance, whose pieces take the place of the utterances of a split."""

    def __init__(self, speech: Speech, at: int) -> None:
        """Cut an utterance of a split at the ends of tokens that are nearest to where its audio was cut."""
        self._frames_TD, whole = speech.read([at])
        ends_N = whole.lengths_N.cumsum(0)
        samples = speech.windows[speech.rows[at]["id"]]
        wanted = encoding.frame_lengths(samples).cumsum(0)[:-1]
        places = {int((ends_N - end).abs().argmin()) + 1 for end in wanted}
        starts = torch.tensor(sorted({0, *places, len(ends_N)}))  # fewer pieces where a token is longer than one
        self.segments = Segments(whole.lengths_N, starts.diff(), whole.weights_T)
        self.lengths_B = torch.stack([part.sum() for part in whole.lengths_N.split(starts.diff().tolist())])
        self.place, self.windows = speech.place, {}
        same = len(samples) == len(self.lengths_B)
        seconds = [count / RATE_HZ for count in samples] if same else self.lengths_B / FRAMES_PER_SECOND
        self.rows = [{**speech.rows[at], "duration_s": float(duration_s)} for duration_s in seconds]

    def read(self, indices: Sequence[int]) -> tuple[torch.Tensor, Segments]:
        """Return the frames [T, D] and the segments of some pieces in the order of `indices`."""
        pieces = self._frames_TD.split(self.lengths_B.tolist())
        chosen = _contract.select(self.segments, self.lengths_B, torch.tensor(indices, dtype=torch.long))
        return torch.cat([pieces[i] for i in indices]), chosen


def pieces_of(items: Sequence[Item]) -> Iterator[tuple[int, Item]]:
    """Yield what is answered by itself: (index of its item, the item, or each piece of one that is long)."""
    for i, item in enumerate(items):
        if item.speech.rows[item.at]["id"] in item.speech.windows:
            speech = Pieces(item.speech, item.at)
            yield from ((i, item._replace(speech=speech, at=piece)) for piece in range(len(speech.rows)))
        else:
            yield i, item


def joined(parts: Sequence[Generated]) -> Generated:
    """Join the answers to the pieces of an utterance."""
    if len(parts) == 1:
        return parts[0]
    ids, text = [id for part in parts for id in part.ids], " ".join(part.text for part in parts if part.text)
    return Generated(ids, text, any(part.capped for part in parts))
