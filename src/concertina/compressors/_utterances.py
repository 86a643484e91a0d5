"""What a compressor sees: a batch of utterances, packed end to end.

Names end in their shape: B utterances, T frames of all of them end to end, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from concertina.compressors import ContractError, _ragged

PER_UTTERANCE = ("seeds",)  # every other column has a row for each frame


@dataclass(frozen=True, eq=False)
class Utterances:
    """A batch of utterances: `lengths_B`, the frames of each (int64), and by name what else there is to see.

    `columns` holds 'frames' (floating point [T, D]), 'seeds' (int64 [B]) and cues (float32 [T]). A compressor asks
    for them by the properties below, and gets what its file declares in `reads`.
    """

    lengths_B: Tensor
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def frames_TD(self) -> Tensor:
        """The frames before the projector: float32 [T, D]. Errors: ContractError."""
        return self._column("frames", "speech.frames_TD")

    @property
    def seeds_B(self) -> Tensor:
        """A number per utterance, made of its id and the config's seed: int64 [B]. Errors: ContractError."""
        return self._column("seeds", "speech.seeds_B")

    def cue(self, name: str) -> Tensor:
        """A number per frame that some stage has made, by the cue's name: float32 [T]. Errors: ContractError."""
        return self._column(name, f"speech.cue({name!r})")

    def only(self, reads: Sequence[str]) -> "Utterances":
        """Keep the columns that a compressor declares, frames as float32."""
        columns = {name: self.columns[name] for name in reads}
        if "frames" in columns:
            columns["frames"] = columns["frames"].float()
        return Utterances(self.lengths_B, columns)

    def pick(self, chosen_B: Tensor) -> "Utterances":
        """Take some of the utterances, by their places in this batch, in that order."""
        frames_T = _ragged.places(chosen_B, self.lengths_B)
        columns = {n: c[chosen_B if n in PER_UTTERANCE else frames_T] for n, c in self.columns.items()}
        return Utterances(self.lengths_B[chosen_B], columns)

    def _column(self, name: str, spelled: str) -> Tensor:
        if name not in self.columns:
            raise ContractError(f"its `cut` uses {spelled}, so `reads` in its file must hold {name!r}")
        return self.columns[name]
