"""Make miniatures of the paper track's corpora in their true layouts, a tiny base, and a small form of its config."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from concertina import config
from helpers import tiny_model
from helpers.project_copy import ROOT, copy_project

PAPER = ROOT / "configs/paper.yaml"
VOICES = "corpora/cv-corpus-15.0-2023-09-08"
OLD_VOICES = "corpora/cv-corpus-4"
COLUMNS = "client_id path sentence up_votes down_votes age gender accents variant locale segment".split()
SPLITS = ("train", "dev", "test")
SENTENCES = {"zh-CN": "今天天气", "yue": "你好嗎", "fr": "Bonjour à tous", "de": "Guten Tag", "es": "Buenos días"}
PAIRS = ("en_de", "de_en", "en_zh-CN", "zh-CN_en", "es_en", "fr_en", "it_en")
ASR, TRANSLATION = "<|audio_bos|><|AUDIO|><|audio_eos|><|transcribe|>{source}", "<|AUDIO|><|translate|>{target_name}"
SMALL: dict[str, Any] = {
    "base": {
        "model": "base",
        "revision": "",
        "sha256": "",
        "prompts": {"transcribe": ASR, "translate": TRANSLATION},
    },
    "features": {"precision": "float32", "dtype": "float16"},
    "train": {"steps": 2, "batch": 2, "warmup_steps": 1, "dev_every_steps": 2, "precision": "float32", "threads": 1},
    "evaluate": {"precision": "float32", "threads": 1},
    "report": {"bootstrap_samples": 50},
}
RUN = [{"compressor": "none", "ratios": [1]}, {"compressor": "average", "ratios": [3]}]
RUN += [{"compressor": "segment", "ratios": ["natural"]}]


def make(folder: Path) -> Path:
    """Make a copy of the project with these corpora and a tiny base."""
    librispeech(folder / "corpora/LibriSpeech")
    for language in ("en", "zh-CN", "yue", "fr"):
        common_voice(folder / VOICES / language, language)
    for language in ("en", "de", "zh-CN", "es", "fr", "it"):
        common_voice(folder / OLD_VOICES / language, language)
    covost2(folder / "corpora/covost2")
    tiny_model.make(folder / "base")
    copy_project(folder)
    return folder


def wave(seconds: float, seed: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(16_000 * seconds))


def librispeech(root: Path) -> None:
    for n, split in enumerate(("train-clean-100", "dev-clean", "test-clean", "test-other")):
        folder = root / split / "84" / f"12112{n}"
        folder.mkdir(parents=True)
        lines = [f"84-12112{n}-{i:04d} GO DO YOU HEAR NUMBER {'ONE' if i else 'TWO'}\n" for i in range(3)]
        (folder / f"84-12112{n}.trans.txt").write_text("".join(lines))
        for i in range(3):
            soundfile.write(folder / f"84-12112{n}-{i:04d}.flac", wave(0.6 + 0.2 * i, i), 16_000)


def common_voice(folder: Path, language: str) -> None:
    """Write one language: two clips in each split, and validated.tsv, which CoVoST reads."""
    (folder / "clips").mkdir(parents=True)
    every = []
    for s, split in enumerate(SPLITS):
        sentence = SENTENCES.get(language, "Good morning to all")
        rows = [[f"{s}" * 128, f"c_{split}_{i}.mp3", f"{sentence} {split}", "2", "0", *[""] * 6] for i in range(2)]
        for row in rows:
            soundfile.write(folder / "clips" / row[1], wave(0.8, s), 16_000, format="MP3")
        every += rows
        (folder / f"{split}.tsv").write_text("".join("\t".join(row) + "\n" for row in [COLUMNS, *rows]))
    (folder / "validated.tsv").write_text("".join("\t".join(row) + "\n" for row in [COLUMNS, *every]))


def covost2(folder: Path) -> None:
    folder.mkdir(parents=True)
    for pair in PAIRS:
        target = pair.rpartition("_")[2]
        sentence = SENTENCES.get(target, "Good morning")
        rows = [[f"c_{split}_{i}.mp3", f"{sentence} {i}", split] for split in SPLITS for i in range(2)]
        lines = "".join("\t".join(row) + "\n" for row in [["path", "translation", "split"], *rows])
        (folder / f"covost_v2.{pair}.tsv").write_text(lines)


def overlay(**changes: Any) -> str:
    """Write the paper's config with a small base, few steps and some changes; return its path."""
    paper = yaml.safe_load(PAPER.read_text(encoding="utf-8"))
    paper["data"]["corpora"][0]["folder"] = "corpora/LibriSpeech"
    paper["gate"] |= {"prompts": {"translate": ["<|AUDIO|>{target_name}<|translate|>"]}}
    Path("small.yaml").write_text(yaml.safe_dump(config.merge(config.merge(paper, SMALL), changes)), encoding="utf-8")
    return "small.yaml"
