"""Published archives: unpacked, each member checked, and read file by file. How they are fetched: download.py."""

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

AR, AR_HEADER_BYTES = b"!<arch>\n", 60
CORRUPT = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, ValueError, NotImplementedError)
Member = tuple[str, IO[bytes] | None]  # a name, and what it holds; None for a link, a device and the like


class ArchiveError(RuntimeError):
    """An archive cannot be had or is not what was published; the message names it and the remedy."""


@dataclass(frozen=True)
class Archive:
    """A file that a corpus publishes: `digest` is 'md5:...' or 'sha256:...', `urls` are tried in order.

    `path`: the file itself, where only the user can download it; it is used as it is, without urls and digest.
    """

    name: str
    file: str
    urls: tuple[str, ...]
    digest: str
    licence: str
    size_bytes: int = 0
    path: Path | None = None


class Files:
    """The files of an unpacked archive (`sealed`), each verified as it is read; or a user's folder's, as they are."""

    def __init__(self, folder: Path, sealed: bool) -> None:
        self.folder, self.sealed = folder, sealed

    @cached_property
    def _sealed(self) -> dict[str, dict[str, str]]:
        return sealing.read_seal(self.folder)["files"] if self.sealed else {}

    @cached_property
    def names(self) -> list[str]:
        """Their paths below the folder, in order."""
        if self.sealed:
            return sorted(self._sealed)
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())

    def matching(self, pattern: str) -> list[str]:
        """Those that a pattern such as '*/x.txt' fits."""
        return [name for name in self.names if fnmatch(name, pattern)]

    def read(self, name: str) -> bytes:
        """What a file holds. Errors: DamagedError (it is not what was unpacked), OSError."""
        if name in self._sealed and not (self.folder / name).exists():
            raise self._damaged(name, "is missing")
        content = (self.folder / name).read_bytes()
        self._check(name, hashlib.sha256(content).hexdigest())
        return content

    def verified(self, name: str) -> Path:
        """Where a file lies that is too long to be read at once. Errors: as `read`."""
        if self.sealed:
            self._check(name, sealing.sha256(self.folder / name))
        return self.folder / name

    def _check(self, name: str, found: str) -> None:
        if self.sealed and found != self._sealed.get(name, {}).get("sha256"):
            raise self._damaged(name, "is damaged (its SHA-256 is not the sealed one)")

    def _damaged(self, name: str, how: str) -> sealing.DamagedError:
        return sealing.DamagedError(f"{self.folder / name} {how}; delete {self.folder} and run `make reproduce`")


def unpack(path: Path, folder: Path) -> None:
    """Unpack a tar or zip archive (a wheel is one), or the tar in a Debian package: plain files inside `folder`.

    Errors: ArchiveError naming the archive or the member.
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
        raise ArchiveError(f"{path}: it holds {Path(error.filename).relative_to(folder)} twice") from None
    except CORRUPT as error:
        raise ArchiveError(f"{path} cannot be unpacked: {error}; delete it and run `make reproduce`") from None


def _of_tar(path: Path) -> Iterator[Member]:
    with open(path, "rb") as packed, tarfile.open(fileobj=_tar(packed), mode="r|*") as tar:
        for member in tar:
            if not member.isdir():
                yield member.name, tar.extractfile(member) if member.isfile() else None


def _of_zip(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as packed:
        for member in packed.infolist():
            if not member.is_dir():
                mode = member.external_attr >> 16  # what Unix says of the file; 0 where the zip is from elsewhere
                plain = stat.S_IFMT(mode) in (0, stat.S_IFREG)
                yield member.filename, packed.open(member) if plain else None


def _tar(packed: BinaryIO) -> BinaryIO:
    """A file at the place where its tar begins: of a Debian package (an ar archive) that is the member data.tar.*."""
    if packed.read(len(AR)) != AR:
        packed.seek(0)
        return packed
    while header := packed.read(AR_HEADER_BYTES):
        if header.startswith(b"data.tar"):
            return packed
        size = int(header[48:58])
        packed.seek(size + size % 2, os.SEEK_CUR)
    raise tarfile.ReadError("it is a package without data")


def _place(path: Path, member: str, plain: bool, folder: Path) -> Path:
    """Where a member goes. Errors: ArchiveError for what is no plain file, or would land elsewhere."""
    name = PurePosixPath(member.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or not plain:
        raise ArchiveError(
            f"{path}: its member {member!r} is a link, a device or outside the folder; nothing of it is used"
        )
    return folder / name
