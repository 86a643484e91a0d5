"""How a base model is made: its recipe, key by key as models/tiny/recipe.yaml explains them."""

import hashlib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from concertina.bases.scratch.model import Shape
from concertina.config import ConfigError, Section
from concertina.nearest import nearest

FILE = "recipe.yaml"  # in the folder of the model that it makes


class Phase(Section):
    """A stretch of training with a warm-up and a cosine of its own; `peak` and `floor` are shares of the rates.

    `transcribe`, the share of transcription, is the recipe's unless a phase has its own.
    """

    loss: Literal["ctc", "joint"]
    steps: int
    single_steps: int = 0
    peak: float
    floor: float
    transcribe: float | None = None


class Recipe(Shape):
    """How the base is made; see models/tiny/recipe.yaml."""

    clips: dict[str, int]
    phases: list[Phase]
    mean_of: int
    batch_s: float
    single_noisy: float
    muon_learning_rate: float
    adam_learning_rate: float
    warmup_steps: int
    ctc_weight: float
    languages: dict[str, float]
    joined: list[float]
    noisy: float
    transcribe: float
    processes: int
    seed: int


def read_recipe(path: Path) -> Recipe:
    """Read a recipe. Errors: ConfigError naming the file, the key and the nearest valid one."""
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe; name one with --recipe, such as models/tiny/{FILE}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(map(_explain, error.errors()))) from None


def _explain(fact: Any) -> str:
    where = ".".join(map(str, fact["loc"]))
    if fact["type"] != "extra_forbidden":
        return f"{where}: {fact['msg']}"
    model = Phase if "phases" in fact["loc"] else Recipe
    return f"unknown key {where}{nearest(str(fact['loc'][-1]), list(model.model_fields))}"


def digest(*texts: str) -> str:
    """12 hexadecimal digits that name what was made by these settings."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
