"""Audio longer than the encoder's window: the stages and `transcribe` cut it in the same pauses and say the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from concertina import config, features, segments, transcribe
from concertina.model import answering, batching, encoding, lalm, windows
from concertina.store import sealing, shards
from helpers import tiny_run
from helpers.artefacts import folder_of

SPLIT = ("t", "synthetic", "dev")
SECONDS = {"short": 1.0, "long": 13.0, "longer": 17.3}


def wave(id: str) -> np.ndarray:
    return np.random.default_rng(len(id)).normal(0, 3000, int(SECONDS[id] * 16_000)).astype(np.int16)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the features and segments of a split, on a base whose window is 5 s."""
    folder = tmp_path_factory.mktemp("long")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        overlay = tiny_run.write(folder)
        with sealing.sealed(folder_of("data", *SPLIT), {"run_key": "0" * 16}) as data:
            writer = shards.Writer(data, "int16", None, 2**20)
            for id in SECONDS:
                writer.add(id, wave(id))
            writer.close()
            rows = [{"id": id, "text": "one", "language": "en", "duration_s": s} for id, s in SECONDS.items()]
            (data / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        where = ["--config", str(overlay), "--corpus", "synthetic", "--split", "dev"]
        assert features.main(where) == 0
        for cell in ("none-1", "average-3"):
            assert segments.main([*where, "--cell", cell]) == 0
    return folder


@pytest.fixture(autouse=True)
def _there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)


def test_the_stages_answer_what_transcribe_answers() -> None:
    experiment = config.load("t.yaml")
    model = lalm.load(experiment.base, encoder=True, llm=True, device="cpu")
    prompt = lalm.prompt_ids(model, experiment.base, "transcribe", "en", None)
    method = transcribe.choose(experiment, "none", "1", None, {})
    items = batching.items(model, experiment, experiment.evaluate.sets[0], tiny_run.speech("dev", "none-1"))
    counted: list[int] = []
    answers = answering.answers(model, experiment, items, 2, counted.append)
    assert sum(counted) == len(SECONDS)
    for id, answer in zip(SECONDS, answers, strict=True):
        heard = transcribe.transcribe(model, experiment, wave(id), method, prompt)
        assert answer.text == heard.text
        assert heard.windows == (1 if id == "short" else len(tiny_run.speech("dev", "none-1").windows[id]))


def test_pieces_hold_every_frame_once_and_end_where_a_token_ends() -> None:
    speech = tiny_run.speech("dev")
    assert list(speech.windows) == ["long", "longer"]
    for at, id in enumerate(SECONDS):
        if id in speech.windows:
            pieces = windows.Pieces(speech, at)
            frames_TD, whole = speech.read([at])
            read_TD, cut = pieces.read(range(len(pieces.rows)))
            assert torch.equal(read_TD, frames_TD)
            assert torch.equal(cut.lengths_N, whole.lengths_N)
            wanted = encoding.frame_lengths(speech.windows[id]).cumsum(0)
            assert (pieces.lengths_B.cumsum(0) - wanted).abs().max() <= 2
            assert pieces.lengths_B.sum() == speech.lengths_B[at]
            assert sum(row["duration_s"] for row in pieces.rows) == pytest.approx(SECONDS[id], abs=0.1)
