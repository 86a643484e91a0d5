"""Make a whole experiment in a few files: a random base, made-up frames for words, and the real stages on top."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from concertina import config, segments
from concertina.model.batching import Speech
from concertina.store import sealing, shards
from helpers import tiny_model
from helpers.artefacts import folder_of

WORDS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf", "six": "sechs"}
FRAMES_PER_WORD = 5
WIDTH = 64
NAME = "t"


def write(root: Path, **changes: Any) -> Path:
    """Write a base and an overlay into `root`, the working directory; returns the overlay's path."""
    default = Path(__file__).parents[2] / "config.yaml"
    (root / "config.yaml").write_text(default.read_text(encoding="utf-8"), encoding="utf-8")
    shutil.copytree(default.parent / "reference", root / "reference", dirs_exist_ok=True)
    base = tiny_model.make(root / "base", window_s=5)
    part = {"corpus": "synthetic", "language": "en"}
    transcribe = {**part, "task": "transcribe"}
    translate = {**part, "task": "translate", "to": "de"}
    overlay: dict[str, Any] = {
        "name": NAME,
        "base": base.model_dump(),
        "features": {"dtype": "float32", "threads": 1},
        "segments": {
            "positions": "keep",
            "cells": [{"compressor": "none", "ratios": [1]}, {"compressor": "average", "ratios": [3]}],
        },
        "train": {
            "sets": [
                {
                    "name": "english",
                    "parts": [{**transcribe, "split": "train"}, {**translate, "split": "train"}],
                    "dev": [{**transcribe, "split": "dev"}],
                }
            ],
            "steps": 30,
            "batch": 8,
            "learning_rate": 1e-2,
            "warmup_steps": 4,
            "dev_every_steps": 15,
            "dev_utterances": 8,
            "precision": "float32",
            "threads": 1,
        },
        "evaluate": {
            "sets": [
                {**transcribe, "split": "dev", "name": "clean"},
                {**translate, "split": "dev", "name": "clean-en-de", "utterances": 5},
            ],
            "batch": 4,
            "threads": 1,
        },
    }
    path = root / "t.yaml"
    path.write_text(yaml.safe_dump(config.merge(overlay, changes)), encoding="utf-8")
    return path


def prepared(root: Path) -> Path:
    """Write the same, and features and segments of the splits `train` and `dev`; returns the overlay's path."""
    path = write(root)
    split(path, "train", 24, seed=1)
    split(path, "dev", 8, seed=2)
    return path


def change(overlay: Path, **train_keys: object) -> Path:
    """Change keys of `train` in the experiment; returns the overlay's path."""
    values = config.merge(yaml.safe_load(overlay.read_text(encoding="utf-8")), {"train": train_keys})
    overlay.write_text(yaml.safe_dump(values), encoding="utf-8")
    return overlay


def split(overlay: Path, name: str, utterances: int, seed: int) -> None:
    """Seal the features of a split, and the segments of every cell."""
    rng = np.random.default_rng(7)
    voices = {word: rng.normal(0, 1, WIDTH).astype(np.float32) for word in WORDS}
    rng = np.random.default_rng(seed)
    with sealing.sealed(folder_of("features", NAME, "synthetic", name), {"run_key": f"{seed:016d}"}) as folder:
        writer = shards.Writer(folder, "float32", WIDTH, 2**16)
        rows = []
        for i in range(utterances):
            words = rng.choice(list(WORDS), rng.integers(1, 5)).tolist()
            frames_TD = np.repeat([voices[word] for word in words], FRAMES_PER_WORD, axis=0)
            writer.add(f"{name}{i}", (frames_TD + rng.normal(0, 0.1, frames_TD.shape)).astype(np.float32))
            rows.append(
                {
                    "id": f"{name}{i}",
                    "text": " ".join(words),
                    "translation": {"de": " ".join(WORDS[word] for word in words)},
                    "language": "en",
                    "speaker": f"v{i % 3}",
                    "duration_s": len(frames_TD) / 25,
                    "tags": {"kind": "digits"},
                }
            )
        writer.close()
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "manifest.jsonl").write_text(lines, encoding="utf-8")
    for cell in config.load(overlay).cuts:
        where = ["--corpus", "synthetic", "--split", name, "--cell", str(cell)]
        assert segments.main(["--config", str(overlay), *where]) == 0


def speech(split: str, cell: str = "average-3") -> Speech:
    """Return a split of the working directory's experiment, as a cell cuts it."""
    where = (NAME, "synthetic", split)
    return Speech(folder_of("features", *where), folder_of("segments", *where, cell))


def train_arguments(overlay: Path, cell: str = "average-3", seed: int = 0) -> list[str]:
    """Return the command line that trains one adapter."""
    return ["--config", str(overlay), "--train-set", "english", "--cell", cell, "--seed", str(seed)]
