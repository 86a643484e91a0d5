"""How much there is to do and to write for each kind of artefact, from what is known of the speech and the model.

Work is counted in a unit of each stage: seconds of audio for data, features and segments; positions of the language
model for train and evaluate. Every figure is an estimate: it plans disks and hours, and decides no result.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from concertina import corpora
from concertina.artefacts import packages, scatter
from concertina.config import Base, Cell, Config, Part, Pretrained, Ratio
from concertina.store import sealing
from concertina.units import FRAMES_PER_SECOND, RATE_HZ

BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "int16": 2}
ROW_BYTES = 540  # of a manifest and an index, per utterance
PREDICTION_BYTES, RECORD_BYTES = 60, 12_000  # per utterance, and per test set and adapter
PAGE_BYTES, EXAMPLE_BYTES = 210_000, 370  # the report without examples, and one cell's answer in one
UNKNOWN_S = 10.0  # of an utterance of which nothing is known yet
TEXT = 20  # positions of prompt and answer
TOKENS_PER_SECOND = 3.5  # of an answer, about
NATURAL = 3.0  # frames per token of a compressor's own ratio, about
CPU_FLOPS, GPU_FLOPS = 30e9, 20e12  # by one thread, by one GPU, of dense layers: modest machines
CUDA_BYTES = 700 << 20  # what CUDA takes before the first tensor
QWEN2_AUDIO = {
    "audio_config": {"d_model": 1280, "encoder_layers": 32, "encoder_ffn_dim": 5120},
    "text_config": {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 11008, "vocab_size": 156032},
}


PACKAGED = {
    "whisper_tiny_en": {"d_model": 384, "encoder_layers": 4, "encoder_ffn_dim": 1536},
    "smollm2_135m": {
        **{"hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536, "vocab_size": 49153},
        **{"num_attention_heads": 9, "num_key_value_heads": 3},
    },
}


class Extent(NamedTuple):
    """How much speech a split holds; `how`: measured (it is there), counted (from its source) or guessed."""

    utterances: float
    seconds: float
    how: str


class Model:
    """The sizes of a base; of one that is not there yet, Qwen2-Audio-7B's stand in."""

    def __init__(self, base: Base) -> None:
        said = _said(base)
        self.known = bool(said)
        self.audio = QWEN2_AUDIO["audio_config"] | (said.get("audio_config") or {})
        self.text = QWEN2_AUDIO["text_config"] | (said.get("text_config") or {})
        self.width, self.hidden = self.audio["d_model"], self.text["hidden_size"]
        self.layers, self.inner = self.text["num_hidden_layers"], self.text["intermediate_size"]
        heads = self.text.get("num_attention_heads", 32)
        self.values = self.hidden // heads * self.text.get("num_key_value_heads", heads)  # width of keys and of values
        self.bfloat16 = (said.get("dtype") or self.text.get("dtype") or "bfloat16") == "bfloat16"
        self.linear = {"q_proj": self.hidden, "k_proj": self.values, "v_proj": self.values, "o_proj": self.hidden}
        self.shapes = {name: (self.hidden, out) for name, out in self.linear.items()}
        self.shapes |= {"gate_proj": (self.hidden, self.inner), "up_proj": (self.hidden, self.inner)}
        self.shapes["down_proj"] = (self.inner, self.hidden)
        self.llm = self.layers * sum(a * b for a, b in self.shapes.values())  # parameters of the linear layers
        self.embeddings = 2 * self.text["vocab_size"] * self.hidden
        self.encoder = self.audio["encoder_layers"] * (
            4 * self.width**2 + 2 * self.width * self.audio["encoder_ffn_dim"]
        )

    @property
    def bytes(self) -> int:
        """Of the weights, as they come."""
        return (2 if self.bfloat16 else 4) * (self.llm + self.embeddings + self.encoder)

    def lora(self, config: Config) -> int:
        """Parameters of an adapter."""
        chosen = config.train.lora
        return self.layers * sum(chosen.rank * sum(self.shapes.get(name, (0, 0))) for name in chosen.targets)


def _said(base: Base) -> dict[str, Any]:
    """The config of a base; of one that is to be assembled, those of its parts; empty where nothing is known yet."""
    file = base.folder / "config.json"
    if file.exists():
        return dict(json.loads(file.read_text(encoding="utf-8")))
    made = base.assembled
    return {"audio_config": _part(made.encoder), "text_config": _part(made.llm), "dtype": "float32"} if made else {}


