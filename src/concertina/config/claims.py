"""The files of reference/ that a report judges by: claims with their tests, and the paper's table, if typed in."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import yaml
from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError

from concertina.config.experiment import ConfigError
from concertina.config.sections import Section
from concertina.config.values import Name, Plugin
from concertina.nearest import nearest

SIDE = re.compile(r"(?P<curve>curve of )?(?P<cell>[a-z]\S*) (zero-shot|(?P<adapted>adapted)( on (?P<train_set>\S+))?)")
OTHER_LIMITS = ("float", "literal['margin']")  # what `below` may be besides a loss, in pydantic's words
File = TypeVar("File", bound=Section)


class Side(NamedTuple):
    """One side of a comparison: a cell zero-shot or adapted, by default on the experiment's first training set.

    `cell` is named with its positions, or without them for those that the experiment names first. `curve`: it is a
    compressor, read from its scores at all ratios at the rate of the side that it is compared with.
    """

    cell: str
    adapted: bool
    train_set: str | None = None
    curve: bool = False

    @classmethod
    def parse(cls, text: Any) -> "Side":
        """Read 'average-3-keep zero-shot', 'average-3 adapted on english', 'curve of average adapted'."""
        match = SIDE.fullmatch(text) if isinstance(text, str) else None
        if not match:
            raise ValueError(f"write 'CELL zero-shot', 'CELL adapted' or 'CELL adapted on TRAINING-SET', not {text!r}")
        return cls(match["cell"], bool(match["adapted"]), match["train_set"], bool(match["curve"]))

    @property
    def compressor(self) -> str:
        """The name of the compressor."""
        return self.cell.split("-")[0]

    def __str__(self) -> str:
        on = f" on {self.train_set}" if self.train_set else ""
        return f"{'curve of ' * self.curve}{self.cell} {f'adapted{on}' if self.adapted else 'zero-shot'}"


SideField = Annotated[Side, BeforeValidator(Side.parse), PlainSerializer(str)]


class Loss(Section):
    """How many points of the metric `of` scores worse than `against`: more errors, or less BLEU."""

    of: SideField
    against: SideField

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both sides."""
        return self.of, self.against

    def __str__(self) -> str:
        return f"loss of {self.of} against {self.against}"


class Test(Section):
    """A statement: `loss` is `below` a number of points, the config's margin for the metric, or another loss.

    `sets`: test sets, by default those on which the experiment judges claims.
    """

    __test__ = False
    loss: Loss
    below: float | Literal["margin"] | Loss
    sets: list[Name] | None = Field(default=None, min_length=1)

    @property
    def sides(self) -> tuple[Side, ...]:
        """Every side of it."""
        return self.loss.sides + (self.below.sides if isinstance(self.below, Loss) else ())

    def __str__(self) -> str:
        limit = "the margin" if self.below == "margin" else self.below
        return f"{self.loss} is below {f'{limit:g}' if isinstance(limit, float) else limit}"


class Claim(Section):
    """A claim: supported where all its tests are. `paper`: it is one of the paper's; `note`: what its tests take for
    granted."""

    id: Name
    statement: str
    source: str
    paper: bool = False
    note: str = ""
    tests: list[Test] = Field(min_length=1)


class Claims(Section):
    """The file of claims."""

    claims: list[Claim]


class Published(Section):
    """One figure of the paper's tables: of a cell on a test set of the experiment, and `where` it stands there."""

    side: SideField
    set: Name
    metric: Plugin
    value: float
    where: str


class PaperTable(Section):
    """The file of the paper's figures."""

    figures: list[Published] = Field(default_factory=list)


def read(path: Path) -> list[Claim]:
    """Read the claims. Errors: ConfigError naming the file, the claim and the key."""
    claims = _read(path, Claims, "claims", "id").claims
    names = [claim.id for claim in claims]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{path}: claim {twice[0]} occurs more than once")
    return claims


def read_table(path: Path) -> list[Published]:
    """Read the paper's figures. Errors: ConfigError naming the file, the figure's place and the key."""
    return _read(path, PaperTable, "figures", "where").figures


def _read(path: Path, kind: type[File], items: str, name: str) -> File:
    """Read a YAML file with one list of items, which errors call by their name."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; see report.{'claims' if kind is Claims else 'paper_table'}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        wrong = [e for e in error.errors() if e["loc"][-1] not in OTHER_LIMITS] or error.errors()[:1]
        raise ConfigError("; ".join(f"{path}: {_explain(e, values, items, name)}" for e in wrong)) from None


def _explain(error: Any, values: Any, items: str, name: str) -> str:
    """Return one of pydantic's errors as a phrase: which item, which key, and what is wrong with it."""
    where = [str(step) for step in error["loc"]]
    if where[:1] == [items] and len(where) > 1:
        item = values[items][int(where[1])]
        called = item.get(name) if isinstance(item, dict) else None
        where = [f"{items.removesuffix('s')} {called or f'number {int(where[1]) + 1}'}", *where[2:]]
    if error["type"] == "model_type" and where[-1:] == ["Loss"]:
        where, error = where[:-1], {**error, "msg": "write a number of points, `margin`, or {of: SIDE, against: SIDE}"}
    place = ": ".join([*where[:1], *([".".join(where[1:])] if where[1:] else [])])
    if error["type"] == "extra_forbidden":
        known = [*Claim.model_fields, *Test.model_fields, *Loss.model_fields, *Published.model_fields, items]
        return f"{place}: unknown key{nearest(where[-1], known)}"
    message = re.sub(r"^Value error, ", "", error["msg"])
    return f"{place}: {message}" if place else message
