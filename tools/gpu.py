"""Run a command with a GPU to itself: `python tools/gpu.py python -m concertina.train ...`.

Leases one of the GPUs of this computer (of CUDA_VISIBLE_DEVICES, where that is given) and becomes the command, which
sees that one alone. Where none is free it waits; where there is none at all, the command runs as it is.
CONCERTINA_JOBS_PER_GPU (default 1) says how many commands may share a GPU.

A lease is a lock of the operating system on a file in /tmp (CONCERTINA_GPU_LOCKS), so it goes when its holder goes,
however it ends. Leases are those of one user on one machine, in whatever folder a run is; inside a Slurm job they are
that job's, for there a GPU may have a number that another job's GPU has too.
"""

import fcntl
import os
import re
import sys
import time
from pathlib import Path

DEVICE = re.compile(r"\d+|(GPU|MIG)-\S+")  # what CUDA takes as the name of a device
EVERY_S = 0.5  # how often a waiting command asks again


def devices() -> list[str]:
    """The devices that may be used, as CUDA names them; what follows a name that is none is not seen by CUDA either."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = listed() if given is None else [name.strip() for name in given.split(",")]
    end = next((i for i, name in enumerate(names) if not DEVICE.fullmatch(name)), len(names))
    return list(dict.fromkeys(names[:end]))


def listed() -> list[str]:
    """The GPUs of this computer: their numbers, or where one is divided (MIG), the names of its parts."""
    if not on_path("nvidia-smi"):
        driver = Path("/proc/driver/nvidia/gpus")  # one folder for each
        return [str(i) for i, _ in enumerate(driver.iterdir())] if driver.is_dir() else []
    import subprocess  # only where there is something to ask: importing it costs more than the rest of this file

    asked = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    gpus = re.findall(r"^GPU (\d+):.*\n((?: +MIG .*\n)*)", asked.stdout, flags=re.MULTILINE)
    parts = [(number, re.findall(r"UUID: (MIG-[^)\s]+)", below)) for number, below in gpus]
    return [name for number, inside in parts for name in inside or [number]]


def jobs_per_gpu() -> int:
    """How many commands may share a GPU. Errors: SystemExit."""
    said = os.environ.get("CONCERTINA_JOBS_PER_GPU", "1")
    if not re.fullmatch("[1-9][0-9]*", said):
        raise SystemExit(f"error: CONCERTINA_JOBS_PER_GPU: a number of jobs, at least 1; got {said!r}")
    return int(said)


def lease(names: list[str], each: int) -> str:
    """Wait for a place on one of the devices and take it for this process and what it becomes; returns its name."""
    folder = locks()
    places = [(name, folder / f"{name}.{place}") for place in range(each) for name in names]  # empty devices first
    told = False
    while True:
        for name, path in places:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue
            os.set_inheritable(file, True)
            return name
        if not told:
            print(f"waiting for a free GPU; taken: {', '.join(names)}", file=sys.stderr, flush=True)
            told = True
        time.sleep(EVERY_S)


def locks() -> Path:
    """The folder of the locks, this user's own. Errors: SystemExit where somebody else has made it."""
    folder = Path(os.environ.get("CONCERTINA_GPU_LOCKS", f"/tmp/concertina-gpus-{os.getuid()}"))
    folder /= f"slurm-{job}" if (job := os.environ.get("SLURM_JOB_ID")) else ""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise SystemExit(f"error: {folder} is not yours; name a folder of your own in CONCERTINA_GPU_LOCKS")
    return folder


def on_path(program: str) -> bool:
    return any(os.access(Path(folder, program), os.X_OK) for folder in os.get_exec_path())


def main() -> None:
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    try:
        if names := devices():
            os.environ["CUDA_VISIBLE_DEVICES"] = lease(names, jobs_per_gpu())
        os.execvp(sys.argv[1], sys.argv[1:])
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:
        raise SystemExit(f"error: {error.filename or sys.argv[1]}: {error.strerror}") from None


if __name__ == "__main__":
    main()
