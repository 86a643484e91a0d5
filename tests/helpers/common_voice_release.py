"""Make a miniature of Common Voice in its true layout, with MP3 clips and odd rows, and read it as a user does."""

import functools
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from concertina import config, data
from concertina.artefacts import dag, keys
from helpers.artefacts import folder_of
from helpers.project_copy import ROOT

COLUMNS = "client_id path sentence up_votes down_votes age gender accents variant locale segment".split()
ANNE, BERT = "a" * 128, "b" * 128
ENGLISH: dict[str, list[list[str]]] = {
    "train": [
        [ANNE, "c_en_1.mp3", 'He said "no', "2", "0", "twenties", "female", "Scottish English"],
        [ANNE, "c_en_2.mp3", "\"Quoted\" and 'quoted'", "2", "0", "", "", ""],
        [BERT, "c_en_2.mp3", "The same clip again.", "2", "0", "", "", ""],
        [BERT, "c_en_404.mp3", "Nobody has this.", "2", "0", "", "", ""],
        [BERT, "c_en_3.mp3", " ", "2", "0", "", "", ""],
        [BERT, "c_en_3.mp3", "A tab\tin it.", "2", "0", "", "", ""],
        [BERT, "", "No clip.", "2", "0", "", "", ""],
        [BERT, "c_en_broken.mp3", "Broken.", "2", "0", "", "", ""],
    ],
    "dev": [[BERT, "c_en_3.mp3", "Devised.", "2", "0", "", "male", ""]],
    "test": [[BERT, "c_en_4.mp3", "Tested \\ tried.", "2", "0", "", "", ""]],
    "other": [[BERT, "c_en_5.mp3", "Unheard.", "0", "0", "", "", ""]],
}
RATES_HZ = {"c_en_1": 32_000, "c_en_2": 48_000, "c_en_3": 22_050, "c_en_4": 48_000, "c_en_5": 32_000}
REJECTED = {
    "c_en_2": "line 4: duplicate id",
    "c_en_404": "line 5: the clip c_en_404.mp3: no such file",
    "c_en_3": "line 7: 12 columns, not 11",
    "line 8": "its path is no name of a clip",
    "c_en_broken": "not audio",
}


def write(folder: Path) -> None:
    """Write the default config, and a language of Common Voice in voices/en."""
    shutil.copy(ROOT / "config.yaml", folder)
    for name, content in release().items():
        path = folder / "voices/en" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@functools.cache
def mp3(seconds: float, rate_hz: int) -> bytes:
    file = io.BytesIO()
    times_T = np.arange(round(seconds * rate_hz)) / rate_hz
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * 300 * times_T), rate_hz, format="MP3")
    return file.getvalue()


def table(columns: list[str], rows: list[list[str]]) -> bytes:
    return "".join("\t".join(row) + "\n" for row in (columns, *rows)).encode()


def release() -> dict[str, bytes]:
    """Return the files of one language by path."""
    files = {f"clips/{id}.mp3": mp3(1.0, rate_hz) for id, rate_hz in RATES_HZ.items()}
    files["clips/c_en_broken.mp3"] = b"no MP3"
    validated = [row for split in ("train", "dev", "test") for row in ENGLISH[split]]
    for split, rows in {**ENGLISH, "validated": validated}.items():
        files[f"{split}.tsv"] = table(COLUMNS, [[*row, "", "en", ""] for row in rows])
    files["clip_durations.tsv"] = b"clip\tduration[ms]\nc_en_1.mp3\t1000\nc_en_2.mp3\t2000\n"
    return files


def configure(**entry: Any) -> str:
    """Write an overlay with one more corpus, called mine, and return its path."""
    default = {"name": "synthetic", "splits": {"clean": {"en": 1}}}
    overlay = {"name": "test", "data": {"corpora": [default, {"name": "mine", **entry}]}}
    Path("mine.yaml").write_text(json.dumps(overlay))
    return "mine.yaml"


def english(**options: Any) -> str:
    folder = {} if "archive" in options else {"folder": "voices/en"}
    return configure(kind="common_voice", language="en", **folder, **options)


def run(overlay: str, split: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read a split as a user does, and return its rows and its rejects."""
    assert data.main(["--config", overlay, "--corpus", "mine", "--split", split, "--jobs", "1"]) == 0
    folder = folder_of("data", "test", "mine", split)
    return rows_of(folder, "manifest.jsonl"), rows_of(folder, "rejects.jsonl")


def rows_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def refused(overlay: str, capsys: pytest.CaptureFixture[str], split: str = "train") -> str:
    """Return the last line on the console when a split cannot be read."""
    assert data.main(["--config", overlay, "--corpus", "mine", "--split", split, "--jobs", "1"]) == 1
    return capsys.readouterr().err.splitlines()[-1]


def key(overlay: str, split: str = "train") -> str:
    settings = config.load(overlay)
    return keys.run_key(dag.key(settings, dag.artefact(settings, "data", corpus="mine", split=split)))


def archive(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
