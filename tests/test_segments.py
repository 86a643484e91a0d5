"""The stage segments, end to end over a small feature store."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from concertina import config, segments
from concertina.artefacts import dag, keys
from concertina.compressors import ContractError, average
from concertina.compressors._segments import Segments, pool
from concertina.compressors._utterances import Utterances
from concertina.store import folders, records, sealing
from concertina.store.shards import Reader, Writer

LENGTHS = [40, 1, 2, 133, 75, 7]
PLACE = {"corpus": "synthetic", "split": "clean"}
CELLS = [cell.name for cell in config.load().cuts]


def write_features(values: list[np.ndarray], dtype: str = "float16") -> Path:
    folder = dag.artefact(config.load(), "features", **PLACE).folder
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


def run(cell: str, *more: str) -> int:
    return segments.main(["--corpus", "synthetic", "--split", "clean", "--cell", cell, *more])


def folder(cell: str, overlay: str | Path = config.DEFAULT) -> Path:
    experiment = config.load(overlay)
    return dag.artefact(experiment, "segments", **PLACE, cell=experiment.cell(cell)).folder


def made(cell: str, overlay: str | Path = config.DEFAULT) -> dict[str, torch.Tensor]:
    return load_file(folder(cell, overlay) / segments.FILE)


@pytest.mark.parametrize("cell", CELLS)
def test_default_cell(features: Path, cell: str) -> None:
    compressor, _, ratio = cell.partition("-")
    assert run(cell) == 0
    tensors = made(cell)
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
    seal = sealing.verify(folder(cell))
    assert seal["realised_ratio"] == pytest.approx(sum(LENGTHS) / len(tensors["lengths_N"]))
    assert (seal["peak_share"] is not None) == (compressor == "segment")
    assert len(seal["run_key"]) == 16


def test_a_compressor_that_breaks_its_contract_is_named_and_leaves_a_failed_record(
    features: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def greedy(speech: Utterances, ratio: float) -> Segments:
        return Segments(speech.lengths_B, torch.ones_like(speech.lengths_B), torch.ones(int(speech.lengths_B.sum())))

    monkeypatch.setattr(average, "cut", greedy)
    assert run("average-3") == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: compressor average breaks its contract: the weights of a token's frames must sum")
    assert not folder("average-3").exists()
    failure = records.read(folders.failure("tiny", "segments", "synthetic/clean/average-3"))
    assert isinstance(failure, records.Failure)
    assert failure.error.startswith("ContractError: compressor average breaks its contract")


def test_natural_cuts_are_all_peaks(features: Path) -> None:
    run("segment-natural")
    run("segment-3")
    natural, thrice = (sealing.read_seal(folder(cell)) for cell in ("segment-natural", "segment-3"))
    assert natural["peak_share"] == 1
    assert 0.5 < thrice["peak_share"] < 1


@pytest.mark.parametrize("cell", ["segment-3", "random-3"])
def test_batches_do_not_matter(features: Path, monkeypatch: pytest.MonkeyPatch, cell: str) -> None:
    run(cell)
    at_once = made(cell)
    monkeypatch.setattr(segments, "BATCH_FRAMES", 1)
    run(cell)
    assert all(torch.equal(at_once[name], tensor) for name, tensor in made(cell).items())


def test_seeds_are_made_of_ids_and_the_seed_alone(features: Path) -> None:
    ids = Reader(features).ids
    forwards = segments.seeds(ids, 0)
    assert torch.equal(segments.seeds(ids[::-1], 0), forwards.flip(0))
    assert not torch.equal(segments.seeds(ids, 1), forwards)


def test_one_compressor_stands_at_one_ratio_with_several_values_of_an_option(features: Path) -> None:
    values = ["{}", "{phase: 1}", "{phase: 2}"]
    lines = [f"{{compressor: sample, ratios: [3], options: {value}}}" for value in values]
    Path("phases.yaml").write_text(
        f"segments: {{cells: [{{compressor: none, ratios: [1]}}, {', '.join(lines)}]}}\n", encoding="utf-8"
    )
    shutil.copytree(Path(__file__).parents[1] / "reference", "reference")
    experiment = config.load("phases.yaml")
    Path("models/tiny").mkdir(parents=True)
    keys.check(experiment)
    cells = [cell.name for cell in experiment.cuts]
    assert cells == ["none-1", "sample-3", "sample-3-phase=1", "sample-3-phase=2"]
    artefacts = [dag.artefact(experiment, "segments", **PLACE, cell=cell) for cell in experiment.cuts]
    assert (
        len({keys.run_key(dag.key(experiment, one)) for one in artefacts})
        == len({one.folder for one in artefacts})
        == 4
    )
    frames_TD = torch.from_numpy(np.concatenate(frames()))
    starts = np.cumsum([0, *LENGTHS[:-1]])
    for phase, cell in enumerate(cells[1:]):
        assert run(cell, "--config", "phases.yaml") == 0
        tensors = made(cell, "phases.yaml")
        kept = [
            start + min(first + phase, length - 1)
            for start, length in zip(starts, LENGTHS, strict=True)
            for first in range(0, length, 3)
        ]
        cut = Segments(tensors["lengths_N"], tensors["counts_B"], tensors["weights_T"])
        assert torch.equal(pool(frames_TD, cut), frames_TD[kept])


def test_bfloat16_store(features: Path) -> None:
    run("segment-3")
    half = made("segment-3")
    write_features(frames(), dtype="bfloat16")
    assert run("segment-3") == 0
    assert torch.equal(made("segment-3")["counts_B"], half["counts_B"])


def test_store_without_utterances(features: Path) -> None:
    write_features([])
    assert run("segment-3") == 0
    assert made("segment-3")["lengths_N"].tolist() == []


@pytest.mark.parametrize("cell", ["average-5", "nothing-3", "sample-3-phase=1"])
def test_cell_that_is_not_in_the_grid(features: Path, capsys: pytest.CaptureFixture[str], cell: str) -> None:
    assert run(cell) == 1
    assert f"error: segments.cells has no cell '{cell}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cell", "line", "message"),
    [
        ("avrage-3", "{compressor: avrage, ratios: [3]}", "'avrage' has no file"),
        ("avrage-3", "{compressor: avrage, ratios: [3]}", "did you mean 'average'?"),
        (
            "sample-3-phas=1",
            "{compressor: sample, ratios: [3], options: {phas: 1}}",
            "has no option 'phas' (did you mean 'phase'?)",
        ),
        (
            "sample-3-phase=7",
            "{compressor: sample, ratios: [3], options: {phase: 7}}",
            "sample does not take phase: 7 at ratio 3 (allowed: 0 <= phase < ratio)",
        ),
    ],
)
def test_cell_that_cannot_be_made(
    features: Path, capsys: pytest.CaptureFixture[str], cell: str, line: str, message: str
) -> None:
    Path("other.yaml").write_text(f"segments: {{cells: [{{compressor: none, ratios: [1]}}, {line}]}}\n")
    assert run(cell, "--config", "other.yaml") == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("cell", "pattern"), [("segment-3", "*.safetensors"), ("average-3", "index.json")])
def test_flipped_byte_is_found_in_what_is_read(
    features: Path, capsys: pytest.CaptureFixture[str], cell: str, pattern: str
) -> None:
    path = sorted(features.glob(pattern))[0]
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert run(cell) == 1
    assert f"{path} is damaged" in capsys.readouterr().err


def test_only_compressors_that_declare_frames_read_them(features: Path) -> None:
    for shard in features.glob("*.safetensors"):
        shard.unlink()
    assert [cell for cell in CELLS if run(cell) != 0] == [cell for cell in CELLS if cell.startswith("segment-")]


def test_a_batch_holds_what_is_declared_and_no_more(features: Path) -> None:
    speech = segments.read(Reader(features), [0, 3], ("seeds",), 5)
    assert speech.lengths_B.tolist() == [40, 133]
    assert speech.seeds_B.tolist() == segments.seeds(["utterance-0", "utterance-3"], 5).tolist()
    with pytest.raises(ContractError, match="`reads` in its file must hold 'frames'"):
        assert speech.frames_TD is None


def test_missing_features_are_named(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(features)
    assert run("average-3") == 1
    assert str(features) in capsys.readouterr().err
