"""Accept an edit that cannot change results: finished artefacts stay, and results/<name>/accepted.jsonl notes it.

    python -m tools.dvc.accept --config config.yaml --why "renamed a variable"

Only jobs that are planned are accepted, and only if their artefacts exist. Nothing is computed again: the run keys in
the seals still tell which code made them.
"""

import argparse
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from concertina.artefacts import dag
from concertina.artefacts.standing import Standing
from concertina.config import ConfigError, load
from tools import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config.yaml")
    parser.add_argument("--why", required=True, help="why the edit cannot change any result")
    args = parser.parse_args()
    if not args.why.strip():
        return complain('say why the edit cannot change any result: make accept WHY="..."')
    if not run.hold():
        return 1
    try:
        config = load(args.config)
        name = config.name
    except ConfigError as error:
        return complain(str(error))

    by_job = {str(artefact): artefact for artefact in dag.every(config)}
    plan = snakemake("-n", "--config", f"experiment={args.config}")
    if plan.returncode:
        return complain(plan.stdout + plan.stderr)
    jobs = re.findall(r"^Job \d+: (\w+(?: \S+)?)$", plan.stdout + plan.stderr, flags=re.MULTILINE)
    if not jobs:
        print("nothing is planned, so there is nothing to accept")
        return 0
    planned = [artefact for artefact in map(by_job.get, jobs) if artefact]
    if missing := [str(artefact) for artefact in planned if not artefact.seal.exists()]:
        return complain(f"these artefacts do not exist yet, so run `make reproduce`: {', '.join(missing)}")
    inner = [one for artefact in planned for one in dag.inputs(config, artefact) if dag.row(one.kind).inside]
    accepting = {artefact.folder for artefact in (*planned, *inner)}

    entry = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "why": args.why,
        "commit": git("rev-parse", "HEAD"),
        "uncommitted": git("diff", "--name-only", "HEAD").split(),
        "jobs": sorted(jobs),
        "keys": {one.wanted: one.sealed for one in Standing(config, accepting).strangers()},
    }
    touched = snakemake("--touch", "--config", f"experiment={args.config}")
    if touched.returncode:
        return complain(touched.stdout + touched.stderr)
    with open(Path("results", name, "accepted.jsonl"), "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
    print(f"accepted as they are: {', '.join(sorted(jobs))}")
    return 0


def snakemake(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "snakemake", *arguments], capture_output=True, text=True, check=False)


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()


def complain(message: str) -> int:
    print(f"error: {message.strip()}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
