"""Check that the base's tokenizer knows the special tokens of the prompts, as soon as its files are there."""

import json

from concertina.config import Config, ConfigError, prompts


def check(config: Config) -> None:
    """Look up every special token that the config needs in the base's tokenizer.json, where there is one.

    Errors: ConfigError naming the prompt and the token.
    """
    file = config.base.folder / "tokenizer.json"
    if not file.is_file():
        return
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    known = {token["content"] for token in tokenizer.get("added_tokens", [])}
    for token, key in prompts.wanted(config):
        if token not in known and token not in tokenizer["model"]["vocab"]:
            raise ConfigError(unknown(key, config.base.model, token))


def unknown(key: str, model: str, token: str) -> str:
    """Return what is wrong where a tokenizer does not have a prompt's special token."""
    return f"{key}: {model} has no token {token}; does it know this language?"
