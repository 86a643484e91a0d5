"""Run Snakemake with this folder to itself: `python -m tools.run [arguments of snakemake]`.

The lock belongs to the operating system, which releases it however the run ends; Snakemake's own would remain after a
kill and refuse the next run. A run for which the disk is too small is refused before it starts. Jobs that a killed run
left in SLURM's queue are cancelled first. On this computer (no profile is named), Snakemake starts only as many jobs
that use a GPU as the GPUs have places.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from concertina.artefacts import keys
from concertina.config import ConfigError, load
from tools import gpu

LOCK = Path("scratch/run.lock")
HELD = "CONCERTINA_LOCK_HELD"  # set by a process that starts a run while it holds the lock itself
MAKES_NOTHING = {"-n", "--dry-run", "--dryrun", "--touch", "--unlock"}
PATIENCE_S = 60  # for cancelled jobs to end; a job on a lost node never ends


def hold(patience_s: float = 0) -> bool:
    """Take the lock for this process and what it becomes; returns False, and prints a line, if another run has it."""
    LOCK.parent.mkdir(exist_ok=True)
    file, deadline = os.open(LOCK, os.O_RDWR | os.O_CREAT), time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                print("error: another run is going on in this folder; wait for it to end", file=sys.stderr)
                return False
            time.sleep(1)
        else:
            os.set_inheritable(file, True)
            return True


def cancel_orphans() -> None:
    """Cancel the SLURM jobs of this folder that an earlier run left: the holder of the lock is the only present run."""
    if not shutil.which("squeue") or not (jobs := orphans()):
        return
    print(f"cancelling SLURM jobs that an earlier run left behind: {' '.join(jobs)}", file=sys.stderr)
    cancel(jobs)
    deadline = time.monotonic() + PATIENCE_S
    while orphans() and time.monotonic() < deadline:
        time.sleep(1)


def orphans() -> list[str]:
    """Return the numbers of such jobs, found by the name that the profile gives them; none if SLURM does not answer."""
    command = ["squeue", "--me", "--noheader", "--format=%i %j %Z"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    jobs = [line.split(maxsplit=2) for line in lines]
    return [number for number, name, folder in jobs if name.startswith("concertina_") and Path(folder) == Path.cwd()]


def cancel(jobs: list[str]) -> None:
    if jobs:
        subprocess.run(["scancel", *jobs], check=False)


def gpu_limit(arguments: list[str]) -> list[str]:
    """Return arguments that limit jobs to the places on GPUs; none without a GPU, or if a profile or limit is given."""
    if {"--profile", "--workflow-profile", "--resources"} & set(arguments) or not (names := gpu.devices()):
        return []
    return ["--resources", f"gpu={len(names) * gpu.jobs_per_gpu()}"]


def go(arguments: list[str]) -> int:
    """Become Snakemake, unless the disk is too small for what it would make. The caller must hold the lock."""
    forced: list[str] = []
    if not MAKES_NOTHING & set(arguments):
        cancel_orphans()
        from tools import settle  # here, because other tools import this file only for its lock
        from tools.plan import disk, jobs

        with contextlib.suppress(ConfigError):  # Snakemake reads the config too, and reports the error
            path = jobs.experiment(arguments)
            config = load(path)
            keys.check(config)
            if not settle.settle(config, path):
                return 1
            forced = settle.again(config)
        if short := disk.short_of_disk(arguments):
            print(f"error: {short}", file=sys.stderr)
            return 1
    command = [sys.executable, "-m", "snakemake", "--nolock", *gpu_limit(arguments), *forced, *arguments]
    os.execvp(sys.executable, command)


def main() -> int:
    return go(sys.argv[1:]) if os.environ.pop(HELD, "") or hold() else 1


if __name__ == "__main__":
    raise SystemExit(main())
