"""Make small archives, and serve them on this machine: whole, cut off, or by ranges."""

import hashlib
import io
import re
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from concertina.corpora._archives import Archive


@dataclass
class Server:
    """What a loopback server sends: `file`, cut off after `cuts` bytes of each connection, by ranges or not."""

    file: bytes
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(served: Server) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.headers["Range"])
            begin = int(re.findall(r"\d+", self.headers["Range"])[0]) if self.headers["Range"] and served.ranges else 0
            if begin >= len(served.file):
                return self.send_error(416)
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(served.file) - 1}/{len(served.file)}")
            self.send_header("Content-Length", str(len(served.file) - begin))
            self.end_headers()
            self.wfile.write(served.file[begin:][: served.cuts.pop(0) if served.cuts else None])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        served.url = f"http://127.0.0.1:{server.server_port}/x"
        try:
            yield served
        finally:
            server.shutdown()


def packed(members: dict[str, bytes | Callable[[tarfile.TarInfo], None]], twice: str = "") -> bytes:
    """Return a .tar.gz with these contents by name; a function turns a member into something other than a file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name in (*members, *([twice] if twice else [])):
            member, content = tarfile.TarInfo(name), members[name]
            if isinstance(content, bytes):
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                content(member)
                tar.addfile(member)
    return file.getvalue()


def published(content: bytes, *urls: str) -> Archive:
    return Archive("small", "small.tar.gz", urls, f"md5:{hashlib.md5(content).hexdigest()}", "anyone's")


def wheel(members: dict[str, bytes], modes: dict[str, int] | None = None) -> bytes:
    """Return a zip like that of a Python package; `modes`: the Unix modes of some members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = (modes or {}).get(name, 0o100644) << 16
            packed.writestr(member, content)
    return file.getvalue()
