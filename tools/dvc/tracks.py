"""Work with the tracks of dvc.yaml: run DVC, list what it stores of a track, put artefacts on Snakemake's record."""

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
    """Return the stage of a config in dvc.yaml. Errors: ConfigError when it has none."""
    tracks = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]["track"]["foreach"]
    if Path(tracks.get(config.name, "")) != Path(path):
        raise ConfigError(f"dvc.yaml: no track `{config.name}: {path}` under stages.track.foreach; add it there")
    return f"track@{config.name}"


def dvc(*arguments: str) -> bool:
    """Run DVC as on the command line; returns False, and prints a line, when it fails."""
    if subprocess.run([sys.executable, "-m", "dvc", *arguments], check=False).returncode == 0:
        return True
    console.say(f"error: `dvc {' '.join(arguments)}` failed; its own message is above")
    return False


def pushed(track: str) -> list[dict[str, str]]:
    """Return the outputs of a track in dvc.lock. Errors: ConfigError when it has none."""
    lock = Path("dvc.lock")
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"] if lock.exists() else {}
    if track not in stages:
        raise ConfigError(f"dvc.lock has no {track} at this commit: nobody has pushed it yet; `make push` does")
    outs: list[dict[str, str]] = stages[track]["outs"]
    return outs


def listing(track: str) -> dict[Path, Path]:
    """Return, for every file of a track, its object in DVC's cache."""
    cache = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True, check=True)
    objects = Path(cache.stdout.strip(), "files", "md5")
    objects_of = {}
    for out in pushed(track):
        folder = objects / out["md5"][:2] / out["md5"][2:]
        for row in json.loads(folder.read_text(encoding="utf-8")):
            objects_of[Path(out["path"], row["relpath"])] = objects / row["md5"][:2] / row["md5"][2:]
    return objects_of


def on_record(folders: Iterable[Path], config_path: str) -> bool:
    """Put only these artefacts on Snakemake's record; returns False, and prints its message, when it refuses."""
    seals = [str(folder / SEAL) for folder in folders]
    command = [sys.executable, "-m", "snakemake", "--touch", "--force", "--config", f"experiment={config_path}", "--"]
    result = subprocess.run([*command, *seals], capture_output=True, text=True, check=False)
    if result.returncode:
        console.say(f"error: {(result.stdout + result.stderr).strip()}")
    return result.returncode == 0
