"""List the releases of packages that are known to spoil results or to be unsafe."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple


class Broken(NamedTuple):
    """A package, the first version that is broken, the first after it that is not, and what goes wrong."""

    package: str
    since: tuple[int, ...]
    until: tuple[int, ...]
    harm: str


KNOWN = (
    Broken("torch", (0,), (2, 6), "a weights file can run code (CVE-2025-32434)"),
    Broken("transformers", (5, 10, 0), (5, 10, 4), "it ties Qwen2-Audio's output embeddings, which are not tied"),
)


def among(versions: Mapping[str, str], known: Iterable[Broken] = KNOWN) -> Iterator[tuple[str, str]]:
    """Yield each package whose version is known to be broken, with what goes wrong."""
    for package, since, until, harm in known:
        if package in versions and since <= _numbers(versions[package]) < until:
            yield package, harm


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])
