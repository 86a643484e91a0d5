"""Random: cuts at places drawn by lot, the mean between them. What clever cuts must beat."""

from concertina.compressors import _ragged
from concertina.compressors._segments import Segments
from concertina.compressors._utterances import Utterances

reads = ("seeds",)


def cut(speech: Utterances, ratio: float) -> Segments:
    """Give every frame a lot and cut before those with the highest, and before the first of each utterance."""
    lengths_B = speech.lengths_B
    first_T = _ragged.position(lengths_B) == 0
    lot_T = _ragged.lots(speech.seeds_B, lengths_B)
    counts_B = _ragged.token_counts(lengths_B, ratio)
    return Segments.cut(_ragged.first_in_each(counts_B, lengths_B, first_T, lot_T), lengths_B)
