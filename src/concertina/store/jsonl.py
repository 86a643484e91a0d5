"""JSON lines: one mapping per line, the format of manifests, rejects and training curves."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from concertina.store.sealing import DamagedError


def read(path: Path, remedy: str = "") -> list[dict[str, Any]]:
    """Read every row. Errors: DamagedError naming the file, the line that is not JSON, and the remedy.

    `remedy`: what a user can do about a damaged line, where the file is not part of a sealed folder.
    """
    rows = []
    lines = path.read_text(encoding="utf-8").split("\n")  # splitlines would also cut at separators inside a text
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError:
                advice = remedy or f"delete {path.parent} and run `make reproduce`"
                raise DamagedError(f"{path} line {number} is not JSON; {advice}") from None
    return rows


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows into a file of a folder that is not sealed yet."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
