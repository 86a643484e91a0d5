"""Sizes: how much work each kind of artefact is and how many bytes it takes, estimated from the speech and the model.

The unit of work is a stage's own: seconds of audio for data, features and segments; positions of the language model
for train and evaluate. The figures are for planning disks and hours, and decide no result.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from concertina import corpora
from concertina.artefacts import packages, scatter
from concertina.config import Base, Cell, Config, Part, Pretrained, Ratio
from concertina.store import folders, sealing
from concertina.units import FRAMES_PER_SECOND, RATE_HZ

BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "int16": 2}
ROW_BYTES = 540  # per utterance, in a manifest and an index
PREDICTION_BYTES, RECORD_BYTES = 60, 12_000  # per utterance, and per test set and adapter
PAGE_BYTES, EXAMPLE_BYTES = 210_000, 370  # the report without examples, and one cell's answer in an example
UNKNOWN, UNKNOWN_S = 1000, 10.0  # utterances of a split, and seconds of each, while its corpus states no size
TEXT = 20  # positions of prompt and answer
TOKENS_PER_SECOND = 3.5  # tokens of the answer per second of audio, roughly
LONG = 4.0  # an utterance of the batch with the longest ones, over a mean utterance, roughly
NATURAL = 3.0  # frames per token at a compressor's own ratio, roughly
CPU_FLOPS, GPU_FLOPS = 30e9, 20e12  # dense layers on one thread and on one GPU of modest machines
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
    """How much speech a split holds; `how`: measured (from its data), counted (as its corpus states) or guessed."""

    utterances: float
    seconds: float
    how: str


class Model:
    """The sizes of a base, or those of Qwen2-Audio-7B while the base is not there yet."""

    def __init__(self, base: Base) -> None:
        settings = _settings(base)
        self.known = bool(settings)
        self.audio = QWEN2_AUDIO["audio_config"] | (settings.get("audio_config") or {})
        self.text = QWEN2_AUDIO["text_config"] | (settings.get("text_config") or {})
        self.width, self.hidden = self.audio["d_model"], self.text["hidden_size"]
        self.layers, self.inner = self.text["num_hidden_layers"], self.text["intermediate_size"]
        heads = self.text.get("num_attention_heads", 32)
        self.values = self.hidden // heads * self.text.get("num_key_value_heads", heads)  # width of keys and of values
        self.bfloat16 = (settings.get("dtype") or self.text.get("dtype") or "bfloat16") == "bfloat16"
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
        """The bytes of the weights at the precision in which they are published."""
        return (2 if self.bfloat16 else 4) * (self.llm + self.embeddings + self.encoder)

    def lora(self, config: Config) -> int:
        """Return the number of parameters of an adapter."""
        settings = config.train.lora
        return self.layers * sum(settings.rank * sum(self.shapes.get(name, (0, 0))) for name in settings.targets)


def _settings(base: Base) -> dict[str, Any]:
    """Return a base's config.json, or that of the parts it will be joined from; nothing where neither is there yet."""
    file = base.folder / "config.json"
    if file.exists():
        return dict(json.loads(file.read_text(encoding="utf-8")))
    joined = base.assembled
    if joined is None:
        return {}
    return {"audio_config": _part(joined.encoder), "text_config": _part(joined.llm), "dtype": "float32"}


def _part(part: Pretrained) -> dict[str, Any]:
    """Return the dimensions of a joined base's part: a package's from the table above, a model's from its files."""
    file = part.folder / "config.json"
    return PACKAGED.get(part.package) or (json.loads(file.read_text(encoding="utf-8")) if file.exists() else {})


