"""A joined base's own Whisper: decoded as transformers decodes it, and scored on the same sets."""

import json
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
import torch

from concertina import config, metrics
from concertina.checks import whisper
from concertina.reporting.parts import evaluate_whisper
from concertina.store import records
from helpers import small_parts
from helpers.artefacts import folder_of
from helpers.small_parts import small_whisper


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a small Whisper, a small LLM, some speech, and the base that the stage makes of them."""
    folder = small_parts.make(tmp_path_factory.mktemp("joined"))
    with chdir(folder):
        yield folder


@pytest.mark.slow
def test_whisper_itself_is_scored_on_the_same_sets(project: Path) -> None:
    assert whisper.main(["--config", "joint.yaml"]) == 0
    record = records.read(folder_of("evaluate_whisper", "joint") / "record.json")
    fact = record.facts["clean"]
    lines = json.loads((folder_of("evaluate_whisper", "joint") / "clean.json").read_text(encoding="utf-8"))
    assert fact["n_utterances"] == len(lines) == 4
    wer = metrics.load("wer").score([x["reference"] for x in lines], [x["hypothesis"] for x in lines], "en").value
    assert fact["scores"]["wer"]["value"] == pytest.approx(wer)
    assert fact["scores"]["wer"]["low"] <= wer <= fact["scores"]["wer"]["high"]
    (sentence,) = evaluate_whisper.sentences([record], config.load("joint.yaml"))
    assert f"WER {wer:.1f} [" in sentence
    assert "on clean" in sentence


def test_whisper_is_decoded_as_transformers_decodes_it() -> None:
    model, start = small_whisper(), [3, 4]
    mel_BML = torch.randn(2, 80, 1000)
    expected = model.generate(
        input_features=mel_BML,
        decoder_input_ids=torch.tensor([start] * 2),
        max_new_tokens=12,
        do_sample=False,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        return_timestamps=False,
    )
    found = whisper._greedy(model, mel_BML, start, 0)
    for ours, theirs in zip(found, expected[:, len(start) :].tolist(), strict=True):
        upto = theirs.index(0) if 0 in theirs else len(theirs)
        assert ours[:upto] == theirs[:upto]
        assert upto > 0
