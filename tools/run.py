"""Run Snakemake with this folder to itself: `python tools/run.py [arguments of snakemake]`.

The lock is the operating system's, so it goes when the run goes, however it ends; Snakemake's own would stay behind
after a kill and refuse the next run. A run that the disk will not hold is refused before it starts. On this computer
(no `--profile`) no more jobs that use a GPU are started than have a place on one.
"""

import fcntl
import os
import sys
from pathlib import Path

import gpu

LOCK = Path("scratch/run.lock")
MAKES_NOTHING = {"-n", "--dry-run", "--dryrun", "--touch", "--unlock"}


def hold() -> bool:
    """Take the lock for this process and what it becomes; False, and a line on the console, where another has it."""
    LOCK.parent.mkdir(exist_ok=True)
    file = os.open(LOCK, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("error: another run is going on in this folder; wait for it to end", file=sys.stderr)
        return False
    os.set_inheritable(file, True)
    return True


def gpu_limit(arguments: list[str]) -> list[str]:
    """Snakemake's limit on jobs that use a GPU: the places there are, or nothing where there is none or it is said."""
    if {"--profile", "--resources"} & set(arguments) or not (names := gpu.devices()):
        return []
    return ["--resources", f"gpu={len(names) * gpu.jobs_per_gpu()}"]


def main() -> int:
    if not hold():
        return 1
    if not MAKES_NOTHING & set(sys.argv[1:]):
        import plan  # not above: other tools import this file for its lock alone

        if short := plan.short_of_disk(sys.argv[1:]):
            print(f"error: {short}", file=sys.stderr)
            return 1
    command = [sys.executable, "-m", "snakemake", "--nolock", *gpu_limit(sys.argv[1:]), *sys.argv[1:]]
    os.execvp(sys.executable, command)


if __name__ == "__main__":
    raise SystemExit(main())
