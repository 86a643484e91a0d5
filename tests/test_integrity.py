"""Artefacts appear whole or not at all, damage is found, and a disk that cannot be written is explained."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from concertina import console
from concertina.store import sealing
from helpers.mounts import mounted


def make(folder: Path, text: str = "hello", **facts: str) -> None:
    with sealing.sealed(folder, dict(facts)) as inside:
        (inside / "deep").mkdir()
        (inside / "a.txt").write_text(text)
        (inside / "deep" / "b.bin").write_bytes(bytes(range(256)))


def test_a_sealed_folder_verifies_and_keeps_its_facts(tmp_path: Path) -> None:
    make(tmp_path / "x" / "y", run_key="k")
    seal = sealing.verify(tmp_path / "x" / "y")
    assert seal["run_key"] == "k"
    assert sorted(seal["files"]) == ["a.txt", "deep/b.bin"]
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["y"]


def test_facts_may_be_added_until_the_block_ends(tmp_path: Path) -> None:
    with sealing.drafting(tmp_path / "x") as draft:
        draft.note(count=3)
    assert sealing.verify(tmp_path / "x")["count"] == 3


def test_when_the_block_fails_nothing_appears_and_the_old_stays(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        with sealing.sealed(folder) as inside:
            (inside / "a.txt").write_text("half")
            raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        fail(tmp_path / "new")
    make(tmp_path / "old")
    with pytest.raises(KeyError, match="broken"):
        fail(tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    sealing.verify(tmp_path / "old")


WRITER = """
import sys
from pathlib import Path
from concertina.store import sealing as integrity
for n in range(200):
    with integrity.sealed(Path(sys.argv[1])) as folder:
        (folder / "a.txt").write_text(str(n))
"""


def test_two_that_make_the_same_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "x")]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [writer.communicate()[1] for writer in writers] == ["", ""]
    assert sealing.verify(tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    make(tmp_path / "x")
    (tmp_path / "x" / "stray").touch()
    make(tmp_path / "x", "other")
    sealing.verify(tmp_path / "x")
    assert (tmp_path / "x" / "a.txt").read_text() == "other"
    assert not (tmp_path / "x" / "stray").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("name", ["a.txt", "deep/b.bin"])
@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "delete"])
def test_damage_is_found_and_named(tmp_path: Path, name: str, harm: str) -> None:
    make(tmp_path / "x")
    path = tmp_path / "x" / name
    content = path.read_bytes()
    flipped = bytes([content[0] ^ 1]) + content[1:]
    path.write_bytes({"flip": flipped, "cut": content[:-1], "empty": b"", "delete": b""}[harm])
    if harm == "delete":
        path.unlink()
    with pytest.raises(
        sealing.DamagedError, match=rf"{name} is (damaged|missing).*delete .*x and run `make reproduce`"
    ):
        sealing.verify(tmp_path / "x")


def test_one_flipped_bit_of_a_seal_is_damage_wherever_it_is(tmp_path: Path) -> None:
    make(tmp_path / "x", run_key="0123456789abcdef", rejects="3")
    seal = tmp_path / "x" / "seal.json"
    whole = seal.read_bytes()
    for at in range(len(whole) - 1):  # but for the last line's end, without which JSON is the same
        seal.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with pytest.raises(sealing.DamagedError, match=r"seal\.json.*make reproduce"):
            sealing.verify(tmp_path / "x")
    seal.write_bytes(whole)
    sealing.verify(tmp_path / "x")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'"\xff"', None])
def test_a_seal_that_is_missing_or_damaged_is_named(tmp_path: Path, content: bytes | None) -> None:
    make(tmp_path / "x")
    seal = tmp_path / "x" / "seal.json"
    seal.unlink() if content is None else seal.write_bytes(content)
    with pytest.raises(sealing.DamagedError, match=r"seal\.json.*make reproduce"):
        sealing.verify(tmp_path / "x")


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    sealing.write_json(tmp_path / "deep" / "x.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        sealing.write_json(tmp_path / "deep" / "x.json", {"a": float("nan")})
    assert json.loads((tmp_path / "deep" / "x.json").read_text()) == {"a": 1}
    assert len(list((tmp_path / "deep").iterdir())) == 1


KILLED = """
import sys, time
from pathlib import Path
from concertina.store import sealing as integrity
with integrity.sealed(Path(sys.argv[1])) as inside:
    (inside / "half").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_attempt_left_is_removed_but_not_a_living_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "x")]
    attempts = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for attempt in attempts:
            assert attempt.stdout is not None
            assert attempt.stdout.readline() == "ready\n"
        attempts[0].send_signal(signal.SIGKILL)
        attempts[0].wait()
        assert not (tmp_path / "x").exists()
        assert len(list(tmp_path.iterdir())) == 2
        make(tmp_path / "x")
        assert len(list(tmp_path.iterdir())) == 2  # what was made, and the attempt that lives
    finally:
        for attempt in attempts:
            attempt.kill()
            attempt.communicate()


def test_a_full_disk_is_explained_and_leaves_nothing(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=1m", "tmpfs") as small:
        for write in (
            lambda path: path.write_bytes(bytes(2 << 20)),
            lambda path: save_file({"x": np.zeros(1 << 20)}, path),
        ):
            with (
                pytest.raises(sealing.OutputError, match=r"cannot write .*small/x: the disk is full; free some space"),
                sealing.sealed(small / "x") as inside,
            ):
                write(inside / "big")
            assert list(small.iterdir()) == []
        make(small / "x")
        with pytest.raises(sealing.OutputError, match="disk is full"):
            sealing.write_json(small / "big.json", "x" * (2 << 20))
        assert [path.name for path in small.iterdir()] == ["x"]


def test_a_read_only_folder_is_explained(tmp_path: Path) -> None:
    with mounted(tmp_path / "fixed", "-t", "tmpfs", "-o", "ro", "tmpfs") as fixed:
        for target in (fixed / "x", fixed / "deep" / "x"):
            with pytest.raises(sealing.OutputError, match=r"cannot write .*fixed/.*: it is on a read-only file system"):
                make(target)
            with pytest.raises(sealing.OutputError, match="read-only"):
                sealing.write_json(target, {})


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Root may write anywhere, so root takes another user's part for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_without_permission_is_explained(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with nobody(), pytest.raises(sealing.OutputError, match="no permission"):
        make(tmp_path / "x")


def test_an_input_without_permission_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), sealing.sealed(tmp_path / "x"):
        raise PermissionError(13, "Permission denied", "/elsewhere/input.wav")


def test_errors_that_a_user_can_mend_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stage(argv: list[str] | None = None) -> int:
        sealing.verify(tmp_path)
        return 0

    assert console.run(stage)(None) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1


def test_faults_of_the_program_keep_their_traceback() -> None:
    def stage(argv: list[str] | None = None) -> int:
        return int("not a number")

    with pytest.raises(ValueError, match="invalid literal"):
        console.run(stage)(None)


def test_an_interrupt_ends_a_stage_with_130() -> None:
    def stage(argv: list[str] | None = None) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
        return 0

    assert console.run(stage)(None) == 130
