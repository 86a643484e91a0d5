"""Published archives: fetched over HTTP, resumed where they stopped, checked by hash and member, read file by file."""

import contextlib
import hashlib
import http.client
import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from concertina import console, integrity
from concertina.layout import SEAL

BLOCK_BYTES = 1 << 20
TIMEOUT_S = 60.0  # without a byte
RANGE_NOT_SATISFIABLE = 416  # the server's answer when nothing is left to send
MB = 1_000_000
AR, AR_HEADER_BYTES = b"!<arch>\n", 60


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
    """The files of an unpacked archive, each verified as it is read; or those of any other folder, as they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _sealed(self) -> dict[str, dict[str, str]]:
        return integrity.read_seal(self.folder)["files"] if (self.folder / SEAL).exists() else {}

    @cached_property
    def names(self) -> list[str]:
        """Their paths below the folder, in order."""
        if self._sealed:
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
        if self._sealed:
            self._check(name, integrity.sha256(self.folder / name))
        return self.folder / name

    def _check(self, name: str, found: str) -> None:
        if self._sealed and found != self._sealed.get(name, {}).get("sha256"):
            raise self._damaged(name, "is damaged (its SHA-256 is not the sealed one)")

    def _damaged(self, name: str, how: str) -> integrity.DamagedError:
        return integrity.DamagedError(f"{self.folder / name} {how}; delete {self.folder} and run `make reproduce`")


def fetch(archive: Archive, mirrors: Sequence[str], folder: Path) -> Path:
    """Have an archive in `folder`: the file that is there, or from the mirrors (address of a folder), or its own urls.

    One that only the user can download is used where it is.
    What was begun goes on where it stopped, also in a later run. Errors: ArchiveError (no address gives it, or the
    file that is there is another one), OutputError.
    """
    if archive.path:
        return archive.path
    path, partial = folder / archive.file, folder / f"{archive.file}.part"
    if path.exists():
        if wrong := _wrong(path, archive.digest):
            raise ArchiveError(f"{path}: {wrong}; move it away, and it will be fetched")
        return path
    failures = []
    for url in (*(f"{mirror.rstrip('/')}/{archive.file}" for mirror in mirrors), *archive.urls):
        try:
            with integrity.writing(path):
                folder.mkdir(parents=True, exist_ok=True)
                _download(url, partial)
            if not (wrong := _wrong(partial, archive.digest)):
                os.replace(partial, path)
                return path
            partial.unlink()
            failures.append(f"{url}: {wrong}")
        except (http.client.HTTPException, OSError, ValueError) as error:
            failures.append(f"{url}: {error}")
    told = "; ".join(failures)
    raise ArchiveError(
        f"cannot fetch {archive.file} ({told}); run the same command again, or put the file into {folder}"
    )


def unpack(path: Path, folder: Path) -> None:
    """Unpack a tar archive, or the one in a Debian package: plain files inside `folder`, nothing else.

    Errors: ArchiveError naming the archive or the member.
    """
    try:
        with (
            open(path, "rb") as packed,
            tarfile.open(fileobj=_tar(packed), mode="r|*") as tar,
            console.Progress(None, "files") as progress,
        ):
            for member in tar:
                target = _place(path, member, folder)
                source = tar.extractfile(member)
                if target and source:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with open(target, "xb") as file:
                        shutil.copyfileobj(source, file)
                    progress.add()
    except FileExistsError as error:
        raise ArchiveError(f"{path}: it holds {Path(error.filename).relative_to(folder)} twice") from None
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise ArchiveError(f"{path} cannot be unpacked: {error}; delete it and run `make reproduce`") from None


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


def _place(path: Path, member: tarfile.TarInfo, folder: Path) -> Path | None:
    """Where a member goes; None for a folder. Errors: ArchiveError for what is neither, or would land elsewhere."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
        raise ArchiveError(
            f"{path}: its member {member.name!r} is a link, a device or outside the folder; nothing of it is used"
        )
    return None if member.isdir() else folder / name


def _download(url: str, partial: Path) -> None:
    """Have `partial` be what an address gives, going on from what it holds, for as long as that brings it further."""
    if not url.startswith(("https://", "http://")):
        raise ValueError("an address begins with https:// or http://")
    while not _attempt(url, partial):
        pass


def _attempt(url: str, partial: Path) -> bool:
    """One connection; whether all has come. Errors: OSError when nothing came."""
    held = partial.stat().st_size if partial.exists() else 0
    request = Request(url, headers={"Range": f"bytes={held}-"} if held else {})
    try:
        response = urlopen(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        if held and error.code == RANGE_NOT_SATISFIABLE:
            return True
        raise
    with response:
        began = held if response.status == http.client.PARTIAL_CONTENT else 0
        length = response.headers.get("Content-Length")
        total = began + int(length) if length else None
        came = 0
        with (
            open(partial, "ab" if began else "wb") as file,
            console.Progress(total and total // MB, "MB", done=began // MB) as progress,
            contextlib.suppress(TimeoutError, ConnectionError, http.client.IncompleteRead),
        ):
            for block in _blocks(response):
                file.write(block)
                came += len(block)
                progress.add((began + came) // MB - progress.done)
    if total is not None and began + came < total and not came:
        raise OSError(f"the connection ended after {began} of {total} bytes")
    return total is None or began + came >= total


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while block := response.read(BLOCK_BYTES):
        yield block


def _wrong(path: Path, digest: str) -> str | None:
    """What to say where a file's hash is not the published one."""
    kind, _, published = digest.partition(":")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    return None if found == published else f"its {kind.upper()} is {found}, not the published {published}"
