"""The experiment as data: frozen models, unknown keys refused with their path and the nearest valid name."""

import importlib.util
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from concertina.spelling import nearest

DEFAULT = Path("config.yaml")
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Plugin = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]


class ConfigError(ValueError):
    """The config cannot be used; the message names the key and the remedy."""


def _ratio(value: Any) -> Any:
    if value == "natural":
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 1:
        raise ValueError(f"a ratio is 'natural' or a number of frames per token, at least 1; got {value!r}")
    return float(value)


Ratio = Annotated[float | Literal["natural"], BeforeValidator(_ratio)]


def ratio_text(ratio: float | str) -> str:
    """`3.0` -> '3', `2.5` -> '2.5', 'natural' -> 'natural': the spelling used in paths and tables."""
    return ratio if isinstance(ratio, str) else f"{ratio:g}"


class Section(BaseModel):
    """A part of the config: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Base(Section):
    """The base LALM: which files, and how it is prompted."""

    model: str
    sha256: str = Field(pattern="^([0-9a-f]{64})?$")  # empty: not pinned, for a model that is only tried out
    prompts: dict[Literal["transcribe", "translate"], str]
    recipe: dict[str, Any] = {}


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


class Cell(Section):
    """One line of the grid: a compressor, its ratios, and what it wants beside them."""

    compressor: Plugin
    ratios: list[Ratio] = Field(min_length=1)
    seeds: list[int] = [0]
    options: dict[str, Any] = {}


class Segments(Section):
    """The grid of compressors and ratios."""

    seed: int
    positions: Literal["renumber", "keep"]
    pool_at: Literal["encoder", "projector"]
    cells: list[Cell] = Field(min_length=1)


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
    """A set that is decoded and scored; `needs`: a Python package without which it is skipped."""

    __test__ = False
    name: Name
    utterances: int | None = Field(default=None, gt=0)
    needs: str | None = None


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


class Report(Section):
    title: str
    bootstrap_samples: int = Field(gt=0)
    confidence_percent: float = Field(gt=0, lt=100)
    examples: int = Field(ge=0)


class Config(Section):
    """The whole experiment; see config.yaml for every key with its unit."""

    name: Name
    base: Base
    data: Data
    features: Features
    segments: Segments
    train: Train
    evaluate: Evaluate
    report: Report

    @model_validator(mode="before")
    @classmethod
    def _skip_what_cannot_be_made(cls, values: Any) -> Any:
        """Leave out the test sets whose package is not on this machine, and keep the reason."""
        evaluate = values.get("evaluate") if isinstance(values, dict) else None
        if isinstance(evaluate, dict) and "skipped" in evaluate:
            raise ValueError("unknown key evaluate.skipped (it is filled in; a set is skipped by what it `needs`)")
        if not isinstance(evaluate, dict) or not isinstance(evaluate.get("sets"), list):
            return values
        needs = {str(s.get("name")): s["needs"] for s in evaluate["sets"] if isinstance(s, dict) and s.get("needs")}
        skipped = {
            name: f"the package {package} is not installed (on some machines it has no wheel)"
            for name, package in needs.items()
            if importlib.util.find_spec(package) is None
        }
        sets = [s for s in evaluate["sets"] if not (isinstance(s, dict) and str(s.get("name")) in skipped)]
        return {**values, "evaluate": {**evaluate, "sets": sets, "skipped": skipped}}

    @model_validator(mode="after")
    def _names_agree(self) -> "Config":
        names = [corpus.name for corpus in self.data.corpora]
        _unique("data.corpora", names)
        _unique("train.sets", [s.name for s in self.train.sets])
        _unique("evaluate.sets", [s.name for s in self.evaluate.sets])
        cells = [f"{c}-{ratio_text(r)}" for c, r in self.cells]
        _unique("segments.cells", cells)
        adapted = {train_set for c, r in self.cells for train_set, _ in self.adapters(c, ratio_text(r))}
        for chosen in self.train.sets:
            if missing := sorted(set(chosen.cells or []) - set(cells)):
                raise ValueError(
                    f"train.sets.{chosen.name}: no cell {missing[0]!r} in the grid{nearest(missing[0], cells)}"
                )
            if chosen.seeds is not None and chosen.name not in adapted:
                raise ValueError(f"train.sets.{chosen.name}: no cell of the grid has one of its seeds {chosen.seeds}")
        used = [(f"train.sets.{s.name}", p) for s in self.train.sets for p in (*s.parts, *s.dev)]
        for where, part in [*used, *((f"evaluate.sets.{s.name}", s) for s in self.evaluate.sets)]:
            if part.corpus not in names:
                raise ValueError(f"{where}: no corpus {part.corpus!r} in data.corpora{nearest(part.corpus, names)}")
        return self

    @property
    def cells(self) -> list[tuple[str, float | str]]:
        """Every (compressor, ratio) of the grid, in the config's order."""
        return [(cell.compressor, ratio) for cell in self.segments.cells for ratio in cell.ratios]

    def cell(self, compressor: str, ratio: str) -> Cell:
        """The grid line that a compressor and the text of a ratio belong to."""
        for cell in self.segments.cells:
            if cell.compressor == compressor and ratio in map(ratio_text, cell.ratios):
                return cell
        raise ConfigError(f"segments.cells has no {compressor} at ratio {ratio}")

    def adapters(self, compressor: str, ratio: str) -> list[tuple[str, int]]:
        """The (training set, seed) of every adapter of a cell."""
        return [
            (chosen.name, seed)
            for chosen in self.train.sets
            if chosen.cells is None or f"{compressor}-{ratio}" in chosen.cells
            for seed in self.cell(compressor, ratio).seeds
            if chosen.seeds is None or seed in chosen.seeds
        ]

    @property
    def places(self) -> list[tuple[str, str]]:
        """Every (corpus, split) that is learnt from, watched or scored."""
        learnt = [part for chosen in self.train.sets for part in (*chosen.parts, *chosen.dev)]
        return sorted({(part.corpus, part.split) for part in (*self.evaluate.sets, *learnt)})

    def corpus(self, name: str) -> Corpus:
        return _named(self.data.corpora, name, "data.corpora")

    def train_set(self, name: str) -> TrainSet:
        return _named(self.train.sets, name, "train.sets")


