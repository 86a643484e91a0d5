"""What made the numbers, taken from the records alone: the same on whatever machine the report is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from concertina.config import DEFAULT, Config
from concertina.reporting.prose import Table
from concertina.reporting.readme import WIDEST
from concertina.reporting.scores import Result

CPUS = "another kind of CPU rounds differently, and training carries that into the scores"


@dataclass(frozen=True)
class Provenance:
    """The commits, dates, command, versions, devices, signatures and seeds of the results; `byline` in one line."""

    commits: tuple[str, ...]
    dates: str
    command: str
    versions: str
    devices: tuple[str, ...]
    signatures: tuple[str, ...]
    seeds: tuple[int, ...]
    byline: str

    @property
    def checkout(self) -> str:
        """The command that checks out the first commit, with its newline; nothing when the commit is unknown."""
        commit = self.commits[0].removesuffix("-dirty")
        return "" if commit == "unknown" else f"git checkout {commit}\n"

    @property
    def made(self) -> str:
        """How the results were made: command, commit, dates and devices."""
        date = f" on {self.dates}" if self.dates else ""
        devices = ", ".join(self.devices) or "no device"
        return f"Made by `{self.command}` at commit `{', '.join(self.commits)}`{date}, on {devices}; {CPUS}."


def of(config: Config, config_path: Path, results: Sequence[Result]) -> Provenance:
    """Gather from the records of the results what made them."""
    records = [result.record for result in results]
    commits = tuple(dict.fromkeys(r.commit for r in records)) or ("unknown",)
    dates = sorted({r.date for r in records if r.date})
    period = " to ".join(dict.fromkeys([*dates[:1], *dates[-1:]]))
    seeds = tuple(sorted({r.seed for r in records if r.seed is not None}))
    overlay = "" if config_path.resolve() == DEFAULT.resolve() else f" CONFIG={config_path.as_posix()}"
    byline = [
        f"commit {commits[0][:12]}",
        period,
        _count(len(config.cells), "cell"),
        _count(len({r.test_set for r in records}), "test set"),
        _count(len(seeds), "seed") if seeds else "zero-shot only",
    ]
    return Provenance(
        commits=commits,
        dates=period,
        command=f"make reproduce{overlay}",
        versions=", ".join(sorted({f"{name} {version}" for r in records for name, version in r.versions.items()})),
        devices=tuple(sorted({r.device for r in records})),
        signatures=tuple(sorted({f"{name}: {score.signature}" for r in records for name, score in r.scores.items()})),
        seeds=seeds,
        byline=" · ".join(part for part in byline if part),
    )


def headline_caption(config: Config, tables: Sequence[Table], provenance: Provenance) -> str:
    """Write the caption of the README's table, in one line."""
    labels = [f", {table.board.label}" for table in tables[:1]]
    utterances = [f"{table.board.name}: {table.board.n_utterances} utterances; " for table in tables[:1]]
    seeds = " The difference is over the seeds that both cells have." if len(provenance.seeds) > 1 else ""
    return f"{provenance.made} {''.join(utterances)}{_brackets(config)}{''.join(labels)}.{seeds}"


def caption(config: Config, tables: Sequence[Table], provenance: Provenance) -> str:
    """Write the caption of a track's tables, in one line."""
    shown = tables[:WIDEST]
    utterances = ", ".join(f"{table.board.name} {table.board.n_utterances}" for table in shown) or "none"
    seeds = ", ".join(map(str, provenance.seeds)) or "none"
    seeds += " (of a cell with several, pooled)" if len(provenance.seeds) > 1 else ""
    labels = ", ".join(dict.fromkeys(table.board.label for table in shown))
    return (
        f"{provenance.made} Utterances: {utterances}; LoRA seeds: {seeds}; "
        f"{_brackets(config)}{f', {labels}' if labels else ''}. "
        "Recovery: the share of the zero-shot loss that the adapter recovers, against adapted `none`; a "
        "dash where the interval of that loss includes zero."
    )


def _brackets(config: Config) -> str:
    return f"brackets: {config.report.confidence_percent:g} % bootstrap intervals"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
