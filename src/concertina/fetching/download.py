"""Download archives over HTTP: resume what was interrupted, and use only a file that has the published hash."""

import contextlib
import fcntl
import hashlib
import http.client
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from concertina import console
from concertina.corpora._archives import Archive, ArchiveError
from concertina.store import sealing

BLOCK_BYTES = 1 << 20
TIMEOUT_S = 60.0  # how long a connection may be silent
LONGEST_PAUSE_S = 30.0  # between two connections
MB = 1_000_000


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a folder of downloads; wait first while another process is downloading into it."""
    with sealing.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say(f"waiting for another process that is downloading into {folder}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch(archive: Archive, mirrors: Sequence[str], folder: Path) -> Path:
    """Return the path of an archive, and download it into `folder` if it is not there.

    The mirrors (addresses of folders) are tried before the archive's own urls. An archive that only the user can
    download is used where it is. Errors: ArchiveError (no address gives the file, or the file that is already there
    has another hash), OutputError.
    """
    if archive.path:
        return archive.path
    path, partial = folder / archive.file, folder / f"{archive.file}.part"
    if path.exists():
        if wrong := _wrong(path, archive.digest):
            raise ArchiveError(f"{path}: {wrong}; move it away, and it will be downloaded")
        return path
    if partial.exists() and not _wrong(partial, archive.digest):
        os.replace(partial, path)
        return path
    failures = []
    for url in (*(f"{mirror.rstrip('/')}/{archive.file}" for mirror in mirrors), *archive.urls):
        try:
            downloaded = _download(url, partial)
            wrong = _wrong(downloaded, archive.digest)
        except (http.client.HTTPException, OSError, ValueError) as error:
            failures.append(f"{url}: {error}")
            continue
        if not wrong:
            os.replace(downloaded, path)
            partial.unlink(missing_ok=True)
            return path
        downloaded.unlink()
        failures.append(f"{url}: {wrong}")
    reasons = "; ".join(failures)
    raise ArchiveError(
        f"{archive.file} cannot be downloaded ({reasons}); run the command again, or put the file into {folder}"
    )


def _download(url: str, partial: Path) -> Path:
    """Download a file, and return its path: `partial`, or a file beside it if the server cannot resume.

    A connection that ends early is opened again as long as each one brings more bytes. A server that cannot resume
    sends the file from its start; that goes into a second file, because the bytes in `partial` may still be needed
    for the next address. Errors: OSError (the connection ended and brought nothing more), ValueError (not HTTP).
    """
    if not url.startswith(("https://", "http://")):
        raise ValueError("the address of a download begins with https:// or http://")
    pause_s = 0.0
    while True:
        bytes_before = _length(partial)
        file, complete = _connect(url, partial)
        if complete:
            return file
        if file != partial or _length(partial) <= bytes_before:
            raise OSError(f"the connection ended after {_length(file)} bytes")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s + 0.5, LONGEST_PAUSE_S)


def _connect(url: str, partial: Path) -> tuple[Path, bool]:
    """Open one connection and receive what it sends: (the file that was written, whether it is complete)."""
    bytes_before = _length(partial)
    with _request(url, bytes_before) as response:
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {bytes_before}-")
        file = partial if resumed or not bytes_before else partial.with_suffix(".anew")
        start = bytes_before if resumed else 0
        length = response.headers.get("Content-Length")
        complete = _receive(response, file, start, start + int(length) if length else None)
    return file, complete


def _request(url: str, start: int) -> http.client.HTTPResponse:
    """Request a file from byte `start` on, or the whole file if the server has no byte after that."""
    try:
        response = urlopen(Request(url, headers={"Range": f"bytes={start}-"} if start else {}), timeout=TIMEOUT_S)
    except HTTPError as error:
        if not start or error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        response = urlopen(url, timeout=TIMEOUT_S)
    assert isinstance(response, http.client.HTTPResponse)
    return response


def _receive(response: http.client.HTTPResponse, file: Path, start: int, total: int | None) -> bool:
    """Write a response into a file from byte `start` on, and return whether the file is now complete.

    `total`: bytes of the complete file; None where the server does not give it.
    """
    received, interrupted = start, False
    with sealing.writing(file):
        output = file.open("ab" if start else "wb")
    with output, console.Progress(total and total // MB, "MB", done=start // MB) as progress:
        while True:
            try:
                block = response.read(BLOCK_BYTES)
            except (TimeoutError, ConnectionError, http.client.IncompleteRead):
                interrupted = True
                break
            if not block:
                break
            with sealing.writing(file):
                output.write(block)
            received += len(block)
            progress.add(received // MB - progress.done)
    return not interrupted and (total is None or received >= total)


def _length(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _wrong(path: Path, digest: str) -> str | None:
    """Return how a file's hash differs from the published one, or None if it is the same."""
    kind, _, published = digest.partition(":")
    with open(path, "rb") as file:
        actual = hashlib.file_digest(file, kind).hexdigest()
    return None if actual == published else f"its {kind.upper()} is {actual}, not the published {published}"