class Size(NamedTuple):
    """What one artefact takes.

    `written`: bytes on disk; `work`: in its stage's unit; `flop_per_work`: floating-point operations per unit;
    `gpu_bytes`: the GPU memory that its job needs; `answered`: tokens that are decoded one after the other.
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
        """Return how much speech a split holds: measured where it is here, else as its corpus states, or a guess."""
        if (corpus, split) not in self._extents:
            self._extents[corpus, split] = self._measured(corpus, split) or self._counted(corpus, split)
        return self._extents[corpus, split]

    def utterances(self, part: Part) -> float:
        """Return how many utterances of a part are decoded."""
        held, most = self.extent(*part.place).utterances, getattr(part, "utterances", None)
        return min(held, most or held)

    def drawn(self, corpus: str, split: str) -> float:
        """Return how many utterances of a split are used at most: drawn in trainings, or decoded, or measured on."""
        settings = self.config.train
        used = 0.0
        for train_set in settings.sets:
            shares = sum(part.share for part in train_set.parts)
            for part in (part for part in train_set.parts if part.place == (corpus, split)):
                used += min(self.utterances(part), settings.steps * settings.batch * part.share / shares)
            for dev in (dev for dev in train_set.dev if dev.place == (corpus, split)):
                used += dev.utterances or settings.dev_utterances
        decoded = [part for part in (*self.config.evaluate.sets, *self.config.trial) if part.place == (corpus, split)]
        return used + sum(self.utterances(part) for part in decoded)

    def positions(self, part: Part, cell: Cell) -> float:
        """Return the positions of the language model that a mean utterance takes."""
        return FRAMES_PER_SECOND * self.mean_s(part) / frames_per_token(cell.ratio) + TEXT

    def mean_s(self, part: Part) -> float:
        """Return the seconds of a mean utterance."""
        extent = self.extent(*part.place)
        return extent.seconds / max(extent.utterances, 1)

    def share(self, corpus: str, split: str, share: scatter.Share | None) -> float:
        """Return the fraction of a split's work that a job does; 0 where it only gathers shares."""
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
        utterances = self.config.corpus(corpus).utterances.get(split, UNKNOWN)
        return Extent(utterances, utterances * UNKNOWN_S, "guessed")


def unknown(estimate: Estimate, **_: Any) -> Size:
    """Return no size, for kinds that are not estimated."""
    return Size()


def archive(estimate: Estimate, kind: str, archive: str) -> Size:
    """Return the size of an archive, packed and unpacked."""
    return Size(2 * packages.published(estimate.config, kind)[archive].size_bytes)


def hub(estimate: Estimate, model: str, revision: str) -> Size:
    """Return the size of a model on the hub: the base, or a part of one that is joined."""
    joined, sizes = estimate.config.base.assembled, estimate.model
    if joined is None:
        return Size(sizes.bytes)
    held = 2 if sizes.bfloat16 else 4
    parts = {joined.encoder.model: sizes.encoder, joined.llm.model: sizes.llm + sizes.embeddings}
    return Size(held * parts[model])


def data(estimate: Estimate, corpus: str, split: str, share: scatter.Share | None = None) -> Size:
    """Return the size of a split's audio and manifest; shares are copied into the whole."""
    extent, part = estimate.extent(corpus, split), estimate.share(corpus, split, share)
    written = extent.seconds * RATE_HZ * BYTES["int16"] + extent.utterances * ROW_BYTES
    return Size(int((part or 1.0) * written), extent.seconds * part)


def features(estimate: Estimate, corpus: str, split: str, share: scatter.Share | None = None) -> Size:
    """Return the size of a split's frames and manifest; shares are linked into the whole."""
    extent, part, model = estimate.extent(corpus, split), estimate.share(corpus, split, share), estimate.model
    settings = estimate.config.features
    frames = extent.seconds * FRAMES_PER_SECOND
    written = int(frames * model.width * BYTES[settings.dtype] * part + extent.utterances * ROW_BYTES)
    hidden = settings.batch_seconds * 2 * FRAMES_PER_SECOND * (model.audio["encoder_ffn_dim"] * 3)
    held = BYTES[settings.precision] * (model.encoder + model.embeddings + hidden)
    return Size(written, extent.seconds * part, 2.0 * model.encoder * 2 * FRAMES_PER_SECOND, int(CUDA_BYTES + held))


def segments(estimate: Estimate, corpus: str, split: str, cell: Cell) -> Size:
    """Return the size of a cell's segments in one split: their lengths, and a weight per frame."""
    extent = estimate.extent(corpus, split)
    frames = extent.seconds * FRAMES_PER_SECOND
    return Size(int(4 * (frames + frames / frames_per_token(cell.ratio) + 3 * extent.utterances)), extent.seconds)


