"""The train stage: it learns, writes peft's own layout, repeats itself to the byte, and says when it failed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from concertina import config, train
from concertina.model import batching, lalm
from concertina.store import folders, records, sealing
from concertina.tracking import runs
from concertina.training import order
from helpers import tiny_run
from helpers.artefacts import folder_of

ADAPTER = "adapter_model.safetensors"


@pytest.fixture
def overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tiny_run.prepared(tmp_path)


def test_the_loss_falls_and_the_folder_is_complete(overlay: Path) -> None:
    assert train.main(tiny_run.train_arguments(overlay)) == 0
    folder = folder_of("train", "t", "english", "average-3-keep", 0)
    assert len(sealing.verify(folder)["run_key"]) == 16
    curve = [json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [row for row in curve if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 31))
    assert set(steps[0]) == {"step", "loss", "learning_rate", "utterances_per_second"}
    measured = [row for row in curve if "dev_loss" in row]
    assert [row["step"] for row in measured] == [0, 15, 30]
    assert all(set(row) == {"step", "dev_loss", "wer/synthetic/dev/en"} for row in measured)
    assert measured[-1]["wer/synthetic/dev/en"] < 0.7 * measured[0]["wer/synthetic/dev/en"]
    assert sum(row["loss"] for row in steps[-5:]) < 0.7 * sum(row["loss"] for row in steps[:5])
    described = json.loads((folder / "compressor.json").read_text(encoding="utf-8"))
    assert described == {
        "base": config.load(overlay).base.sha256,
        "name": "average",
        "ratio": "3",
        "options": {},
        "positions": "keep",
        "pool_at": "encoder",
    }
    record = records.read(folder / "record.json")
    drawn = [(part["task"], part["utterances"], part["draws"]) for part in record.facts["drawn"]]
    assert drawn == [("transcribe", 24, 120), ("translate", 24, 120)]
    assert (record.stage, record.status, record.seed) == ("train", "ok", 0)
    assert record.facts["dev_loss"] < record.facts["zero_shot_dev_loss"]
    assert record.facts["wer/synthetic/dev/en"] == measured[-1]["wer/synthetic/dev/en"]
    assert record.facts["zero_shot_wer/synthetic/dev/en"] == measured[0]["wer/synthetic/dev/en"]


def test_the_adapter_is_pefts_own_and_leaves_the_encoder_alone(overlay: Path) -> None:
    train.main(tiny_run.train_arguments(overlay))
    folder = folder_of("train", "t", "english", "average-3-keep", 0)
    weights = load_file(folder / ADAPTER)
    assert weights
    assert all("language_model" in name and "audio_tower" not in name for name in weights)
    experiment = config.load(overlay)
    model = lalm.load(experiment.base, encoder=True, llm=True, device="cpu")
    dev = batching.items(model, experiment, experiment.evaluate.sets[0], tiny_run.speech("dev"))
    with torch.inference_mode():
        inputs = batching.batch(model, experiment, dev, answers=True)
        before = lalm.loss(model, inputs)
        peft.PeftModel.from_pretrained(model.model, folder)
        assert lalm.loss(model, inputs) < before


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "steps"), [("float32", 10), ("bfloat16", 2)])
def test_a_second_run_makes_the_same_bytes(overlay: Path, precision: str, steps: int) -> None:
    tiny_run.change(overlay, precision=precision, steps=steps)
    folder = folder_of("train", "t", "english", "average-3-keep", 0)
    made = []
    for _ in range(2):
        train.main(tiny_run.train_arguments(overlay))
        losses = [
            {k: v for k, v in json.loads(line).items() if k != "utterances_per_second"}
            for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        made.append(((folder / ADAPTER).read_bytes(), (folder / "adapter_config.json").read_bytes(), losses))
    assert made[0] == made[1]


def test_every_compressor_sees_the_same_items_in_the_same_order() -> None:
    lengths = np.random.default_rng(0).integers(20, 200, 48).tolist()
    first = list(order.batches([lengths], [1.0], 8, 20, seed=3))
    assert first == list(order.batches([lengths], [1.0], 8, 20, seed=3))
    assert first != list(order.batches([lengths], [1.0], 8, 20, seed=4))
    assert sorted(i for batch in first[:6] for i in batch) == list(range(48))
    assert first[:5] == list(order.batches([lengths], [1.0], 8, 5, seed=3))
    padded = sum(8 * max(lengths[i] for i in batch) for batch in first)
    assert padded < 1.2 * sum(lengths[i] for batch in first for i in batch)
    assert len({len(batch) for batch in order.batches([lengths[:5]], [1.0], 8, 9, seed=3)}) == 1


def test_parts_are_drawn_by_their_shares_and_not_by_their_lengths() -> None:
    parts = [np.random.default_rng(n).integers(20, 200, n).tolist() for n in (500, 30, 4)]
    steps = list(order.batches(parts, [1.0, 1.0, 2.0], 8, 2 * order.SHELF, seed=0))
    assert steps[: order.SHELF] == list(order.batches(parts, [1.0, 1.0, 2.0], 8, order.SHELF, seed=0))
    for shelves in (1, 2):
        drawn = np.concatenate(steps[: shelves * order.SHELF])
        counts = [np.isin(drawn, np.arange(a, b)).sum() for a, b in ((0, 500), (500, 530), (530, 534))]
        assert counts == [32 * shelves, 32 * shelves, 64 * shelves]
    of_second, times = np.unique(drawn[np.isin(drawn, np.arange(500, 530))], return_counts=True)
    assert len(of_second) == 30
    assert set(times) == {2, 3}, "a part is gone through before any of its items comes again"


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_a_failed_record(
    overlay: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_run.change(overlay, learning_rate=1e30, clip_norm=1e30, warmup_steps=0)
    assert train.main(tiny_run.train_arguments(overlay)) == 1
    told = capsys.readouterr().err
    assert "error: the loss became nan at step" in told
    assert "lower train.learning_rate" in told
    assert not folder_of("train", "t", "english", "average-3-keep", 0).exists()
    failure = records.read(folders.failure("t", "train", "english/average-3-keep/seed0"))
    assert isinstance(failure, records.Failure)
    assert "nan" in failure.error
    assert (failure.train_set, failure.compressor, failure.ratio, failure.seed) == ("english", "average", "3", 0)
    assert len(failure.run_key) == 16
    tiny_run.change(overlay, learning_rate=1e-3, clip_norm=1.0, steps=2)
    assert train.main(tiny_run.train_arguments(overlay)) == 0
    assert not folders.failure("t", "train", "english/average-3-keep/seed0").exists()


def test_an_adapter_that_is_saved_as_another_stops_the_run(
    overlay: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = peft.PeftModel.save_pretrained

    def falsify(model: peft.PeftModel, folder: str, **options: Any) -> None:
        save(model, folder, **options)
        weights = load_file(Path(folder) / ADAPTER)
        save_file({name: 2 * weight for name, weight in weights.items()}, Path(folder) / ADAPTER)

    tiny_run.change(overlay, steps=3)
    monkeypatch.setattr(peft.PeftModel, "save_pretrained", falsify)
    assert train.main(tiny_run.train_arguments(overlay)) == 1
    assert "the saved adapter is not the trained one" in capsys.readouterr().err
    assert not folder_of("train", "t", "english", "average-3-keep", 0).exists()


def test_an_adapter_that_learned_nothing_stops_the_run(overlay: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_run.change(overlay, steps=3, learning_rate=1e-30)
    assert train.main(tiny_run.train_arguments(overlay)) == 1
    assert "the saved adapter changes nothing" in capsys.readouterr().err
    assert not folder_of("train", "t", "english", "average-3-keep", 0).exists()


def test_a_training_set_may_have_a_learning_rate_of_its_own(overlay: Path) -> None:
    (learnt,) = config.load(overlay).train.sets
    tiny_run.change(overlay, steps=2, warmup_steps=0, sets=[{**learnt.model_dump(mode="json"), "learning_rate": 3e-3}])
    assert train.main(tiny_run.train_arguments(overlay)) == 0
    record = records.read(folder_of("train", "t", "english", "average-3-keep", 0) / "record.json")
    assert record.facts["learning_rate"] == 3e-3
    assert runs.params(record.model_dump(mode="json"))["train.learning_rate"] == "0.003"


def test_lines_of_progress_name_the_adapter(overlay: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(tiny_run.train_arguments(tiny_run.change(overlay, steps=2))) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "utterances" in line]
    assert line.startswith("english/average-3-keep/seed0: 16/16 utterances, ")
    assert "step 2, loss " in line


def test_an_unknown_target_is_named(overlay: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_run.change(overlay, lora={"targets": ["q_proj", "query"]})
    assert train.main(tiny_run.train_arguments(overlay)) == 1
    assert "no 'query'" in capsys.readouterr().err


def test_a_flipped_byte_in_a_feature_shard_stops_the_run(overlay: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = next(folder_of("features", "t", "synthetic", "train").glob("*.safetensors"))
    damaged = bytearray(shard.read_bytes())
    damaged[-3] ^= 1
    shard.write_bytes(damaged)
    assert train.main(tiny_run.train_arguments(overlay)) == 1
    assert str(shard) in capsys.readouterr().err
