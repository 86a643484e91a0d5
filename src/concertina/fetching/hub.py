"""The stage base_hub downloads a model from the Hugging Face hub into downloads/, for every experiment.

Only weights in the safetensors format are downloaded. Each file is checked against the hash that the hub publishes.
Once a model is downloaded, the hub is not contacted again.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from concertina import config as configs
from concertina import console
from concertina.artefacts import keys, stage, tags
from concertina.config import ConfigError
from concertina.corpora._archives import ArchiveError
from concertina.fetching import archive, download
from concertina.nearest import nearest
from concertina.store import folders, sealing

WEIGHTS = "*.safetensors"
WANTED = (WEIGHTS, "*.json", "*.jinja", "merges.txt", "vocab.txt", "tokenizer.model", "README.md", "LICENSE*")
ELSEWHERE = "or put the files into a folder and give that folder as `model`, without `revision`"


@console.run
def main(argv: list[str] | None = None) -> int:
    """Download one model that the config names."""
    about = (
        "Download a revision of a model from the Hugging Face hub, check its files and keep them for all experiments. "
        "Set HF_TOKEN for a gated model, and HF_ENDPOINT to use a mirror of the hub."
    )
    args = stage.parser("base_hub", about).parse_args(argv)
    config = configs.load(args.config)
    known = {folders.hub(*one): one for one in keys.on_the_hub(config)}
    if (folder := folders.hub(args.model, args.revision)) not in known:
        near = nearest(
            f"{args.model} at {args.revision}", [f"{model} at {revision}" for model, revision in known.values()]
        )
        raise ConfigError(f"base: the config names no model {args.model!r} at revision {args.revision!r}{near}")
    fetch(*known[folder])
    tags.check(config)
    return 0


def fetch(model: str, revision: str) -> Path:
    """Download a model unless that is done already, seal it with its commit and licence, and return its folder.

    Errors: ArchiveError (the hub does not give it, it has no safetensors, or a file has another hash than on the
    hub), OutputError.
    """
    folder = folders.hub(model, revision)
    with download.alone(folder.parent):
        if archive.is_there(folder, keys.hub(model, revision)):
            console.say(f"{folder} is there already")
            return folder
        if twin := _twin(folder, revision):
            _seal(twin, folder, keys.hub_at(model, revision, revision), sealing.read_seal(twin))
            console.say(f"{folder} takes the files of {twin}, which are of the same commit")
            return folder
        info = _info(model, revision)
        files = [file for file in info.siblings if any(fnmatch(file.rfilename, pattern) for pattern in WANTED)]
        files = [file for file in files if "/" not in file.rfilename]  # nothing here reads files in its subfolders
        if not any(fnmatch(file.rfilename, WEIGHTS) for file in files):
            raise ArchiveError(f"{model} has no {WEIGHTS}, and no other weights are read; convert it, {ELSEWHERE}")
        partial = folder.with_name(f".{folder.name}.part")
        for number, file in enumerate(files, start=1):
            console.say(f"{model}: {file.rfilename} ({number} of {len(files)}, {(file.size or 0) / 1e6:.0f} MB)")
            _fetch(model, info.sha, file, partial)
        licence = str((info.card_data or {}).get("license") or "see its README.md")
        hashes = {file.rfilename: _hash(partial / file.rfilename, file) for file in files}
        _seal(partial, folder, keys.hub_at(model, revision, info.sha), {"files": hashes, "licence": licence})
        shutil.rmtree(partial, ignore_errors=True)
    pinned = "" if revision == info.sha else f"; to pin it, set `revision: {info.sha}`"
    console.say(f"{folder} is downloaded; its licence: {licence}{pinned}")
    return folder


def _twin(folder: Path, commit: str) -> Path | None:
    """Return an undamaged folder of the same commit under another name, such as a branch that the config named."""
    for path in sorted(folder.parent.glob(f"*/{sealing.SEAL}")):
        with contextlib.suppress(sealing.DamagedError):
            if sealing.read_seal(path.parent).get("commit") == commit:
                sealing.verify(path.parent)
                return path.parent
    return None


def _seal(source: Path, folder: Path, key: keys.Key, verified: dict[str, Any]) -> None:
    """Link the files of `source` into a sealed folder. They stay in `source`, so that an interruption loses nothing.

    `verified`: their hashes and sizes as `files`, and the `licence`.
    """
    facts = {"run_key": keys.run_key(key), **key, "licence": verified["licence"]}
    with sealing.drafting(folder) as draft:
        draft.note(**facts)
        draft.trust(verified["files"])
        for name in verified["files"]:
            sealing.link(source / name, draft.folder / name)
    archive.keep_seal(folder)


def _hash(path: Path, file: Any) -> dict[str, Any]:
    """Return a checked file's hash and size for the seal; the hash of a large file is the hub's, not computed again."""
    return {"sha256": file.lfs.sha256 if file.lfs else sealing.sha256(path), "bytes": path.stat().st_size}


def _info(model: str, revision: str) -> Any:
    """Return the hub's description of a model. Errors: ArchiveError naming the remedy."""
    from huggingface_hub import HfApi  # takes a second to import

    with _hub_errors(model, revision):
        return HfApi().model_info(model, revision=revision, files_metadata=True)


def _fetch(model: str, commit: str, file: Any, partial: Path) -> None:
    """Download one file into `partial`, resuming an interrupted download, and check its hash. Errors: ArchiveError."""
    from huggingface_hub import hf_hub_download

    target = partial / file.rfilename
    if target.exists() and not _wrong(target, file):
        return
    target.unlink(missing_ok=True)
    with _hub_errors(model, commit), sealing.writing(partial):
        hf_hub_download(model, file.rfilename, revision=commit, local_dir=partial)
    if wrong := _wrong(target, file):
        target.unlink()
        raise ArchiveError(f"{model}: {file.rfilename} arrived {wrong}; run the same command again")


def _wrong(path: Path, file: Any) -> str:
    """Return how a file's hash differs from the hub's, or ''.

    The hub gives the SHA-256 of a large file and git's SHA-1 of a small one.
    """
    if file.lfs:
        return "" if sealing.sha256(path) == file.lfs.sha256 else "with another SHA-256 than the hub's"
    content = path.read_bytes()
    actual = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return "" if actual == file.blob_id else "with another hash than the hub's"


@contextlib.contextmanager
def _hub_errors(model: str, revision: str) -> Iterator[None]:
    """Turn an error of the hub's library into an ArchiveError that names the remedy."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        message = f"{model} is gated: accept its terms on the hub and set HF_TOKEN, {ELSEWHERE}"
    except errors.HFValidationError as error:
        message = f"base: {model!r} is no id of the hub, such as Qwen/Qwen2-Audio-7B ({_first_line(error)})"
    except errors.RevisionNotFoundError:
        message = f"{model} has no revision {revision!r} on the hub; look it up in its list of commits there"
    except errors.RepositoryNotFoundError:
        message = f"{model}: the hub has no such model, or it is private; set HF_TOKEN, {ELSEWHERE}"
    except Exception as error:
        if not _is_from_the_hub(error):
            raise
        message = f"{model}: the hub cannot be reached ({_first_line(error)}); set HF_ENDPOINT to a mirror, {ELSEWHERE}"
    else:
        return
    raise ArchiveError(message)


def _is_from_the_hub(error: BaseException) -> bool:
    """Return whether an error was raised by the hub's library or by the HTTP library below it."""
    return type(error).__module__.split(".")[0] in ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2")


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


if __name__ == "__main__":
    raise SystemExit(main())
