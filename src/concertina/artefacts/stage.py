"""How a stage makes an artefact: one command line, one context and one record, the same for every stage.

A stage is a function `make(run)` that fills `run.folder`. This module provides the artefact's folder, its run key and
the first fields of its record. It seals the folder when `make` ends well, and keeps a record when it fails.
"""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from concertina import config as configs
from concertina import console
from concertina.artefacts import dag, keys
from concertina.artefacts.dag import Artefact
from concertina.config import Cell, Config
from concertina.store import folders, provenance, records, sealing

HELP = {  # the help texts of the flags that name an artefact
    "corpus": "a corpus of data.corpora",
    "split": "one of its splits",
    "cell": "a cell of the grid, as paths spell it: average-3, or average-3-keep where positions count",
    "train_set": "a set of train.sets",
    "seed": "the seed of the LoRA initialisation and of the data order",
    "kind": "a kind of corpus in data.corpora, or packages",
    "archive": "one of its archives",
    "model": "a model of the config's base, such as Qwen/Qwen2-Audio-7B",
    "revision": "its commit, tag or branch in the config",
}
NOT_RECORDED = {"train": {"checkpoint_s"}}  # keys of a section that decide no result


@dataclass
class Run:
    """One artefact while it is being made. `head`: the first fields of its records."""

    config: Config
    artefact: Artefact
    args: argparse.Namespace
    head: dict[str, Any]
    draft: sealing.Draft = field(default_factory=lambda: sealing.Draft(Path()))
    run_key: str = ""
    began: float = field(default_factory=time.monotonic)
    _afterwards: list[Callable[[], None]] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The folder to fill: temporary until the run ends well."""
        return self.draft.folder

    def note(self, **facts: Any) -> None:
        """Add facts to the seal beside the run key and the files, such as the hours of speech."""
        self.draft.note(**facts)

    def afterwards(self, *calls: Callable[[], None]) -> None:
        """Call something once the artefact is in its place, such as the removal of its checkpoints."""
        self._afterwards += calls

    def record(self, facts: dict[str, Any], **fields: Any) -> records.Run:
        """Write and return record.json: what made this artefact, and its stage's own numbers. Errors: RecordError."""
        fields = {"seconds": time.monotonic() - self.began, **self.head, **fields}
        record = records.run(facts=facts, run_key=self.run_key, **fields)
        records.write(self.folder / "record.json", record)
        return record

    def inputs(self, kind: str) -> list[Artefact]:
        """Return the artefacts of a kind that this one is made from."""
        return [one for one in dag.inputs(self.config, self.artefact) if one.kind == kind]


def parser(kind: str, about: str, example: str = "") -> argparse.ArgumentParser:
    """Return the command line of a stage: the config, and the values that name the artefact to make."""
    module = kind.replace("_", " ", 1)
    parser = argparse.ArgumentParser(
        prog=f"python -m concertina.{module}",
        description=about,
        epilog=f"example: python -m concertina.{module} {example}" if example else None,
    )
    parser.add_argument("--config", type=Path, default=configs.DEFAULT, help="config.yaml or an overlay over it")
    for name in dag.row(kind).placeholders:
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, help=HELP.get(name, name))
    return parser


def command(
    kind: str,
    make: Callable[[Run], None],
    about: str,
    example: str = "",
    more: Callable[[argparse.ArgumentParser], None] | None = None,
    device: Callable[[], str | None] = lambda: None,
) -> console.Main:
    """Return the `main` of a stage. `more` adds flags of its own; `device` names what it computes on, if not the CPU.

    A mistake that the user can correct prints one line, with exit status 1. A failed run leaves a record of it.
    """

    @console.run
    def main(argv: list[str] | None = None) -> int:
        command_line = parser(kind, about, example)
        if more:
            more(command_line)
        args = command_line.parse_args(argv)
        config = configs.load(args.config)
        where = {name: getattr(args, name) for name in dag.row(kind).placeholders}
        with making(config, dag.artefact(config, kind, **where), args, device()) as run:
            make(run)
        return 0

    return main