def merge(base: Any, overlay: Any) -> Any:
    """Lay an overlay over a config: mappings merge, everything else (lists too) replaces."""
    if isinstance(base, dict) and isinstance(overlay, dict):
        return base | {key: merge(base.get(key), value) for key, value in overlay.items()}
    return overlay


def load(path: str | Path = DEFAULT) -> Config:
    """Read a config; any file other than config.yaml is an overlay over it.

    Errors: ConfigError naming the file, the key and the nearest valid key.
    """
    path = Path(path)
    values = _read(DEFAULT) if DEFAULT.exists() or path == DEFAULT else {}
    if path.resolve() != DEFAULT.resolve():
        values = merge(values, _read(path))
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(_explain(e) for e in error.errors())) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config; see config.yaml and configs/") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a config is a mapping of sections, such as `train:`")
    return values


def _explain(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"unknown key {where}{nearest(str(error['loc'][-1]), _keys_beside(error['loc']))}"
    message = re.sub(r"^Value error, ", "", error["msg"])
    return f"{where}: {message}" if where else message


def _keys_beside(location: tuple[str | int, ...]) -> list[str]:
    """The valid keys at the place where an unknown one was found."""
    model: Any = Config
    for step in location[:-1]:
        if isinstance(step, int):
            continue
        annotation = model.model_fields[step].annotation
        arguments = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
        model = arguments[0] if arguments else annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return list(model.model_fields)


def _unique(where: str, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{where}: {', '.join(twice)} stands there more than once")


def _named(items: list[Any], name: str, where: str) -> Any:
    for item in items:
        if item.name == name:
            return item
    raise ConfigError(f"{where} has no {name!r}{nearest(name, [item.name for item in items])}")
