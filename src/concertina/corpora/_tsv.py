"""Read tables as Common Voice and CoVoST publish them: tab-separated, with the names of the columns in line 1."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from concertina.config import ConfigError
from concertina.store.regular import open_regular

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Row:
    """A line of a table: its number, its fields by column, and in `wrong` the reason if it cannot be read."""

    line: int
    fields: dict[str, str]
    wrong: str = ""


@dataclass(frozen=True)
class Table:
    """A table on disk. It has no quoting: a quotation mark is a letter like any other.

    `needed`: the columns that it must have; `escaped`: whether a backslash precedes special letters.
    Errors, when it is read: ConfigError naming the file, and the column that is missing.
    """

    path: Path
    needed: tuple[str, ...]
    escaped: bool = False

    @cached_property
    def columns(self) -> list[str]:
        """The names of its columns, from its first line."""
        with self._open() as file:
            line = file.readline().removeprefix(b"\xef\xbb\xbf")
        columns = line.decode("utf-8", errors="replace").rstrip("\r\n").split("\t")
        if missing := [name for name in self.needed if name not in columns]:
            raise ConfigError(f"{self.path} has no column {missing[0]!r}; its first line names {', '.join(columns)}")
        return columns

    def rows(self) -> Iterator[Row]:
        """Yield the rows after the first line; empty lines are skipped."""
        width = len(self.columns)
        with self._open() as file:
            for number, line in enumerate(islice(file, 1, None), start=2):
                if content := line.rstrip(b"\r\n"):
                    yield self._row(number, content, width)

    def count(self) -> int:
        """Count its lines without parsing them: the number of rows, or a few more where lines are empty."""
        lines, end = 0, b"\n"
        with self._open() as file:
            while block := file.read(BLOCK_BYTES):
                lines, end = lines + block.count(b"\n"), block[-1:]
        return max(0, lines + (end != b"\n") - 1)

    def _open(self) -> BinaryIO:
        try:
            return open_regular(self.path)
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be read: {error.strerror}") from None

    def _row(self, number: int, content: bytes, width: int) -> Row:
        """Parse one line into a row."""
        try:
            line = content.decode("utf-8")
            values = _unescaped(line) if self.escaped else line.split("\t")
        except UnicodeDecodeError:
            return Row(number, {}, "not UTF-8")
        except csv.Error as error:
            return Row(number, {}, str(error))
        wrong = "" if len(values) == width else f"{len(values)} columns, not {width}"
        return Row(number, dict(zip(self.columns, values, strict=False)), wrong)


def _unescaped(line: str) -> list[str]:
    return next(csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\"))
