"""List the jobs that Snakemake plans to do again when a finished default run is changed."""

from pathlib import Path

import yaml

from concertina.config import merge

SPLITS = ["clean", "dev", "hard", "train"]
CELLS = [
    *("average-2", "average-3", "average-4", "none-1", "random-3", "sample-2", "sample-3", "sample-4"),
    *("segment-2", "segment-3", "segment-4", "segment-natural"),
]
EVALUATED_AGAIN = sorted([*(f"evaluate {cell}" for cell in CELLS), "report", "report_track"])


def adapter(cell: str, train_set: str = "english") -> str:
    """Return the path of the adapter of a cell within its kind; only the uncompressed cell has no positions."""
    return f"{train_set}/{cell}{'' if cell == 'none-1' else '-keep'}/seed0"


TRAINED_AGAIN = sorted([*(f"train {adapter(cell)}" for cell in CELLS), *EVALUATED_AGAIN])


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path} no longer says {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def overlay(project: Path, text: str) -> None:
    """Merge an edit into config.yaml like an overlay: mappings merge, lists replace."""
    values = merge(yaml.safe_load((project / "config.yaml").read_text(encoding="utf-8")), yaml.safe_load(text))
    (project / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def cells_again(cells: list[str]) -> list[str]:
    """Return the jobs that run again when the cuts of cells change."""
    segments = [f"segments synthetic/{split}/{cell}" for split in SPLITS for cell in cells]
    adapters = [f"train {adapter(cell)}" for cell in cells]
    return sorted([*segments, *adapters, *(f"evaluate {cell}" for cell in cells), "report", "report_track"])
