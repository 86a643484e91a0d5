"""A long split is scattered over jobs: each does its share in `data` and in `features`, and a last one gathers them.

How many shares there are decides nothing but how the work is spread: what is gathered is the same to the byte. Their
number is not a matter of config: a split that is to be gathered from fewer or more than before is made again.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concertina import corpora
from concertina.config import Config
from concertina.store import sealing

MOST = 1000  # shares, however long a corpus says that it is
HOURS = 10  # of speech in a share: minutes of encoding on a GPU, an hour or two on CPUs


@dataclass(frozen=True)
class Share:
    """Share `number` (from 1) of `of` shares; its text is '3-of-8'."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}-of-{self.of}"

    def range(self, items: int) -> range:
        """Which of so many items it does: consecutive ones; together the shares do every item once, in order."""
        return range((self.number - 1) * items // self.of, self.number * items // self.of)


def parse(text: str) -> Share:
    """'3-of-8' -> its share. Errors: ValueError."""
    number, _, of = text.partition("-of-")
    if not 1 <= int(number) <= int(of):
        raise ValueError(f"{text} is not a share such as 3-of-8")
    return Share(int(number), int(of))


def plan(config: Config) -> dict[tuple[str, str], list[Share]]:
    """The shares of every split that an experiment uses. Errors: ConfigError (an option of a corpus)."""
    return {(corpus, split): shares(config, corpus, split) for corpus, split in config.splits}


def shares(config: Config, corpus: str, split: str) -> list[Share]:
    """The shares of a split, by the hours that its corpus says it has; none where one job does it all."""
    size = corpora.size(config.corpus(corpus), split)
    count = min(math.ceil(size.hours / HOURS), MOST) if size else 1
    return [Share(number, count) for number in range(1, count + 1)] if count > 1 else []


def verified(folder: Path, run_key: str) -> dict[str, Any]:
    """The seal of a share. Errors: DamagedError when it is damaged, or belongs to another config or code."""
    seal = sealing.verify(folder)
    if seal["run_key"] != run_key:
        raise sealing.DamagedError(f"{folder} is of another config or code; delete it and run `make reproduce`")
    return seal


def gathered(folders: Sequence[Path], run_key: str) -> Iterator[Path]:
    """The folders inside the shares of a split, in order, each share verified first. Errors: DamagedError."""
    for folder in folders:
        verified(folder, run_key)
        yield from sorted(path for path in folder.iterdir() if path.is_dir())
