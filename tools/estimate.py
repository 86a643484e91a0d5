"""What a job will write, hold and do, from what is known of the speech and the model.

Work is counted in a unit of each stage: seconds of audio for data, features and segments; positions of the language
model for train and evaluate.
"""

import json
from typing import Any, NamedTuple

from concertina import corpora
from concertina.artefacts import keys, layout, packages, scatter
from concertina.config import Base, Config, Part, Pretrained, ratio_text
from concertina.corpora._archives import Archive
from concertina.store import sealing

BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "int16": 2}
RATE_HZ, FRAMES_PER_SECOND = 16_000, 25
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


class Speech(NamedTuple):
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


class Estimate:
    """Sizes of the artefacts of one config. A job is what tools/dryrun.py prints."""

    def __init__(self, config: Config) -> None:
        self.config, self.model = config, Model(config.base)
        self._speech: dict[tuple[str, str], Speech] = {}

    def speech(self, corpus: str, split: str) -> Speech:
        """How much speech a split holds."""
        if (corpus, split) not in self._speech:
            self._speech[corpus, split] = self._measured(corpus, split) or self._counted(corpus, split)
        return self._speech[corpus, split]

    def bytes(self, job: dict[str, Any]) -> int:
        """What a job will write."""
        w, stage = job["wildcards"], job["stage"]
        if stage == "fetch":
            return packages.published(self.config, w["kind"])[w["archive"]].size_bytes * 2  # packed and unpacked
        if stage == "hub":
            return self._of_hub(w["model"], w["revision"])
        if stage in ("data", "features", "segments"):
            speech = self.speech(w["corpus"], w["split"])
            frames = speech.seconds * FRAMES_PER_SECOND
            if stage == "data":  # shares are copied into the whole
                share = self._share(job) or 1.0
                return int(share * (speech.seconds * RATE_HZ * BYTES["int16"] + speech.utterances * ROW_BYTES))
            if stage == "features":  # shares are linked into the whole
                held = BYTES[self.config.features.dtype] * self._share(job)
                return int(frames * self.model.width * held + speech.utterances * ROW_BYTES)
            return int(4 * (frames + frames / frames_per_token(w["ratio"]) + 3 * speech.utterances))
        if stage == "train":
            return 4 * self.model.lora(self.config) + 130 * self.config.train.steps + 10_000
        if stage == "evaluate":
            sets = self.config.test_sets(w["compressor"], w["ratio"])
            decoded = sum(self.utterances(part) for part in sets) * self._runs(w)
            return int(PREDICTION_BYTES * decoded + RECORD_BYTES * len(sets) * self._runs(w))
        if stage == "report":
            shown = self.config.report.examples * len(self.config.evaluate.sets) * len(self.config.cells)
            return 2 * (PAGE_BYTES + EXAMPLE_BYTES * shown)  # the page lies in the sealed folder and beside it
        return 0

    def bytes_of_all(self) -> int:
        """What the whole experiment writes from nothing."""
        config = self.config
        whole = {"share": str(scatter.Share(1, 1))}
        splits = [{"corpus": corpus, "split": split} | whole for corpus, split in config.places]
        copied = [split for split in splits if scatter.shares(config, split["corpus"], split["split"])]
        cells = [{"compressor": compressor, "ratio": ratio_text(ratio)} for compressor, ratio in config.cells]
        adapters = [cell for cell in cells for _ in config.adapters(**cell)]
        by_stage = {"data": [*splits, *copied], "features": splits, "train": adapters, "evaluate": cells}
        by_stage["report"] = [{}]
        named = [layout.hub(*one).parts[-2:] for one in keys.on_the_hub(config)]
        by_stage["hub"] = [{"model": model, "revision": revision} for model, revision in named]
        by_stage["segments"] = [split | cell for split in splits for cell in cells]
        fetched = {archive.file: archive.size_bytes for place in config.places for archive in self._archives(*place)}
        made = sum(self.bytes({"stage": stage, "wildcards": w}) for stage, all in by_stage.items() for w in all)
        return made + 2 * sum(fetched.values())  # packed and unpacked

    def gpu_bytes(self, job: dict[str, Any]) -> int:
        """What a job needs of a GPU's memory, roughly: weights, activations, and what CUDA takes itself."""
        stage, chosen, model = job["stage"], self.config, self.model
        if stage == "features":
            held = BYTES[chosen.features.precision]
            hidden = chosen.features.batch_seconds * 2 * FRAMES_PER_SECOND * (self.model.audio["encoder_ffn_dim"] * 3)
            return int(CUDA_BYTES + held * (model.encoder + model.embeddings + hidden))
        if stage not in ("train", "evaluate"):
            return 0
        section = chosen.train if stage == "train" else chosen.evaluate
        parts = [p for s in chosen.train.sets for p in s.parts] if stage == "train" else list(chosen.evaluate.sets)
        positions = section.batch * max(self._positions(part, job["wildcards"]) for part in parts)
        if stage == "train" and chosen.train.batch_tokens:
            positions = min(positions, chosen.train.batch_tokens)
        held = BYTES[section.precision]
        if stage == "evaluate":
            weights = (0.55 if chosen.base.four_bit else held) * model.llm + held * model.embeddings
            cache = 2 * model.layers * positions * model.values * held
            return int(CUDA_BYTES + weights + cache + 4 * section.batch * model.text["vocab_size"])
        held_in = 2 if model.bfloat16 and section.precision == "bfloat16" else 4
        weights = (0.55 if chosen.base.four_bit else held_in) * model.llm + held_in * model.embeddings
        activations = held * model.layers * positions * (10 * model.hidden + 4 * model.inner)
        logits = 4 * 3 * section.batch * TEXT * model.text["vocab_size"]
        return int(CUDA_BYTES + weights + activations + logits + 16 * model.lora(chosen))

    def work(self, job: dict[str, Any]) -> float:
        """How much a job has to do, in its stage's unit."""
        w, stage = job["wildcards"], job["stage"]
        if stage in ("data", "features"):
            return self.speech(w["corpus"], w["split"]).seconds * self._share(job)
        if stage == "segments":
            return self.speech(w["corpus"], w["split"]).seconds
        if stage == "train":
            parts = self.config.train_set(w["train_set"]).parts
            mean = sum(self._positions(part, w) for part in parts) / len(parts)
            return self.config.train.steps * self.config.train.batch * mean
        if stage == "evaluate":
            sets = self.config.test_sets(w["compressor"], w["ratio"])
            return self._runs(w) * sum(self.utterances(part) * self._positions(part, w) for part in sets)
        return 0.0

    def answered(self, job: dict[str, Any]) -> float:
        """Tokens that an evaluate job decodes, one after the other."""
        w = job["wildcards"]
        if job["stage"] != "evaluate":
            return 0.0
        spoken = 0.0
        for part in self.config.test_sets(w["compressor"], w["ratio"]):
            speech = self.speech(part.corpus, part.split)
            spoken += self.utterances(part) * speech.seconds / max(speech.utterances, 1)
        return TOKENS_PER_SECOND * spoken * self._runs(w)

    def flop(self, stage: str) -> float:
        """Floating-point operations per unit of work; training goes back through frozen layers."""
        if stage == "features":
            return 2.0 * self.model.encoder * 2 * FRAMES_PER_SECOND
        return {"train": 4.0, "evaluate": 2.0}.get(stage, 0.0) * self.model.llm

    def utterances(self, part: Part) -> float:
        """How many utterances of a part are decoded."""
        held, most = self.speech(part.corpus, part.split).utterances, getattr(part, "utterances", None)
        return min(held, most or held)

    def _positions(self, part: Part, cell: dict[str, str]) -> float:
        """Of the language model, for a mean utterance."""
        speech = self.speech(part.corpus, part.split)
        return FRAMES_PER_SECOND * speech.seconds / max(speech.utterances, 1) / frames_per_token(cell["ratio"]) + TEXT

    def _runs(self, cell: dict[str, str]) -> int:
        """How often a cell is decoded: zero-shot, and with each adapter."""
        return 1 + len(self.config.adapters(cell["compressor"], cell["ratio"]))

    def _measured(self, corpus: str, split: str) -> Speech | None:
        try:
            seal = sealing.read_seal(layout.data(self.config.name, corpus, split))
            return Speech(seal["utterances"], seal["hours"] * 3600, "measured")
        except (sealing.DamagedError, KeyError):
            return None

    def _counted(self, corpus: str, split: str) -> Speech:
        """As its corpus says; guessed where that says nothing."""
        size = corpora.size(self.config.corpus(corpus), split)
        if size:
            return Speech(size.utterances, size.hours * 3600, "counted")
        return Speech(1000, 1000 * UNKNOWN_S, "guessed")

    def _of_hub(self, model: str, revision: str) -> int:
        """Bytes of a model on the hub, named by its folder: the base, or a part of one that is assembled."""
        made, sizes = self.config.base.assembled, self.model
        if made is None:
            return sizes.bytes
        held = 2 if sizes.bfloat16 else 4
        parts = {
            made.encoder.folder.parts[-2:]: sizes.encoder,
            made.llm.folder.parts[-2:]: sizes.llm + sizes.embeddings,
        }
        return held * parts[model, revision]

    def _archives(self, corpus: str, split: str) -> list[Archive]:
        return corpora.archives(self.config.corpus(corpus), split)

    def _share(self, job: dict[str, Any]) -> float:
        """How much of a split's work is a job's: a share, nothing where it only gathers shares, or all of it."""
        w = job["wildcards"]
        if "share" in w:
            return 1 / scatter.parse(w["share"]).of
        return 0.0 if scatter.shares(self.config, w["corpus"], w["split"]) else 1.0


def frames_per_token(ratio: str) -> float:
    """The number that a ratio's text stands for, or about that for a compressor's own."""
    return NATURAL if ratio == "natural" else float(ratio)
