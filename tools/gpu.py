"""Run a command with a GPU to itself: `python tools/gpu.py python -m concertina.train ...`.

This leases one of the computer's GPUs (or one of CUDA_VISIBLE_DEVICES, if that is set) and becomes the command, which
sees only that GPU. If none is free it waits; if the computer has none, the command runs without one.
CONCERTINA_JOBS_PER_GPU (default 1) says how many commands may share a GPU.

A lease is a lock of the operating system on a file in /tmp (CONCERTINA_GPU_LOCKS), which is released however its
holder ends. All runs of a user on a machine share the leases, in whatever folder they are. Each Slurm job has leases of
its own, because its GPU may have the same number as another job's.
"""

import fcntl
import os
import re
import sys
import time
from pathlib import Path

DEVICE = re.compile(r"\d+|(GPU|MIG)-\S+")  # a device as CUDA names it
EVERY_S = 0.5  # how often a waiting command tries again


def devices() -> list[str]:
    """Return the devices that may be used, as CUDA names them; CUDA, too, ignores what follows an invalid name."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = listed() if visible is None else [name.strip() for name in visible.split(",")]
    end = next((i for i, name in enumerate(names) if not DEVICE.fullmatch(name)), len(names))
    return list(dict.fromkeys(names[:end]))


def listed() -> list[str]:
    """Return the GPUs of this computer: their numbers, or for a divided one (MIG) the names of its parts."""
    if not on_path("nvidia-smi"):
        driver = Path("/proc/driver/nvidia/gpus")  # one folder for each
        return [str(i) for i, _ in enumerate(driver.iterdir())] if driver.is_dir() else []
    import subprocess  # here, because importing it takes longer than the rest of this file

    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    gpus = re.findall(r"^GPU (\d+):.*\n((?: +MIG .*\n)*)", listing.stdout, flags=re.MULTILINE)
    parts = [(number, re.findall(r"UUID: (MIG-[^)\s]+)", below)) for number, below in gpus]
    return [name for number, inside in parts for name in inside or [number]]


def jobs_per_gpu() -> int:
    """Return how many commands may share a GPU. Errors: SystemExit."""
    number = os.environ.get("CONCERTINA_JOBS_PER_GPU", "1")
    if not re.fullmatch("[1-9][0-9]*", number):
        raise SystemExit(f"error: CONCERTINA_JOBS_PER_GPU must be a whole number, at least 1; it is {number!r}")
    return int(number)


def lease(names: list[str], each: int) -> str:
    """Wait for a place on one of the devices, take it for this process and what it becomes, and return its name."""
    folder = locks()
    places = [(name, folder / f"{name}.{place}") for place in range(each) for name in names]  # empty devices first
    announced = False
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
        if not announced:
            print(f"waiting for a free GPU; taken: {', '.join(names)}", file=sys.stderr, flush=True)
            announced = True
        time.sleep(EVERY_S)


def locks() -> Path:
    """Return the folder of this user's locks, and make it. Errors: SystemExit if it belongs to another user."""
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
