"""Small values: a ratio, a cell of the grid, an adapter, a split, a language; each has one spelling and one order."""

import functools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Plugin = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Positions = Literal["keep", "renumber"]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
LANGUAGES = {  # in prompts and reports; other languages are named by their code
    **{"de": "German", "en": "English", "es": "Spanish", "fr": "French", "it": "Italian", "ja": "Japanese"},
    **{"ru": "Russian", "yue": "Cantonese", "zh": "Chinese"},
}


PROMPT_FIELDS = ("source", "target", "source_name", "target_name")


def check_prompt(prompt: str) -> str:
    """Return a prompt whose fields can be filled in. Errors: ValueError naming the field, and those that there are."""
    try:
        prompt.format(**dict.fromkeys(PROMPT_FIELDS, ""))
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"{str(error) or 'a brace'} is no field of a prompt; there are {', '.join(PROMPT_FIELDS)}, each in braces; "
            "a brace of the text itself is written twice: {{ and }}"
        ) from None
    return prompt


PromptText = Annotated[str, AfterValidator(check_prompt)]


def language_name(code: str) -> str:
    """Return the English name of a language code, or the code where no name is known."""
    return LANGUAGES.get(code, code)


@functools.total_ordering
@dataclass(frozen=True)
class Ratio:
    """Frames per audio token: a number of at least 1, or (`frames` is None) the compressor's own, 'natural' rate."""

    frames: float | None

    @classmethod
    def parse(cls, value: Any) -> "Ratio":
        """Read a ratio from a number, from its text ('3', '3.0', '2.5') or from 'natural'. Errors: ValueError."""
        if isinstance(value, Ratio):
            return value
        if value == "natural":
            return cls(None)
        if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 1:
            raise ValueError(f"a ratio is 'natural' or a number of frames per token, at least 1; got {value!r}")
        return cls(float(value))

    @property
    def natural(self) -> bool:
        """Whether the compressor decides by itself how many tokens it makes."""
        return self.frames is None

    @property
    def value(self) -> float | Literal["natural"]:
        """The ratio as a compressor takes it: a float, or 'natural'."""
        return "natural" if self.frames is None else self.frames

    def __str__(self) -> str:
        return "natural" if self.frames is None else f"{self.frames:.12g}"

    def __lt__(self, other: "Ratio") -> bool:
        """Order by frames per token, with 'natural' last."""
        return (self.frames or math.inf) < (other.frames or math.inf)


RatioField = Annotated[Ratio, BeforeValidator(Ratio.parse), PlainSerializer(lambda ratio: ratio.value)]


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: a compressor at a ratio with its options, and the positions that its tokens get.

    `positions`: 'keep' (a token is where its frames were) or 'renumber' (0, 1, 2 ...). Empty for a cell of ratio 1,
    where both are the same, and for what does not depend on them: the cuts.
    """

    compressor: str
    ratio: Ratio
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    positions: Positions | Literal[""] = ""

    @property
    def name(self) -> str:
        """The cell's name in paths, configs and logs: 'average-3', 'average-3-keep', 'sample-2.5-phase=1-keep'."""
        options = [f"{key}={value}" for key, value in sorted(self.options.items())]
        return "-".join([self.compressor, str(self.ratio), *options, *filter(None, [self.positions])])

    @property
    def title(self) -> str:
        """The cell's name in the report: 'none', 'average at 3, kept', 'segment, natural rate, renumbered'."""
        if self == UNCOMPRESSED:
            return self.compressor
        at = ", natural rate" if self.ratio.natural else f" at {self.ratio}"
        options = [f"{key} {value}" for key, value in sorted(self.options.items())]
        return ", ".join([f"{self.compressor}{at}", *options, *filter(None, [POSITIONS.get(self.positions)])])

    @property
    def cuts(self) -> "Cell":
        """The cell without positions: how frames are cut and pooled, which all positions share."""
        return replace(self, positions="")

    def placed(self, positions: Iterable[Positions]) -> "list[Cell]":
        """The cell under each of some positions; by itself at ratio 1, where a token's place is its frame's anyway."""
        return [self.cuts] if self.ratio.frames == 1 else [replace(self, positions=one) for one in positions]

    def __str__(self) -> str:
        return self.name

    def __lt__(self, other: "Cell") -> bool:
        return (self.compressor, self.ratio, self.name) < (other.compressor, other.ratio, other.name)


POSITIONS = {"keep": "kept", "renumber": "renumbered"}  # the words of the report
UNCOMPRESSED = Cell("none", Ratio(1.0))  # the cell that the others are compared with


class Split(NamedTuple):
    """One split of one corpus."""

    corpus: str
    split: str

    def __str__(self) -> str:
        return f"{self.corpus}/{self.split}"


@dataclass(frozen=True)
class Adapter:
    """One LoRA adapter: trained on a training set, for a cell, from a seed."""

    train_set: str
    cell: Cell
    seed: int

    @property
    def name(self) -> str:
        """The adapter's name among those of its cell, as the files of results spell it: 'english-seed0'."""
        return f"{self.train_set}-seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.train_set}/{self.cell}/seed{self.seed}"


ZERO_SHOT = "zero-shot"  # the name of a result without an adapter, where others have the adapter's name


def run_name(cell: Cell, run: str) -> str:
    """Return the name of a run among those of all cells that cut alike: 'zero-shot-keep', 'english-seed0-renumber'."""
    return "-".join(filter(None, [run, cell.positions]))
