"""The sections of a config, and the words its values are made of: frozen, and strict about their keys."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from concertina.config.values import Language, Name, Plugin, RatioField, Split
from concertina.store import folders

OptionText = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.]*$")]  # it stands in the names of folders


class Section(BaseModel):
    """A part of the config: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Corpus(BaseModel):
    """One corpus: `kind` is the file in corpora/; keys beyond these are that file's own options."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: Name
    kind: Plugin = ""

    @model_validator(mode="before")
    @classmethod
    def _kind_defaults_to_name(cls, values: Any) -> Any:
        return {"kind": values.get("name"), **values} if isinstance(values, dict) else values

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Data(Section):
    corpora: list[Corpus]
    mirrors: dict[Name, list[str]] = {}


class Features(Section):
    """How the frozen encoder is run."""

    dtype: Literal["float16", "bfloat16", "float32"]
    precision: Literal["float32", "bfloat16"]
    batch_seconds: float = Field(gt=0)
    shard_mib: int = Field(gt=0)
    threads: int = Field(gt=0)


class Sweep(Section):
    """One line of the grid: a compressor at some ratios, all with the same options and seeds of adapters."""

    compressor: Plugin
    ratios: list[RatioField] = Field(min_length=1)
    seeds: list[int] = [0]
    options: dict[Plugin, bool | int | float | OptionText] = {}


class Segments(Section):
    """The grid of compressors and ratios."""

    seed: int
    positions: Literal["renumber", "keep"]
    pool_at: Literal["encoder", "projector"]
    cells: list[Sweep] = Field(min_length=1)


class Part(Section):
    """A corpus' split, used for one task in one language."""

    corpus: Name
    split: Name
    task: Literal["transcribe", "translate"]
    language: Language
    to: Language | None = None

    @model_validator(mode="after")
    def _translate_says_where_to(self) -> "Part":
        if (self.task == "translate") != (self.to is not None):
            raise ValueError("`to` (a language) belongs to task translate, and only to it")
        return self

    @property
    def place(self) -> Split:
        """The split that it is of."""
        return Split(self.corpus, self.split)

    @property
    def answer_language(self) -> str:
        """The language of what the model has to write."""
        return self.to or self.language


class Pretrained(Section):
    """Published weights that a base is assembled from: a `package` of packages.py, or a `model` (a folder, or a hub id
    at a `revision`)."""

    package: str = ""
    model: str = ""
    revision: str = ""

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "Pretrained":
        if bool(self.package) == bool(self.model):
            raise ValueError("give either `package` (a name of packages.py) or `model` (a folder or a hub id)")
        return self

    @property
    def fetched(self) -> bool:
        """Whether a run fetches it, so that its folder has a seal."""
        return bool(self.package or self.revision)

    @property
    def folder(self) -> Path:
        """Where its files are."""
        if self.package:
            return folders.archive("packages", self.package)
        return folders.hub(self.model, self.revision) if self.revision else Path(self.model)


class Assembled(Section):
    """A base made of a Whisper encoder and a causal LLM, joined by a projector that is trained on `parts`."""

    encoder: Pretrained
    llm: Pretrained
    parts: list[Part] = Field(min_length=1)
    recipe: dict[str, Any]


class Base(Section):
    """The base LALM: which files, and how it is prompted.

    `model` is a folder; with a `revision`, an id on the hub; with `assembled`, filled in: where it is made.
    `four_bit`: the LLM's frozen weights in 4 bits (NF4, arXiv 2305.14314), for a card of 24 GB.
    """

    model: str
    sha256: str = Field(pattern="^([0-9a-f]{64})?$")  # empty: not pinned, for a model that is only tried out
    revision: str = ""
    assembled: Assembled | None = None
    four_bit: bool = False
    prompts: dict[Literal["transcribe", "translate"], str]

    @property
    def made_here(self) -> bool:
        """Whether a run fetches or joins it, so that its folder has a seal."""
        return bool(self.revision or self.assembled)

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return folders.hub(self.model, self.revision) if self.revision else Path(self.model)

    @property
    def parts(self) -> list[Part]:
        """The speech that it is made with here."""
        return self.assembled.parts if self.assembled else []


class TrainSet(Section):
    """What an adapter learns from: parts to train on, parts to watch the loss on.

    `cells` ('average-3', ...) and `seeds` narrow which cells and seeds get an adapter of this set; unset, all do.
    """

    name: Name
    parts: list[Part] = Field(min_length=1)
    dev: list[Part] = Field(min_length=1)
    cells: list[str] | None = None
    seeds: list[int] | None = None


class Lora(Section):
    rank: int = Field(gt=0)
    alpha: int = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)
    targets: list[str] = Field(min_length=1)


class Train(Section):
    """LoRA finetuning: the same budget for every cell."""

    sets: list[TrainSet] = Field(min_length=1)
    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    layout: Literal["padded", "packed"] = "packed"
    batch_tokens: int | None = Field(default=None, gt=0)
    gradient_checkpointing: bool = False
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0)
    clip_norm: float = Field(gt=0)
    lora: Lora
    dev_every_steps: int = Field(gt=0)
    dev_utterances: int = Field(gt=0)
    checkpoint_s: float = Field(ge=0)
    precision: Literal["float32", "bfloat16"]
    threads: int = Field(gt=0)


class TestSet(Part):
    """A set that is decoded and scored.

    `utterances`: at most so many, chosen by a hash of their ids; `needs`: a Python package without which the set is
    skipped; `cells` ('average-3', ...): those that are scored on it; unset, all are.
    """

    __test__ = False
    name: Name
    utterances: int | None = Field(default=None, gt=0)
    needs: str | None = None
    cells: list[str] | None = None


class Evaluate(Section):
    """Decoding and scoring; `skipped` is filled in here: the sets left out, with the reason."""

    sets: list[TestSet] = Field(min_length=1)
    skipped: dict[str, str] = {}
    metrics: dict[Literal["transcribe", "translate"], list[Plugin]]
    batch: int = Field(gt=0)
    max_new_tokens_per_second: float = Field(gt=0)
    max_new_tokens_at_least: int = Field(gt=0)
    precision: Literal["float32", "bfloat16"]
    threads: int = Field(gt=0)


class Gate(Section):
    """What the uncompressed base has to reach, zero-shot, before anything is trained.

    `figures`: of test sets, the key of the published figure in the file `published`; `override`: a reason to go on
    all the same, which every result then carries.
    """

    published: str
    figures: dict[Name, str] = Field(min_length=1)
    wer_points: float = Field(gt=0)
    bleu_points: float = Field(gt=0)
    override: str = ""


class Report(Section):
    title: str
    bootstrap_samples: int = Field(gt=0)
    confidence_percent: float = Field(gt=0, lt=100)
    examples: int = Field(ge=0)
