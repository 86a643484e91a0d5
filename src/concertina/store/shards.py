"""Arrays of unequal length, one per utterance, end to end in few large safetensors shards with an index.

Shapes: T steps of one utterance, S steps of many end to end, D width (absent where the store has width None).
A store is written inside a `sealing.drafting` block, and checked with `sealing.verify` before it is read.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from concertina.store.sealing import DamagedError, link, read_json, write_json

INDEX = "index.json"
STORED_AS = {"int16": "int16", "float16": "float16", "float32": "float32", "bfloat16": "uint16"}


class Writer:
    """Writes a store into `folder`; where one shard ends and the next begins depends on the data alone.

    `dtype`: int16, float16, float32 or bfloat16. numpy has no bfloat16: float32 given to such a store is
    rounded to the nearest even.
    """

    def __init__(self, folder: Path, dtype: str, width: int | None, shard_bytes: int) -> None:
        self.folder, self.dtype, self.width, self.shard_bytes = Path(folder), dtype, width, shard_bytes
        self._ids: list[str] = []
        self._lengths: list[int] = []
        self._shards: list[dict[str, Any]] = []
        self._waiting: list[np.ndarray] = []
        self._waiting_bytes = 0
        self._stored_as = np.dtype(STORED_AS[dtype])
        self.folder.mkdir(parents=True, exist_ok=True)

    def cut(self) -> None:
        """End the shard here; the next utterance begins another."""
        if self._waiting:
            name = _shard_name(len(self._shards))
            values = np.ascontiguousarray(np.concatenate(self._waiting))  # safetensors writes memory as it lies
            save_file({"values": values}, self.folder / name)
            self._shards.append({"file": name, "utterances": len(self._waiting)})
            self._waiting, self._waiting_bytes = [], 0

    def add(self, id: str, values: np.ndarray) -> None:
        """Append one utterance, [T] or [T, D]. Errors: ValueError naming it when a value is NaN or infinite."""
        if values.shape[1:] != self._tail:
            raise ValueError(f"{id}: values of shape {values.shape} do not fit a store of width {self.width}")
        stored = self._convert(id, values)
        if self._waiting and self._waiting_bytes + stored.nbytes > self.shard_bytes:
            self.cut()
        self._waiting.append(stored)
        self._waiting_bytes += stored.nbytes
        self._ids.append(id)
        self._lengths.append(len(stored))

    def close(self) -> None:
        """Write the last shard and the index. Errors: ValueError when an id was added twice."""
        if len(set(self._ids)) != len(self._ids):
            twice = next(id for id in self._ids if self._ids.count(id) > 1)
            raise ValueError(f"{twice}: this id occurs more than once in {self.folder}")
        self.cut()
        facts = {"dtype": self.dtype, "width": self.width, "shards": self._shards}
        write_json(self.folder / INDEX, facts | {"ids": self._ids, "lengths": self._lengths})

    @property
    def _tail(self) -> tuple[int, ...]:
        return () if self.width is None else (self.width,)

    def _convert(self, id: str, values: np.ndarray) -> np.ndarray:
        if self.dtype == "int16" and values.dtype != np.int16:
            raise ValueError(f"{id}: an int16 store takes int16 values, not {values.dtype}")
        if self.dtype == "int16":
            return np.array(values, dtype=self._stored_as)
        if not np.isfinite(values).all():
            raise ValueError(f"{id}: {np.count_nonzero(~np.isfinite(values))} of its values are NaN or infinite")
        if self.dtype == "bfloat16":
            return _bfloat16_bits(values)
        with np.errstate(over="ignore"):
            stored = np.array(values, dtype=self._stored_as)
        if not np.isfinite(stored).all():
            raise ValueError(f"{id}: its values overflow {self.dtype}; the config key features.dtype offers others")
        return stored


def join(folders: Sequence[Path], target: Path) -> dict[str, Path]:
    """Put stores end to end into one, in `target`; their shards are linked, not copied.

    Returns the file that each new shard is linked to, by the shard's name. Errors: ValueError (an id in two stores).
    """
    indices = [read_json(folder / INDEX) for folder in folders]
    ids = [id for index in indices for id in index["ids"]]
    if len(set(ids)) != len(ids):
        raise ValueError(f"an id is in two of {', '.join(map(str, folders))}")
    shards: list[dict[str, Any]] = []
    files: dict[str, Path] = {}
    for folder, index in zip(folders, indices, strict=True):
        for shard in index["shards"]:
            name = _shard_name(len(shards))
            link(folder / shard["file"], target / name)
            files[name] = folder / shard["file"]
            shards.append(shard | {"file": name})
    lengths = [length for index in indices for length in index["lengths"]]
    write_json(target / INDEX, indices[0] | {"shards": shards, "ids": ids, "lengths": lengths})
    return files


class Reader:
    """Reads a store through memory maps, in any order.

    `ids`: in the order written; `lengths`: int64 [number of utterances]; `dtype`: of the store (bfloat16 values
    are returned as uint16 bits: `torch.from_numpy(values).view(torch.bfloat16)`). Errors: DamagedError.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        index = read_json(self.folder / INDEX)
        self.ids: list[str] = index["ids"]
        self.lengths = np.array(index["lengths"], dtype=np.int64)
        self.dtype: str = index["dtype"]
        self.width: int | None = index["width"]
        self._files: list[str] = [shard["file"] for shard in index["shards"]]
        counts = np.array([shard["utterances"] for shard in index["shards"]], dtype=np.int64)
        self._shard_of = np.repeat(np.arange(len(counts)), counts)
        ends = np.cumsum(self.lengths)
        first = np.cumsum(counts) - counts
        steps_before_shard = (ends - self.lengths)[first]
        self._starts = ends - self.lengths - np.repeat(steps_before_shard, counts)
        self._maps: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Read the utterances at `indices`, copied end to end: values [S] or [S, D], lengths int64 [len(indices)]."""
        order = np.asarray(indices, dtype=np.int64)
        if not len(order):
            return np.empty((0, *self._tail), dtype=STORED_AS[self.dtype]), order
        return np.concatenate([self._view(int(i)) for i in order]), self.lengths[order]

    def one(self, i: int) -> np.ndarray:
        """Read one utterance, copied: [T] or [T, D]."""
        return np.array(self._view(i))

    def files(self, indices: Sequence[int]) -> list[str]:
        """Return the names of the shards that hold some utterances."""
        return [self._files[shard] for shard in np.unique(self._shard_of[np.asarray(indices, dtype=np.int64)])]

    @property
    def _tail(self) -> tuple[int, ...]:
        return () if self.width is None else (self.width,)

    def _view(self, i: int) -> np.ndarray:
        shard = int(self._shard_of[i])
        if shard not in self._maps:
            self._maps[shard] = _map(self.folder / self._files[shard], self._tail)
        return self._maps[shard][self._starts[i] : self._starts[i] + self.lengths[i]]


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


def _map(path: Path, tail: tuple[int, ...]) -> np.ndarray:
    """Map the tensor `values` of a safetensors file: 8 bytes of header length, a JSON header, the data."""
    names = {"I16": "int16", "U16": "uint16", "F16": "float16", "F32": "float32"}
    try:
        with open(path, "rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            fact = json.loads(file.read(header_bytes))["values"]
        if tuple(fact["shape"][1:]) != tail:
            raise ValueError("its shape is not the one in the index")
        if 0 in fact["shape"]:
            return np.empty(fact["shape"], dtype=names[fact["dtype"]])
        start = 8 + header_bytes + fact["data_offsets"][0]
        return np.memmap(path, dtype=names[fact["dtype"]], mode="r", offset=start, shape=tuple(fact["shape"]))
    except (OSError, ValueError, KeyError, MemoryError, OverflowError) as error:
        raise DamagedError(f"{path} cannot be read ({error}); delete {path.parent} and run `make reproduce`") from None


def _bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """Round float32 to the nearest bfloat16, ties to even, as its 16 bits: the upper half of the float32's."""
    bits = np.array(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
