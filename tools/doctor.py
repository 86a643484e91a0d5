"""Check whether this machine can run an experiment: `python -m tools.doctor [arguments of snakemake]`.

It prints a line for each check. `ok` is fine, `note` is worth knowing, `FAIL` would stop a run or spoil its results and
says what to do. The exit status is 1 if anything fails.
"""

import errno
import fcntl
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from concertina import console
from concertina.artefacts import keys
from concertina.artefacts.sizes import Estimate
from concertina.config import Config, ConfigError, load
from concertina.model import broken_releases
from concertina.store import sealing
from tools import gpu
from tools.plan.disk import bytes_text, shortage
from tools.plan.jobs import PlanError, experiment, planned

ESPEAK_LONGEST = 159  # characters: eSpeak NG has no room for a longer path to its data
WRITTEN = ("build", "results", "scratch", "logs")
SETUP = "run `make setup`"
TRACKER = broken_releases.Broken(
    "mlflow", (0,), (3, 11), "a model that it loads can run code (CVE-2025-10279, CVE-2026-4137)"
)
HARMFUL = {  # settings of OpenMP: which values are harmful, and why
    "OMP_WAIT_POLICY": ("active", "waiting threads take the cores of other jobs"),
    "OMP_PROC_BIND": ("true|close|spread|master|primary", "jobs side by side are bound to the same cores"),
    "OMP_THREAD_LIMIT": ("1", "no job gets the threads that the config gives it"),
}


class Line(NamedTuple):
    """One finding; `level` is ok, note or FAIL."""

    level: str
    text: str


def python() -> Iterator[Line]:
    """Check the version of Python."""
    supported = sys.version_info[:2] == (3, 11)
    remedy = "" if supported else f"; 3.11 is needed: {SETUP} with PYTHON=/path/to/python3.11"
    yield Line("ok" if supported else "FAIL", f"Python {platform.python_version()}{remedy}")


def packages() -> Iterator[Line]:
    """Compare the installed packages with the lock and with the versions that are known to be broken."""
    installed = {_plain(name): d.version for d in reversed([*metadata.distributions()]) if (name := d.metadata["Name"])}
    pinned = dict(line.split("==") for line in _lines("constraints.txt"))
    needed = [_plain(name) for name in _lines("requirements.txt")]
    if missing := [name for name in needed if name not in installed]:
        yield Line("FAIL", f"packages: {', '.join(missing)} not installed; {SETUP}")
    differing = [
        f"{name} {installed[name]} (locked: {pinned[name]})"
        for name in needed
        if name in installed and name in pinned and installed[name].partition("+")[0] != pinned[name]
    ]
    if differing:
        yield Line("note", f"packages: {', '.join(differing)}; results may differ from those of the lock; {SETUP}")
    if not missing and not differing:
        yield Line("ok", f"packages: {len(needed)}, as constraints.txt pins them")
    for name, harm in broken_releases.among(installed, [*broken_releases.KNOWN, TRACKER]):
        yield Line("FAIL", f"{name} {installed[name]}: {harm}; {SETUP} ({name} {pinned.get(name, 'of the lock')})")


def graphics() -> Iterator[Line]:
    """List the GPUs and their driver, and check that torch can use them."""
    if not (names := gpu.devices()):
        yield Line("ok", "GPU: none; jobs compute on the CPU")
        return
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    answer = _output(query).splitlines() or ["nvidia-smi does not answer"]
    yield Line("ok", f"GPU: {len(names)} to lease ({', '.join(names)}): {'; '.join(answer)}")
    import torch

    if not torch.cuda.is_available():
        cause = (
            "is built without CUDA" if torch.version.cuda is None else f"needs a driver for CUDA {torch.version.cuda}"
        )
        yield Line("note", f"torch {torch.__version__} {cause}: jobs compute on the CPU; see envs/cuda.yaml")


