"""Folders that no single experiment owns, or that no rule makes: archives, models, checkpoints, failures.

Every path is relative to the working directory. The folders of an experiment's artefacts are in `artefacts.dag`.
"""

from pathlib import Path

ARCHIVE = "downloads/{kind}/{archive}"  # what a corpus or a package publishes, unpacked
HUB = "downloads/hub/{model}/{revision}"  # a model of the hub at a revision
DATA = "build/{name}/data/{corpus}/{split}"  # one split of a corpus
BASE = "build/{name}/base"  # a base that an experiment joins from an encoder and an LLM
MANIFEST = "manifest.jsonl"  # in a split's data and features: one row per utterance
SLASH = "--"  # replaces "/" in the name of a folder; no name on the hub contains it


def archive(kind: str, name: str) -> Path:
    """Return where an archive that a kind of corpus publishes is unpacked, for every experiment here."""
    return Path(ARCHIVE.format(kind=kind, archive=name))


def hub(model: str, revision: str) -> Path:
    """Return where the files of a model on the hub are kept, for every experiment here."""
    return Path(HUB.format(model=model.replace("/", SLASH), revision=revision.replace("/", SLASH)))


def checkpoints(run_key: str) -> Path:
    """Return where an unfinished training is kept: outside every rule's outputs, which are deleted before a job."""
    return Path("scratch", run_key)


def failure(name: str, stage: str, run: str) -> Path:
    """Return the file for the record of a run that failed; `run` is its path: 'english/average-3-keep/seed0'."""
    return Path("results", name, "failed", stage, f"{run}.json")
