"""Bases of this project's own: train the tiny one from scratch, or fetch or join the one that a config names.

    python -m concertina.base --config config.yaml        trains, see bases/scratch/
    python -m concertina.base hub ...                     fetches a model from the hub, see fetching/hub.py
    python -m concertina.base join ...                    joins an encoder and an LLM, see bases/join.py

Nothing heavy is imported here: each of them imports what it needs.
"""

import importlib

from concertina import console

SUBSTEPS = {"hub": "concertina.fetching.hub", "join": "concertina.bases.join"}
TRAINING = "concertina.bases.scratch.make"


@console.substeps(SUBSTEPS)
def main(argv: list[str] | None = None) -> int:
    """Train a base from scratch."""
    status: int = importlib.import_module(TRAINING).main(argv)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
