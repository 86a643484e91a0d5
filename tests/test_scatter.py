"""A long split is scattered over jobs, and what they make together is what one job makes, to the byte."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from concertina.artefacts.scatter import Share, parse
from concertina.store import sealing
from helpers.artefacts import folder_of
from helpers.project_copy import ROOT, copy_project, plan, snakemake

CORPUS = '''"""Beeps in six parts; one id stands in two of them, and one beep is silence without a text."""

import numpy as np

from concertina.corpora import Reject, Utterance


def splits(options):
    return ["long", "short"]


def parts(options, split):
    return 6 if split == "long" else 1


def size(options, split):
    return (240, 240 / 3600) if split == "long" else (8, 8 / 3600)


def read(options, split, part):
    if part == 3:
        yield Reject("lost", "nobody knows where it is")
    for i in range(40 if split == "long" else 8):
        name = "twice" if i == 7 and part in (1, 4) else f"{split}-{part}-{i}"
        beep_T = 0.3 * np.sin(np.arange(12_000 + 800 * ((7 * i + part) % 11)) * (0.05 + 0.001 * i + 0.01 * part))
        yield Utterance(name, beep_T.astype(np.float32), 16_000, f"beep {i} of {part}", "en", "nobody")
'''
WAIT = """    import pathlib, time
    shares = pathlib.Path("scratch/shares/beeps/data/beeps/long")
    while pathlib.Path("wait").exists() and len(list(shares.glob("[0-9]*"))) > 1:
        time.sleep(0.1)
"""
CONFIG = """
name: beeps
data:
  corpora: [{name: beeps}]
features: {batch_seconds: 1, threads: 1}
segments: {cells: [{compressor: average, ratios: [3]}]}
train:
  sets:
    - name: english
      parts: [{corpus: beeps, split: long, task: transcribe, language: en}]
      dev: [{corpus: beeps, split: short, task: transcribe, language: en}]
evaluate:
  sets: [{name: short, corpus: beeps, split: short, task: transcribe, language: en}]
"""
SHARES = ["1-of-4", "2-of-4", "3-of-4", "4-of-4"]
STORES = [folder_of("data", "beeps", "beeps", "long"), folder_of("features", "beeps", "beeps", "long")]
CUTS = f"{folder_of('segments', 'beeps', 'beeps', 'long', 'average-3')}/seal.json"


def make(folder: Path) -> Path:
    copy_project(folder)
    (folder / "src/concertina/corpora/beeps.py").write_text(CORPUS, encoding="utf-8")
    (folder / "beeps.yaml").write_text(CONFIG, encoding="utf-8")
    (folder / "models/tiny/model.safetensors").symlink_to(ROOT / "models/tiny/model.safetensors")
    return folder


def scatter(folder: Path, hours: str = "0.02") -> None:
    """Have a share be of few hours: 0.02 makes four shares of the long split."""
    path = folder / "src/concertina/artefacts/scatter.py"
    path.write_text(re.sub("^HOURS = [0-9.]+", f"HOURS = {hours}", path.read_text(), flags=re.M), encoding="utf-8")


def run(folder: Path, *arguments: str) -> str:
    result = snakemake(folder, "--config", "experiment=beeps.yaml", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def content(folder: Path) -> dict[str, bytes]:
    stores = [folder / store for store in STORES]
    return {str(path.relative_to(folder)): path.read_bytes() for store in stores for path in store.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which one job made the split."""
    folder = make(tmp_path_factory.mktemp("whole"))
    run(folder, "--", CUTS)
    return folder


@pytest.mark.parametrize("items", [0, 1, 3, 4, 1000])
def test_shares_do_every_item_once_in_order(items: int) -> None:
    shares = [Share(number, 7) for number in range(1, 8)]
    assert [i for share in shares for i in share.range(items)] == list(range(items))
    assert max(len(share.range(items)) for share in shares) <= items // 7 + 1
    assert [parse(str(share)) for share in shares] == shares


