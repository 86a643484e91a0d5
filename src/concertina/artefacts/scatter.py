"""Shares: several jobs do a share each of a long split in `data` and in `features`, and a last job gathers them.

The number of shares changes nothing but how the work is spread: the gathered split is the same to the byte. It follows
from the length of the split and is no key of the config. When it changes, the split is made again.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concertina import corpora
from concertina.config import Config
from concertina.store import sealing

MOST = 1000  # shares of a split, however long it is
HOURS = 10  # of speech in a share: minutes of encoding on a GPU, an hour or two on CPUs


@dataclass(frozen=True)
class Share:
    """Share `number` (from 1) of `of` shares; its text is '3-of-8'."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}-of-{self.of}"

    def range(self, items: int) -> range:
        """Return the numbers of the items that this share does, of `items` in all.

        They are consecutive, and all shares together do every item once, in order.
        """
        return range((self.number - 1) * items // self.of, self.number * items // self.of)


def parse(text: str) -> Share:
    """Read a share from its text, such as '3-of-8'. Errors: ValueError."""
    number, _, of = text.partition("-of-")
    if not 1 <= int(number) <= int(of):
        raise ValueError(f"{text} is not a share such as 3-of-8")
    return Share(int(number), int(of))


def plan(config: Config) -> dict[tuple[str, str], list[Share]]:
    """Return the shares of every split that an experiment uses. Errors: ConfigError (an option of a corpus)."""
    return {(corpus, split): shares(config, corpus, split) for corpus, split in config.splits}


def shares(config: Config, corpus: str, split: str) -> list[Share]:
    """Return the shares of a split, by the hours that its corpus states; none where one job does all of it."""
    size = corpora.size(config.corpus(corpus), split)
    count = min(math.ceil(size.hours / HOURS), MOST) if size else 1
    return [Share(number, count) for number in range(1, count + 1)] if count > 1 else []


def verified(folder: Path, run_key: str) -> dict[str, Any]:
    """Return the seal of a share. Errors: DamagedError when it is damaged, or belongs to another config or code."""
    seal = sealing.verify(folder)
    if seal["run_key"] != run_key:
        raise sealing.DamagedError(f"{folder} belongs to another config or code; delete it and run `make reproduce`")
    return seal


def gathered(folders: Sequence[Path], run_key: str) -> Iterator[Path]:
    """Yield the folders inside the shares of a split, in order, each share verified first. Errors: DamagedError."""
    for folder in folders:
        verified(folder, run_key)
        yield from sorted(path for path in folder.iterdir() if path.is_dir())