def train(estimate: Estimate, train_set: str, cell: Cell, seed: int) -> Size:
    """Return the size of one adapter; gradients pass back through the frozen layers too."""
    config, model, settings = estimate.config, estimate.model, estimate.config.train
    parts = config.train_set(train_set).parts
    mean = sum(part.share * estimate.positions(part, cell) for part in parts) / sum(part.share for part in parts)
    written = 4 * model.lora(config) + 130 * settings.steps + 10_000
    positions = _most_positions(estimate, settings.batch, parts, cell)
    if settings.batch_tokens:
        positions = min(positions, settings.batch_tokens)
    weight_bytes = 2 if model.bfloat16 and settings.precision == "bfloat16" else 4
    weights = (0.55 if config.base.four_bit else weight_bytes) * model.llm + weight_bytes * model.embeddings
    logits = 4 * 3 * settings.batch * TEXT * model.text["vocab_size"]
    gpu_bytes = int(CUDA_BYTES + weights + kept(model, config, positions) + logits + 16 * model.lora(config))
    return Size(written, settings.steps * settings.batch * mean, 4.0 * model.llm, gpu_bytes)


def kept(model: Model, config: Config, positions: float) -> float:
    """Return the bytes that a training keeps from the forward pass for the backward pass, without those of the head.

    Measured as the tensors that autograd saves for a packed row (tests/test_sizes.py): 14 vectors of the hidden width
    and 4 of the inner one per position and layer, and a copy of the adapter in the precision of the arithmetic.
    """
    vectors = model.layers * positions * (14 * model.hidden + 4 * model.inner)
    return BYTES[config.train.precision] * (vectors + model.lora(config))


def decode(estimate: Estimate, cell: Cell, test_set: str, run: str) -> Size:
    """Return the size of the texts of one test set."""
    config, model, settings = estimate.config, estimate.model, estimate.config.evaluate
    part = config.test_set(test_set)
    utterances = estimate.utterances(part)
    held = BYTES[settings.precision]
    weights = (0.55 if config.base.four_bit else held) * model.llm + held * model.embeddings
    read = _most_positions(estimate, settings.batch, [part], cell)
    longest_s = LONG * estimate.mean_s(part)
    answers = settings.batch * max(settings.max_new_tokens_at_least, settings.max_new_tokens_per_second * longest_s)
    cache = 2 * model.layers * (read + answers) * model.values
    # While the prompts are read, one layer's vectors are held; the logits are those of the last positions alone.
    reading = read * (4 * model.hidden + 3 * model.inner)
    return Size(
        int(PREDICTION_BYTES * utterances + RECORD_BYTES),
        utterances * estimate.positions(part, cell),
        2.0 * model.llm,
        int(CUDA_BYTES + weights + held * (cache + reading) + 4 * settings.batch * model.text["vocab_size"]),
        TOKENS_PER_SECOND * utterances * estimate.mean_s(part),
    )


def evaluate(estimate: Estimate, cell: Cell) -> Size:
    """Return the size of one cell's scores: records, and the predictions again with each utterance's statistics."""
    config = estimate.config
    written = 0.0
    for one in config.placed(cell):
        of_run = sum(PREDICTION_BYTES * estimate.utterances(part) + RECORD_BYTES for part in config.test_sets(one))
        written += (1 + len(config.adapters(one))) * of_run
    return Size(int(written))


def report(estimate: Estimate) -> Size:
    """Return the size of the page, which is in the sealed folder and once more beside it."""
    config = estimate.config
    shown = config.report.examples * len(config.evaluate.sets) * len(config.cells)
    return Size(2 * (PAGE_BYTES + EXAMPLE_BYTES * shown))


def data_folder(name: str, corpus: str, split: str) -> Path:
    """Return the folder of a split of any experiment, whose seal has the measured size."""
    return Path(folders.DATA.format(name=name, corpus=corpus, split=split))


def frames_per_token(ratio: Ratio) -> float:
    """Return the frames per token of a ratio, and an estimate for a compressor's own ratio."""
    return ratio.frames or NATURAL


def _most_positions(estimate: Estimate, batch: int, parts: Sequence[Part], cell: Cell) -> float:
    """Return the positions of a batch of long utterances, of the part that has the longest."""
    return batch * (LONG * max(estimate.positions(part, cell) - TEXT for part in parts) + TEXT)