@pytest.mark.parametrize("text", ["0-of-3", "4-of-3", "3", "x-of-y"])
def test_what_is_no_share_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"share|int"):
        parse(text)


@pytest.mark.slow
def test_a_long_split_is_planned_in_shares_and_a_short_one_is_not(tmp_path: Path) -> None:
    scatter(make(tmp_path))
    jobs = [
        job for job in plan(tmp_path, "beeps.yaml") if job.split()[0].removesuffix("_share") in ("data", "features")
    ]
    splits = [f"{stage} beeps/{split}" for stage in ("data", "features") for split in ("long", "short")]
    assert jobs == sorted(
        [*splits, *(f"{stage}_share beeps/long/{i}" for stage in ("data", "features") for i in SHARES)]
    )
    scatter(tmp_path, "0.5")
    assert [job for job in plan(tmp_path, "beeps.yaml") if job.split()[0] in ("data", "features")] == splits


@pytest.mark.slow
def test_scattered_or_not_the_artefacts_are_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    assert len(list((whole / STORES[1]).glob("shard-*"))) > len(SHARES)
    assert "twice" in (whole / STORES[0] / "rejects.jsonl").read_text(encoding="utf-8")
    scatter(make(tmp_path))
    told = run(tmp_path, "--", CUTS)
    assert all(told.count(f"{stage}_share beeps/long/{share}\n") for stage in ("data", "features") for share in SHARES)
    assert content(tmp_path) == content(whole)
    assert not list(tmp_path.glob("scratch/shares/**/*-of-*")), "what was gathered is deleted"
    assert "Nothing to be done" in run(tmp_path, "-n", "--", CUTS)


@pytest.mark.slow
def test_after_a_kill_only_the_unfinished_share_is_done_again(whole: Path, tmp_path: Path) -> None:
    project = make(tmp_path)
    scatter(project)
    corpus = project / "src/concertina/corpora/beeps.py"
    corpus.write_text(CORPUS.replace("    if part == 3", f"{WAIT}    if part == 3"), encoding="utf-8")
    (project / "wait").touch()
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", "experiment=beeps.yaml"]
    running = subprocess.Popen(
        [*command, "--", f"{STORES[0]}/seal.json"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project / "src")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    folder = project / "scratch/shares/beeps/data/beeps/long"
    ends = time.monotonic() + 120
    while not (len(done := sorted(path.name for path in folder.glob("[0-9]*"))) == 2 and list(folder.glob(".*.tmp"))):
        assert time.monotonic() < ends
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    (project / "wait").unlink()
    told = run(project, "--nolock", "--", f"{STORES[0]}/seal.json")
    assert [share for share in SHARES if f"long/{share}\n" in told] == [share for share in SHARES if share not in done]
    assert (project / STORES[0] / "manifest.jsonl").read_bytes() == (whole / STORES[0] / "manifest.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["data", "features"])
def test_a_share_that_was_altered_is_named_and_nothing_is_made_of_it(whole: Path, tmp_path: Path, stage: str) -> None:
    project = Path(shutil.copytree(whole, tmp_path / "project", symlinks=True))
    scatter(project)
    store = folder_of(stage, "beeps", "beeps", "long")
    shutil.rmtree(project / store)
    shares = [folder_of(f"{stage}_share", "beeps", "beeps", "long", share) for share in SHARES]
    run(project, "--notemp", "--", *map(str, shares))
    [*_, largest] = sorted((project / shares[2]).rglob("*.*" if stage == "features" else "audio"), key=os.path.getsize)
    damaged = bytearray(largest.read_bytes())
    damaged[-1] ^= 1
    largest.write_bytes(damaged)
    result = snakemake(project, "--config", "experiment=beeps.yaml", "--", f"{store}/seal.json")
    assert result.returncode != 0
    assert f"error: {largest.relative_to(project)} is damaged" in result.stdout + result.stderr
    assert not (project / store).exists()
    with pytest.raises(sealing.DamagedError):
        sealing.verify(project / shares[2])
