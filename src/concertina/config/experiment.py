"""The config as a whole: how config.yaml and an overlay are read, checked and queried."""

import importlib.util
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, model_validator

from concertina.config import files
from concertina.config.files import ConfigError
from concertina.config.sections import Assembled, Corpus, Part, Sections, Sweep, TestSet, TrainSet
from concertina.config.values import UNCOMPRESSED, Adapter, Cell, Split
from concertina.nearest import nearest
from concertina.store import folders

DEFAULT = Path("config.yaml")


class Config(Sections):
    """The whole experiment, checked as a whole, and what follows from it; see config.yaml for every key."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_base(cls, values: Any) -> Any:
        """Empty `sha256` of a base that a run fetches or joins, and fill in `model` of a joined one."""
        base = values.get("base") if isinstance(values, dict) else None
        if not isinstance(base, dict) or not (base.get("assembled") or base.get("revision")):
            return values
        if base.get("assembled") and base.get("revision"):
            raise ValueError("base: `revision` (of a model on the hub) and `assembled` exclude each other")
        model = {"model": folders.BASE.format(name=values.get("name"))} if base.get("assembled") else {}
        return {**values, "base": {**base, "sha256": "", **model}}

    @model_validator(mode="before")
    @classmethod
    def _skip_test_sets(cls, values: Any) -> Any:
        """Leave out the test sets whose package is not installed, and fill in `skipped` with the reason."""
        evaluate = values.get("evaluate") if isinstance(values, dict) else None
        if isinstance(evaluate, dict) and "skipped" in evaluate:
            raise ValueError("unknown key evaluate.skipped (it is filled in; a set is skipped by what it `needs`)")
        if not isinstance(evaluate, dict) or not isinstance(evaluate.get("sets"), list):
            return values
        needs = {str(s.get("name")): s["needs"] for s in evaluate["sets"] if isinstance(s, dict) and s.get("needs")}
        skipped = {
            name: f"the package {package} is not installed (on some machines it has no wheel)"
            for name, package in needs.items()
            if importlib.util.find_spec(package) is None
        }
        sets = [s for s in evaluate["sets"] if not (isinstance(s, dict) and str(s.get("name")) in skipped)]
        return {**values, "evaluate": {**evaluate, "sets": sets, "skipped": skipped}}

    @model_validator(mode="after")
    def _names_agree(self) -> "Config":
        """Check that names are unique, and that every name in use is defined. Errors: ValueError."""
        corpora = [corpus.name for corpus in self.data.corpora]
        _unique("data.corpora", corpora)
        _unique("train.sets", [s.name for s in self.train.sets])
        _unique("evaluate.sets", [s.name for s in self.evaluate.sets])
        _unique("gate.trial", [s.name for s in self.trial])
        lines = [cell.name for sweep in self.segments.cells for cell in self._trained(sweep)]
        _unique("segments.cells", lines, "; give one line other `options` or `positions`, or put the seeds into one")
        cells = [cell.name for cell in (*self.cuts, *self.cells)]
        for where, names in self._narrowed():
            if missing := sorted(set(names) - set(cells)):
                raise ValueError(f"{where}: no cell {missing[0]!r} in the grid{nearest(missing[0], cells)}")
        for cell in self.cells:
            if not self.test_sets(cell):
                raise ValueError(f"evaluate.sets: no set is for the cell {cell}")
        names = [test_set.name for test_set in self.evaluate.sets]
        for name in set(self.gate.figures if self.gate else ()) - self.evaluate.skipped.keys():
            if name not in names or name not in [s.name for s in self.test_sets(UNCOMPRESSED)]:
                raise ValueError(f"gate.figures: none-1 is not scored on a set {name!r}{nearest(name, names)}")
        used_sets = {adapter.train_set for cell in self.cells for adapter in self.adapters(cell)}
        for train_set in self.train.sets:
            if train_set.seeds is not None and train_set.name not in used_sets:
                raise ValueError(
                    f"train.sets.{train_set.name}: no cell of the grid has one of its seeds {train_set.seeds}"
                )
        self._check_corpora(corpora)
        return self

    def _narrowed(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the lists of cells to which a test set or a training set is narrowed, each with its key."""
        yield from ((f"evaluate.sets.{s.name}", s.cells or []) for s in self.evaluate.sets)
        yield from ((f"train.sets.{s.name}", s.cells or []) for s in self.train.sets)

    def _check_corpora(self, corpora: list[str]) -> None:
        """Check that every part names a corpus of the config. Errors: ValueError naming the key and the nearest one."""
        used: list[tuple[str, Part]] = [
            (f"train.sets.{s.name}", p) for s in self.train.sets for p in (*s.parts, *s.dev)
        ]
        used += [(f"evaluate.sets.{s.name}", s) for s in self.evaluate.sets]
        used += [("base.assembled.parts", p) for p in self.base.parts]
        used += [(f"gate.trial.{s.name}", s) for s in self.trial]
        for where, part in used:
            if part.corpus not in corpora:
                raise ValueError(f"{where}: no corpus {part.corpus!r} in data.corpora{nearest(part.corpus, corpora)}")

    @property
    def cuts(self) -> list[Cell]:
        """Every way in which the grid cuts frames into tokens: its cells without positions, in the config's order."""
        cuts = (Cell(s.compressor, ratio, s.options) for s in self.segments.cells for ratio in s.ratios)
        return list({cell.name: cell for cell in cuts}.values())

    @property
    def cells(self) -> list[Cell]:
        """Every cell of the grid, in the config's order."""
        return [cell for cuts in self.cuts for cell in self.placed(cuts)]

    def placed(self, cuts: Cell) -> list[Cell]:
        """Return the cells that cut frames in one way: one for each of the positions."""
        trained = [cell.positions for sweep in self.segments.cells for cell in self._trained(sweep)]
        every: dict[Any, None] = dict.fromkeys([*self.segments.positions, *filter(None, trained)])
        return cuts.placed(every)

    def _trained(self, sweep: Sweep) -> list[Cell]:
        """Return the cells of one line of the grid that get its adapters."""
        positions = sweep.positions or self.segments.positions
        cuts = [Cell(sweep.compressor, ratio, sweep.options) for ratio in sweep.ratios]
        return [cell for one in cuts for cell in one.placed(positions)]

    def cell(self, name: str) -> Cell:
        """Return the cell of a name such as 'average-3-keep', or its cuts: 'average-3'. Errors: ConfigError."""
        cells = {cell.name: cell for cell in (*self.cuts, *self.cells)}
        if name not in cells:
            raise ConfigError(f"segments.cells has no cell {name!r}{nearest(name, list(cells))}")
        return cells[name]

    def seeds(self, cell: Cell) -> list[int]:
        """Return the LoRA seeds of a cell; none for a cell that is not in the grid."""
        seeds = {one.name: sweep.seeds for sweep in self.segments.cells for one in self._trained(sweep)}
        return seeds.get(cell.name, [])

    def adapters(self, cell: Cell) -> list[Adapter]:
        """Return every adapter of a cell: one per training set and seed."""
        return [
            Adapter(train_set.name, cell, seed)
            for train_set in self.train.sets
            if _is_for(train_set, cell)
            for seed in self.seeds(cell)
            if train_set.seeds is None or seed in train_set.seeds
        ]

    def adapter(self, cell: Cell, run: str) -> Adapter:
        """Return the adapter of a cell by its name in results, such as 'english-seed0'. Errors: ConfigError."""
        names = {adapter.name: adapter for adapter in self.adapters(cell)}
        if run not in names:
            raise ConfigError(f"train.sets: {cell} has no adapter {run!r}{nearest(run, list(names))}")
        return names[run]

    def test_sets(self, cell: Cell) -> list[TestSet]:
        """Return the test sets on which a cell is scored."""
        return [test_set for test_set in self.evaluate.sets if _is_for(test_set, cell)]

    @property
    def judged_sets(self) -> list[TestSet]:
        """The test sets on which claims are judged: those that say so, or the first set of each task."""
        firsts = {test_set.task: test_set for test_set in reversed(self.evaluate.sets)}
        judged = [test_set for test_set in self.evaluate.sets if test_set.judged]
        return judged or [test_set for test_set in self.evaluate.sets if test_set in firsts.values()]

    def test_set(self, name: str) -> TestSet:
        """Return a test set by its name. Errors: ConfigError naming the nearest one."""
        return _named(self.evaluate.sets, name, "evaluate.sets")

    @property
    def joined(self) -> Assembled:
        """The section of a base that is joined here. Errors: ConfigError where the config has none."""
        if self.base.assembled is None:
            raise ConfigError("base.assembled: this config has none; its base is fetched, or is a folder")
        return self.base.assembled

    @property
    def gate_sets(self) -> list[TestSet]:
        """The test sets whose uncompressed score is compared with a published figure."""
        return [test_set for test_set in self.evaluate.sets if self.gate and test_set.name in self.gate.figures]

    @property
    def trial(self) -> list[TestSet]:
        """The sets on which the gate compares prompts."""
        return self.gate.trial if self.gate else []

    def rivals(self, task: str) -> list[str]:
        """Return the prompts of a task that the gate compares with the base's own."""
        return {str(key): prompts for key, prompts in self.gate.prompts.items()}.get(task, []) if self.gate else []

    @property
    def splits(self) -> list[Split]:
        """Every split that is used for training, dev loss, scores or the gate, or to join a base."""
        training = [part for train_set in self.train.sets for part in (*train_set.parts, *train_set.dev)]
        return splits_of([*self.evaluate.sets, *training, *self.base.parts, *self.trial])

    def corpus(self, name: str) -> Corpus:
        """Return the section of a corpus by its name. Errors: ConfigError naming the nearest one."""
        return _named(self.data.corpora, name, "data.corpora")

    def train_set(self, name: str) -> TrainSet:
        """Return a training set by its name. Errors: ConfigError naming the nearest one."""
        return _named(self.train.sets, name, "train.sets")


