"""Run Snakemake itself as a SLURM job, so that nobody has to stay logged in; and look after it.

    python -m tools.slurm.coordinator submit [--sbatch=OPTIONS] --workflow-profile FOLDER [arguments of snakemake]
    python -m tools.slurm.coordinator attach   follows its log until it ends; Ctrl-C stops the following alone

The job needs one CPU and little memory. Before its time limit, or when its node is needed, it ends its jobs in good
order and is queued again; `scancel` of it ends them too. `submit` goes on from whatever is there.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tools.run import HELD, cancel, hold, orphans

STATE = Path("scratch/coordinator.json")
LOGS = Path("logs/coordinator")
WAIT_S = 60  # for a run that was cancelled a moment ago
WARNED_S = 120  # before the time limit
INSIST_S = 3  # so soon, and so often, what Snakemake was to cancel is cancelled here: SLURM may end this job after 30
ENOUGH_S = 30  # for Snakemake to end: it may be between two looks at its jobs, which come to be three minutes apart
POLL_S = 1.0
LINES = 20  # of the log, shown when following begins


def main() -> int:
    if sys.argv[1:2] == ["job"]:  # what the job runs
        return job(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    submitting = kinds.add_parser("submit", allow_abbrev=False)
    submitting.add_argument("--sbatch", default="", help="more options of sbatch, such as '--time=2-0 --partition=cpu'")
    submitting.add_argument("--workflow-profile", required=True)
    kinds.add_parser("attach")
    args, arguments = parser.parse_known_args()
    if not shutil.which("sbatch"):
        return complain("there is no sbatch here; do this where SLURM's commands are, such as on a login node")
    if args.kind == "submit":
        return submit(args.workflow_profile, arguments, args.sbatch)
    return attach()


def submit(profile: str, arguments: list[str], options: str) -> int:
    """Queue the job, unless one is there already."""
    before = read_state()
    if before and alive(before["job"]):
        return complain(f"job {before['job']} is running in this folder; `make attach` follows it")
    LOGS.mkdir(parents=True, exist_ok=True)
    STATE.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tools.slurm.coordinator", "job", "--workflow-profile", profile, *arguments]
    sbatch = ["sbatch", "--parsable", "--job-name=concertina", f"--output={LOGS}/%j.log", "--open-mode=append"]
    sbatch += ["--requeue", f"--signal=B:USR1@{WARNED_S}", "--cpus-per-task=1", "--mem=2000", *where(profile)]
    done = subprocess.run(
        [*sbatch, *shlex.split(options), f"--wrap=exec {shlex.join(command)}"], capture_output=True, text=True
    )
    if done.returncode:
        return complain(f"sbatch refuses the job: {' '.join(done.stderr.split())}")
    number = done.stdout.split(";")[0].strip()
    write_state({"job": number, "log": f"{LOGS}/{number}.log"})
    print(f"job {number} runs it; `make attach` follows it, `scancel {number}` stops it")
    return 0


def where(profile: str) -> list[str]:
    """The partition and account that the profile gives to jobs of no rule in particular."""
    values = yaml.safe_load(Path(profile, "config.yaml").read_text(encoding="utf-8")).get("default-resources") or {}
    named = {"--partition": values.get("slurm_partition"), "--account": values.get("slurm_account")}
    return [f"{option}={value}" for option, value in named.items() if value]


def attach() -> int:
    """Show the job's log as it grows; returns its exit status."""
    state = read_state()
    if not state:
        return complain("no job was submitted from this folder; `make submit` does that")
    number, log, shown = state["job"], Path(state["log"]), ""
    at = tail(log)
    try:
        while living := alive(number):
            if living not in (shown, "RUNNING"):
                print(f"job {number}: {living.lower()}", flush=True)
            shown, at = living, show(log, at)
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        print(f"\njob {number} goes on; `make attach` follows it again, `scancel {number}` stops it")
        return 0
    show(log, at)
    status = (read_state() or state).get("status")
    if status is None:
        return complain(f"job {number} ended before its run did; `make submit` goes on from there")
    print(f"job {number} ended with status {status}" + ("; `make submit` goes on from there" if status else ""))
    return int(status)


def job(arguments: list[str]) -> int:
    """What runs in the job. SLURM's signals become the Ctrl-C at which Snakemake cancels its jobs before it ends.

    One that is asking SLURM for the states of its jobs at that moment cancels none, so that is not left to it alone.
    """
    number = os.environ["SLURM_JOB_ID"]
    if not hold(WAIT_S):
        return ended(number, 1)
    run = subprocess.Popen([sys.executable, "-m", "tools.run", *arguments], env=os.environ | {HELD: "yes"})
    heard: dict[int, float] = {}  # signals, and when

    def stop(name: int, _: object) -> None:
        if not heard:
            run.send_signal(signal.SIGINT)
            signal.alarm(INSIST_S)
        heard.setdefault(name, time.monotonic())

    def insist(*_: object) -> None:
        cancel(orphans())
        if time.monotonic() - min(heard.values()) > ENOUGH_S:
            run.kill()
        signal.alarm(INSIST_S)

    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(name, stop)
    signal.signal(signal.SIGALRM, insist)
    status = run.wait()
    signal.alarm(0)
    if heard:
        cancel(orphans())
    if status and signal.SIGUSR1 in heard:
        print("the time limit is near: this job is queued again and goes on from here", flush=True)
        subprocess.run(["scontrol", "requeue", number], check=False)
        time.sleep(WARNED_S)  # until that ends it
    return ended(number, status)


def ended(number: str, status: int) -> int:
    """Leave the status where `attach` finds it."""
    write_state({**(read_state() or {"job": number, "log": f"{LOGS}/{number}.log"}), "status": status})
    return status


def alive(number: str) -> str:
    """The state of a job that is queued or running, such as PENDING; else ''."""
    command = ["squeue", "-h", "-o", "%T", "-t", "PENDING,RUNNING,SUSPENDED,COMPLETING,CONFIGURING", "-j", number]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    while done.returncode and "Invalid job id" not in done.stderr:  # the controller does not answer just now
        time.sleep(5 * POLL_S)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def tail(log: Path) -> int:
    """Where the last lines of a log begin, in bytes."""
    text = log.read_bytes() if log.exists() else b""
    return len(text) - len(b"".join(text.splitlines(keepends=True)[-LINES:]))


def show(log: Path, at: int) -> int:
    """Print a log from byte `at` on; where it ends now."""
    if not log.exists():
        return at
    with open(log, "rb") as file:
        file.seek(at)
        text = file.read()
    sys.stdout.write(text.decode(errors="replace"))
    sys.stdout.flush()
    return at + len(text)


def read_state() -> dict | None:
    return json.loads(STATE.read_text(encoding="utf-8")) if STATE.exists() else None


def write_state(state: dict) -> None:
    temporary = STATE.with_name(f".{STATE.name}.{os.getpid()}")
    temporary.write_text(json.dumps(state), encoding="utf-8")
    os.replace(temporary, STATE)


def complain(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
