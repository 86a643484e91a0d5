"""What made a run: the commit, the versions of the packages that decide a result, the device, the date."""

import functools
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "peft", "jiwer", "sacrebleu", "numpy")


def provenance(device: str | None = None) -> dict[str, Any]:
    """Return the fields of a Run that say what made it: `commit`, `versions`, `device` and `date` (UTC).

    `device`: what the run computes on; without one, the CPU's model is named.
    """
    return {
        "commit": commit(Path(__file__).parents[2]),
        "versions": _versions(),
        "device": device or f"cpu ({_cpu()})",
        "date": datetime.now(UTC).date().isoformat(),
    }


@functools.cache
def commit(folder: Path) -> str:
    """Return the commit that a folder is at, '-dirty' when tracked files differ from it, 'unknown' outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return result.stdout.strip() if result.returncode == 0 else "unknown"


@functools.cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return versions


def _cpu() -> str:
    """Return the CPU's model, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