def splits_of(parts: Iterable[Part]) -> list[Split]:
    """Return the splits of some parts, each once, in order of name."""
    return sorted({part.place for part in parts})


def _is_for(one: TestSet | TrainSet, cell: Cell) -> bool:
    """Return whether a set is for a cell: it names no cells, or this one with or without its positions."""
    return one.cells is None or bool({cell.name, cell.cuts.name} & set(one.cells))


def merge(base: Any, overlay: Any) -> Any:
    """Lay an overlay over a config: mappings merge, everything else (lists too) replaces."""
    if isinstance(base, dict) and isinstance(overlay, dict):
        return base | {key: merge(base.get(key), value) for key, value in overlay.items()}
    return overlay


def load(path: str | Path = DEFAULT) -> Config:
    """Read a config; any file other than config.yaml is an overlay over it.

    Errors: ConfigError naming the file, the key and the nearest valid key.
    """
    path = Path(path)
    values = files.read(DEFAULT) if DEFAULT.exists() or path == DEFAULT else {}
    if path.resolve() != DEFAULT.resolve():
        values = merge(values, files.read(path))
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(_explain(e) for e in error.errors())) from None


def _explain(error: Any) -> str:
    """Return one of pydantic's errors as a phrase: the key's path, and what is wrong with it."""
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"unknown key {where}{nearest(str(error['loc'][-1]), _keys_beside(error['loc']))}"
    message = re.sub(r"^Value error, ", "", error["msg"])
    if error["type"] == "string_type" and isinstance(error["input"], bool):
        message = "YAML reads no, yes, on and off as truth values; put the word in quotes, such as 'no'"
    return f"{where}: {message}" if where else message


def _keys_beside(location: tuple[str | int, ...]) -> list[str]:
    """Return the valid keys of the section that has an unknown one."""
    model: Any = Config
    for step in location[:-1]:
        if isinstance(step, int):
            continue
        annotation = model.model_fields[step].annotation
        arguments = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
        model = arguments[0] if arguments else annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return list(model.model_fields)


def _unique(where: str, names: list[str], remedy: str = "") -> None:
    """Check that no name occurs twice. Errors: ValueError naming the key, the names and the remedy."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{where}: {', '.join(twice)} occurs more than once{remedy}")


def _named(items: list[Any], name: str, where: str) -> Any:
    """Return the item of that name. Errors: ConfigError naming the key and the nearest name."""
    for item in items:
        if item.name == name:
            return item
    raise ConfigError(f"{where} has no {name!r}{nearest(name, [item.name for item in items])}")
