# What the rules share: the config, and for each rule its output, its inputs and its key, as artefacts/dag.py has them.
# Rules see of an artefact only its seal.json: small, so it is judged by content, and it holds the SHA-256 of the rest.

from pathlib import Path

from concertina.artefacts import dag, keys
from concertina.config import ConfigError, load
from concertina.tracking import mlflow_client, replay

# A Path, for of params Snakemake compares plain values alone: what the file holds counts, not where it is.
CONFIG_FILE = Path(config.get("experiment", "config.yaml"))
try:
    CONFIG = load(CONFIG_FILE)
    keys.check(CONFIG)
except ConfigError as error:
    raise SystemExit(f"error: {error}")
NAME = CONFIG.name

# What jobs run in where `--sdm conda` is given: `--config environment=cuda` for a machine with an NVIDIA GPU. It holds
# no Concertina, and Snakemake takes PYTHONPATH away from it, so each shell line finds the package by this prefix.
ENVIRONMENT = f"../../envs/{config.get('environment', 'cpu')}.yaml"
shell.prefix("set -euo pipefail; export PYTHONPATH=$PWD/src${{PYTHONPATH:+:$PYTHONPATH}}; ")


wildcard_constraints:
    corpus="[a-z0-9][a-z0-9_-]*",
    split="[a-z0-9][a-z0-9_-]*",
    train_set="[a-z0-9][a-z0-9_-]*",
    cell="[a-z][a-z0-9_]*-(natural|[0-9.]+)(-[A-Za-z0-9_.=]+)*",
    seed="[0-9]+",
    kind="[a-z][a-z0-9_]*",
    archive="[A-Za-z0-9][A-Za-z0-9._-]*",
    model="[A-Za-z0-9][A-Za-z0-9._-]*",
    revision="[A-Za-z0-9][A-Za-z0-9._-]*",
    share="[0-9]+-of-[0-9]+",


def folder_of(kind):
    """Where a rule's artefact lies, with the rule's wildcards in it."""
    return dag.row(kind).folder.replace("{name}", NAME)


def seal_of(kind):
    """The file that says a rule's artefact is finished."""
    return f"{folder_of(kind)}/seal.json"


def log_of(kind):
    """Where the messages of a rule's job are kept."""
    return "logs/{}.log".format(folder_of(kind).partition("/")[2])


def inputs_of(kind):
    """What a rule's artefact is made from, and what must be there before although it decides no result."""

    def seals(w):
        artefact = dag.artefact(CONFIG, kind, **w)
        before = [ancient(str(one.seal)) for one in dag.after(CONFIG, artefact)]
        return [str(one.seal) for one in dag.needs(CONFIG, artefact)] + before

    return seals


def shares_of(kind):
    """What a long split is gathered from: its shares, or nothing where one job makes it whole."""
    return lambda w: [str(share.folder) for share in dag.shares(CONFIG, dag.artefact(CONFIG, kind, **w))]


def key_of(kind):
    """What decides a rule's artefact beside its inputs, and what it makes on the way."""

    def key(w):
        artefact = dag.artefact(CONFIG, kind, **w)
        inner = [one for one in dag.inputs(CONFIG, artefact) if dag.row(one.kind).inside]
        return {**dag.key(CONFIG, artefact), **{one.run: dag.key(CONFIG, one) for one in inner}}

    return key
