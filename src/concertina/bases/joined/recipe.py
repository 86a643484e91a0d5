"""The recipe of a joined base, base.assembled.recipe in the config; configs/small.yaml explains every key."""

from typing import Any

from pydantic import Field, ValidationError

from concertina.config import ConfigError, Section
from concertina.nearest import nearest


class Alignment(Section):
    """The first phase: the projector alone, by CTC against the LLM's own token embeddings."""

    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    learning_rate: float = Field(gt=0)


class Finetuning(Section):
    """The second phase: projector and LLM through the LLM's own loss."""

    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    batch_tokens: int | None = Field(default=None, gt=0)
    learning_rate: float = Field(gt=0)
    projector_learning_rate: float = Field(gt=0)


class Recipe(Section):
    """The whole recipe. `shares`: how much of what is drawn comes from each of base.assembled.parts; they sum to 1."""

    alignment: Alignment
    finetuning: Finetuning
    shares: list[float]
    warmup_share: float = Field(ge=0, lt=1)
    longest_s: float = Field(gt=0)
    checkpoint_s: float = Field(ge=0)
    threads: int = Field(gt=0)
    seed: int


def read_recipe(values: dict[str, Any], parts: int) -> Recipe:
    """Read a recipe for a base with that many parts. Errors: ConfigError naming the key and the nearest valid one."""
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(map(_explain, error.errors()))) from None
    if len(recipe.shares) != parts or abs(sum(recipe.shares) - 1) > 1e-6:
        raise ConfigError(f"base.assembled.recipe.shares: give one for each of the {parts} parts, 1 in total")
    return recipe


def _explain(fact: Any) -> str:
    """Return one of pydantic's errors as a phrase: the key's path, and what is wrong with it."""
    where = ".".join(map(str, ("base.assembled.recipe", *fact["loc"])))
    if fact["type"] != "extra_forbidden":
        return f"{where}: {fact['msg']}"
    keys = [name for model in (Recipe, Alignment, Finetuning) for name in model.model_fields]
    return f"unknown key {where}{nearest(str(fact['loc'][-1]), keys)}"
