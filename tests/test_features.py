"""The features stage: equal to the stock padded encoder, windows joined, damage and NaN told, nothing reordered."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from concertina import features
from concertina.config import Base
from concertina.model import encoder, encoding, lalm
from concertina.model.lalm import Lalm
from concertina.store import jsonl, sealing, shards
from helpers import tiny_model
from helpers.artefacts import folder_of

DEFAULT = Path(__file__).parents[1] / "config.yaml"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    torch.set_num_threads(1)
    return tiny_model.make(tmp_path_factory.mktemp("base"), window_s=5)


@pytest.fixture(scope="module")
def model(base: Base) -> Lalm:
    return lalm.load(base, encoder=True, llm=True, device="cpu")


def noise(seconds: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3000, int(seconds * 16_000)).astype(np.int16)


@torch.inference_mode()
def stock(model: Lalm, wave: np.ndarray) -> np.ndarray:
    """The encoder's own padded forward, with the mask that Qwen2AudioModel builds, at the valid frames."""
    from transformers.masking_utils import create_bidirectional_mask

    tower = model.encoder
    window = encoder.window_samples(tower)
    out = model.feature_extractor(
        wave.astype(np.float32) / 32768, sampling_rate=16_000, return_attention_mask=True, return_tensors="pt"
    )
    positions, frames = tower._get_feat_extract_output_lengths(out["attention_mask"].sum(-1))
    valid = (torch.arange(window // 320)[None] < positions[:, None]).long()
    mask = create_bidirectional_mask(tower.config, inputs_embeds=torch.zeros(1, window // 320, 1), attention_mask=valid)
    return tower(out["input_features"], attention_mask=mask).last_hidden_state[0, : int(frames)].numpy()


def test_true_length_equals_the_stock_padded_forward(model: Lalm) -> None:
    waves = [noise(s, i) for i, s in enumerate([0.31, 1.0, 2.345, 4.99, 5.0, 3.3])]
    for wave, frames_TD in zip(waves, encoding.encode(model, waves, 8 * 16_000), strict=True):
        expected_TD = stock(model, wave)
        assert frames_TD.shape == expected_TD.shape
        assert np.abs(frames_TD - expected_TD).max() < 1e-4


def test_long_audio_is_encoded_window_by_window_and_joined(model: Lalm) -> None:
    long = noise(12.0, 7)
    (joined_TD,) = encoding.encode(model, [long], 120 * 16_000)
    parts = encoding.encode(model, [long[start:stop] for start, stop in encoding.windows(long, 80_000)], 120 * 16_000)
    assert len(parts) >= 3
    assert abs(len(joined_TD) - 300) <= len(parts)
    assert np.abs(joined_TD - np.concatenate(parts)).max() < 1e-5


def test_windows_are_cut_at_the_quietest_place() -> None:
    samples_T = np.full(16_000 * 12, 1000, dtype=np.int16)
    for second in (4.0, 7.5):
        samples_T[int(16_000 * second) : int(16_000 * (second + 0.3))] = 3
    spans = encoding.windows(samples_T, 16_000 * 5)
    assert [stop for _, stop in spans[:-1]] == [spans[i + 1][0] for i in range(len(spans) - 1)]
    assert spans[0][0] == 0
    assert spans[-1][1] == len(samples_T)
    assert all(0 < stop - start <= 16_000 * 5 for start, stop in spans)
    assert 4.0 < spans[0][1] / 16_000 < 4.3
    assert 7.5 < spans[1][1] / 16_000 < 7.8
    assert encoding.windows(samples_T[:100], 16_000) == [(0, 100)]


@pytest.mark.parametrize("samples", [0, 1, 159, 400, 640])
def test_the_shortest_audio_has_one_frame(model: Lalm, samples: int) -> None:
    (frames_TD,) = encoding.encode(model, [noise(1, 1)[:samples]], 16_000)
    assert frames_TD.shape == (1, 64)
    assert np.isfinite(frames_TD).all()


def test_batches_hold_every_utterance_once_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 300).tolist()
    groups = list(encoding.batches(lengths, 500))
    assert sorted(i for group in groups for i in group) == list(range(300))
    assert all(len(group) * max(lengths[i] for i in group) <= 500 for group in groups)
    assert list(encoding.batches([900, 5], 500)) == [[1], [0]]


Workshop = Callable[..., list[str]]


@pytest.fixture
def workshop(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A folder with a config and a sealed data split of a few utterances; returns the stage's arguments."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(DEFAULT.read_text(encoding="utf-8"), encoding="utf-8")

    def make(waves: list[np.ndarray], **base_changes: str) -> list[str]:
        overlay = {
            "name": "t",
            "base": {**base.model_dump(), **base_changes},
            "features": {"threads": 1, "dtype": "float32", "batch_seconds": 6},
        }
        (tmp_path / "t.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
        with sealing.sealed(folder_of("data", "t", "synthetic", "dev"), {"run_key": "0" * 16}) as folder:
            writer = shards.Writer(folder, "int16", None, 2**20)
            rows = [{"id": f"u{i}", "duration_s": len(wave) / 16_000} for i, wave in enumerate(waves)]
            for row, wave in zip(rows, waves, strict=True):
                writer.add(str(row["id"]), wave)
            writer.close()
            (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return ["--config", "t.yaml", "--corpus", "synthetic", "--split", "dev"]

    return make


def test_the_stage_stores_frames_in_the_manifests_order(
    workshop: Workshop, model: Lalm, capsys: pytest.CaptureFixture[str]
) -> None:
    waves = [noise(s, i) for i, s in enumerate([2.0, 0.5, 7.0, 1.0, 0.01])]
    assert features.main(workshop(waves)) == 0
    folder = folder_of("features", "t", "synthetic", "dev")
    seal = sealing.verify(folder)
    assert len(seal["run_key"]) == 16
    told = "1 of 5 utterances are longer than the encoder's window of 5 s; they are cut in their pauses"
    assert told in capsys.readouterr().err
    frames = shards.Reader(folder)
    assert frames.ids == [row["id"] for row in jsonl.read(folder / "manifest.jsonl")] == ["u0", "u1", "u2", "u3", "u4"]
    for i, expected_TD in enumerate(encoding.encode(model, waves, 6 * 16_000)):
        assert np.abs(frames.one(i) - expected_TD).max() < 1e-5
    assert list(seal["windows"]) == ["u2"]
    assert sum(seal["windows"]["u2"]) == 7 * 16_000


def test_the_stage_makes_the_same_bytes_twice(workshop: Workshop) -> None:
    arguments = workshop([noise(s, i) for i, s in enumerate([2.0, 0.5, 3.0])])
    features.main(arguments)
    first = sealing.read_seal(folder_of("features", "t", "synthetic", "dev"))
    features.main(arguments)
    assert sealing.read_seal(folder_of("features", "t", "synthetic", "dev")) == first


def test_a_flipped_byte_in_the_data_stops_the_stage(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = workshop([noise(1.0, 1)])
    shard = next(folder_of("data", "t", "synthetic", "dev").glob("*.safetensors"))
    damaged = bytearray(shard.read_bytes())
    damaged[-10] ^= 1
    shard.write_bytes(damaged)
    assert features.main(arguments) == 1
    assert "damaged" in capsys.readouterr().err
    assert not folder_of("features", "t", "synthetic", "dev").exists()


def test_nan_names_the_utterance(
    workshop: Workshop, base: Base, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    tiny_model.make(broken, window_s=5)
    weights = load_file(broken / "model.safetensors")
    name = next(n for n in weights if n.endswith("audio_tower.layer_norm.weight"))
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    assert features.main(workshop([noise(1.0, 1)], model=os.fspath(broken), sha256="")) == 1
    message = capsys.readouterr().err
    assert "u0" in message
    assert "NaN" in message
    assert not folder_of("features", "t", "synthetic", "dev").exists()