def disk(config: Config, arguments: Sequence[str]) -> Iterator[Line]:
    """Check that the disk has room for what would run, and memory for the largest job."""
    try:
        jobs = planned(arguments, config, Estimate(config))
    except PlanError as error:
        yield Line("FAIL", f"plan: {' '.join(str(error).removeprefix('error: ').split())}")
        return
    if short := shortage(jobs):
        yield Line("FAIL", f"disk: {short}")
    else:
        text = f"{bytes_text(sum(job.written for job in jobs))} to write"
        yield Line("ok", f"disk: {text}, {bytes_text(shutil.disk_usage(Path()).free)} free")
    wanted = max((job.memory_mb for job in jobs), default=0) * 1e6
    available = re.search(
        r"^MemAvailable: +(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    free = int(available[1]) * 1024 if available else wanted
    text = f"memory: {bytes_text(free)} free, a job may take {bytes_text(wanted)}"
    warning = f"{text}; end other programs, or run fewer jobs at once (--cores)"
    yield Line("note", warning) if free < wanted else Line("ok", text)


def writable() -> Iterator[Line]:
    """Check that a run can write into its folders, or into the nearest existing folder above each."""
    refused = []
    for name in WRITTEN:
        folder = next(path for path in (Path(name), *Path(name).absolute().parents) if path.exists())
        try:
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-"):
                pass
        except OSError as error:
            remedy = sealing.REMEDIES.get(error.errno or errno.EACCES, "change its owner or mode")
            refused.append(f"{name}/ cannot be written ({error.strerror}): {remedy}")
    yield from (Line("FAIL", text) for text in refused)
    if not refused:
        yield Line("ok", f"writable: {', '.join(f'{name}/' for name in WRITTEN)}")


def locking() -> Iterator[Line]:
    """Check that this file system keeps locks, which prevent two runs at once."""
    try:
        with tempfile.NamedTemporaryFile(dir=Path(), prefix=".doctor-") as first, open(first.name) as second:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield Line("ok", "locks: kept on this file system")
                return
        text = "they are not kept"
    except OSError as error:
        text = error.strerror or str(error)
    yield Line("FAIL", f"locks: {text} on this file system, so two runs would collide; work on a local disk")


def programs() -> Iterator[Line]:
    """Look for Git and make."""
    git = _output(["git", "rev-parse", "--short", "HEAD"])
    warning = "git: absent, or this folder is no clone; results cannot say which commit made them"
    yield Line("ok", f"git: at {git}") if git else Line("note", warning)
    make = shutil.which("make")
    yield Line("ok", "make") if make else Line("note", "make: absent; type the commands in the Makefile by hand")


def slurm(arguments: Sequence[str]) -> Iterator[Line]:
    """Check that Slurm answers; if it does not, that is a failure only for a profile that needs it."""
    needed = any("slurm" in argument for argument in arguments)
    if not shutil.which("sinfo"):
        text = "Slurm: not on this machine"
        yield Line("FAIL", f"{text}, and the profile submits to it") if needed else Line("ok", text)
    elif partitions := _output(["sinfo", "-h", "-o", "%P %a"]):
        yield Line("ok", f"Slurm: answers; partitions {', '.join(partitions.splitlines())}")
    else:
        yield Line("FAIL" if needed else "note", "Slurm: sinfo does not answer; check slurmctld and slurm.conf")


def threads() -> Iterator[Line]:
    """Check the settings of OpenMP; the config decides how many threads a job has."""
    harmful = [
        f"{name}={os.environ[name]}: {why}; unset {name}"
        for name, (bad, why) in HARMFUL.items()
        if re.fullmatch(bad, os.environ.get(name, ""), flags=re.IGNORECASE)
    ]
    yield from (Line("note", text) for text in harmful)
    if not harmful:
        yield Line("ok", f"OpenMP: no harmful setting; {len(os.sched_getaffinity(0))} cores")


def model(config: Config) -> Iterator[Line]:
    """Check the base's files, as a run would read them, and that torch and transformers can be imported."""
    try:
        from concertina.model import lalm
    except (ImportError, OSError) as error:
        yield Line("FAIL", f"torch or transformers cannot be imported ({' '.join(str(error).split())}); {SETUP}")
        return
    folder = config.base.folder
    if config.base.made_here and not folder.exists():
        yield Line("ok", f"model: {folder}: a run fetches or assembles it")
        return
    again = "get it again (`git checkout models`), or make one (`make base`)"
    if config.base.made_here:
        again = f"remove {folder}, and a run makes it again"
    try:
        sha256 = lalm.fingerprint(folder)
    except sealing.DamagedError as error:
        yield Line("FAIL", f"model: {error}; {again}")
        return
    if config.base.sha256 and sha256 != config.base.sha256:
        yield Line("FAIL", f"model: the weights in {folder} are not those that base.sha256 pins; {again}")
    else:
        yield Line("ok", f"model: {folder}, SHA-256 {sha256[:12]}..." + ("" if config.base.sha256 else " (not pinned)"))


def four_bits(config: Config, arguments: Sequence[str]) -> Iterator[Line]:
    """Check that this machine can hold the LLM in 4 bits; jobs of Slurm run on other machines, so it is only a note."""
    if not config.base.four_bit:
        return
    import torch

    from concertina.model import lalm

    try:
        lalm.in_four_bits("cuda" if torch.cuda.is_available() else "cpu")
    except ConfigError as error:
        slurm = any("slurm" in argument for argument in arguments)
        yield Line("note" if slurm else "FAIL", f"{error}{' (only on the machine where jobs run)' if slurm else ''}")
    else:
        yield Line("ok", "base.four_bit: a GPU and bitsandbytes are here")


def synthesis(config: Config) -> Iterator[Line]:
    """Check that eSpeak NG can find its data: if their path is too long, it ends the process."""
    spec = importlib.util.find_spec("espeakng_loader")
    if spec is None or not spec.origin or "synthetic" not in {corpus.kind for corpus in config.data.corpora}:
        return
    data = Path(spec.origin).parent / "espeak-ng-data"
    length, text = len(str(data)), f"speech synthesis: eSpeak NG, data in {data}"
    long = f"{text}: {length} characters are more than {ESPEAK_LONGEST}; work in a folder with a shorter path"
    yield Line("FAIL", long) if length > ESPEAK_LONGEST else Line("ok", text)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _lines(name: str) -> list[str]:
    return [line for line in Path(name).read_text(encoding="utf-8").split("\n") if line and not line.startswith("#")]


def _output(command: list[str]) -> str:
    """Return what a program prints; empty if it is absent, fails or does not answer."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


@console.run
def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    checks: list[Callable[[], Iterator[Line]]] = [
        python, packages, graphics, programs, lambda: slurm(arguments), threads, locking, writable,
    ]  # fmt: skip
    failed = False
    try:
        config = load(experiment(arguments))
        keys.check(config)
        checks += [lambda: model(config), lambda: four_bits(config, arguments)]
        checks += [lambda: synthesis(config), lambda: disk(config, arguments)]
    except ValueError as error:
        failure = Line("FAIL", f"config: {error}")
        checks.append(lambda: iter([failure]))
    for check in checks:
        for line in check():
            print(f"{line.level:<4} {line.text}", flush=True)
            failed |= line.level == "FAIL"
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
