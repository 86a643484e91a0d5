"""List the jobs that a run would do: what Snakemake plans, with the artefact of each, its sizes and the reason."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from concertina.artefacts import dag, takeover
from concertina.artefacts.dag import Artefact
from concertina.artefacts.sizes import Estimate, Size
from concertina.artefacts.standing import Standing
from concertina.config import Config
from tools import settle
from tools.plan.rates import Rates
from tools.plan.reasons import Job, why

NO_ARTEFACT = {"all", "base_scratch"}  # rules whose outputs are no artefacts of the DAG
LINK_S = 0.1  # for an artefact that is taken over


class PlanError(RuntimeError):
    """Snakemake cannot plan; this is its own message."""


@dataclass(frozen=True)
class Planned:
    """A job that Snakemake would run: the artefact that it makes, the sizes of its work, and the reason.

    `twin`: the folder of the same artefact in another experiment here, from which it is taken over.
    `name`: the artefact's name among those of its rule; for a job that makes several, also which of them are missing.
    """

    rule: str
    name: str
    artefact: Artefact
    parts: tuple[Size, ...]
    reason: str
    threads: int
    memory_mb: int
    on_gpu: bool
    twin: Path | None = None

    @property
    def written(self) -> int:
        """Return how many bytes the job writes; a link needs none."""
        return 0 if self.twin else sum(part.written for part in self.parts)

    def seconds(self, rates: Rates) -> float:
        """Return how many seconds the job takes by itself."""
        return LINK_S if self.twin else rates.seconds(self.rule, self.parts, self.threads)


def jobs(arguments: Sequence[str]) -> list[Job]:
    """Return what would run, as tools.plan.dryrun prints it. Errors: PlanError."""
    command = [sys.executable, "-m", "tools.plan.dryrun", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise PlanError(re.sub(r"^Using workflow specific profile.*\n", "", result.stderr, flags=re.MULTILINE).strip())
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return [row for row in rows if row["rule"] not in NO_ARTEFACT]


def planned(arguments: Sequence[str], config: Config, estimate: Estimate) -> list[Planned]:
    """Return what would run, with sizes and reasons; a job whose artefact can be taken over does nothing else."""
    standing = Standing(config)
    twins = {artefact.folder: folder for artefact, folder in takeover.twins(standing)}
    rows = _with_strangers(jobs(arguments), arguments, config)
    return [_planned(row, config, estimate, standing, twins) for row in rows]


def _with_strangers(rows: list[Job], arguments: Sequence[str], config: Config) -> list[Job]:
    """Add the jobs that make again what another config or code has made, if Snakemake's own record does not show it.

    These jobs are forced, and for a forced job Snakemake gives no other reason, so the reason from before is kept.
    """
    again = settle.again(config)
    before = {output: row["reason"] for row in rows for output in row["outputs"]}
    if set(again[1:]) <= set(before):
        return rows
    reasons = dict.fromkeys(again[1:], "made by another config or code") | before
    return [{**row, "reason": reasons.get(row["outputs"][0], row["reason"])} for row in jobs([*again, *arguments])]


def _planned(row: Job, config: Config, estimate: Estimate, standing: Standing, twins: dict[Path, Path]) -> Planned:
    artefact = dag.artefact(config, row["rule"], **row["wildcards"])
    inner = [one for one in dag.inputs(config, artefact) if dag.row(one.kind).inside]
    missing = [one for one in inner if not standing.belongs(one) and one.folder not in twins]
    name = artefact.run
    if inner and len(missing) < len(inner):
        runs = ", ".join(f"{one.where['test_set']} {one.where['run']}" for one in missing)
        name = f"{name} (decodes {runs or 'nothing'})"
    twin = twins.get(artefact.folder)
    return Planned(
        rule=row["rule"],
        name=name,
        artefact=artefact,
        parts=tuple(dag.size(estimate, one) for one in (artefact, *missing)),
        reason=f"taken over from {twin.parts[1]}, by its run key" if twin else why(row),
        threads=row["threads"],
        memory_mb=row["resources"].get("mem_mb", 0),
        on_gpu=bool(row["resources"].get("gpu")),
        twin=twin,
    )


def experiment(arguments: Sequence[str]) -> Path:
    """Return the path of the config that Snakemake's arguments name."""
    return Path(next((a.partition("=")[2] for a in arguments if a.startswith("experiment=")), "config.yaml"))
