"""Unpack published archives, check each member, and read the unpacked files. fetching/download.py downloads them."""

import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from concertina import console
from concertina.store import sealing
from concertina.store.regular import open_regular

AR, AR_HEADER_BYTES = b"!<arch>\n", 60
CORRUPT = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, ValueError, NotImplementedError)
Member = tuple[str, IO[bytes] | None]  # a name and its content; None for a link, a device and the like


class ArchiveError(RuntimeError):
    """An archive cannot be downloaded, or is not the published one; the message names it and the remedy."""


@dataclass(frozen=True)
class Archive:
    """A published file that a corpus is read from.

    `urls` are tried in order; `digest` is 'md5:...' or 'sha256:...'. `path` is set for a file that only the user can
    download: it is used where it lies, without urls and digest.
    """

    name: str
    file: str
    urls: tuple[str, ...]
    digest: str
    licence: str
    size_bytes: int = 0
    path: Path | None = None


class Files:
    """The files of a folder. Those of an archive (`sealed`) are verified when they are read, a user's are not."""

    def __init__(self, folder: Path, sealed: bool) -> None:
        self.folder, self.sealed = folder, sealed

    @cached_property
    def _sealed(self) -> dict[str, dict[str, str]]:
        return sealing.read_seal(self.folder)["files"] if self.sealed else {}

    @cached_property
    def names(self) -> list[str]:
        """The paths of all files below the folder, sorted."""
        if self.sealed:
            return sorted(self._sealed)
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())

    def matching(self, pattern: str) -> list[str]:
        """Return the paths that match a pattern such as '*/x.txt'."""
        return [name for name in self.names if fnmatch(name, pattern)]

    def read(self, name: str) -> bytes:
        """Return the content of a file. Errors: DamagedError (it is not what was unpacked), OSError."""
        if name in self._sealed and not (self.folder / name).exists():
            raise self._damaged(name, "is missing")
        with open_regular(self.folder / name) as file:
            content = file.read()
        self._check(name, hashlib.sha256(content).hexdigest())
        return content

    def verified(self, name: str) -> Path:
        """Verify a file that is too large to be read at once, and return its path. Errors: as `read`."""
        if self.sealed:
            self._check(name, sealing.sha256(self.folder / name))
        return self.folder / name

    def _check(self, name: str, sha256: str) -> None:
        """Compare a file's hash with the sealed one. Errors: DamagedError."""
        if self.sealed and sha256 != self._sealed.get(name, {}).get("sha256"):
            raise self._damaged(name, "is damaged (its SHA-256 is not the sealed one)")

    def _damaged(self, name: str, reason: str) -> sealing.DamagedError:
        return sealing.DamagedError(f"{self.folder / name} {reason}; delete {self.folder} and run `make reproduce`")


def unpack(path: Path, folder: Path) -> None:
    """Unpack the plain files of a tar, a zip (such as a wheel) or a Debian package into `folder`.

    Errors: ArchiveError naming the archive or the member that is refused.
    """
    try:
        members = _of_zip(path) if zipfile.is_zipfile(path) else _of_tar(path)
        with console.Progress(None, "files") as progress:
            for name, source in members:
                target = _place(path, name, source is not None, folder)
                if source:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with open(target, "xb") as file:
                        shutil.copyfileobj(source, file)
                    progress.add()
    except FileExistsError as error:
        raise ArchiveError(f"{path} holds {Path(error.filename).relative_to(folder)} twice; get it again") from None
    except CORRUPT as error:
        raise ArchiveError(f"{path} cannot be unpacked: {error}; delete it and run `make reproduce`") from None


def _of_tar(path: Path) -> Iterator[Member]:
    """Yield the members of a tar, or of the tar in a Debian package, that are no folders."""
    with open(path, "rb") as packed, tarfile.open(fileobj=_tar(packed), mode="r|*") as tar:
        for member in tar:
            if not member.isdir():
                yield member.name, tar.extractfile(member) if member.isfile() else None


def _of_zip(path: Path) -> Iterator[Member]:
    """Yield the members of a zip that are no folders."""
    with zipfile.ZipFile(path) as packed:
        for member in packed.infolist():
            if not member.is_dir():
                mode = member.external_attr >> 16  # the file's Unix mode; 0 in a zip that was made on another system
                plain = stat.S_IFMT(mode) in (0, stat.S_IFREG)
                yield member.filename, packed.open(member) if plain else None


def _tar(packed: BinaryIO) -> BinaryIO:
    """Move to where the tar begins: at the member data.tar.* of a Debian package (an ar archive), else at byte 0."""
    if packed.read(len(AR)) != AR:
        packed.seek(0)
        return packed
    while header := packed.read(AR_HEADER_BYTES):
        if header.startswith(b"data.tar"):
            return packed
        size = int(header[48:58])
        packed.seek(size + size % 2, os.SEEK_CUR)
    raise tarfile.ReadError("it is a Debian package without data.tar")


def _place(path: Path, member: str, plain: bool, folder: Path) -> Path:
    """Return where a member is unpacked to. Errors: ArchiveError if it is no plain file, or lies outside `folder`."""
    name = PurePosixPath(member.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or not plain:
        raise ArchiveError(
            f"{path}: its member {member!r} is a link, a device or outside the folder; no file of this archive is used"
        )
    return folder / name