def _part(part: Pretrained) -> dict[str, Any]:
    """The dimensions of a part of an assembled base: of a package as they are known, else as its files say."""
    file = part.folder / "config.json"
    return PACKAGED.get(part.package) or (json.loads(file.read_text(encoding="utf-8")) if file.exists() else {})


class Size(NamedTuple):
    """What one artefact takes.

    `written`: bytes on disk; `work`: in its stage's unit; `flop_per_work`: floating-point operations per unit;
    `gpu_bytes`: what its job needs of a GPU's memory; `answered`: tokens that are decoded one after the other.
    """

    written: int = 0
    work: float = 0.0
    flop_per_work: float = 0.0
    gpu_bytes: int = 0
    answered: float = 0.0


class Estimate:
    """What is known of an experiment's speech and model before it has run."""

    def __init__(self, config: Config) -> None:
        self.config, self.model = config, Model(config.base)
        self._extents: dict[tuple[str, str], Extent] = {}

    def extent(self, corpus: str, split: str) -> Extent:
        """Return how much speech a split holds: as measured where it is there, else as its corpus says, or a guess."""
        if (corpus, split) not in self._extents:
            self._extents[corpus, split] = self._measured(corpus, split) or self._counted(corpus, split)
        return self._extents[corpus, split]

    def utterances(self, part: Part) -> float:
        """Return how many utterances of a part are decoded."""
        held, most = self.extent(*part.place).utterances, getattr(part, "utterances", None)
        return min(held, most or held)

    def positions(self, part: Part, cell: Cell) -> float:
        """Return the positions of the language model that a mean utterance takes."""
        return FRAMES_PER_SECOND * self.mean_s(part) / frames_per_token(cell.ratio) + TEXT

    def mean_s(self, part: Part) -> float:
        """Return the seconds of a mean utterance."""
        extent = self.extent(*part.place)
        return extent.seconds / max(extent.utterances, 1)

    def share(self, corpus: str, split: str, share: scatter.Share | None) -> float:
        """Return how much of a split's work is a job's: a share, nothing where it only gathers shares, or all."""
        if share:
            return 1 / share.of
        return 0.0 if scatter.shares(self.config, corpus, split) else 1.0

    def _measured(self, corpus: str, split: str) -> Extent | None:
        try:
            seal = sealing.read_seal(data_folder(self.config.name, corpus, split))
            return Extent(seal["utterances"], seal["hours"] * 3600, "measured")
        except (sealing.DamagedError, KeyError):
            return None

    def _counted(self, corpus: str, split: str) -> Extent:
        size = corpora.size(self.config.corpus(corpus), split)
        if size:
            return Extent(size.utterances, size.hours * 3600, "counted")
        return Extent(1000, 1000 * UNKNOWN_S, "guessed")


def unknown(estimate: Estimate, **_: Any) -> Size:
    """The size of what nothing is known about."""
    return Size()


def archive(estimate: Estimate, kind: str, archive: str) -> Size:
    """An archive, packed and unpacked."""
    return Size(2 * packages.published(estimate.config, kind)[archive].size_bytes)


def hub(estimate: Estimate, model: str, revision: str) -> Size:
    """A model on the hub: the base, or a part of one that is joined."""
    joined, sizes = estimate.config.base.assembled, estimate.model
    if joined is None:
        return Size(sizes.bytes)
    held = 2 if sizes.bfloat16 else 4
    parts = {joined.encoder.model: sizes.encoder, joined.llm.model: sizes.llm + sizes.embeddings}
    return Size(held * parts[model])


def data(estimate: Estimate, corpus: str, split: str, share: scatter.Share | None = None) -> Size:
    """Audio and its manifest; shares are copied into the whole."""
    extent, part = estimate.extent(corpus, split), estimate.share(corpus, split, share)
    written = extent.seconds * RATE_HZ * BYTES["int16"] + extent.utterances * ROW_BYTES
    return Size(int((part or 1.0) * written), extent.seconds * part)


