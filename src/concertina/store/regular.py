"""Open regular files alone: a pipe would wait for its writer for ever, and a device such as /dev/zero has no end."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


class NoFileError(OSError):
    """A path is something else than a regular file; the message says what it is."""


def open_regular(path: Path | str, buffering: int = -1) -> BinaryIO:
    """Open a regular file to read its bytes, as `open` does. Errors: NoFileError (a folder, a pipe, ...), OSError."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # which does not wait for a pipe's writer
    if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NoFileError(errno.EINVAL, f"it is {KINDS.get(stat.S_IFMT(mode), 'a device')}, not a file", str(path))
    return open(descriptor, "rb", buffering)


def wrong(path: Path) -> str:
    """Return why a path cannot be read as a file, such as 'it is a pipe, not a file'; '' for a regular file."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        return "no such file" if isinstance(error, FileNotFoundError) else getattr(error, "strerror", "") or str(error)
    return "" if stat.S_ISREG(mode) else f"it is {KINDS.get(stat.S_IFMT(mode), 'a device')}, not a file"
