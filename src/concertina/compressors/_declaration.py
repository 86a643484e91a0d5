"""What a compressor's file declares of itself, read from its text: nothing is imported, so a plan needs no torch."""

import ast
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from concertina.config import ConfigError, Ratio
from concertina.nearest import nearest

CUES: tuple[str, ...] = ()  # columns of numbers beside the frames, by name; no stage makes any yet
READABLE = ("frames", "seeds", *CUES)
FORMS: dict[str, tuple[type, str]] = {
    "reads": (tuple, 'a tuple of names, such as ("frames",)'),
    "allowed": (dict, 'a rule for each option, such as {"phase": "0 <= phase < ratio"}'),
    "natural": (bool, "True or False"),
    "exact": (bool, "True or False"),
    "ratios": (tuple, "a tuple of numbers, such as (1,)"),
}


@dataclass(frozen=True)
class Compressor:
    """A compressor as its file declares it: `options` holds each option's default, `allowed` a rule for its value."""

    name: str
    options: Mapping[str, Any]
    reads: tuple[str, ...] = ()
    allowed: Mapping[str, str] = field(default_factory=dict)
    natural: bool = False
    exact: bool = True
    ratios: tuple[float, ...] | None = None

    def check(self, ratio: Ratio, options: Mapping[str, Any]) -> None:
        """See that it takes a ratio and the values of options. Errors: ConfigError naming what it does not take."""
        if ratio.natural and not self.natural:
            raise ConfigError(f"compressor {self.name} has no ratio 'natural': give frames per token, such as 3")
        if self.ratios is not None and ratio.frames not in self.ratios:
            valid = ", ".join(str(Ratio.parse(r)) for r in self.ratios)
            raise ConfigError(f"compressor {self.name} does not take ratio {ratio} (valid: {valid})")
        for option, value in options.items():
            if option not in self.options:
                near = nearest(option, list(self.options)) or " (it takes none)"
                raise ConfigError(f"compressor {self.name} has no option {option!r}{near}")
            if kind := _other_kind(value, self.options[option]):
                raise ConfigError(f"compressor {self.name}: option {option} must be {kind}, not {value!r}")
        values = {**self.options, **options}
        for option, rule in self.allowed.items():
            if not _holds(rule, {**values, "ratio": ratio.value}):
                value = f"{option}: {values[option]!r} at ratio {ratio}"
                raise ConfigError(f"compressor {self.name} does not take {value} (allowed: {rule})")


def read(name: str, path: Path) -> Compressor:
    """Read what a file declares. Errors: ConfigError naming the compressor, the file and what is wrong with it."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ConfigError(f"compressor {name}: line {error.lineno} of {path} is not Python: {error.msg}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"compressor {name}: {path} cannot be read: {error}") from None
    try:
        compressor = Compressor(name, _options(tree), **dict(_constants(tree)))
        _check(compressor)
    except ValueError as error:
        raise ConfigError(f"compressor {name}: {error}; see {path}") from None
    return compressor


def _options(tree: ast.Module) -> dict[str, Any]:
    """The options of the function `cut`, with their defaults. Errors: ValueError when it is not as it must be."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "cut"]
    if not functions:
        raise ValueError("it has no function cut(speech, ratio, *, ...)")
    arguments = functions[-1].args
    by_place = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    if by_place != ["speech", "ratio"] or arguments.vararg or arguments.kwarg:
        raise ValueError("its function must be cut(speech, ratio, *, ...), each option by its name after the *")
    options = {}
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        options[argument.arg] = _literal(default, f"give option {argument.arg} of cut a plain constant as default")
    return options


def _constants(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    """The constants of FORMS that a file sets, by name. Errors: ValueError naming one of another form."""
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name) and target.id in FORMS:
                kind, form = FORMS[target.id]
                value = _literal(node.value, f"{target.id} must be a plain constant: {form}")
                if not isinstance(value, kind):
                    raise ValueError(f"{target.id} must be {form}")
                yield target.id, value


def _check(compressor: Compressor) -> None:
    """See that what a file declares to read is there, and that rules can be judged. Errors: ValueError."""
    for name in compressor.reads:
        if name not in READABLE:
            raise ValueError(f"reads: there is no {name!r} to read{nearest(str(name), READABLE)}")
    for ratio in compressor.ratios or ():
        Ratio.parse(ratio)
    for option, rule in compressor.allowed.items():
        if option not in compressor.options:
            raise ValueError(f"allowed: cut has no option {option!r}{nearest(str(option), list(compressor.options))}")
        try:
            used = {node.id for node in ast.walk(ast.parse(rule, mode="eval")) if isinstance(node, ast.Name)}
        except (SyntaxError, TypeError):
            raise ValueError(f"allowed: the rule for {option} is no comparison: {rule!r}") from None
        if strange := sorted(used - {*compressor.options, "ratio"}):
            raise ValueError(f"allowed: the rule for {option} may use options and ratio, not {strange[0]!r}: {rule!r}")


def _literal(node: ast.expr | None, otherwise: str) -> Any:
    """The value of a plain constant. Errors: ValueError with the message `otherwise`."""
    try:
        return ast.literal_eval(node)  # type: ignore[arg-type]  # None, for no value, is refused as well
    except (ValueError, TypeError):
        raise ValueError(otherwise) from None


def _holds(rule: str, values: Mapping[str, Any]) -> bool:
    """Whether a rule is true of some values; one that cannot be judged, such as 'natural' < 3, is not."""
    try:
        return bool(eval(rule, {"__builtins__": {}}, dict(values)))
    except (TypeError, ArithmeticError):
        return False


def _other_kind(value: Any, default: Any) -> str:
    """What a value must be to be of its default's kind, in words; empty where it is."""
    if default is None:
        return ""
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        return "" if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    if isinstance(default, float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return "" if number and math.isfinite(value) else "a number"
    return (
        ""
        if isinstance(value, type(default))
        else f"a {'text' if isinstance(default, str) else type(default).__name__}"
    )
