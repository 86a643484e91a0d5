"""Sealed folders: an artefact is a folder whose seal.json, written last, holds the SHA-256 of every file in it.

A seal holds a hash of its own content too: a run key or a count that was altered is damage like any other.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

SEAL = "seal.json"
OWN = "seal_sha256"  # the key of a seal's hash of the rest of itself


class DamagedError(RuntimeError):
    """A file is missing, half-written or altered; the message names it and what makes it again."""


class OutputError(RuntimeError):
    """Something cannot be written; the message names it, the reason and the remedy."""


REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space there and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space there and run the same command again",
    errno.EROFS: "it is on a read-only file system; make that writable, or work in a folder that is",
    errno.EACCES: "no permission to write there; change its owner or mode, or work in a folder of your own",
    errno.EPERM: "writing there is not permitted; change its owner or mode, or work in a folder of your own",
}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write one file atomically: yields a temporary path to write to, and renames it when the block ends well.

    A reader sees the old file or the new one, never a part of it. Errors: OutputError.
    """
    temporary = _beside(path, "tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _sync(temporary)  # or a power cut could leave the new name with nothing behind it
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8 with "\\n" at the ends of its lines. Errors: OutputError."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, its keys sorted. Errors: OutputError; ValueError for a number that is not finite."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds. Errors: DamagedError naming it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise DamagedError(
            f"{path} is missing or half-written; delete {path.parent} and run `make reproduce`"
        ) from None


@dataclass
class Draft:
    """A folder that is being filled and will be sealed."""

    folder: Path
    _facts: dict[str, Any] = field(default_factory=dict)
    _verified: dict[str, Any] = field(default_factory=dict)

    def note(self, **facts: Any) -> None:
        """Add facts to the seal beside the files, such as the run key."""
        self._facts |= facts

    def trust(self, files: Mapping[str, Any]) -> None:
        """Copy from another seal the entries of files that were verified just now, so that they are not read twice."""
        self._verified |= files


@contextlib.contextmanager
def sealed(folder: Path, facts: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """Build an artefact whose facts are known beforehand: yields the folder to fill. See `drafting`."""
    with drafting(folder) as draft:
        draft.note(**(facts or {}))
        yield draft.folder


@contextlib.contextmanager
def drafting(folder: Path) -> Iterator[Draft]:
    """Build an artefact: yields a temporary folder; when the block ends well, seals it and renames it to `folder`.

    A folder that was there before is replaced as a whole, or stays as it was when the block raises. The next attempt
    removes what a killed one left behind. Errors: OutputError when the disk is full or may not be written.
    """
    temporary, before = _beside(folder, "tmp"), _beside(folder, "old")
    with writing(folder):
        _remove_leftovers(folder)
        try:
            temporary.mkdir(parents=True)
            draft = Draft(temporary)
            yield draft
            files = {}
            for path in sorted(p for p in temporary.rglob("*") if p.is_file()):
                _sync(path)
                name = path.relative_to(temporary).as_posix()
                files[name] = draft._verified.get(name) or {"sha256": sha256(path), "bytes": path.stat().st_size}
            write_seal(temporary / SEAL, {"files": files, **draft._facts})
            _publish(temporary, folder, before)
        finally:
            if before.exists() and not folder.exists():  # interrupted between the two renames
                with contextlib.suppress(OSError):  # another process may have put its own folder there meanwhile
                    os.replace(before, folder)
            for rest in (temporary, before):
                shutil.rmtree(rest, ignore_errors=True)


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or where the file system cannot, copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _publish(temporary: Path, folder: Path, before: Path) -> None:
    """Move a finished folder to its place, and out of the way any folder that is there or appears there meanwhile."""
    while True:
        if folder.exists():
            shutil.rmtree(before, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                os.replace(folder, before)
        try:
            return os.replace(temporary, folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn a full disk and the like into an OutputError that names `target`; other errors pass unchanged."""
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        if reason := _output_trouble(error, target):
            raise OutputError(f"cannot write {target}: {reason}") from error
        raise


def _output_trouble(error: BaseException, target: Path) -> str | None:
    """Return the reason and the remedy if an error, or its cause, means that `target` cannot be written.

    Libraries that are not written in Python hide the number in their text: 'No space left on device (os error 28)'.
    """
    number, name = getattr(error, "errno", None), getattr(error, "filename", None)
    if not isinstance(number, int) and (hidden := re.search(r"\b(?:os error|Errno) (\d+)\b", str(error))):
        number = int(hidden[1]) if int(hidden[1]) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) else None
    if isinstance(name, str | Path):  # an input that cannot be read says nothing of the output
        elsewhere = not Path(name).is_relative_to(target.parent) and not target.is_relative_to(name)
        number = None if elsewhere else number
    cause = error.__cause__ or error.__context__
    return REMEDIES.get(number or 0) or (_output_trouble(cause, target) if cause else None)


def _sync(path: Path) -> None:
    """Have a file's content written to the disk before going on."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _beside(path: Path, suffix: str) -> Path:
    """Return a hidden name beside a path that no other living process uses."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.{suffix}")


def _remove_leftovers(folder: Path) -> None:
    """Remove what processes of this machine left unfinished beside `folder` before they ended."""
    prefix = f".{folder.name}.{socket.gethostname()}."
    for path in folder.parent.iterdir() if folder.parent.is_dir() else ():
        pid, _, suffix = path.name.removeprefix(prefix).partition(".")
        ours = path.name.startswith(prefix) and pid.isdigit() and suffix in ("tmp", "old")
        if ours and not _lives_elsewhere(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _lives_elsewhere(pid: int) -> bool:
    """Return whether another process than this one has this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def write_seal(path: Path, seal: Mapping[str, Any]) -> None:
    """Write a seal with the hash of its content. Errors: OutputError."""
    write_json(path, {**seal, OWN: _hash(seal)})


def _hash(seal: Mapping[str, Any]) -> str:
    text = json.dumps(seal, ensure_ascii=False, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_seal(folder: Path) -> dict[str, Any]:
    """Return the seal of an artefact, without its own hash. Errors: DamagedError: there is none, or a damaged one."""
    try:
        seal: dict[str, Any] = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        if not isinstance(seal, dict) or seal.pop(OWN, None) != _hash(seal):
            raise ValueError(f"{folder / SEAL} is not as it was written")
        return seal
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedError(f"{folder} has no {SEAL}: it was never finished; run `make reproduce` to make it") from None
    except ValueError:
        raise DamagedError(f"{folder / SEAL} is damaged; delete {folder} and run `make reproduce`") from None


def verify(folder: Path, *patterns: str) -> dict[str, Any]:
    """Check the files of an artefact against its seal, and return the seal. Errors: DamagedError.

    `patterns`: which files to check, as shell patterns of their names; without any, all.
    """
    seal = read_seal(folder)
    for name, fact in seal["files"].items():
        if patterns and not any(fnmatch(name, pattern) for pattern in patterns):
            continue
        path = folder / name
        if not path.exists():
            raise DamagedError(f"{path} is missing; delete {folder} and run `make reproduce`")
        if path.stat().st_size != fact["bytes"] or sha256(path) != fact["sha256"]:
            raise DamagedError(
                f"{path} is damaged (its SHA-256 is not the sealed one); delete {folder} and run `make reproduce`"
            )
    return seal
