"""JSON lines: one mapping a line, as manifests, rejects and training curves are kept."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from concertina.store.sealing import DamagedError


def read(path: Path) -> list[dict[str, Any]]:
    """Read every row. Errors: DamagedError naming the file and the line that is not JSON."""
    rows = []
    lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: a text may hold other line separators
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError:
                message = f"{path} line {number} is not JSON; delete {path.parent} and run `make reproduce`"
                raise DamagedError(message) from None
    return rows


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows into a file of a folder that is not sealed yet."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
