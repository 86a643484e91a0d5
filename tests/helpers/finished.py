"""Seal a dummy of every artefact of an experiment: `python finished.py CONFIG`, in a copy of the project."""

import sys
from pathlib import Path
from typing import Any

from concertina.artefacts import dag
from concertina.artefacts.standing import Standing
from concertina.config import load
from concertina.store import sealing

COPIES = ("scores.csv", "report.html")  # of the report, beside its folder


def main(path: str) -> None:
    """Give every artefact the run key that it gets from the config and the code; make what is missing."""
    config = load(path)
    standing = Standing(config)
    for artefact in dag.every(config):
        if artefact.kind.endswith("_share"):
            continue
        key: dict[str, Any] = {"run_key": standing.wanted(artefact)}
        if artefact.kind == "evaluate":
            adapters = [one for one in dag.needs(config, artefact) if one.kind == "train"]
            key["adapters"] = {one.run: standing.wanted(one) for one in adapters}
        if artefact.seal.exists():
            sealing.write_seal(artefact.seal, sealing.read_seal(artefact.folder) | key)
            continue
        with sealing.sealed(artefact.folder, key) as folder:
            (folder / "heavy.bin").write_bytes(str(artefact.folder).encode() * 1000)
            for name in COPIES if artefact.kind == "report" else ():
                (folder / name).write_text(name, encoding="utf-8")
    for name in COPIES:
        Path("results", config.name, name).write_text(name, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
