"""The stage segments, end to end over a small feature store."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from concertina import config, segments
from concertina.artefacts import layout
from concertina.compressors import average
from concertina.compressors._segments import Segments
from concertina.config import ratio_text
from concertina.store import records, sealing
from concertina.store.shards import Reader, Writer

LENGTHS = [40, 1, 2, 133, 75, 7]
STAGE = ["--corpus", "synthetic", "--split", "clean"]


def write_features(values: list[np.ndarray], dtype: str = "float16") -> Path:
    folder = layout.features("tiny", "synthetic", "clean")
    with sealing.sealed(folder, {"run_key": "0" * 16}) as temporary:
        writer = Writer(temporary, dtype, 16, 2**12)
        for i, frames in enumerate(values):
            writer.add(f"utterance-{i}", frames)
        writer.close()
    return folder


def frames() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((length, 16)).astype(np.float32) for length in LENGTHS]


@pytest.fixture
def features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the default config and sealed features in it."""
    shutil.copy(Path(__file__).parents[1] / "config.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return write_features(frames())


def run(compressor: str, ratio: str, *more: str) -> int:
    return segments.main([*STAGE, "--compressor", compressor, "--ratio", ratio, *more])


def made(compressor: str, ratio: str) -> dict[str, torch.Tensor]:
    return load_file(layout.segments("tiny", "synthetic", "clean", compressor, ratio) / segments.FILE)


CELLS = [(cell.compressor, ratio_text(ratio)) for cell in config.load().segments.cells for ratio in cell.ratios]


@pytest.mark.parametrize(("compressor", "ratio"), CELLS)
def test_default_cell(features: Path, compressor: str, ratio: str) -> None:
    assert run(compressor, ratio) == 0
    tensors = made(compressor, ratio)
    assert tensors["frames_B"].tolist() == LENGTHS
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        "lengths_N": torch.int32,
        "counts_B": torch.int32,
        "weights_T": torch.float32,
        "frames_B": torch.int32,
    } | ({"peaks_B": torch.int32} if compressor == "segment" else {})
    tokens = tensors["lengths_N"].split(tensors["counts_B"].tolist())
    assert [int(lengths.sum()) for lengths in tokens] == LENGTHS
    if ratio != "natural":
        assert tensors["counts_B"].tolist() == [-(-length // int(ratio)) for length in LENGTHS]
    seal = sealing.verify(layout.segments("tiny", "synthetic", "clean", compressor, ratio))
    assert seal["realised_ratio"] == pytest.approx(sum(LENGTHS) / len(tensors["lengths_N"]))
    assert (seal["peak_share"] is not None) == (compressor == "segment")
    assert len(seal["run_key"]) == 16


def test_a_compressor_that_breaks_its_contract_is_named_and_leaves_a_failed_record(
    features: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def greedy(frames_TD: torch.Tensor, lengths_B: torch.Tensor, *_: object, **__: object) -> Segments:
        return Segments(lengths_B, torch.ones_like(lengths_B), torch.ones(len(frames_TD)))

    monkeypatch.setattr(average, "segment", greedy)
    assert run("average", "3") == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: compressor average breaks its contract: the weights of a token's frames sum to 1")
    assert not layout.segments("tiny", "synthetic", "clean", "average", "3").exists()
    failure = records.read(layout.failure("tiny", "segments", "synthetic/clean/average-3"))
    assert isinstance(failure, records.Failure)
    assert failure.error.startswith("ContractError: compressor average breaks its contract")


def test_natural_cuts_are_all_peaks(features: Path) -> None:
    run("segment", "natural")
    run("segment", "2")
    natural, twice = (
        sealing.read_seal(layout.segments("tiny", "synthetic", "clean", "segment", r)) for r in ("natural", "2")
    )
    assert natural["peak_share"] == 1
    assert 0.5 < twice["peak_share"] < 1


@pytest.mark.parametrize("compressor", ["segment", "random"])
def test_batches_do_not_matter(features: Path, monkeypatch: pytest.MonkeyPatch, compressor: str) -> None:
    run(compressor, "3")
    at_once = made(compressor, "3")
    monkeypatch.setattr(segments, "BATCH_FRAMES", 1)
    run(compressor, "3")
    assert all(torch.equal(at_once[name], tensor) for name, tensor in made(compressor, "3").items())


def test_order_of_the_split_does_not_matter_to_random(features: Path) -> None:
    reader, cell = Reader(features), config.load().cell("random", "3")
    forwards = segments.seeds(reader.ids, 0)
    assert torch.equal(segments.seeds(reader.ids[::-1], 0), forwards.flip(0))
    assert not torch.equal(segments.seeds(reader.ids, 1), forwards)
    assert cell.ratios == [3.0]


def test_bfloat16_store(features: Path) -> None:
    write_features(frames(), dtype="bfloat16")
    assert run("segment", "3") == 0


def test_store_without_utterances(features: Path) -> None:
    write_features([])
    assert run("segment", "3") == 0
    assert made("segment", "3")["lengths_N"].tolist() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["average", "5"], "segments.cells has no average at ratio 5"),
        (["nothing", "3"], "segments.cells has no nothing at ratio 3"),
    ],
)
def test_cell_that_is_not_in_the_grid(
    features: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(*arguments) == 1
    assert f"error: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("{compressor: avrage, ratios: [3]}", "'avrage' has no file"),
        ("{compressor: avrage, ratios: [3]}", "did you mean 'average'?"),
        ("{compressor: sample, ratios: [3], options: {phas: 1}}", "has no option 'phas' (did you mean 'phase'?)"),
        ("{compressor: sample, ratios: [3], options: {phase: 7}}", "from 0 to below 3; got 7"),
    ],
)
def test_cell_that_cannot_be_made(features: Path, capsys: pytest.CaptureFixture[str], cell: str, message: str) -> None:
    Path("other.yaml").write_text(f"segments: {{cells: [{cell}]}}\n")
    assert run(cell.split()[1].rstrip(","), "3", "--config", "other.yaml") == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("compressor", "pattern"), [("segment", "*.safetensors"), ("average", "index.json")])
def test_flipped_byte_is_found_in_what_is_read(
    features: Path, capsys: pytest.CaptureFixture[str], compressor: str, pattern: str
) -> None:
    path = sorted(features.glob(pattern))[0]
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert run(compressor, "3") == 1
    assert f"{path} is damaged" in capsys.readouterr().err


def test_only_compressors_that_look_at_frames_read_them(features: Path) -> None:
    for shard in features.glob("*.safetensors"):
        shard.unlink()
    assert [cell for cell in CELLS if run(*cell) != 0] == [cell for cell in CELLS if cell[0] == "segment"]


def test_missing_features_are_named(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(features)
    assert run("average", "3") == 1
    assert str(features) in capsys.readouterr().err
