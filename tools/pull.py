"""Bring back the artefacts of a track: `dvc pull`, then see what may be used.

    python tools/pull.py --config config.yaml

What is whole and belongs to the present config and code is put on Snakemake's record, so that nothing of it is made
again. What is damaged, or was made by another config or code, is listed with the reason and removed: the next run
makes it. A damaged file also leaves DVC's cache, so that the next pull fetches it anew.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import artefacts
import push
import run
import yaml

from concertina import console
from concertina.config import load
from concertina.layout import SEAL


@console.run
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config.yaml")
    chosen = parser.parse_args(argv)
    config = load(chosen.config)
    track = push.stage(config, chosen.config)
    if not run.hold():
        return 1
    if subprocess.run([*push.DVC, "pull", track], check=False).returncode:
        console.say("error: `dvc pull` failed, see above; what it left is neither checked nor on record")
        return 1
    damaged = artefacts.troubles(config)
    others = artefacts.strangers(config)
    forget((trouble.file for trouble in damaged), track)
    for folder in {trouble.remove for trouble in damaged if trouble.make} | set(others):
        shutil.rmtree(folder) if folder.is_dir() else folder.unlink(missing_ok=True)
    kept = [artefact.folder for artefact in artefacts.of(config) if (artefact.folder / SEAL).exists()]
    if kept and not on_record(kept, chosen.config):
        return 1
    for folder in others:
        console.say(f"{folder} was made by another config or code; removed: the next run makes it")
    console.say(f"{config.name}: {len(kept)} artefacts are whole, belong to this config and code, and are on record")
    if damaged:
        artefacts.tell(damaged, chosen.config)
        console.say("error: what is named above was damaged or missing; it was removed, here and from DVC's cache")
    return int(bool(damaged))


def on_record(folders: Iterable[Path], config_path: str) -> bool:
    """Let Snakemake take finished artefacts for its own, and nothing else; False, and its words, when it does not."""
    seals = [str(folder / SEAL) for folder in folders]
    command = [sys.executable, "-m", "snakemake", "--touch", "--force", "--config", f"experiment={config_path}", "--"]
    done = subprocess.run([*command, *seals], capture_output=True, text=True, check=False)
    if done.returncode:
        console.say(f"error: {(done.stdout + done.stderr).strip()}")
    return done.returncode == 0


def forget(files: Iterable[Path], track: str) -> None:
    """Remove the objects of damaged files from DVC's cache."""
    where = subprocess.run([*push.DVC, "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    objects = Path(where, "files", "md5")
    lock = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))
    known = {}
    for out in lock["stages"][track]["outs"]:
        listing = objects / out["md5"][:2] / out["md5"][2:]
        known |= {Path(out["path"], row["relpath"]): row["md5"] for row in json.loads(listing.read_bytes())}
    for md5 in (known[file] for file in files if file in known):
        (objects / md5[:2] / md5[2:]).unlink(missing_ok=True)


if __name__ == "__main__":
    raise SystemExit(main())
