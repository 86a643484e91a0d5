"""What the workflow itself costs: a dry run, a run with nothing to do, and the share of a run outside the stages' work.

Run it after `make reproduce`. Outside the stages' own work is what every job pays before its first line of work:
starting Python and importing what the stage needs, and Snakemake's own time. The share is of the processor time that
the run had: its wall time, as `time make reproduce` tells it, times the cores.

    python benchmarks/workflow.py --cores 2 --run-seconds 1100
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections import Counter

from concertina import config as configs

STAGES = ("data", "features", "segments", "train", "evaluate", "report")


def main() -> None:
    """Print one JSON row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=str(configs.DEFAULT))
    parser.add_argument("--cores", type=int, required=True, help="cores that the measured run had")
    parser.add_argument("--run-seconds", type=float, required=True, help="wall time of the measured run")
    args = parser.parse_args()
    jobs = planned([sys.executable, "-m", "snakemake", "--config", f"experiment={args.config}"])
    starts = {stage: seconds([sys.executable, "-m", f"concertina.{stage}", "--help"]) for stage in STAGES}
    nothing = seconds(["make", "reproduce", f"CONFIG={args.config}"])
    outside = nothing + sum(starts[stage] * count for stage, count in jobs.items())
    row = {
        "dry_run_s": seconds(["make", "plan", f"CONFIG={args.config}"]),
        "nothing_to_do_s": nothing,
        "jobs": jobs,
        "start_s": starts,
        "run_s": args.run_seconds,
        "share_outside_the_stages": outside / (args.run_seconds * args.cores),
    }
    print(json.dumps(row, indent=1))


def seconds(command: list[str]) -> float:
    """Wall time of a command, the better of two."""
    times = []
    for _ in range(2):
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.monotonic() - began)
    return round(min(times), 2)


def planned(snakemake: list[str]) -> dict[str, int]:
    """How many jobs of each stage the whole run has."""
    out = subprocess.run([*snakemake, "-n", "--forceall"], check=True, capture_output=True, text=True)
    told = Counter(re.findall(r"^Job \d+: (\w+)", out.stdout + out.stderr, flags=re.MULTILINE))
    return {stage: told[stage] for stage in STAGES}


if __name__ == "__main__":
    main()
