"""Make a repository with a track of one cell to push and pull by DVC, and run an S3 server on this machine."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from concertina.config import merge
from helpers.project_copy import ROOT, copy_project

PAGE = ROOT / "docs/artifacts.md"
PART = {"corpus": "synthetic", "split": "clean", "task": "transcribe", "language": "en"}
SMALL = {  # one split for everything: these results only have to exist
    "data": {"corpora": [{"name": "synthetic", "splits": {"clean": {"en": 12}}}]},
    "segments": {"positions": "keep", "cells": [{"compressor": "average", "ratios": [3]}]},
    "train": {"sets": [{"name": "english", "parts": [PART], "dev": [PART]}]}
    | {"steps": 4, "batch": 4, "learning_rate": 0.1, "warmup_steps": 1, "dev_every_steps": 4, "dev_utterances": 4},
    "evaluate": {"sets": [{**PART, "name": "clean"}]},
    "report": {"bootstrap_samples": 50, "examples": 2},
}


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Run an S3 server on this machine, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def environment_for(server: str) -> dict[str, str]:
    """Return an environment in which git, DVC and boto have names and keys, and know the server."""
    names = {
        f"GIT_{role}_{what}": "someone@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    access = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
    bare = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    return bare | names | access | {"S3_ENDPOINT": server, "PYTHONPATH": "src"}


def make(folder: Path, environment: dict[str, str]) -> Path:
    """Make a repository with a `tiny` track of one cell, in which nothing has run."""
    folder.mkdir()
    copy_project(folder)
    shutil.copytree(ROOT / "models", folder / "models", dirs_exist_ok=True)
    for name in ("Makefile", "dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy2(ROOT / name, folder / name)
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy2(ROOT / ".dvc" / name, folder / ".dvc" / name)
    values = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    (folder / "config.yaml").write_text(yaml.safe_dump(merge(values, SMALL)), encoding="utf-8")
    (folder / "tools/setup.sh").write_text("# the environment that runs this test is set up\n", encoding="utf-8")
    (folder / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (folder / ".venv" / name).symlink_to(Path(sys.prefix, name))
    shell(folder, environment, "git init -q && git add -A && git commit -q -m start")
    return folder


def shell(folder: Path, environment: dict[str, str], command: str) -> subprocess.CompletedProcess[str]:
    """Run a line as a person would type it, after the page's first command, which enters the environment."""
    line = f"{commands()[0]} && {command}" if (folder / ".venv").exists() else command
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, text=True, capture_output=True, check=False
    )


def commands() -> list[str]:
    """Return the fenced commands of the page, in order, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s+# .*", "", line) for block in blocks for line in block.splitlines()]
