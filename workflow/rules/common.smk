# What the rules share: the config, the names of artefacts, and which of them a cell is made from.
# Rules see of an artefact only its seal.json: small, so it is judged by content, and it holds the SHA-256 of the rest.

import functools
from pathlib import Path

from concertina import corpora
from concertina.artefacts import keys, layout, scatter
from concertina.tracking import mlflow_client, replay
from concertina.config import UNCOMPRESSED, ConfigError, load, ratio_text

# A Path, for of params Snakemake compares plain values alone: what the file holds counts, not where it is.
CONFIG_FILE = Path(config.get("experiment", "config.yaml"))
try:
    CONFIG = load(CONFIG_FILE)
    keys.check(CONFIG)
    SHARES = scatter.plan(CONFIG)
except ConfigError as error:
    raise SystemExit(f"error: {error}")
NAME = CONFIG.name
HUB = {layout.hub(*one).parts[-2:]: one for one in keys.on_the_hub(CONFIG)}  # models by the names of their folders

# What jobs run in where `--sdm conda` is given: `--config environment=cuda` for a machine with an NVIDIA GPU. It holds
# no Concertina, and Snakemake takes PYTHONPATH away from it, so each shell line finds the package by this prefix.
ENVIRONMENT = f"../../envs/{config.get('environment', 'cpu')}.yaml"
shell.prefix("set -euo pipefail; export PYTHONPATH=$PWD/src${{PYTHONPATH:+:$PYTHONPATH}}; ")


wildcard_constraints:
    corpus="[a-z0-9][a-z0-9_-]*",
    split="[a-z0-9][a-z0-9_-]*",
    train_set="[a-z0-9][a-z0-9_-]*",
    compressor="[a-z][a-z0-9_]*",
    ratio="natural|[0-9.]+",
    seed="[0-9]+",
    kind="[a-z][a-z0-9_]*",
    archive="[A-Za-z0-9][A-Za-z0-9._-]*",
    model="[A-Za-z0-9][A-Za-z0-9._-]*",
    revision="[A-Za-z0-9][A-Za-z0-9._-]*",
    share="[0-9]+-of-[0-9]+",


def seal(folder):
    """The file that says an artefact is finished; `folder` may hold wildcards."""
    return f"{folder}/{layout.SEAL}"


def log_of(folder):
    """Where the messages of the job that makes `folder` are kept."""
    return "logs/{}.log".format("/".join(folder.parts[1:]))


@functools.cache
def data_key(corpus, split):
    """What decides a split, found out once for all its shares."""
    return keys.data(CONFIG, corpus, split)


def key_of_data(w):
    """The key of the split that a job makes, or a share of."""
    return data_key(w.corpus, w.split)


def archives_of(w):
    """The archives that a split is read from, unpacked."""
    corpus = CONFIG.corpus(w.corpus)
    return [seal(layout.fetched(corpus.kind, archive.name)) for archive in corpora.archives(corpus, w.split)]


def base_of(_):
    """The seal of a base that a run fetches or makes; nothing where it is there already."""
    return [seal(CONFIG.base.folder)] if CONFIG.base.comes else []


def heard_by_base(_):
    """The speech that an assembled base is made with."""
    return [seal(layout.data(NAME, *place)) for place in sorted({(p.corpus, p.split) for p in CONFIG.base.parts})]


def parts_of_base(_):
    """The encoder and the LLM of an assembled base, where a run fetches them."""
    made = CONFIG.base.assembled
    return [seal(part.folder) for part in ((made.encoder, made.llm) if made else ()) if part.comes]


def share_of(stage):
    """The folder of one share of a scattered split."""
    return layout.share(NAME, stage, "{corpus}", "{split}", "{share}")


def shares_of(stage):
    """What a split is gathered from: its shares, or nothing where one job makes it whole."""

    def folders(w):
        chosen = SHARES.get((w.corpus, w.split), [])
        return [layout.share(NAME, stage, w.corpus, w.split, str(share)) for share in chosen]

    return folders


def frames_and_cuts(parts, cell):
    """The features of every (corpus, split) that the parts name, and the cell's segments of them."""
    places = sorted({(part.corpus, part.split) for part in parts})
    features = [layout.features(NAME, *place) for place in places]
    segments = [layout.segments(NAME, *place, cell.compressor, cell.ratio) for place in places]
    return [seal(folder) for folder in features + segments]


def train_inputs(cell):
    """What one adapter learns from: `cell` names train_set, compressor and ratio."""
    train_set = CONFIG.train_set(cell.train_set)
    return frames_and_cuts([*train_set.parts, *train_set.dev], cell)


def adapters(compressor, ratio):
    """Every adapter of a cell: one per training set and seed."""
    chosen = CONFIG.adapters(compressor, ratio)
    return [seal(layout.train(NAME, train_set, compressor, ratio, seed)) for train_set, seed in chosen]


def evaluate_inputs(cell):
    """What one cell is scored on, and with: every test set, every adapter."""
    return frames_and_cuts(CONFIG.test_sets(cell.compressor, cell.ratio), cell) + adapters(cell.compressor, cell.ratio)


def gate_of(_):
    """What has to be passed before anything is trained or scored, where the config has a gate; it decides no result."""
    return [ancient(seal(layout.gate(NAME)))] if CONFIG.gate else []


def gate_inputs(_):
    """What the gate decodes: its sets, uncompressed."""
    sets = [test_set for test_set in CONFIG.evaluate.sets if test_set.name in CONFIG.gate.figures]
    places = sorted({(test_set.corpus, test_set.split) for test_set in sets})
    features = [layout.features(NAME, *place) for place in places]
    return [seal(f) for f in (*features, *(layout.segments(NAME, *place, *UNCOMPRESSED) for place in places))]


def report_inputs(_):
    """The records of every cell and of an assembled base's own Whisper, and the adapters' training curves."""
    cells = [(compressor, ratio_text(ratio)) for compressor, ratio in CONFIG.cells]
    records = [seal(layout.evaluate(NAME, *cell)) for cell in cells]
    own = [seal(layout.whisper(NAME))] if CONFIG.base.assembled else []
    return records + gate_of(_) + own + [adapter for cell in cells for adapter in adapters(*cell)]


def heard_by_whisper(_):
    """The speech of every transcription set, and the encoder's own model where a run fetches it."""
    places = sorted({(s.corpus, s.split) for s in CONFIG.evaluate.sets if s.task == "transcribe"})
    encoder = CONFIG.base.assembled.encoder
    return [seal(layout.data(NAME, *place)) for place in places] + [seal(encoder.folder)] * encoder.comes
