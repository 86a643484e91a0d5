"""Mount small file systems, full, read-only or slow, for tests that run as root."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Mount a small file system on a folder; if this user may not, the test is skipped."""
    folder.mkdir(exist_ok=True)
    command = ["mount", *options, str(folder)]
    result = subprocess.run(command, capture_output=True, text=True) if os.geteuid() == 0 else None
    if result is None or result.returncode:
        pytest.skip(f"cannot mount a file system here: {result.stderr.strip() if result else 'not root'}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
