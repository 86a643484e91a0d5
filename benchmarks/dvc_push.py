"""What keeping and pushing costs: DVC's commit to its cache and its push to a folder remote, beside hashing alone.

    python benchmarks/dvc_push.py [--gib 10] [--shard-mib 64] [--folder /tmp]

Writes shards of frames' size with random bytes into a repository of their own in a temporary folder of `--folder`,
which needs 3.2 times the size free, and removes them. Prints one JSON: seconds and MB/s of SHA-256 (our seals) and
MD5 (DVC's names) on one core, of a plain copy with sync (the disk), of `dvc add` and of `dvc push`; the processor
time of each, so that other work on the machine counts little; and ratios of the two.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def main() -> int:
    """Print one JSON row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=10, help="of shards (default 10)")
    parser.add_argument("--shard-mib", type=int, default=64, help="of one shard, as features.shard_mib (default 64)")
    parser.add_argument("--folder", type=Path, help="where to work (default: the system's place for temporary files)")
    args = parser.parse_args()
    count = max(1, round(args.gib * 1024 / args.shard_mib))
    needed = 3.2 * count * args.shard_mib * 2**20
    free = shutil.disk_usage(args.folder or tempfile.gettempdir()).free
    if free < needed:
        parser.error(f"{needed / 2**30:.1f} GiB are needed there and {free / 2**30:.1f} are free; lower --gib")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        print(json.dumps(measure(Path(folder), count, args.shard_mib * 2**20), indent=1))
    return 0


def measure(folder: Path, count: int, shard_bytes: int) -> dict[str, object]:
    """The figures of `count` shards in `folder`."""
    repository = folder / "repository"
    repository.mkdir()
    for command in (
        ["git", "init", "--quiet"],
        dvc("init", "--quiet"),
        dvc("config", "core.analytics", "false"),
        dvc("config", "core.check_update", "false"),
        dvc("remote", "add", "--quiet", "--default", "shelf", str(folder / "shelf")),
    ):
        subprocess.run(command, cwd=repository, check=True)
    shards = write(repository / "features", count, shard_bytes)
    total = count * shard_bytes
    taken = {
        "sha256": seconds(lambda: hash_all(shards, "sha256")),
        "md5": seconds(lambda: hash_all(shards, "md5")),
        "copy": seconds(lambda: copy_all(shards, folder / "copy")),
    }
    shutil.rmtree(folder / "copy")
    taken["dvc_add"] = seconds(lambda: subprocess.run(dvc("add", "--quiet", "features"), cwd=repository, check=True))
    taken["dvc_push"] = seconds(lambda: subprocess.run(dvc("push", "--quiet"), cwd=repository, check=True))
    pushed = sum(path.stat().st_size for path in (folder / "shelf").rglob("*") if path.is_file())
    assert pushed >= total, f"only {pushed} of {total} bytes were pushed"
    wall, cpu = ({name: max(one[k], 0.01) for name, one in taken.items()} for k in (0, 1))  # what the clock shows
    return {
        "gib": total / 2**30,
        "shards": count,
        "seconds": wall,
        "cpu_seconds": cpu,
        "mb_per_s": {name: round(total / value / 1e6) for name, value in wall.items()},
        "push_over_copy": round(wall["dvc_push"] / wall["copy"], 2),
        "push_over_sha256": round(wall["dvc_push"] / wall["sha256"], 2),
        "add_over_md5_and_copy": round(wall["dvc_add"] / (wall["md5"] + wall["copy"]), 2),
        "push_over_sha256_cpu": round(cpu["dvc_push"] / cpu["sha256"], 2),
        "add_over_md5_cpu": round(cpu["dvc_add"] / cpu["md5"], 2),
    }


def dvc(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def write(folder: Path, count: int, shard_bytes: int) -> list[Path]:
    """Shards of random bytes, each different from every other, synced."""
    folder.mkdir()
    draw, paths = np.random.default_rng(0), []
    for number in range(count):
        paths.append(folder / f"shard-{number:05d}.safetensors")
        with open(paths[-1], "wb") as file:
            file.write(draw.bytes(shard_bytes))
            file.flush()
            os.fsync(file.fileno())
    return paths


def hash_all(paths: list[Path], name: str) -> None:
    for path in paths:
        with open(path, "rb") as file:
            hashlib.file_digest(file, name)


def copy_all(paths: list[Path], folder: Path) -> None:
    """Copy and sync each file: what the disk takes."""
    folder.mkdir()
    for path in paths:
        shutil.copyfile(path, folder / path.name)
        with open(folder / path.name, "rb") as file:
            os.fsync(file.fileno())


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor time of some work and its processes, until what it wrote is on the disk."""
    wall, cpu = time.monotonic(), sum(os.times()[:4])
    work()
    os.sync()
    return round(time.monotonic() - wall, 2), round(sum(os.times()[:4]) - cpu, 2)


if __name__ == "__main__":
    raise SystemExit(main())
