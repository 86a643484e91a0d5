"""Compressors: a file is a method, and its name is the name in the config and in the report.

A file has one function, which decides where a batch of utterances is cut into tokens and how frames weigh in them:

    def cut(speech, ratio, *, option=default) -> Segments

speech      an Utterances: `lengths_B`, and `frames_TD`, `seeds_B`, `cue(name)` where the file declares to read them
ratio       frames per token, a float of at least 1; or 'natural'
option      keyword-only, a plain constant as default: what the config's `options` of a cell may set, with a value of
            the same kind

and it declares, each as a plain constant:

reads = ("frames",)     what it looks at beside lengths: "frames", "seeds" or a cue; () for nothing, the default
allowed = {"option": "0 <= option < ratio"}     which values an option may have: a rule over options and `ratio`
natural = True          it takes the ratio 'natural'
exact = False           it does not give ceil(T / ratio) tokens
ratios = (1,)           it takes no other ratios

`_contract.py` holds what an answer must satisfy. Nothing here imports torch, or a compressor before it is used: a
config is checked by reading the files.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from concertina.compressors import _declaration
from concertina.compressors._declaration import Compressor
from concertina.config import Cell, ConfigError
from concertina.nearest import nearest

FOLDER = Path(__file__).parent


class ContractError(RuntimeError):
    """A compressor broke its contract; the message names it and the rule."""


def names() -> list[str]:
    """The compressors that are there."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def load(name: str) -> Callable[..., Any]:
    """Import the function `cut` of a compressor. Errors: ConfigError when its file cannot be used."""
    describe(name)
    function: Callable[..., Any] = importlib.import_module(f"{__name__}.{name}").cut
    return function


def describe(name: str) -> Compressor:
    """Read what a compressor declares, without importing it. Errors: ConfigError naming it and what is wrong."""
    if name not in names():
        raise ConfigError(
            f"compressors: {name!r} has no file src/concertina/compressors/{name}.py{nearest(name, names())}"
        )
    return _declaration.read(name, FOLDER / f"{name}.py")


def check_cell(cell: Cell) -> None:
    """See that a compressor takes a cell's ratio and options. Errors: ConfigError naming what it does not take."""
    describe(cell.compressor).check(cell.ratio, cell.options)
