"""Keys: what decides each stage's own work, and the run key computed from it, for re-runs and for provenance.

A key is a plain dictionary of the config values, the code, the packages, the pinned model and the external files
that can change what a stage makes of its inputs. The inputs themselves are described by their own keys. Threads are
part of a key where they can change the last bits of a result.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from concertina import compressors, corpora
from concertina.artefacts import fingerprint, packages, tags
from concertina.config import Base, Cell, Config, ConfigError, Corpus, Part, Pretrained, Section, claims
from concertina.nearest import nearest
from concertina.store import sealing

Key = dict[str, Any]
BESIDE = ("*.json", "*.jinja", "merges.txt")  # what decides beside the weights how a checkpoint is read
ABOUT = {sealing.SEAL, "training.json"}  # files beside a checkpoint with its provenance, which decides no result


def run_key(key: Key, inputs: Sequence[str] = ()) -> str:
    """Return 16 hexadecimal digits for a stage's key and the run keys of its inputs, in any order of the inputs."""
    text = json.dumps([key, sorted(inputs)], sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check(config: Config) -> None:
    """Check before any work that every file that the config names is there. Errors: ConfigError naming it."""
    kinds = [corpus.kind for corpus in config.data.corpora] + [packages.KIND] * bool(packages.of_base(config))
    for kind in config.data.mirrors:
        if kind not in kinds:
            raise ConfigError(f"data.mirrors: no corpus is of kind {kind!r}{nearest(kind, kinds)}")
    for section in config.data.corpora:
        corpora.check_limits(section)
    for corpus, split in config.splits:
        data(config, corpus, split)
    for cell in config.cuts:
        compressors.check_cell(cell)
    _check_base(config.base)
    tags.check(config)
    if config.gate and not Path(config.gate.published).is_file():
        raise ConfigError(f"gate.published: no file {config.gate.published}")
    for name in {name for names in config.evaluate.metrics.values() for name in names} | config.report.margins.keys():
        _plugin("metrics", name)
    judged = [side for claim in claims.read(Path(config.report.claims)) for test in claim.tests for side in test.sides]
    published = [figure.side for figure in claims.read_table(Path(config.report.paper_table))]
    for name in sorted({side.compressor for side in (*judged, *published)}):
        _plugin("compressors", name)


def _check_base(base: Base) -> None:
    """Check the files beside the weights of a base that has a seal. Errors: ConfigError naming the one that changed.

    Unnoticed, one flipped bit in a tokenizer would be another base, on which everything is made again.
    """
    if base.made_here:
        return
    if not base.folder.is_dir():
        raise ConfigError(f"base.model: no folder {base.folder}; a model on the hub needs its `revision`, a commit")
    if not (base.folder / sealing.SEAL).exists():
        return
    try:
        sealing.verify(base.folder, *BESIDE)
    except sealing.DamagedError as error:
        damage = str(error).partition(";")[0]
        raise ConfigError(
            f"base.model: {damage}; restore {base.folder} (the shipped one by `git checkout HEAD -- {base.folder}`), "
            f"or, if you changed it on purpose, remove {base.folder / sealing.SEAL}"
        ) from None


def _check_split(corpus: Corpus, split: str) -> None:
    """Check that a corpus has a split. Errors: ConfigError naming the nearest.

    Only where the config does not list its splits is the corpus' file asked, since most import slowly.
    """
    names = list(corpus.options.get("splits") or corpora.load(corpus.kind).splits(corpora.options(corpus)))
    if split not in names:
        raise ConfigError(f"data.corpora: {corpus.name} has no split {split!r}{nearest(split, list(map(str, names)))}")


def data(config: Config, corpus: str, split: str, **_: Any) -> Key:
    """Return the key of one split of a corpus: its own options, and the content of the files it is read from.

    Errors: ConfigError naming a split that the corpus does not list.
    """
    section = config.corpus(corpus)
    _check_split(section, split)
    plugin = _plugin("corpora", section.kind)
    options: Key = json.loads(json.dumps(section.options, default=str))
    if isinstance(options.get("splits"), dict):  # the other splits do not decide this one
        options["splits"] = {split: options["splits"].get(split)}
    elif split in options.get("splits", []):
        options["splits"] = [split]
    files = {}
    if fingerprint.defines(plugin, "sources"):  # the file is run only then, since most corpora import slowly
        alone = Corpus.model_validate({"name": corpus, "kind": section.kind, **options})
        files = {"sources": fingerprint.files_hash(corpora.sources(alone))}
    limit = {"utterances": section.utterances[split]} if split in section.utterances else {}
    return {**_code("data", plugin), "kind": section.kind, "split": split, "options": options, **files, **limit}


def fetch(config: Config, kind: str, archive: str) -> Key:
    """Return the key of a published archive: its content decides, not the address or the code that fetches it."""
    published = packages.published(config, kind)[archive]
    return {"digest": fingerprint.files_hash([published.path]) if published.path else published.digest}


def hub_model(config: Config, model: str, revision: str) -> Key:
    """Return the key of a model on the hub at a revision."""
    return hub(model, revision)


def hub(model: str, revision: str) -> Key:
    """Return the key of a model on the hub at a revision, which is the same in every experiment."""
    return {"model": model, "revision": revision}


def hub_at(model: str, revision: str, commit: str) -> Key:
    """Return the key in the seal of a model on the hub: with the commit that the revision meant when it was fetched."""
    return {**hub(model, revision), "commit": commit}


def on_the_hub(config: Config) -> list[tuple[str, str]]:
    """Return the models on the hub that a config names, each with its revision."""
    joined = config.base.assembled
    models: list[Base | Pretrained] = [config.base, *((joined.encoder, joined.llm) if joined else ())]
    return [(part.model, part.revision) for part in models if part.revision]


def base(config: Config) -> Key:
    """Return the key of a joined base: its encoder, its LLM and its recipe; the speech is an input."""
    joined = config.joined
    sources = [_source(part) for part in (joined.encoder, joined.llm)]
    about = {"prompts": config.base.prompts, "parts": [part.model_dump() for part in joined.parts], "sources": sources}
    return {**_code("bases.join"), **about, "recipe": joined.recipe, "batch_seconds": config.features.batch_seconds}


def identity(config: Config) -> str:
    """Return what an adapter records of its base: its run key where it is made here, else the hash of its weights."""
    if config.base.made_here:
        return str(sealing.read_seal(config.base.folder)["run_key"])
    return _weights(config.base.folder, config.base.sha256)


def of_section(stage: str) -> Callable[..., Key]:
    """Return the key function of a stage that its own section of the config, its code and the base decide."""

    def key(config: Config, **where: Any) -> Key:
        section: Section = getattr(config, stage)
        return {**_code(stage), **_base(config), **section.model_dump(mode="json")}

    return key


def segments(config: Config, corpus: str, split: str, cell: Cell) -> Key:
    """Return the key of a cell's segments: the compressor's code and options, the ratio, the seed where it draws."""
    code = _code("segments", _plugin("compressors", cell.compressor))
    seed = config.segments.seed if "seeds" in compressors.describe(cell.compressor).reads else None
    ratio, options = str(cell.ratio), dict(cell.options)
    return {**code, "compressor": cell.compressor, "ratio": ratio, "options": options, "seed": seed}


def train(config: Config, train_set: str, cell: Cell, seed: int) -> Key:
    """Return the key of an adapter: its training set, the budget, the seed, and how tokens are placed."""
    learnt = config.train_set(train_set)
    caps = {name: value for name, value in config.evaluate.model_dump().items() if name.startswith("max_new_tokens")}
    return {
        **_code("train"),
        **_model(config, [*learnt.parts, *learnt.dev]),
        **_tokens(config, cell),
        "set": learnt.model_dump(exclude={"name", "cells", "seeds"}),
        "budget": config.train.model_dump(exclude={"sets", "checkpoint_s"}),
        **(caps if config.train.dev_transcribed else {}),
        "seed": seed,
    }


def decode(config: Config, cell: Cell, test_set: str, run: str) -> Key:
    """Return the key of one cell's texts on one test set; an adapter is an input and so not part of it."""
    part = config.test_set(test_set)
    return {
        **_code("model.decoding"),
        **_model(config, [part]),
        **_tokens(config, cell),
        **_decoding(config),
        "set": part.model_dump(exclude={"name", "needs", "cells", "judged"}),
    }


def scores(config: Config, task: str) -> Key:
    """The scores of one decoded test set: the metrics of its task, and the reason why a gate was passed over."""
    names = {str(task): names for task, names in config.evaluate.metrics.items()}.get(task, [])
    override = {"override": config.gate.override} if config.gate and config.gate.override else {}
    return {**_code("reporting.scoring", *(_plugin("metrics", name) for name in names)), "metrics": names, **override}


def evaluate(config: Config, cell: Cell) -> Key:
    """Return the key of the scores of one way of cutting: which metrics, on which test sets, of which adapters."""
    sets = list({test_set.name: test_set for one in config.placed(cell) for test_set in config.test_sets(one)}.values())
    return {
        **{task: scores(config, task) for task in sorted({test_set.task for test_set in sets})},
        "sets": [test_set.name for test_set in sets],
        "adapters": [f"{one} {adapter.name}" for one in config.placed(cell) for adapter in config.adapters(one)],
    }


def gate(config: Config) -> Key:
    """Return the key of the gate: the published figures and the tolerances. Errors: ConfigError where there is none."""
    if config.gate is None:
        raise ConfigError("gate: this config has none")
    names = {name for part in (*config.gate_sets, *config.trial) for name in config.evaluate.metrics.get(part.task, [])}
    published = fingerprint.files_hash([Path(config.gate.published)])
    code = _code("checks.gate", *(_plugin("metrics", name) for name in names))
    trial = {**_model(config, config.trial), **_decoding(config)} if config.trial else {}
    return {**code, "asked": config.gate.model_dump(), "published": published, **trial}


def whisper(config: Config) -> Key:
    """Return the key of the scores of the whole Whisper of a joined base, on every transcription set."""
    joined = config.base.assembled
    names = config.evaluate.metrics.get("transcribe", [])
    return {
        **_code("checks.whisper", *(_plugin("metrics", name) for name in names)),
        "encoder": _source(joined.encoder) if joined else None,
        "sets": [s.model_dump(exclude={"cells", "judged"}) for s in config.evaluate.sets if s.task == "transcribe"],
        "metrics": names,
        "intervals": [config.report.bootstrap_samples, config.report.confidence_percent],
    }


def report(config: Config) -> Key:
    """Return the key of the report: which cells, metrics and settings it shows, and by which code and templates."""
    names = sorted({name for names in config.evaluate.metrics.values() for name in names})
    read = ("concertina.store.predictions", "concertina.store.records")  # these decide no other stage's result
    parts = (f"concertina.reporting.parts.{name}" for name in fingerprint.plugins("reporting/parts"))
    code = _code("report", *read, *parts, *(_plugin("metrics", name) for name in names))
    templates = fingerprint.files_hash(sorted((fingerprint.SOURCES / "reporting" / "templates").glob("*")))
    judged = fingerprint.files_hash([Path(config.report.claims), Path(config.report.paper_table)])
    cells, skipped = [cell.name for cell in config.cells], config.evaluate.skipped
    shown = {"cells": cells, "metrics": config.evaluate.metrics, "skipped": skipped, **config.report.model_dump()}
    shown["margins"] = dict(sorted(config.report.margins.items()))  # params are compared in their order
    sets = [test_set.name for test_set in config.judged_sets]
    return {**code, "templates": templates, "judged": [judged, sets], **shown}


def track(config: Config) -> Key:
    """Return the key of the mirror in a tracker: empty, as the tracker's address is a parameter of the rule."""
    return {}


def _code(stage: str, *plugins: str) -> Key:
    """Return the code and packages of a stage's key: those of its module and of the plug-ins that it runs."""
    module, plugins = f"concertina.{stage}", tuple(sorted(set(plugins)))
    return {"code": fingerprint.code_hash(module, plugins), "packages": fingerprint.packages(module, plugins)}


def _model(config: Config, parts: Iterable[Part]) -> Key:
    """Return the key of the whole model as some parts use it: the base, and the prompts of their tasks alone."""
    prompts = {task: config.base.prompts[task] for task in sorted({part.task for part in parts})}
    four_bit = {"four_bit": True} if config.base.four_bit else {}
    return {**_base(config), **four_bit, "prompts": prompts}


def _decoding(config: Config) -> Key:
    """Return the settings by which texts are decoded."""
    return {"decode": config.evaluate.model_dump(exclude={"metrics", "sets", "skipped"})}


def _base(config: Config) -> Key:
    """Return the key of the base: its origin, or a folder's pinned weights and the files beside them."""
    if config.base.revision:
        return {"base": hub(config.base.model, config.base.revision)}
    if config.base.assembled:
        return {"base": base(config)}
    return {"model": _weights(config.base.folder, config.base.sha256), **_beside(config.base.folder)}


def _weights(folder: Path, pinned: str) -> str:
    """Return the SHA-256 that the config pins, or where it pins none, a hash of the weights that are there now."""
    return pinned or fingerprint.files_hash(sorted(folder.glob("*.safetensors")))


def _source(part: Pretrained) -> Key:
    """Return what pins a part of a joined base: a package's hash, a hub model's revision, or a folder's files."""
    if part.package:
        return {"digest": packages.archive(part).digest}
    if part.revision:
        return hub(part.model, part.revision)
    return {"weights": _weights(part.folder, ""), **_beside(part.folder)}


def _beside(folder: Path) -> Key:
    """Return the files beside the weights that decide how they are read: configs, tokenizer, processor."""
    paths = (path for pattern in BESIDE for path in folder.glob(pattern))
    beside = sorted(path for path in paths if path.name not in ABOUT)
    return {"said": [path.name for path in beside], "files": fingerprint.files_hash(beside)}


def _tokens(config: Config, cell: Cell) -> Key:
    """Return the settings that decide where audio tokens are placed and pooled."""
    return {"positions": cell.positions, "pool_at": config.segments.pool_at}


def _plugin(folder: str, name: str) -> str:
    """Return the module of a plug-in. Errors: ConfigError naming the file that is missing and the nearest one."""
    module = f"concertina.{folder}.{name}"
    if not fingerprint.source_file(module).exists():
        near = nearest(name, fingerprint.plugins(folder))
        raise ConfigError(f"{folder}: {name!r} has no file src/concertina/{folder}/{name}.py{near}")
    return module
