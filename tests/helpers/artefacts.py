"""Find an experiment's artefacts without loading its config."""

import re
from pathlib import Path

from concertina.artefacts import dag


def folder_of(kind: str, *values: object) -> Path:
    """Return the folder of an artefact: its kind, then what its path holds from the experiment's name on.

    For example `folder_of("train", "tiny", "english", "average-3", 0)`.
    """
    pattern = dag.row(kind).folder
    names = re.findall(r"\{(\w+)\}", pattern)
    return Path(pattern.format(**dict(zip(names, values, strict=True))))
