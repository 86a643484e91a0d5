"""Average: the mean of every window of `ratio` frames."""

from concertina.compressors import _ragged
from concertina.compressors._segments import Segments
from concertina.compressors._utterances import Utterances

reads = ()  # the lengths of utterances are enough; ("frames",) where it looks at the frames


def cut(speech: Utterances, ratio: float) -> Segments:
    """Cut where a window begins; the last window of an utterance takes what is left."""
    return Segments.cut(_ragged.window_starts(speech.lengths_B, ratio), speech.lengths_B)
