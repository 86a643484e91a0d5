"""Settle by run keys, before Snakemake begins, which of an experiment's artefacts may stay.

Snakemake remembers only what it made itself. It does not know what DVC, `cp` or a restored backup put in place, nor
that another experiment in this folder has already made the same artefact. So, before it begins, artefacts that can be
taken over are linked; if Snakemake has no record, those that are whole and belong here are put on it; and those of
another config or code are passed to it, so that it makes them again.
"""

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from concertina import console
from concertina.artefacts import dag, takeover
from concertina.artefacts.dag import Artefact
from concertina.artefacts.standing import Standing
from concertina.config import Config
from tools import damage
from tools.dvc import tracks

RECORD = Path(".snakemake/metadata")


def settle(config: Config, config_path: Path) -> bool:
    """Link what can be taken over, and put on record what belongs here; returns False when Snakemake refuses."""
    taken = takeover.take_over(Standing(config))
    if taken:
        console.say(f"{config.name}: {len(taken)} artefacts of other experiments here are taken over by their run keys")
    kept = taken if any(RECORD.glob("*")) else _belonging(config)
    rows = with_rules(kept)
    return not rows or tracks.on_record([artefact.folder for artefact in rows], str(config_path))


def again(config: Config) -> list[str]:
    """Return the arguments that let Snakemake make again what another config or code has made."""
    strangers = with_rules(stranger.artefact for stranger in Standing(config).strangers())
    return ["--forcerun", *(str(artefact.seal) for artefact in strangers)] if strangers else []


def with_rules(artefacts: Iterable[Artefact]) -> list[Artefact]:
    """Return those artefacts that have a rule of their own."""
    return [artefact for artefact in artefacts if not dag.row(artefact.kind).inside]


def _belonging(config: Config) -> list[Artefact]:
    """Return what is here, whole, and of the present config and code, for a folder in which Snakemake has never run."""
    standing = Standing(config)
    here = [artefact for artefact in standing.kept if standing.belongs(artefact)]
    if not here:
        return []
    unfit = {folder for trouble in damage.troubles(config) for folder in trouble.remove}
    return in_order([artefact for artefact in here if artefact.folder not in unfit])


def in_order(artefacts: Sequence[Artefact]) -> list[Artefact]:
    """Give seals rising times in the order in which a run makes them, so that none looks older than its inputs."""
    for artefact in artefacts:
        with contextlib.suppress(OSError):
            os.utime(artefact.seal)
    return list(artefacts)
