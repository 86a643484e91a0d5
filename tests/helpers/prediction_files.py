"""Prediction files as toolkits write them, of a system that mishears words; and the command run on them."""

import contextlib
import io
import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from concertina import cli
from concertina.corpora.synthesis import grammar
from concertina.store import predictions

SENTENCES = [one.en for one in itertools.islice(grammar.sentences("test", seed=7), 240)]
WORDS = sorted({word for text in SENTENCES for word in text.split()})


def misheard(texts: list[str], rate: float, seed: int) -> list[str]:
    """Texts of a system that substitutes, drops and inserts words at this rate."""
    draw = random.Random(seed)

    def heard(word: str) -> list[str]:
        if draw.random() >= rate:
            return [word]
        return draw.choice([[draw.choice(WORDS)], [], [word, draw.choice(WORDS)]])

    return [" ".join(itertools.chain.from_iterable(map(heard, text.split()))) for text in texts]


def run(*arguments: str) -> tuple[int, Any, str]:
    """Run the command: its exit status, the JSON or text that it printed, and its errors."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        status = cli.main(["compare", *arguments])
    printed = out.getvalue()
    return status, json.loads(printed) if "--json" in arguments and printed else printed, error.getvalue()


def jsonl(name: str, hypotheses: Sequence[str | None], texts: Sequence[str] = SENTENCES, **columns: list[Any]) -> str:
    """Write JSON lines with `text`, `pred_text` and other columns."""
    held = {"text": texts, "pred_text": hypotheses, **columns}
    rows = [dict(zip(held, row, strict=True)) for row in zip(*held.values(), strict=True)]
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def ids(count: int = len(SENTENCES)) -> list[str]:
    return [f"utt-{i:04d}" for i in range(count)]


def as_ours(name: str, hypotheses: list[str]) -> list[str]:
    facts = {"audio_tokens": 3, "frames": 9, "duration_s": 1.0, "new_tokens": 5, "cap_hit": False, "loop": False}
    texts = zip(ids(), SENTENCES, hypotheses, strict=True)
    rows: list[dict[str, Any]] = [
        {"id": i, "reference": r, "hypothesis": h, "speaker": None, "tags": {}, **facts} for i, r, h in texts
    ]
    predictions.write(Path(f"{name}.parquet"), rows)
    return [f"{name}.parquet"]


def as_json_lines(name: str, hypotheses: list[str]) -> list[str]:
    return [jsonl(f"{name}.jsonl", hypotheses, id=ids())]


def as_leaderboard(name: str, hypotheses: list[str]) -> list[str]:
    audio = [f"sample_{i}" for i in range(len(hypotheses))]
    return [jsonl(f"{name}.jsonl", hypotheses, audio_filepath=audio, duration=[1.5] * len(audio))]


def as_text(name: str, hypotheses: list[str]) -> list[str]:
    Path("references.txt").write_text("\r\n".join(SENTENCES), encoding="utf-8-sig")
    Path(f"{name}.txt").write_text("".join(f"{line}\n" for line in hypotheses), encoding="utf-8")
    return [f"{name}.txt", "--references", "references.txt"]
