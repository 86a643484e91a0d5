"""The store gives back what was written, whole, in any order; its shards depend on the data alone."""

from pathlib import Path

import numpy as np
import pytest

from concertina.store import sealing
from concertina.store.shards import Reader, Writer

LENGTHS = [3, 50, 0, 7, 9, 1, 33]


def utterances(width: int | None = 4) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    tail = () if width is None else (width,)
    return {f"u{i}": draw.standard_normal((length, *tail)).astype(np.float32) for i, length in enumerate(LENGTHS)}


def write(folder: Path, values: dict[str, np.ndarray], dtype: str, width: int | None, shard_bytes: int = 200) -> Reader:
    writer = Writer(folder, dtype, width, shard_bytes)
    for id, one in values.items():
        writer.add(id, one)
    writer.close()
    return Reader(folder)


@pytest.mark.parametrize("width", [None, 1, 4])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_was_written_comes_back_in_any_order(tmp_path: Path, dtype: str, width: int | None) -> None:
    values = utterances(width)
    reader = write(tmp_path, values, dtype, width)
    assert reader.ids == list(values)
    assert reader.lengths.tolist() == LENGTHS
    for order in ([0, 1, 2, 3, 4, 5, 6], [6, 2, 0, 5], [3], [1, 1, 4], [2], []):
        packed, lengths = reader.read(order)
        assert lengths.tolist() == [LENGTHS[i] for i in order]
        wanted = [values[f"u{i}"].astype(dtype) for i in order]
        assert packed.dtype == dtype
        assert np.array_equal(packed, np.concatenate(wanted) if wanted else np.empty((0, *packed.shape[1:])))
    assert np.array_equal(reader.one(1), values["u1"].astype(dtype))


def test_audio_is_stored_bit_by_bit(tmp_path: Path) -> None:
    sound = {"a": np.array([-32768, 0, 32767], dtype=np.int16), "b": np.arange(5, dtype=np.int16)}
    assert np.array_equal(
        write(tmp_path, sound, "int16", None).read([1, 0])[0], np.concatenate([sound["b"], sound["a"]])
    )


def test_bfloat16_rounds_to_nearest_even(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    values = utterances()
    packed, _ = write(tmp_path, values, "bfloat16", 4).read(range(len(values)))
    wanted = torch.from_numpy(np.concatenate(list(values.values()))).to(torch.bfloat16)
    assert torch.equal(torch.from_numpy(packed).view(torch.bfloat16), wanted)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_an_empty_store(tmp_path: Path) -> None:
    reader = write(tmp_path, {}, "float16", 4)
    assert len(reader) == 0
    assert reader.read([])[0].shape == (0, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_values_that_cannot_be_stored_are_named(tmp_path: Path, value: float) -> None:
    writer = Writer(tmp_path, "float16", 2, 100)
    with pytest.raises(ValueError, match=r"utterance-7: .*(NaN|overflow)"):
        writer.add("utterance-7", np.array([[0.0, value]], dtype=np.float32))


def test_wrong_shapes_and_repeated_ids_are_refused(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "float16", 2, 100)
    with pytest.raises(ValueError, match="shape"):
        writer.add("a", np.zeros((3, 4), dtype=np.float32))
    for _ in range(2):
        writer.add("again", np.zeros((1, 2), dtype=np.float32))
    with pytest.raises(ValueError, match="again"):
        writer.close()


def test_a_flipped_byte_in_a_shard_is_found(tmp_path: Path) -> None:
    with sealing.sealed(tmp_path / "frames") as folder:
        write(folder, utterances(), "float16", 4)
    sealing.verify(tmp_path / "frames")
    shard = tmp_path / "frames" / "shard-00001.safetensors"
    damaged = bytearray(shard.read_bytes())
    damaged[-1] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(sealing.DamagedError, match=r"shard-00001.safetensors is damaged.*make reproduce"):
        sealing.verify(tmp_path / "frames")


@pytest.mark.parametrize("rest", [0, 4, 40, -1])
def test_a_truncated_shard_is_named(tmp_path: Path, rest: int) -> None:
    reader = write(tmp_path, utterances(), "float16", 4)
    shard = tmp_path / "shard-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:rest])
    with pytest.raises(sealing.DamagedError, match="shard-00000"):
        reader.read([0])


def test_a_store_that_was_not_closed_cannot_be_read(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "float16", 4, 200)
    for id, one in utterances().items():
        writer.add(id, one)
    with pytest.raises(sealing.DamagedError, match="make reproduce"):
        Reader(tmp_path)


def test_values_whose_memory_lies_transposed_come_back_as_they_were(tmp_path: Path) -> None:
    values_TD = np.arange(12, dtype=np.float32).reshape(3, 4).T
    writer = Writer(tmp_path, "float32", 3, 1 << 20)
    writer.add("a", values_TD)
    writer.close()
    assert np.array_equal(Reader(tmp_path).one(0), values_TD)
