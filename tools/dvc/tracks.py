"""The tracks of dvc.yaml: DVC on this Python, what it keeps of a track, and Snakemake's record of what is there."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

from concertina import console
from concertina.config import Config, ConfigError
from concertina.store.sealing import SEAL


def stage(config: Config, path: str) -> str:
    """The stage of a config in dvc.yaml. Errors: ConfigError when it has none."""
    tracks = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]["track"]["foreach"]
    if Path(tracks.get(config.name, "")) != Path(path):
        raise ConfigError(f"dvc.yaml: no track `{config.name}: {path}` under stages.track.foreach; add it there")
    return f"track@{config.name}"


def dvc(*arguments: str) -> bool:
    """Run DVC as on the command line; False, and a line on the console, when it fails."""
    if subprocess.run([sys.executable, "-m", "dvc", *arguments], check=False).returncode == 0:
        return True
    console.say(f"error: `dvc {' '.join(arguments)}` failed, see above")
    return False


def pushed(track: str) -> list[dict[str, str]]:
    """The outputs of a track as dvc.lock has them. Errors: ConfigError when it has none."""
    lock = Path("dvc.lock")
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"] if lock.exists() else {}
    if track not in stages:
        raise ConfigError(f"dvc.lock has no {track} at this commit: nobody has pushed it yet; `make push` does")
    outs: list[dict[str, str]] = stages[track]["outs"]
    return outs


def listing(track: str) -> dict[Path, Path]:
    """The object in DVC's cache of every file of a track."""
    cache = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True, check=True)
    objects = Path(cache.stdout.strip(), "files", "md5")
    found = {}
    for out in pushed(track):
        folder = objects / out["md5"][:2] / out["md5"][2:]
        for row in json.loads(folder.read_text(encoding="utf-8")):
            found[Path(out["path"], row["relpath"])] = objects / row["md5"][:2] / row["md5"][2:]
    return found


def on_record(folders: Iterable[Path], config_path: str) -> bool:
    """Let Snakemake take finished artefacts for its own, and nothing else; False, and its words, when it does not."""
    seals = [str(folder / SEAL) for folder in folders]
    command = [sys.executable, "-m", "snakemake", "--touch", "--force", "--config", f"experiment={config_path}", "--"]
    done = subprocess.run([*command, *seals], capture_output=True, text=True, check=False)
    if done.returncode:
        console.say(f"error: {(done.stdout + done.stderr).strip()}")
    return done.returncode == 0
