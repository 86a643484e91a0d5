"""Read Whisper as CTranslate2 stores it (model.bin): a header, variables by name, and names that share a variable.

The file is read as data; nothing of CTranslate2 is needed. https://github.com/OpenNMT/CTranslate2
"""

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from concertina.store.sealing import DamagedError

VERSION, SPECIFICATION = 6, "WhisperSpec"
TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
K_BIAS = ("k_proj", "bias")  # Whisper's keys have none; the file holds zeros
LINEAR = {  # the names of a block's joint projections
    "self_attn": {"linear_0": ("q_proj", "k_proj", "v_proj"), "linear_1": ("out_proj",)},
    "encoder_attn": {"linear_0": ("q_proj",), "linear_1": ("k_proj", "v_proj"), "linear_2": ("out_proj",)},
}


def read(path: Path) -> dict[str, torch.Tensor]:
    """Read every variable by name; an alias is read as the variable that it names. Errors: DamagedError."""
    try:
        with open(path, "rb") as file:
            version, specification = _number(file, "I"), _name(file)
            if (version, specification) != (VERSION, SPECIFICATION):
                raise ValueError(f"it is a {specification!r} of version {version}, not a {SPECIFICATION} of {VERSION}")
            _number(file, "I")  # the specification's revision
            variables = dict(_variable(file) for _ in range(_number(file, "I")))
            aliases = [(_name(file), _name(file)) for _ in range(_number(file, "I"))]
            if file.read(1):
                raise ValueError("something follows its last name")
        return variables | {name: variables[target] for name, target in aliases}
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise DamagedError(f"{path} is not a Whisper model in CTranslate2's format: {error}") from None


def _number(file: BinaryIO, kind: str) -> int:
    size = struct.calcsize(kind)
    return int(struct.unpack(f"<{kind}", file.read(size))[0])


def _name(file: BinaryIO) -> str:
    return file.read(_number(file, "H")).rstrip(b"\0").decode()


def _variable(file: BinaryIO) -> tuple[str, torch.Tensor]:
    name = _name(file)
    shape = [_number(file, "I") for _ in range(_number(file, "B"))]
    kind, size = TYPES[_number(file, "B")], _number(file, "I")
    content = file.read(size)
    if len(content) < size:
        raise ValueError(f"it ends within {name}")
    return name, torch.from_numpy(np.frombuffer(content, kind).reshape(shape).copy())


def whisper_state(variables: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename variables as in transformers' WhisperModel, and split joint projections into their parts."""
    state: dict[str, torch.Tensor] = {}
    for name, tensor in variables.items():
        if tensor.ndim and not name.startswith("decoder/projection") and "alignment" not in name:
            for new, part in _renamed(name, tensor):
                state[new] = part.float()
    return state


def _renamed(name: str, tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """Return a variable's names in transformers, each with the part of the variable that has it."""
    side, *path = name.split("/")
    kind = {"gamma": "weight", "beta": "bias", "encodings": "weight"}.get(path[-1], path[-1])
    if path[0].startswith("conv"):
        return [(f"{side}.{path[0]}.{kind}", tensor)]
    if path[0] == "embeddings":
        return [(f"{side}.embed_tokens.weight", tensor)]
    if path[0] == "position_encodings":
        return [(f"{side}.embed_positions.weight", tensor)]
    if path[0] == "layer_norm":
        return [(f"{side}.layer_norm.{kind}", tensor)]
    layer = f"{side}.layers.{path[0].removeprefix('layer_')}"
    if path[1] == "ffn":
        place = {"layer_norm": "final_layer_norm", "linear_0": "fc1", "linear_1": "fc2"}[path[2]]
        return [(f"{layer}.{place}.{kind}", tensor)]
    attention = "self_attn" if path[1] == "self_attention" else "encoder_attn"
    if path[2] == "layer_norm":
        return [(f"{layer}.{attention}_layer_norm.{kind}", tensor)]
    names = LINEAR[attention][path[2]]
    parts = tensor.chunk(len(names))
    return [(f"{layer}.{attention}.{n}.{kind}", p) for n, p in zip(names, parts, strict=True) if (n, kind) != K_BIAS]
