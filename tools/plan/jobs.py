"""The jobs that a run would do: what Snakemake plans, with the artefact of each, its sizes and the reason."""

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

NO_ARTEFACT = {"all", "base_scratch"}  # rules that make nothing of the DAG
LINK_S = 0.1  # for an artefact that is taken over


class PlanError(RuntimeError):
    """Snakemake cannot plan; the message is its own."""


@dataclass(frozen=True)
class Planned:
    """A job that Snakemake would run: the artefact that it makes, the sizes of what there is to do, and why.

    `twin`: the folder that it is taken over from, where another experiment here has made it already.
    `name`: the artefact among those of its rule, and of a job that makes several what is to be made of them.
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
        """Bytes that it writes; a link takes none."""
        return 0 if self.twin else sum(part.written for part in self.parts)

    def seconds(self, rates: Rates) -> float:
        """How long it takes by itself."""
        return LINK_S if self.twin else rates.seconds(self.rule, self.parts, self.threads)


def jobs(arguments: Sequence[str]) -> list[Job]:
    """What would run, as tools.plan.dryrun prints it. Errors: PlanError."""
    command = [sys.executable, "-m", "tools.plan.dryrun", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PlanError(re.sub(r"^Using workflow specific profile.*\n", "", done.stderr, flags=re.MULTILINE).strip())
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [row for row in rows if row["rule"] not in NO_ARTEFACT]


def planned(arguments: Sequence[str], config: Config, estimate: Estimate) -> list[Planned]:
    """What would run, with sizes and reasons; a job whose artefact can be taken over has nothing else to do."""
    standing = Standing(config)
    twins = {artefact.folder: folder for artefact, folder in takeover.twins(standing)}
    rows = _with_strangers(jobs(arguments), arguments, config)
    return [_planned(row, config, estimate, standing, twins) for row in rows]


def _with_strangers(rows: list[Job], arguments: Sequence[str], config: Config) -> list[Job]:
    """Add the jobs that make again what is of another config or code, where Snakemake's own record does not say so.

    Those are forced, and of a forced job Snakemake gives no other reason: what it said before stands.
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
    """The config that Snakemake's arguments name."""
    return Path(next((a.partition("=")[2] for a in arguments if a.startswith("experiment=")), "config.yaml"))
