"""The sections of a config: frozen, with unknown keys refused."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from concertina.config.values import Language, Name, Plugin, Positions, PromptText, RatioField, Split
from concertina.store import folders

OptionText = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.]*$")]  # safe in the name of a folder


class Section(BaseModel):
    """One section of the config: frozen, with unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Corpus(BaseModel):
    """One corpus: `kind` names its file in corpora/; all other keys are that file's own options.

    `utterances`: by split, the most that are read, selected by a hash of their ids; nothing else is stored or encoded.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    name: Name
    kind: Plugin = ""
    utterances: dict[Name, Annotated[int, Field(gt=0)]] = {}

    @model_validator(mode="before")
    @classmethod
    def _kind_defaults_to_name(cls, values: Any) -> Any:
        return {"kind": values.get("name"), **values} if isinstance(values, dict) else values

    @property
    def options(self) -> dict[str, Any]:
        """The corpus' own options, by key."""
        return dict(self.model_extra or {})


class Data(Section):
    """The corpora, and further addresses of their archives: `mirrors` lists them by a corpus' kind."""

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
    """One line of the grid: a compressor at some ratios, all with the same options.

    `seeds`: of the adapters, none for cells that are only decoded zero-shot; `positions`: what adapters are trained
    under, by default all of `segments.positions`.
    """

    compressor: Plugin
    ratios: list[RatioField] = Field(min_length=1)
    seeds: list[int] = [0]
    options: dict[Plugin, bool | int | float | OptionText] = {}
    positions: list[Positions] | None = Field(default=None, min_length=1)


class Segments(Section):
    """The grid of compressors, ratios and positions; zero-shot, every cell is decoded under each of `positions`."""

    seed: int
    positions: list[Positions] = Field(min_length=1)
    pool_at: Literal["encoder", "projector"]
    cells: list[Sweep] = Field(min_length=1)

    @field_validator("positions", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class Part(Section):
    """A corpus' split that is used for one task in one language."""

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
        """The split that is used."""
        return Split(self.corpus, self.split)

    @property
    def answer_language(self) -> str:
        """The language of the text that the model has to write."""
        return self.to or self.language


class Subset(Part):
    """A part of which at most so many `utterances` are used, selected by a hash of their ids."""

    utterances: int | None = Field(default=None, gt=0)


class TrainPart(Subset):
    """A part that adapters learn from; `share`: its weight among the set's parts in what is drawn."""

    share: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class Pretrained(Section):
    """Published weights from which a base is joined: a `package` of packages.py, or a `model`.

    A `model` is a folder or, with a `revision`, an id on the hub.
    """

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
        """Whether a run fetches the weights, so that their folder has a seal."""
        return bool(self.package or self.revision)

    @property
    def folder(self) -> Path:
        """The folder of the weights' files."""
        if self.package:
            return folders.archive("packages", self.package)
        return folders.hub(self.model, self.revision) if self.revision else Path(self.model)


class Assembled(Section):
    """A base that joins a Whisper encoder and a causal LLM by a projector, trained on `parts`."""

    encoder: Pretrained
    llm: Pretrained
    parts: list[Part] = Field(min_length=1)
    recipe: dict[str, Any]


class Base(Section):
    """The base LALM: its files and its prompts.

    `model` is a folder or, with a `revision`, an id on the hub; with `assembled` it is filled in.
    `four_bit`: the LLM's frozen weights are held in 4 bits (NF4, arXiv 2305.14314), for a GPU with 24 GB.
    """

    model: str
    sha256: str = Field(pattern="^([0-9a-f]{64})?$")  # empty: not pinned, for a model on trial
    revision: str = ""
    assembled: Assembled | None = None
    four_bit: bool = False
    prompts: dict[Literal["transcribe", "translate"], PromptText]

    @property
    def made_here(self) -> bool:
        """Whether a run fetches or joins the base, so that its folder has a seal."""
        return bool(self.revision or self.assembled)

    @property
    def folder(self) -> Path:
        """The folder of the weights' files."""
        return folders.hub(self.model, self.revision) if self.revision else Path(self.model)

    @property
    def parts(self) -> list[Part]:
        """The speech on which a joined base is trained; empty for any other."""
        return self.assembled.parts if self.assembled else []


class TrainSet(Section):
    """What an adapter learns from: `parts` to train on, and `dev` to measure loss and WER on meanwhile.

    `cells` ('average-3', ...) and `seeds` limit which cells and seeds get an adapter of this set; by default all do.
    `learning_rate`: that of this set, in place of `train.learning_rate`.
    """

    name: Name
    parts: list[TrainPart] = Field(min_length=1)
    dev: list[Subset] = Field(min_length=1)
    cells: list[str] | None = None
    seeds: list[int] | None = None
    learning_rate: float | None = Field(default=None, gt=0)


class Lora(Section):
    """The size of a LoRA adapter, and `targets`: the linear layers of the LLM that get one."""

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
    dev_transcribed: int = Field(ge=0)
    checkpoint_s: float = Field(ge=0)
    precision: Literal["float32", "bfloat16"]
    threads: int = Field(gt=0)


class TestSet(Subset):
    """A set that is decoded and scored.

    `needs`: a Python package without which the set is skipped; `cells` ('average-3', ...): the cells that are scored
    on it, by default all; `judged`: claims are judged on it.
    """

    __test__ = False
    name: Name
    needs: str | None = None
    cells: list[str] | None = None
    judged: bool = False


class Evaluate(Section):
    """Decoding and scoring; `skipped` is filled in: the sets that are left out, with the reason."""

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

    `figures`: by test set, the key of its figure in the file `published`; `override`: a reason to continue although a
    figure is missed, which every result then states. `prompts`: by task, other wordings than those of `base`, which
    are compared with them on the sets of `trial` before anything else.
    """

    published: str
    figures: dict[Name, str] = Field(min_length=1)
    wer_points: float = Field(gt=0)
    bleu_points: float = Field(gt=0)
    prompts: dict[Literal["transcribe", "translate"], list[str]] = {}
    trial: list[TestSet] = []
    override: str = ""

    @model_validator(mode="after")
    def _prompts_have_a_trial(self) -> "Gate":
        if set(self.prompts) != {part.task for part in self.trial}:
            raise ValueError("`prompts` are compared on the sets of `trial`: give both, for the same tasks")
        return self


class Report(Section):
    """The report: its title, its intervals, what it judges by, and how many predictions of each test set it shows.

    `claims` and `paper_table` are files of claims.py; `margins`: by metric, how many points are close to no loss;
    `bench`: the experiment is a test bench, whose verdicts decide no claim of the paper.
    """

    title: str
    bootstrap_samples: int = Field(gt=0)
    confidence_percent: float = Field(gt=0, lt=100)
    examples: int = Field(ge=0)
    claims: str
    paper_table: str
    margins: dict[Plugin, Annotated[float, Field(gt=0)]]
    bench: bool


class Sections(Section):
    """The sections of a config, one per stage; those with a default may be left out."""

    name: Name
    base: Base
    data: Data
    features: Features
    segments: Segments
    train: Train
    evaluate: Evaluate
    report: Report
    gate: Gate | None = None
