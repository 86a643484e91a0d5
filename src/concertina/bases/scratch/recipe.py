"""How a base model is made: the config's base.recipe, key by key as config.yaml explains them."""

import hashlib
from typing import Any, Literal

from pydantic import ValidationError

from concertina.bases.scratch.model import Shape
from concertina.config import Config, ConfigError, Section
from concertina.nearest import nearest


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
    """How the base is made; see config.yaml."""

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


def read_recipe(config: Config, path: str) -> Recipe:
    """The config's base.recipe. Errors: ConfigError naming the key and the nearest valid one."""
    try:
        return Recipe.model_validate(config.base.recipe)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(map(_explain, error.errors()))) from None


def _explain(fact: Any) -> str:
    where = ".".join(map(str, ("base.recipe", *fact["loc"])))
    if fact["type"] != "extra_forbidden":
        return f"{where}: {fact['msg']}"
    model = Phase if "phases" in fact["loc"] else Recipe
    return f"unknown key {where}{nearest(str(fact['loc'][-1]), list(model.model_fields))}"


def digest(*texts: str) -> str:
    """12 hexadecimal digits that name what was made by these settings."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
