"""Compressors: a file is a method, and its name is the name in the config and in the report.

A file has one function, which decides where a packed batch of utterances is cut and how frames weigh:

    def segment(frames_TD, lengths_B, ratio, cues, seeds_B, *, option=default) -> Segments

frames_TD   float32, the frames of B utterances end to end; of width 0 for a file that never names it
lengths_B   int64, the frames of each utterance
ratio       frames per token, a float of at least 1; or 'natural'
cues        an empty mapping: no stage makes cues yet, and a file that asks for one is refused
seeds_B     int64, one per utterance, made of its id
option      keyword-only, with a default: the config's `options` of a cell

and may say, each as a plain constant: `natural = True` (it takes the ratio 'natural'), `exact = False` (it does not
give ceil(T / ratio) tokens), `ratios = (1,)` (it takes no others), `cues = ("attention",)` (it needs more than
frames). `_contract.py` holds what its answer must satisfy. Nothing here imports torch, or a compressor
before it is used: a config is checked by reading the files.
"""

import ast
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concertina.config import Cell, ConfigError, Ratio
from concertina.nearest import nearest

FOLDER = Path(__file__).parent
PARAMETERS = ["frames_TD", "lengths_B", "ratio", "cues", "seeds_B"]


@dataclass(frozen=True)
class Compressor:
    """What a compressor's file says about itself.

    `options` is None where it takes any; `draws`: it reads seeds_B; `reads_frames`: it reads frames_TD.
    """

    name: str
    options: tuple[str, ...] | None
    draws: bool
    reads_frames: bool
    natural: bool = False
    exact: bool = True
    ratios: tuple[float, ...] | None = None
    cues: tuple[str, ...] = ()


def names() -> list[str]:
    """The compressors that are there."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def load(name: str) -> Callable[..., Any]:
    """The function `segment` of a compressor. Errors: ConfigError when there is no such file."""
    describe(name)
    function: Callable[..., Any] = importlib.import_module(f"{__name__}.{name}").segment
    return function


def describe(name: str) -> Compressor:
    """Read what a compressor takes, without importing it. Errors: ConfigError naming the file."""
    path = FOLDER / f"{name}.py"
    if name not in names():
        raise ConfigError(
            f"compressors: {name!r} has no file src/concertina/compressors/{name}.py{nearest(name, names())}"
        )
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ConfigError(f"compressor {name}: line {error.lineno} of {path} is not Python: {error.msg}") from None
    said = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            said[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            said[node.target.id] = node.value
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "segment"]
    if not functions or [argument.arg for argument in functions[-1].args.args] != PARAMETERS:
        raise ConfigError(f"compressor {name}: {path} has no function segment({', '.join(PARAMETERS)}, *, ...)")
    arguments = functions[-1].args
    if None in arguments.kw_defaults:
        raise ConfigError(f"compressor {name}: give every option of segment a default in {path}")
    options = None if arguments.kwarg else tuple(argument.arg for argument in arguments.kwonlyargs)
    try:
        facts = {key: ast.literal_eval(said[key]) for key in ("natural", "exact", "ratios", "cues") if key in said}
    except ValueError:
        raise ConfigError(f"compressor {name}: natural, exact, ratios and cues are plain constants in {path}") from None
    read = {node.id for node in ast.walk(functions[-1]) if isinstance(node, ast.Name)}
    return Compressor(name, options, "seeds_B" in read, "frames_TD" in read, **facts)


def check_cell(cell: Cell) -> None:
    """See that a compressor takes a cell's ratio and options. Errors: ConfigError naming what it does not take."""
    name, ratio, options = cell.compressor, cell.ratio, cell.options
    compressor = describe(name)
    if ratio.natural and not compressor.natural:
        raise ConfigError(f"compressor {name} has no ratio 'natural': give frames per token, such as 3")
    if compressor.ratios is not None and ratio.frames not in compressor.ratios:
        valid = ", ".join(str(Ratio.parse(r)) for r in compressor.ratios)
        raise ConfigError(f"compressor {name} does not take ratio {ratio} (valid: {valid})")
    if compressor.cues:
        raise ConfigError(f"compressor {name} needs {', '.join(compressor.cues)}, which no stage makes yet")
    for option in options:
        if compressor.options is not None and option not in compressor.options:
            near = nearest(option, list(compressor.options)) or " (it takes none)"
            raise ConfigError(f"segments.cells: compressor {name} has no option {option!r}{near}")
