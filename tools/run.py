"""Run Snakemake with this folder to itself: `python -m tools.run [arguments of snakemake]`.

The lock is the operating system's, so it goes when the run goes, however it ends; Snakemake's own would stay behind
after a kill and refuse the next run. A run that the disk will not hold is refused before it starts; jobs that a run
which was killed left in SLURM's queue are cancelled first. On this computer (no profile is named) no more jobs that use
a GPU are started than have a place on one.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from concertina.config import ConfigError, load
from tools import gpu

LOCK = Path("scratch/run.lock")
HELD = "CONCERTINA_LOCK_HELD"  # says that whoever started this run has the lock and keeps it until the end
MAKES_NOTHING = {"-n", "--dry-run", "--dryrun", "--touch", "--unlock"}
PATIENCE_S = 60  # for cancelled jobs to end; one on a node that is lost never does


def hold(patience_s: float = 0) -> bool:
    """Take the lock for this process and what it becomes; False, and a line on the console, where another keeps it."""
    LOCK.parent.mkdir(exist_ok=True)
    file, ends = os.open(LOCK, os.O_RDWR | os.O_CREAT), time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends:
                print("error: another run is going on in this folder; wait for it to end", file=sys.stderr)
                return False
            time.sleep(1)
        else:
            os.set_inheritable(file, True)
            return True


def cancel_orphans() -> None:
    """Cancel the SLURM jobs of this folder that no run looks after: whoever holds the lock is the only run."""
    if not shutil.which("squeue") or not (jobs := orphans()):
        return
    print(f"cancelling SLURM jobs that an earlier run left behind: {' '.join(jobs)}", file=sys.stderr)
    cancel(jobs)
    ends = time.monotonic() + PATIENCE_S
    while orphans() and time.monotonic() < ends:
        time.sleep(1)


def orphans() -> list[str]:
    """The numbers of such jobs, by the name that the profile gives them; none where SLURM does not answer."""
    command = ["squeue", "--me", "--noheader", "--format=%i %j %Z"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    jobs = [line.split(maxsplit=2) for line in lines]
    return [number for number, name, folder in jobs if name.startswith("concertina_") and Path(folder) == Path.cwd()]


def cancel(jobs: list[str]) -> None:
    if jobs:
        subprocess.run(["scancel", *jobs], check=False)


def gpu_limit(arguments: list[str]) -> list[str]:
    """Snakemake's limit on jobs that use a GPU: the places there are, or nothing where there is none or it is said."""
    if {"--profile", "--workflow-profile", "--resources"} & set(arguments) or not (names := gpu.devices()):
        return []
    return ["--resources", f"gpu={len(names) * gpu.jobs_per_gpu()}"]


def go(arguments: list[str]) -> int:
    """Become Snakemake, unless the disk will not hold what it would make. The lock must be held."""
    again: list[str] = []
    if not MAKES_NOTHING & set(arguments):
        cancel_orphans()
        from tools import settle  # not above: other tools import this file for its lock alone
        from tools.plan import disk, jobs

        with contextlib.suppress(ConfigError):  # Snakemake reads the config too, and says what is wrong
            path = jobs.experiment(arguments)
            config = load(path)
            if not settle.settle(config, path):
                return 1
            again = settle.again(config)
        if short := disk.short_of_disk(arguments):
            print(f"error: {short}", file=sys.stderr)
            return 1
    command = [sys.executable, "-m", "snakemake", "--nolock", *gpu_limit(arguments), *again, *arguments]
    os.execvp(sys.executable, command)


def main() -> int:
    return go(sys.argv[1:]) if os.environ.pop(HELD, "") or hold() else 1


if __name__ == "__main__":
    raise SystemExit(main())
