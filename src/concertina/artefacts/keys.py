"""What decides each stage's own work, and the run key made of it: the one source for re-runs and for provenance.

A key is a plain dictionary of the config values, the code, the packages, the pinned model and the external files
that can change what a stage makes out of its inputs; what its inputs are is in their own keys. Threads are part
of a key where they can change the last bits of a result.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from concertina import compressors, corpora
from concertina.artefacts import fingerprint, packages
from concertina.config import UNCOMPRESSED, Base, Config, ConfigError, Corpus, Gate, Part, Pretrained, ratio_text
from concertina.nearest import nearest
from concertina.store import sealing

Key = dict[str, Any]
ABOUT = {"seal.json", "training.json"}  # beside a checkpoint: its provenance, which no result depends on


def run_key(key: Key, inputs: Sequence[str] = ()) -> str:
    """16 hexadecimal digits for a stage's key and the run keys of its inputs, in any order of the inputs."""
    text = json.dumps([key, sorted(inputs)], sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check(config: Config) -> None:
    """Find out before any work whether every file that the config names is there. Errors: ConfigError naming it."""
    kinds = [corpus.kind for corpus in config.data.corpora] + [packages.KIND] * bool(packages.chosen(config))
    for kind in config.data.mirrors:
        if kind not in kinds:
            raise ConfigError(f"data.mirrors: no corpus is of kind {kind!r}{nearest(kind, kinds)}")
    for corpus, split in config.places:
        data(config, corpus, split)
        _check_split(config, corpus, split)
    for line in config.segments.cells:
        for ratio in line.ratios:
            compressors.check_cell(line.compressor, ratio, line.options)
    if config.gate and not Path(config.gate.published).is_file():
        raise ConfigError(f"gate.published: no file {config.gate.published}")
    for name in {name for names in config.evaluate.metrics.values() for name in names}:
        _plugin("metrics", name)


def _check_split(config: Config, corpus: str, split: str) -> None:
    """See that a corpus which lists its splits has this one. Errors: ConfigError naming the nearest."""
    splits = config.corpus(corpus).options.get("splits")
    if isinstance(splits, dict | list) and split not in splits:
        raise ConfigError(f"data.corpora: {corpus} has no split {split!r}{nearest(split, [str(s) for s in splits])}")


def data(config: Config, corpus: str, split: str) -> Key:
    """One split of one corpus: its own options, and the content of the files it is read from."""
    chosen = config.corpus(corpus)
    plugin = _plugin("corpora", chosen.kind)
    options: Key = json.loads(json.dumps(chosen.options, default=str))
    if isinstance(options.get("splits"), dict):  # the other splits are not this split's business
        options["splits"] = {split: options["splits"].get(split)}
    elif split in options.get("splits", []):
        options["splits"] = [split]
    files = {}
    if fingerprint.defines(plugin, "sources"):  # only then is its file run: most corpora import slowly
        alone = Corpus.model_validate({"name": corpus, "kind": chosen.kind, **options})
        files = {"sources": fingerprint.files_hash(corpora.sources(alone))}
    return {**_code("data", plugin), "kind": chosen.kind, "split": split, "options": options, **files}


def fetch(config: Config, kind: str, archive: str) -> Key:
    """A published archive: what it is decides, not where it is fetched from or by which code."""
    chosen = packages.published(config, kind)[archive]
    return {"digest": fingerprint.files_hash([chosen.path]) if chosen.path else chosen.digest}


def hub(model: str, revision: str) -> Key:
    """What a model on the hub holds at a revision."""
    return {"model": model, "revision": revision}


def hub_at(model: str, revision: str, commit: str) -> Key:
    """What is sealed of a model on the hub: the commit that its revision stood for when it was fetched."""
    return {**hub(model, revision), "commit": commit}


def on_the_hub(config: Config) -> list[tuple[str, str]]:
    """The models on the hub that a config names, each with its revision."""
    made = config.base.assembled
    named: list[Base | Pretrained] = [config.base, *((made.encoder, made.llm) if made else ())]
    return [(part.model, part.revision) for part in named if part.revision]


def base(config: Config) -> Key:
    """An assembled base: what it is made of besides the speech and the packages, and how."""
    made = config.base.assembled
    if made is None:
        raise ConfigError("base.assembled: this config has none; its base is fetched, or there already")
    sources = [_source(part) for part in (made.encoder, made.llm)]
    about = {"prompts": config.base.prompts, "parts": [part.model_dump() for part in made.parts], "sources": sources}
    return {**_code("bases.join"), **about, "recipe": made.recipe, "batch_seconds": config.features.batch_seconds}


def base_seals(config: Config) -> list[str]:
    """The run key of a base that a run fetches or makes, which is an input of what reads it. Errors: DamagedError."""
    return [str(sealing.read_seal(config.base.folder)["run_key"])] if config.base.comes else []


def identity(config: Config) -> str:
    """What an adapter says of the base that it was trained for: the hash that pins it, or its run key."""
    return config.base.sha256 or "".join(base_seals(config))


def features(config: Config, corpus: str, split: str) -> Key:
    """The frozen encoder over one split; the same for every split."""
    return {**_code("features"), **_base(config), **config.features.model_dump()}


def segments(config: Config, corpus: str, split: str, compressor: str, ratio: str) -> Key:
    """One cell's cuts in one split: the compressor's file and options, the ratio, the seed where it draws."""
    options = config.cell(compressor, ratio).options
    code = _code("segments", _plugin("compressors", compressor))
    seed = config.segments.seed if compressors.describe(compressor).draws else None
    return {**code, "compressor": compressor, "ratio": ratio, "options": options, "seed": seed}


def train(config: Config, train_set: str, compressor: str, ratio: str, seed: int) -> Key:
    """One adapter: its training set, the budget, the seed, and how tokens are placed."""
    chosen = config.train_set(train_set)
    return {
        **_code("train"),
        **_model(config, [*chosen.parts, *chosen.dev]),
        **_tokens(config, compressor, ratio),
        "set": chosen.model_dump(exclude={"name", "cells", "seeds"}),
        "budget": config.train.model_dump(exclude={"sets", "checkpoint_s"}),
        "seed": seed,
    }


def evaluate(config: Config, compressor: str, ratio: str) -> Key:
    """One cell, decoded and scored zero-shot and with each of its adapters on every test set."""
    sets = config.test_sets(compressor, ratio)
    tasks = {test_set.task for test_set in sets}
    metrics = {task: names for task, names in config.evaluate.metrics.items() if task in tasks}
    plugins = [_plugin("metrics", name) for names in metrics.values() for name in names]
    return {
        **_code("evaluate", *plugins),
        **_model(config, sets),
        **_tokens(config, compressor, ratio),
        "adapters": [[train_set, seed] for train_set, seed in config.adapters(compressor, ratio)],
        "decode": {
            **config.evaluate.model_dump(exclude={"metrics", "sets"}),
            "sets": [test_set.model_dump(exclude={"cells"}) for test_set in sets],
        },
        "metrics": metrics,
    }


def gate(config: Config) -> Key:
    """The uncompressed base against published figures: what is decoded, and what is asked of it."""
    if config.gate is None:
        raise ConfigError("gate: this config has none")
    published = fingerprint.files_hash([Path(config.gate.published)])
    return {**baseline(config, config.gate), "asked": config.gate.model_dump(), "published": published}


def baseline(config: Config, chosen: Gate) -> Key:
    """The uncompressed base, zero-shot, on the gate's sets."""
    sets = [test_set for test_set in config.evaluate.sets if test_set.name in chosen.figures]
    names = {name for test_set in sets for name in config.evaluate.metrics.get(test_set.task, [])}
    return {
        **_code("checks.gate", *(_plugin("metrics", name) for name in names)),
        **_model(config, sets),
        **_tokens(config, *UNCOMPRESSED),
        "decode": config.evaluate.model_dump(exclude={"metrics", "sets"}),
        "sets": [test_set.model_dump(exclude={"cells"}) for test_set in sets],
    }


def whisper(config: Config) -> Key:
    """The whole Whisper of an assembled base, on every transcription set."""
    made = config.base.assembled
    names = config.evaluate.metrics.get("transcribe", [])
    return {
        **_code("checks.whisper", *(_plugin("metrics", name) for name in names)),
        "encoder": _source(made.encoder) if made else None,
        "sets": [s.model_dump(exclude={"cells"}) for s in config.evaluate.sets if s.task == "transcribe"],
        "metrics": names,
        "intervals": [config.report.bootstrap_samples, config.report.confidence_percent],
    }


def report(config: Config) -> Key:
    """The report over all records: which cells, and how they are shown."""
    names = sorted({name for names in config.evaluate.metrics.values() for name in names})
    read = ("concertina.store.predictions", "concertina.store.records")  # neutral elsewhere
    code = _code("report", *read, *(_plugin("metrics", name) for name in names))
    templates = fingerprint.files_hash(sorted((fingerprint.SOURCES / "reporting" / "templates").glob("*")))
    cells = [[compressor, ratio_text(ratio)] for compressor, ratio in config.cells]
    skipped = config.evaluate.skipped
    shown = {"cells": cells, "metrics": config.evaluate.metrics, "skipped": skipped, **config.report.model_dump()}
    return {**code, "templates": templates, **shown}


def _code(stage: str, *plugins: str) -> Key:
    module, plugins = f"concertina.{stage}", tuple(sorted(set(plugins)))
    return {"code": fingerprint.code_hash(module, plugins), "packages": fingerprint.packages(module, plugins)}


def _model(config: Config, parts: Iterable[Part]) -> Key:
    prompts = {task: config.base.prompts[task] for task in sorted({part.task for part in parts})}
    four_bit = {"four_bit": True} if config.base.four_bit else {}
    return {**_base(config), **four_bit, "prompts": prompts}


def _base(config: Config) -> Key:
    """The base: where it comes from, or the pinned weights of a folder and what stands beside them."""
    if config.base.revision:
        return {"base": hub(config.base.model, config.base.revision)}
    if config.base.assembled:
        return {"base": base(config)}
    return {"model": config.base.sha256, **_said(config.base.folder)}


def _source(part: Pretrained) -> Key:
    """What pins a part of an assembled base: of a package its hash, of the hub its revision, else its files."""
    if part.package:
        return {"digest": packages.archive(part).digest}
    if part.revision:
        return hub(part.model, part.revision)
    weights = sorted(part.folder.glob("*.safetensors"))
    return {"weights": fingerprint.files_hash(weights), **_said(part.folder)}


def _said(folder: Path) -> Key:
    """The files beside the weights that say how they are read: configs, tokenizer, processor."""
    beside = (path for pattern in ("*.json", "*.jinja", "merges.txt") for path in folder.glob(pattern))
    said = sorted(path for path in beside if path.name not in ABOUT)
    return {"said": [path.name for path in said], "files": fingerprint.files_hash(said)}


def _tokens(config: Config, compressor: str, ratio: str) -> Key:
    grid = config.segments
    return {"compressor": compressor, "ratio": ratio, "positions": grid.positions, "pool_at": grid.pool_at}


def _plugin(folder: str, name: str) -> str:
    """The module of a plug-in. Errors: ConfigError naming the file that is missing and the nearest that is there."""
    module = f"concertina.{folder}.{name}"
    if not fingerprint.source_file(module).exists():
        near = nearest(name, fingerprint.plugins(folder))
        raise ConfigError(f"{folder}: {name!r} has no file src/concertina/{folder}/{name}.py{near}")
    return module
