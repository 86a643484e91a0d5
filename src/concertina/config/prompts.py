"""The texts of prompts: how a base is asked for a task in a language, and which special tokens that takes."""

import re
from collections.abc import Iterator

from concertina.config.experiment import Config, ConfigError
from concertina.config.sections import Base, Part
from concertina.config.values import language_name

COMPARED = "base.prompts"  # in the gate's record: the fact about prompts that were compared, beside those about sets


def text(base: Base, task: str, source: str, target: str | None) -> str:
    """Return the prompt of a task for a pair of languages. Errors: ConfigError where the base has no such prompt."""
    prompts = {str(key): prompt for key, prompt in base.prompts.items()}
    if task not in prompts:
        raise ConfigError(f"base.prompts has no {task!r}; add the prompt of that task")
    return fill(prompts[task], source, target)


def fill(prompt: str, source: str, target: str | None) -> str:
    """Return a prompt with its languages filled in."""
    return prompt.format(
        source=source,
        target=target or source,
        source_name=language_name(source),
        target_name=language_name(target or source),
    )


def tokens(text: str) -> list[str]:
    """Return the special tokens in a text, such as <|en|>."""
    return re.findall(r"<\|[^|]*\|>", text)


def wanted(config: Config) -> Iterator[tuple[str, str]]:
    """Yield every special token that the config's prompts take, with the key of the prompt."""
    parts: list[Part] = [*config.evaluate.sets, *config.trial, *config.base.parts]
    parts += [part for train_set in config.train.sets for part in (*train_set.parts, *train_set.dev)]
    for task, source, target in dict.fromkeys((part.task, part.language, part.to) for part in parts):
        yield from ((token, f"base.prompts.{task}") for token in tokens(text(config.base, task, source, target)))
    for part in config.trial:
        for prompt in config.rivals(part.task):
            yield from ((token, f"gate.prompts.{part.task}") for token in tokens(fill(prompt, part.language, part.to)))
