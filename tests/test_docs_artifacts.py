"""docs/artifacts.md, run as printed on a track that takes seconds: every command, and what it must have done."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from helpers import dvc_project
from helpers.dvc_project import commands, shell
from helpers.project_copy import plan, python, snakemake
from tools import verify as verify_tool

METRICS = Path("results/tiny/report/metrics.json")
pytestmark = pytest.mark.slow
KINDS = {
    "audio shard": "build/tiny/data/synthetic/clean/shard-00000.safetensors",
    "feature shard": "build/tiny/features/synthetic/clean/shard-00000.safetensors",
    "segments": "build/tiny/segments/synthetic/clean/average-3/segments.safetensors",
    "adapter": "build/tiny/train/english/average-3-keep/seed0/adapter_model.safetensors",
    "predictions": "results/tiny/evaluate/average-3/clean/zero-shot-keep.parquet",
    "record": "results/tiny/evaluate/average-3/clean/english-seed0-keep.json",
    "report": "results/tiny/report/report.html",
    "copy of the table": "results/tiny/scores.csv",
    "base model": "models/tiny/model.safetensors",
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3-speaking server on this machine, with an empty bucket."""
    with dvc_project.s3_server() as address:
        yield address


@pytest.fixture(scope="module")
def environment(server: str) -> dict[str, str]:
    return dvc_project.environment_for(server)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A repository with a `tiny` track of one cell, in which nothing has run."""
    return dvc_project.make(tmp_path_factory.mktemp("artifacts") / "here", environment)


@pytest.fixture(scope="module")
def bucket(server: str) -> Any:
    access = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    return boto3.resource("s3", endpoint_url=server, **access).create_bucket(Bucket="concertina")


def wer(folder: Path) -> float:
    found = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    return float(found["clean"]["average-3-keep"]["english-seed0"]["wer"])


def objects(remote: Path) -> set[str]:
    return {path.relative_to(remote).as_posix() for path in remote.rglob("*") if path.is_file()}


class Effects:
    """What each command of the page must have done, by command; `here`: the repository in which they run."""

    def __init__(self, here: Path, environment: dict[str, str], bucket: Any) -> None:
        self.here, self.environment, self.bucket = here, environment, bucket
        self.shelf, self.fresh, self.second = (here.parent / name for name in ("shelf", "fresh", "second"))
        self.first: dict[str, Any] = {}

    def by_command(self) -> dict[str, Callable[[str], None]]:
        return {
            ". .venv/bin/activate": says("^$"),
            "dvc repro track@tiny": self.was_made,
            "dvc status track@tiny": says("up to date"),
            'git commit -m "tiny: as made"': self.is_committed,
            "dvc remote add --default shelf ../shelf": lambda _: None,
            "dvc remote add cloud s3://concertina/artifacts": lambda _: None,
            'dvc remote modify cloud endpointurl "$S3_ENDPOINT"': self.configured,
            "make push": lambda _: self.holds(objects(self.shelf)),
            "make push REMOTE=cloud": lambda _: self.holds({found.key for found in self.bucket.objects.all()}),
            'git commit -am "Where the artefacts are"': self.is_committed,
            "git clone . ../fresh": lambda _: None,
            "cd ../fresh && make pull": self.was_pulled,
            "git clone . ../second": lambda _: None,
            "cd ../second && make pull REMOTE=cloud": self.was_pulled_from_cloud,
            "dvc exp run track@tiny -S config.yaml:train.learning_rate=2.0e-3": self.was_tried,
            "dvc params diff": says(r"train\.learning_rate +0\.1 +0\.002"),
            "dvc metrics diff": says(r"clean\.average-3-keep\.english-seed0\.wer +\d"),
            "dvc plots diff": self.was_drawn,
            "git restore --staged --worktree config.yaml dvc.lock && make pull": self.went_back,
            "make verify": says("every artefact is whole"),
        }

    def made_at(self, stage: str) -> list[int]:
        return [seal.stat().st_mtime_ns for seal in (self.here / "build/tiny" / stage).rglob("seal.json")]

    def was_made(self, _: str) -> None:
        assert (self.here / "results/tiny/report.html").exists()
        self.first.update(
            wer=wer(self.here),
            cuts=self.made_at("segments"),
            adapters=self.made_at("train"),
            lock=(self.here / "dvc.lock").read_text(encoding="utf-8"),
        )

    def was_pulled(self, _: str) -> None:
        assert plan(self.fresh) == []
        assert wer(self.fresh) == wer(self.here)

    def was_pulled_from_cloud(self, told: str) -> None:
        assert "8 artefacts are whole" in told
        assert wer(self.second) == wer(self.here)

    def was_tried(self, _: str) -> None:
        here = self.here
        assert yaml.safe_load((here / "config.yaml").read_text(encoding="utf-8"))["train"]["learning_rate"] == 2e-3
        record = json.loads(next((here / "build/tiny/train").rglob("record.json")).read_text(encoding="utf-8"))
        assert record["config"]["learning_rate"] == 2e-3
        assert wer(here) < self.first["wer"]
        assert self.made_at("segments") == self.first["cuts"]
        assert self.made_at("train") != self.first["adapters"]

    def was_drawn(self, _: str) -> None:
        page = (self.here / "dvc_plots/index.html").read_text(encoding="utf-8")
        assert not re.findall(r"https?:|<script|<link", page)
        pictures = [self.here / "dvc_plots" / source for source in re.findall(r'<img src="([^"]+)"', page)]
        drawn = {picture.read_text(encoding="utf-8") for picture in pictures}
        assert len(drawn) == 2, "before and after"
        for picture in drawn:
            assert picture.startswith('<svg xmlns="http://www.w3.org/2000/svg" ')
            assert not re.findall(r"https?:", picture.replace("http://www.w3.org/2000/svg", ""))

    def went_back(self, _: str) -> None:
        assert wer(self.here) == self.first["wer"]
        assert plan(self.here) == []

    def holds(self, found: set[str]) -> None:
        """Whether a remote holds what the track has made."""
        listed = yaml.safe_load((self.here / "dvc.lock").read_text(encoding="utf-8"))["stages"]["track@tiny"]["outs"]
        wanted = sum(out["nfiles"] + 1 for out in listed)
        assert 0.8 * wanted < len(found) <= wanted, "alike files are one object"

    def configured(self, _: str) -> None:
        assert self.environment["S3_ENDPOINT"] in (self.here / ".dvc/config").read_text(encoding="utf-8")

    def is_committed(self, _: str) -> None:
        def git(*arguments: str) -> str:
            return subprocess.run(["git", *arguments], cwd=self.here, capture_output=True, text=True, check=True).stdout

        assert git("show", "HEAD:dvc.lock") == self.first["lock"]
        assert "shelf" in git("show", "HEAD:.dvc/config") or "as made" in git("log", "-1", "--format=%s")


def says(*words: str) -> Callable[[str], None]:
    def check(told: str) -> None:
        assert all(re.search(word, told) for word in words), told

    return check


def test_every_command_of_the_page_does_what_it_says(here: Path, environment: dict[str, str], bucket: Any) -> None:
    effects = Effects(here, environment, bucket).by_command()
    assert commands() == list(effects)
    for command, check in effects.items():
        began = time.monotonic()
        done = shell(here, environment, command)
        print(f"{time.monotonic() - began:.1f} s: {command}")
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        check(done.stdout + done.stderr)


@pytest.fixture(scope="module")
def shared(here: Path, environment: dict[str, str], bucket: Any) -> Path:
    """The repository once its track is made and pushed, by the page's own commands where nobody did it yet."""
    pushed = commands().index('git commit -am "Where the artefacts are"')
    for command in [] if (here.parent / "shelf").exists() else commands()[: pushed + 1]:
        done = shell(here, environment, command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return here


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def named(told: str) -> list[str]:
    """The files that a command calls damaged or missing."""
    return re.findall(r"^(\S+) is (?:damaged|missing)", told, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def judged(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository and its artefacts, to be damaged."""
    without = shutil.ignore_patterns("cache", "tmp", ".venv")
    return Path(shutil.copytree(shared, tmp_path_factory.mktemp("judged") / "here", ignore=without))


@pytest.fixture
def verify(judged: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], Any]:
    """The tool behind `make verify`: its exit status and what it said."""
    monkeypatch.chdir(judged)
    return lambda: (verify_tool.main(["--config", "config.yaml"]), capsys.readouterr().err)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_named(judged: Path, verify: Callable[[], Any], kind: str) -> None:
    sound = (judged / KINDS[kind]).read_bytes()
    flip(judged / KINDS[kind])
    status, told = verify()
    (judged / KINDS[kind]).write_bytes(sound)
    assert (status, named(told)) == (1, [KINDS[kind]])
    assert verify()[0] == 0


def test_the_commands_that_verify_tells_make_it_whole_again(
    judged: Path, verify: Callable[[], Any], environment: dict[str, str]
) -> None:
    flip(judged / KINDS["segments"])
    flip(judged / KINDS["base model"])
    shutil.rmtree(judged / "results/tiny/report")
    status, told = verify()
    assert (status, sorted(named(told))) == (1, sorted([KINDS["base model"], KINDS["segments"], "results/tiny/report"]))
    for command in re.findall(r"^    (.+)$", told, flags=re.MULTILINE):
        done = shell(judged, environment, command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert verify()[0] == 0
    assert plan(judged) == []


def test_pull_and_push_refuse_what_is_damaged_or_belongs_elsewhere(shared: Path, environment: dict[str, str]) -> None:
    clone, adapter = shared.parent / "clone", Path(KINDS["adapter"])
    shell(shared, environment, "git clone -q . ../clone")
    md5 = hashlib.md5((shared / adapter).read_bytes()).hexdigest()
    stored = shared.parent / "shelf/files/md5" / md5[:2] / md5[2:]
    sound, again = (
        stored.read_bytes(),
        ["evaluate average-3", "report", "report_track", f"train {'/'.join(adapter.parts[3:6])}"],
    )
    flip(stored)
    refused = shell(shared, environment, "cd ../clone && make pull")
    stored.write_bytes(sound)
    assert refused.returncode != 0
    assert named(refused.stderr) == [str(adapter)]
    assert not (clone / adapter.parent).exists()
    assert plan(clone) == again

    healed = shell(shared, environment, "cd ../clone && make pull")
    assert healed.returncode == 0, healed.stdout + healed.stderr
    assert (clone / adapter).read_bytes() == (shared / adapter).read_bytes()

    lock = (clone / "dvc.lock").read_text(encoding="utf-8")
    config = (clone / "config.yaml").read_text(encoding="utf-8")
    (clone / "config.yaml").write_text(config.replace("learning_rate: 0.1", "learning_rate: 0.2"), encoding="utf-8")
    texts = "build/tiny/evaluate/average-3-keep/clean/english-seed0"
    strange = [str(adapter.parent), texts, "results/tiny/evaluate/average-3", "results/tiny/report"]
    for command in ("make push", "make pull"):
        done = shell(shared, environment, f"cd ../clone && {command}")
        assert (done.returncode == 0) == (command == "make pull"), done.stdout + done.stderr
        assert re.findall(r"^(\S+) was made by another config or code", done.stderr, re.MULTILINE) == strange
    assert (clone / "dvc.lock").read_text(encoding="utf-8") == lock
    assert not (clone / "results/tiny/report.html").exists()
    assert plan(clone) == again


def test_what_dvc_put_in_place_is_judged_by_run_keys(judged: Path) -> None:
    shutil.rmtree(judged / ".snakemake")
    for number, seal in enumerate(sorted(judged.rglob("seal.json"), reverse=True)):
        os.utime(seal, (1_700_000_000 + number,) * 2)  # in an order that says nothing
    config = (judged / "config.yaml").read_text(encoding="utf-8")
    (judged / "config.yaml").write_text(config.replace("learning_rate: 0.1", "learning_rate: 0.2"), encoding="utf-8")
    changed = planned_when_settled(judged)
    (judged / "config.yaml").write_text(config, encoding="utf-8")
    assert changed == ["evaluate average-3", "report", "report_track", "train english/average-3-keep/seed0"]
    shutil.rmtree(judged / ".snakemake")
    assert planned_when_settled(judged) == ["report_track"]


def planned_when_settled(folder: Path) -> list[str]:
    """The jobs that Snakemake plans once `dvc repro` has seen, by run keys, what may stay."""
    code = "from pathlib import Path; from concertina.config import load; from tools import settle; "
    code += "assert settle.settle(load(), Path('config.yaml')); print(*settle.again(load()))"
    settled = python(folder, "-c", code)
    assert settled.returncode == 0, settled.stderr
    done = snakemake(folder, "-n", *settled.stdout.split())
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted(re.findall(r"^Job \d+: (\w+(?: \S+)?)$", done.stdout + done.stderr, flags=re.MULTILINE))


def test_what_was_accepted_belongs(judged: Path) -> None:
    with open(judged / "src/concertina/train.py", "a", encoding="utf-8") as file:
        file.write("\nANOTHER_NUMBER = 5\n")
    asked = "from concertina.artefacts.standing import Standing; from concertina.config import load"
    asked += "; print(*(stranger.artefact.folder for stranger in Standing(load()).strangers()))"
    assert python(judged, "-c", asked).stdout.split()[0] == str(Path(KINDS["adapter"]).parent)
    accepted = python(judged, "-m", "tools.dvc.accept", "--why", "nothing reads it")
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    assert python(judged, "-c", asked).stdout.split() == []