def features(estimate: Estimate, corpus: str, split: str, share: scatter.Share | None = None) -> Size:
    """Frames and a copy of the manifest; shares are linked into the whole."""
    extent, part, model = estimate.extent(corpus, split), estimate.share(corpus, split, share), estimate.model
    settings = estimate.config.features
    frames = extent.seconds * FRAMES_PER_SECOND
    written = int(frames * model.width * BYTES[settings.dtype] * part + extent.utterances * ROW_BYTES)
    hidden = settings.batch_seconds * 2 * FRAMES_PER_SECOND * (model.audio["encoder_ffn_dim"] * 3)
    held = BYTES[settings.precision] * (model.encoder + model.embeddings + hidden)
    return Size(written, extent.seconds * part, 2.0 * model.encoder * 2 * FRAMES_PER_SECOND, int(CUDA_BYTES + held))


def segments(estimate: Estimate, corpus: str, split: str, cell: Cell) -> Size:
    """Cuts and weights."""
    extent = estimate.extent(corpus, split)
    frames = extent.seconds * FRAMES_PER_SECOND
    return Size(int(4 * (frames + frames / frames_per_token(cell.ratio) + 3 * extent.utterances)), extent.seconds)


def train(estimate: Estimate, train_set: str, cell: Cell, seed: int) -> Size:
    """One adapter; training goes back through frozen layers."""
    config, model, settings = estimate.config, estimate.model, estimate.config.train
    parts = config.train_set(train_set).parts
    mean = sum(estimate.positions(part, cell) for part in parts) / len(parts)
    written = 4 * model.lora(config) + 130 * settings.steps + 10_000
    positions = _most_positions(estimate, settings.batch, parts, cell)
    if settings.batch_tokens:
        positions = min(positions, settings.batch_tokens)
    held_in = 2 if model.bfloat16 and settings.precision == "bfloat16" else 4
    weights = (0.55 if config.base.four_bit else held_in) * model.llm + held_in * model.embeddings
    activations = BYTES[settings.precision] * model.layers * positions * (10 * model.hidden + 4 * model.inner)
    logits = 4 * 3 * settings.batch * TEXT * model.text["vocab_size"]
    gpu_bytes = int(CUDA_BYTES + weights + activations + logits + 16 * model.lora(config))
    return Size(written, settings.steps * settings.batch * mean, 4.0 * model.llm, gpu_bytes)


def decode(estimate: Estimate, cell: Cell, test_set: str, run: str) -> Size:
    """The texts of one test set."""
    config, model, settings = estimate.config, estimate.model, estimate.config.evaluate
    part = config.test_set(test_set)
    utterances = estimate.utterances(part)
    held = BYTES[settings.precision]
    weights = (0.55 if config.base.four_bit else held) * model.llm + held * model.embeddings
    cache = 2 * model.layers * _most_positions(estimate, settings.batch, [part], cell) * model.values * held
    return Size(
        int(PREDICTION_BYTES * utterances + RECORD_BYTES),
        utterances * estimate.positions(part, cell),
        2.0 * model.llm,
        int(CUDA_BYTES + weights + cache + 4 * settings.batch * model.text["vocab_size"]),
        TOKENS_PER_SECOND * utterances * estimate.mean_s(part),
    )


def evaluate(estimate: Estimate, cell: Cell) -> Size:
    """The scores of one cell: records, and the predictions once more with each utterance's statistics."""
    config = estimate.config
    sets, runs = config.test_sets(cell), 1 + len(config.adapters(cell))
    written = sum(PREDICTION_BYTES * estimate.utterances(part) + RECORD_BYTES for part in sets)
    return Size(int(runs * written))


def report(estimate: Estimate) -> Size:
    """The page, which lies in the sealed folder and beside it."""
    config = estimate.config
    shown = config.report.examples * len(config.evaluate.sets) * len(config.cells)
    return Size(2 * (PAGE_BYTES + EXAMPLE_BYTES * shown))


def data_folder(name: str, corpus: str, split: str) -> Path:
    """Where a split of some experiment lies, whose measured size counts."""
    return Path("build", name, "data", corpus, split)


def frames_per_token(ratio: Ratio) -> float:
    """The frames per token of a ratio, or about those of a compressor's own."""
    return ratio.frames or NATURAL


def _most_positions(estimate: Estimate, batch: int, parts: Sequence[Part], cell: Cell) -> float:
    """The positions of a batch of the part with the longest utterances."""
    return batch * max(estimate.positions(part, cell) for part in parts)
