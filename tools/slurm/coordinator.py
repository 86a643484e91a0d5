"""Run Snakemake itself as a SLURM job, so that nobody has to stay logged in, and follow that job.

    python -m tools.slurm.coordinator submit [--sbatch=OPTIONS] --workflow-profile FOLDER [arguments of snakemake]
    python -m tools.slurm.coordinator attach   follows its log until it ends; Ctrl-C stops only the following

The job needs one CPU and little memory. Before its time limit, or when its node is needed, it cancels its jobs and is
queued again; if it is cancelled by `scancel`, it cancels them too. `submit` resumes from what is finished.
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
WAIT_S = 60  # for the lock of a run that was cancelled a moment ago
WARNED_S = 120  # before the time limit
INSIST_S = 3  # how often Snakemake's jobs are cancelled from here after a signal: SLURM may end this job 30 s after it
ENOUGH_S = 30  # for Snakemake to end before it is killed: it may look at its jobs only every three minutes
POLL_S = 1.0
LINES = 20  # how many lines of the log `attach` shows first


def main() -> int:
    if sys.argv[1:2] == ["job"]:  # what the job runs
        return job(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="kind", required=True)
    submitting = commands.add_parser("submit", allow_abbrev=False)
    submitting.add_argument("--sbatch", default="", help="more options of sbatch, such as '--time=2-0 --partition=cpu'")
    submitting.add_argument("--workflow-profile", required=True)
    commands.add_parser("attach")
    args, arguments = parser.parse_known_args()
    if not shutil.which("sbatch"):
        return complain("sbatch is not installed here; use a machine with SLURM's commands, such as a login node")
    if args.kind == "submit":
        return submit(args.workflow_profile, arguments, args.sbatch)
    return attach()


def submit(profile: str, arguments: list[str], options: str) -> int:
    """Queue the job, unless this folder has one already."""
    state = read_state()
    if state and alive(state["job"]):
        return complain(f"job {state['job']} is running in this folder; `make attach` follows it")
    LOGS.mkdir(parents=True, exist_ok=True)
    STATE.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tools.slurm.coordinator", "job", "--workflow-profile", profile, *arguments]
    sbatch = ["sbatch", "--parsable", "--job-name=concertina", f"--output={LOGS}/%j.log", "--open-mode=append"]
    sbatch += ["--requeue", f"--signal=B:USR1@{WARNED_S}", "--cpus-per-task=1", "--mem=2000", *where(profile)]
    result = subprocess.run(
        [*sbatch, *shlex.split(options), f"--wrap=exec {shlex.join(command)}"], capture_output=True, text=True
    )
    if result.returncode:
        return complain(f"sbatch refuses the job: {' '.join(result.stderr.split())}")
    number = result.stdout.split(";")[0].strip()
    write_state({"job": number, "log": f"{LOGS}/{number}.log"})
    print(f"job {number} runs it; `make attach` follows it, `scancel {number}` stops it")
    return 0


def where(profile: str) -> list[str]:
    """Return the sbatch options for the partition and account of the profile's default resources."""
    values = yaml.safe_load(Path(profile, "config.yaml").read_text(encoding="utf-8")).get("default-resources") or {}
    options = {"--partition": values.get("slurm_partition"), "--account": values.get("slurm_account")}
    return [f"{option}={value}" for option, value in options.items() if value]


def attach() -> int:
    """Show the job's log as it grows, and return its exit status."""
    state = read_state()
    if not state:
        return complain("no job was submitted from this folder; run `make submit` first")
    number, log, shown = state["job"], Path(state["log"]), ""
    at = tail(log)
    try:
        while now := alive(number):
            if now not in (shown, "RUNNING"):
                print(f"job {number}: {now.lower()}", flush=True)
            shown, at = now, show(log, at)
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
    """Run Snakemake inside the job, and turn SLURM's signals into the Ctrl-C on which it cancels its jobs and ends.

    If Snakemake is just asking SLURM for the states of its jobs, it cancels none, so they are cancelled from here too.
    """
    number = os.environ["SLURM_JOB_ID"]
    if not hold(WAIT_S):
        return ended(number, 1)
    run = subprocess.Popen([sys.executable, "-m", "tools.run", *arguments], env=os.environ | {HELD: "yes"})
    signals: dict[int, float] = {}  # which signals came, and when

    def stop(name: int, _: object) -> None:
        if not signals:
            run.send_signal(signal.SIGINT)
            signal.alarm(INSIST_S)
        signals.setdefault(name, time.monotonic())

    def insist(*_: object) -> None:
        cancel(orphans())
        if time.monotonic() - min(signals.values()) > ENOUGH_S:
            run.kill()
        signal.alarm(INSIST_S)

    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(name, stop)
    signal.signal(signal.SIGALRM, insist)
    status = run.wait()
    signal.alarm(0)
    if signals:
        cancel(orphans())
    if status and signal.SIGUSR1 in signals:
        print("the time limit is near: this job is queued again and goes on from here", flush=True)
        subprocess.run(["scontrol", "requeue", number], check=False)
        time.sleep(WARNED_S)  # until the requeue ends this job
    return ended(number, status)


def ended(number: str, status: int) -> int:
    """Save the exit status for `attach`, and return it."""
    write_state({**(read_state() or {"job": number, "log": f"{LOGS}/{number}.log"}), "status": status})
    return status


def alive(number: str) -> str:
    """Return the state of a job that is queued or running, such as PENDING; '' for any other."""
    command = ["squeue", "-h", "-o", "%T", "-t", "PENDING,RUNNING,SUSPENDED,COMPLETING,CONFIGURING", "-j", number]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    while result.returncode and "Invalid job id" not in result.stderr:  # the controller does not answer at present
        time.sleep(5 * POLL_S)
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip()


def tail(log: Path) -> int:
    """Return the byte at which the last lines of a log begin."""
    text = log.read_bytes() if log.exists() else b""
    return len(text) - len(b"".join(text.splitlines(keepends=True)[-LINES:]))


def show(log: Path, at: int) -> int:
    """Print a log from byte `at` on, and return its present length."""
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
