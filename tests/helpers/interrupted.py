"""Run commands of the package, strike them with signals while they work, and compare the artefacts that remain."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from concertina.store import sealing
from helpers.artefacts import folder_of

SOURCES = Path(__file__).parents[2] / "src"
CELL = ["--cell", "average-3"]
ADAPTER = folder_of("train", "t", "english", "average-3-keep", 0)
PATIENCE_S = 300  # for a machine that is busy with something else
TIMES = {"seconds", "date", "commit", "utterances_per_second"}  # fields that may differ in a second run
# Importing torch takes seconds, so one process imports everything once and forks for each command, as if it were
# `python -m concertina.<stage>`. It reads lines with the console's file, the stage and its arguments, and writes the
# number of the command's process, then its exit status.
COMMANDS = """
import json, os, runpy, sys
import peft, torch, transformers
from concertina import evaluate, features, report, segments, train
for line in sys.stdin:
    console, stage, *arguments = json.loads(line)
    if not (child := os.fork()):
        os.dup2(os.open(console, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(2, 1)
        sys.argv[1:] = arguments
        del sys.modules[f"concertina.{stage}"]
        runpy.run_module(f"concertina.{stage}", run_name="__main__", alter_sys=True)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
TRAIN = ["--train-set", "english", *CELL, "--seed", "0"]


class Work(NamedTuple):
    """A command, the folder that it makes, and the file that appears in its temporary folder while it works."""

    command: list[str]
    folder: Path
    sign: str

    def at_work(self) -> bool:
        return any(self.folder.parent.glob(f".{self.folder.name}.*.tmp/{self.sign}"))


class Project:
    """A process that runs commands in the working folder."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        assert server.stdin is not None
        assert server.stdout is not None
        self.requests, self.answers = server.stdin, server.stdout
        self.console = Path("console.txt")

    def start(self, stage: str, *arguments: str) -> int:
        """Start a stage's command, and return its process number."""
        self.console.write_text("", encoding="utf-8")
        self.requests.write(json.dumps([str(self.console), stage, *arguments]) + "\n")
        self.requests.flush()
        return int(self.answers.readline())

    def end(self) -> tuple[int, list[str]]:
        """Wait for the command, and return its exit status and its lines on the console."""
        status = int(self.answers.readline())
        return status, self.console.read_text(encoding="utf-8").splitlines()

    def run(self, *command: str) -> tuple[int, list[str]]:
        self.start(*command)
        return self.end()

    def strike(self, work: Work, how: signal.Signals) -> tuple[int, list[str]]:
        """Send a signal to a command while it works; start it again if it ended before the signal came."""
        for _ in range(5):
            for old in (work.folder, *work.folder.parent.glob(f".{work.folder.name}.*")):
                shutil.rmtree(old, ignore_errors=True)
            process = self.start(*work.command)
            ends = time.monotonic() + PATIENCE_S
            while lives(process) and not work.at_work() and time.monotonic() < ends:
                time.sleep(0.001)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, how)
            status, lines = self.end()
            if not work.folder.exists():
                return status, lines
            sealing.verify(work.folder)
        raise AssertionError(f"{work.command[0]} is always faster than the signal")


def lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def serve(root: Path) -> Iterator[Project]:
    """Start a process that runs commands in a folder, which is meanwhile the working folder of this process too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # otherwise commands ignore it under `pytest &`
    command = [sys.executable, "-c", COMMANDS]
    environment = os.environ | {"PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with contextlib.chdir(root), subprocess.Popen(command, env=environment, **pipes) as server:
        yield Project(server)
    signal.signal(signal.SIGINT, before)


def lasting(folder: Path) -> dict[str, Any]:
    """Return the content of a sealed folder: the hash of each file, and of records and curves all fields but times."""
    sealing.verify(folder)
    content: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != sealing.SEAL):
        name = path.relative_to(folder).as_posix()
        content[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        if name == "curve.jsonl" or name == "record.json" or (path.suffix == ".json" and "evaluate" in folder.parts):
            lines = path.read_text(encoding="utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            content[name] = [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]
    return content