def scattered(
    kind: str,
    make: Callable[[Run], None],
    make_share: Callable[[Run], None],
    about: str,
    example: str = "",
    more: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
    device: Callable[[], str | None] = lambda: None,
) -> console.Main:
    """Return the `main` of a stage that makes long splits in shares: `--share` makes one, `--gather` joins them."""

    def flags(parser: argparse.ArgumentParser) -> None:
        more(parser)
        parser.add_argument("--share", metavar="I-of-N", help="make one share of a long split, for `--gather`")
        parser.add_argument("--gather", type=Path, nargs="*", default=[], metavar="FOLDER", help="the shares, in order")

    @console.run
    def main(argv: list[str] | None = None) -> int:
        command_line = parser(kind, about, example)
        flags(command_line)
        args = command_line.parse_args(argv)
        config, where = configs.load(args.config), {"corpus": args.corpus, "split": args.split}
        artefact = dag.artefact(config, kind, **where)
        if args.share:
            artefact = dag.artefact(config, f"{kind}_share", **where, share=args.share)
        with making(config, artefact, args, device()) as run:
            (make_share if args.share else make)(run)
        return 0

    return main


@contextlib.contextmanager
def making(
    config: Config, artefact: Artefact, args: argparse.Namespace | None = None, device: str | None = None
) -> Iterator[Run]:
    """Make one artefact: yields its run, seals its folder when the block ends well, keeps a record when it fails.

    Errors: DamagedError naming an input that is missing, OutputError where its folder cannot be written.
    """
    with beginning(config, artefact, args, device) as run, filling(run):
        yield run


@contextlib.contextmanager
def beginning(
    config: Config, artefact: Artefact, args: argparse.Namespace | None = None, device: str | None = None
) -> Iterator[Run]:
    """Yield the run of an artefact; keep a record of its failure if the block raises, else remove an earlier one."""
    run = Run(config, artefact, args or argparse.Namespace(), head(config, artefact, device))
    failed = folders.failure(config.name, artefact.kind, artefact.run or artefact.kind)
    try:
        yield run
    except Exception as error:
        _keep_failure(failed, error, run)
        raise
    failed.unlink(missing_ok=True)


@contextlib.contextmanager
def filling(run: Run, inputs: Sequence[str] | None = None) -> Iterator[None]:
    """Compute the run key, make the folder of a run, and seal it when the block ends well.

    `inputs`: the run keys of the inputs; without them, those in the seals of the artefact's inputs.
    """
    if inputs is None:
        inputs = [sealed_key(one) for one in dag.inputs(run.config, run.artefact)]
    run.run_key = keys.run_key(dag.key(run.config, run.artefact), inputs)
    with sealing.drafting(run.artefact.folder) as run.draft:
        run.note(run_key=run.run_key)
        yield
    for call in run._afterwards:
        call()


def sealed_key(artefact: Artefact) -> str:
    """Return the run key in the seal of an artefact. Errors: DamagedError when it was never finished."""
    return str(sealing.read_seal(artefact.folder)["run_key"])


def head(config: Config, artefact: Artefact, device: str | None = None) -> dict[str, Any]:
    """Return the first fields of every record of an artefact; its run key is not yet known then."""
    stage = artefact.kind.partition("_")[0]
    section = getattr(config, stage, None)
    where = artefact.where
    cell: Cell | None = where.get("cell")
    return {
        "stage": artefact.kind,
        "name": config.name,
        **(cell_fields(cell) if cell else {}),
        "train_set": where.get("train_set"),
        "seed": where.get("seed"),
        "config": section.model_dump(mode="json", exclude=NOT_RECORDED.get(stage)) if section else {},
        "threads": getattr(section, "threads", 1),
        "override": (config.gate and config.gate.override) or None,
        **provenance.provenance(device),
    }


def cell_fields(cell: Cell) -> dict[str, Any]:
    """Return the fields by which records name a cell."""
    options, positions = dict(cell.options), cell.positions or None
    return {"compressor": cell.compressor, "ratio": str(cell.ratio), "options": options, "positions": positions}


def _keep_failure(path: Path, error: Exception, run: Run) -> None:
    """Write the record of a run that failed; if that cannot be written either, say so on the console."""
    try:
        seconds = time.monotonic() - run.began
        records.write(path, records.failed(error, seconds=seconds, run_key=run.run_key, **run.head))
    except (OSError, sealing.OutputError) as unwritten:
        console.say(f"cannot keep a record of this failure: {unwritten}")
