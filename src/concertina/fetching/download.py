"""Downloads over HTTP: what was begun goes on where it stopped, and only what has the published hash is used."""

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
TIMEOUT_S = 60.0  # without a byte
LONGEST_PAUSE_S = 30.0  # before the next connection
MB = 1_000_000


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Have a folder of downloads to oneself; waits for a process that is fetching into it."""
    with sealing.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say(f"waiting for another process that fetches into {folder}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch(archive: Archive, mirrors: Sequence[str], folder: Path) -> Path:
    """Have an archive in `folder`: the file that is there, or from the mirrors (address of a folder), or its own urls.

    One that only the user can download is used where it is. Errors: ArchiveError (no address gives it, or the file
    that is there is another one), OutputError.
    """
    if archive.path:
        return archive.path
    path, partial = folder / archive.file, folder / f"{archive.file}.part"
    if path.exists():
        if wrong := _wrong(path, archive.digest):
            raise ArchiveError(f"{path}: {wrong}; move it away, and it will be fetched")
        return path
    if partial.exists() and not _wrong(partial, archive.digest):
        os.replace(partial, path)
        return path
    failures = []
    for url in (*(f"{mirror.rstrip('/')}/{archive.file}" for mirror in mirrors), *archive.urls):
        try:
            arrived = _download(url, partial)
            wrong = _wrong(arrived, archive.digest)
        except (http.client.HTTPException, OSError, ValueError) as error:
            failures.append(f"{url}: {error}")
            continue
        if not wrong:
            os.replace(arrived, path)
            partial.unlink(missing_ok=True)
            return path
        arrived.unlink()
        failures.append(f"{url}: {wrong}")
    told = "; ".join(failures)
    raise ArchiveError(f"cannot fetch {archive.file} ({told}); run the command again, or put the file into {folder}")


def _download(url: str, partial: Path) -> Path:
    """All that an address gives: `partial`, gone on with for as long as that brings it further, or a file beside it.

    That is where the server begins anew: what is held already is not given up for it. Errors: OSError.
    """
    if not url.startswith(("https://", "http://")):
        raise ValueError("an address begins with https:// or http://")
    pause_s = 0.0
    while True:
        held = _length(partial)
        file, whole = _connect(url, partial)
        if whole:
            return file
        if file != partial or _length(partial) <= held:
            raise OSError(f"the connection ended after {_length(file)} bytes")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s + 0.5, LONGEST_PAUSE_S)


def _connect(url: str, partial: Path) -> tuple[Path, bool]:
    """One connection: the file that was written, and whether all has come."""
    held = _length(partial)
    with _ask(url, held) as response:
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {held}-")
        file = partial if goes_on or not held else partial.with_suffix(".anew")
        began = held if goes_on else 0
        length = response.headers.get("Content-Length")
        whole = _receive(response, file, began, began + int(length) if length else None)
    return file, whole


def _ask(url: str, held: int) -> http.client.HTTPResponse:
    """The answer of a server that is asked for what comes after `held` bytes, or for all where it has no more."""
    try:
        answer = urlopen(Request(url, headers={"Range": f"bytes={held}-"} if held else {}), timeout=TIMEOUT_S)
    except HTTPError as error:
        if not held or error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        answer = urlopen(url, timeout=TIMEOUT_S)
    assert isinstance(answer, http.client.HTTPResponse)
    return answer


def _receive(response: http.client.HTTPResponse, file: Path, began: int, total: int | None) -> bool:
    """Write what comes after byte `began` of a file of `total` bytes, where that is known; whether that was all."""
    came, cut = began, False
    with sealing.writing(file):
        output = file.open("ab" if began else "wb")
    with output, console.Progress(total and total // MB, "MB", done=began // MB) as progress:
        while True:
            try:
                block = response.read(BLOCK_BYTES)
            except (TimeoutError, ConnectionError, http.client.IncompleteRead):
                cut = True
                break
            if not block:
                break
            with sealing.writing(file):
                output.write(block)
            came += len(block)
            progress.add(came // MB - progress.done)
    return not cut and (total is None or came >= total)


def _length(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _wrong(path: Path, digest: str) -> str | None:
    """What to say where a file's hash is not the published one."""
    kind, _, published = digest.partition(":")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    return None if found == published else f"its {kind.upper()} is {found}, not the published {published}"
