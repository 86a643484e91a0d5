"""Published archives are downloaded from a server on this machine: resumed, checked by hash, used again."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from concertina.corpora._archives import ArchiveError
from concertina.fetching import download
from helpers.archives import Server, packed, published, serving


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
    with pytest.raises(ArchiveError, match="move it away, and it will be downloaded"):
        download.fetch(published(b"other", "http://127.0.0.1:1/x"), [], tmp_path)
    assert (tmp_path / "small.tar.gz").read_bytes() == content


def test_only_the_web_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="begins with https"):
        download.fetch(published(b"x", "file:///etc/hostname"), [], tmp_path)
