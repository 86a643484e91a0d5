"""How a file of the config is read: YAML in UTF-8, in which no key stands twice."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml


class ConfigError(ValueError):
    """The config cannot be used; the message names the key and the remedy."""


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key that stands twice: YAML itself would drop the first in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Any, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise ConfigError(f"the key {key.value!r} stands twice, in lines {seen[key.value]} and {line}")
            seen[key.value] = line
        return super().construct_mapping(node, deep)


def read(path: Path) -> dict[str, Any]:
    """Read a YAML file of sections. Errors: ConfigError naming the file, and where known the line."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config; see config.yaml and configs/") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: this is a folder; a config is a file, such as config.yaml") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}: line {line} is not UTF-8; save the file in that encoding") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}; keep one of them") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a config is a mapping of sections, such as `train:`")
    return values
