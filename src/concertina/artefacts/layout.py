"""Where things are: one function per artefact, relative to the working directory."""

from pathlib import Path

SEAL = "seal.json"
SLASH = "--"  # what stands for it in the name of a folder; a name on the hub never holds it


def fetched(kind: str, archive: str) -> Path:
    """What an archive that a kind of corpus publishes holds: of no experiment alone."""
    return Path("downloads", kind, archive)


def hub(model: str, revision: str) -> Path:
    """What a model on the hub holds at a revision: of no experiment alone."""
    return Path("downloads", "hub", model.replace("/", SLASH), revision.replace("/", SLASH))


def model(name: str, revision: str) -> Path:
    """A model's files: of the hub where it has a revision, else the folder that its name is."""
    return hub(name, revision) if revision else Path(name)


def base(name: str) -> Path:
    """A base that an experiment assembles."""
    return Path("build", name, "base")


def data(name: str, corpus: str, split: str) -> Path:
    return Path("build", name, "data", corpus, split)


def features(name: str, corpus: str, split: str) -> Path:
    return Path("build", name, "features", corpus, split)


def share(name: str, stage: str, corpus: str, split: str, share: str) -> Path:
    """What one job makes of a split that is scattered over several, until it is gathered; `share`: such as '3-of-8'."""
    return Path("scratch", "shares", name, stage, corpus, split, share)


def segments(name: str, corpus: str, split: str, compressor: str, ratio: str) -> Path:
    return Path("build", name, "segments", corpus, split, f"{compressor}-{ratio}")


def train(name: str, train_set: str, compressor: str, ratio: str, seed: int) -> Path:
    return Path("build", name, "train", train_set, f"{compressor}-{ratio}", f"seed{seed}")


def evaluate(name: str, compressor: str, ratio: str) -> Path:
    return Path("results", name, "evaluate", f"{compressor}-{ratio}")


def gate(name: str) -> Path:
    """The uncompressed base, held against published figures."""
    return Path("results", name, "gate")


def whisper(name: str) -> Path:
    """What the encoder of an assembled base is worth with its own decoder."""
    return Path("results", name, "whisper")


def report(name: str) -> Path:
    return Path("results", name, "report")


def checkpoints(run_key: str) -> Path:
    """Where an unfinished training is kept: outside every rule's outputs, which are deleted before a job begins."""
    return Path("scratch", run_key)


def track(name: str) -> Path:
    """What an experiment tracker was told from here; in scratch, for in another clone it would not be true."""
    return Path("scratch", "track", name)


def failure(name: str, stage: str, run: str) -> Path:
    """The record of a run that failed; `run` is its readable path, such as 'english/average-3/seed0'."""
    return Path("results", name, "failed", stage, f"{run}.json")
