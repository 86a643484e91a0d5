"""The hub stage: a model on the Hugging Face hub, at a revision -> its files, in downloads/, for every experiment here.

Weights come as safetensors or not at all. Every file is checked against the hash that the hub has of it; afterwards
the hub is not asked again.
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
from concertina.artefacts import keys, stage
from concertina.config import ConfigError
from concertina.corpora._archives import ArchiveError
from concertina.fetching import archive, download
from concertina.nearest import nearest
from concertina.store import folders, sealing

WEIGHTS = "*.safetensors"
WANTED = (WEIGHTS, "*.json", "*.jinja", "merges.txt", "vocab.txt", "tokenizer.model", "README.md", "LICENSE*")
ELSEWHERE = "or put the files into a folder and name that as `model`, without `revision`"


@console.run
def main(argv: list[str] | None = None) -> int:
    """Fetch one model that the config names."""
    about = (
        "Fetch a model from the Hugging Face hub at a revision, check its files, and keep them for good. "
        "HF_TOKEN: for a gated model; HF_ENDPOINT: a mirror of the hub."
    )
    args = stage.parser("base_hub", about).parse_args(argv)
    known = {folders.hub(*one): one for one in keys.on_the_hub(configs.load(args.config))}
    if (folder := folders.hub(args.model, args.revision)) not in known:
        near = nearest(
            f"{args.model} at {args.revision}", [f"{model} at {revision}" for model, revision in known.values()]
        )
        raise ConfigError(f"base: no model {args.model!r} at revision {args.revision!r} in the config{near}")
    fetch(*known[folder])
    return 0


def fetch(model: str, revision: str) -> Path:
    """Have a model's files, sealed with their commit and licence, and return their folder.

    Errors: ArchiveError (it cannot be had, has no safetensors, or a file is not what the hub says), OutputError.
    """
    folder = folders.hub(model, revision)
    with download.alone(folder.parent):
        if archive.is_there(folder, keys.hub(model, revision)):
            console.say(f"{folder}: is there already")
            return folder
        if twin := _twin(folder, revision):
            _seal(twin, folder, keys.hub_at(model, revision, revision), sealing.read_seal(twin))
            console.say(f"{folder}: the files of {twin}, which are of this commit")
            return folder
        info = _info(model, revision)
        chosen = [file for file in info.siblings if any(fnmatch(file.rfilename, pattern) for pattern in WANTED)]
        chosen = [file for file in chosen if "/" not in file.rfilename]  # what is in folders there, nothing here reads
        if not any(fnmatch(file.rfilename, WEIGHTS) for file in chosen):
            raise ArchiveError(f"{model}: it has no {WEIGHTS}, and no other weights are read; convert it, {ELSEWHERE}")
        partial = folder.with_name(f".{folder.name}.part")
        for number, file in enumerate(chosen, start=1):
            console.say(f"{model}: {file.rfilename} ({number} of {len(chosen)}, {(file.size or 0) / 1e6:.0f} MB)")
            _fetch(model, info.sha, file, partial)
        licence = str((info.card_data or {}).get("license") or "see its README.md")
        files = {file.rfilename: _fact(partial / file.rfilename, file) for file in chosen}
        _seal(partial, folder, keys.hub_at(model, revision, info.sha), {"files": files, "licence": licence})
        shutil.rmtree(partial, ignore_errors=True)
    pinned = "" if revision == info.sha else f"; to pin it, set `revision: {info.sha}`"
    console.say(f"{folder}: fetched; its licence: {licence}{pinned}")
    return folder


def _twin(folder: Path, commit: str) -> Path | None:
    """A whole folder of the same commit, fetched by the name of a branch, before the config came to pin it."""
    for path in sorted(folder.parent.glob(f"*/{sealing.SEAL}")):
        with contextlib.suppress(sealing.DamagedError):
            if sealing.read_seal(path.parent).get("commit") == commit:
                sealing.verify(path.parent)
                return path.parent
    return None


def _seal(source: Path, folder: Path, named: keys.Key, verified: dict[str, Any]) -> None:
    """Seal the files of `source`, which keeps them, so that an interruption loses nothing; `verified`: their facts."""
    facts = {"run_key": keys.run_key(named), **named, "licence": verified["licence"]}
    with sealing.drafting(folder) as draft:
        draft.note(**facts)
        draft.trust(verified["files"])
        for name in verified["files"]:
            sealing.link(source / name, draft.folder / name)
    archive.keep_seal(folder)


def _fact(path: Path, file: Any) -> dict[str, Any]:
    """What a seal says of a file whose hash was checked; that of a large one is not taken again."""
    return {"sha256": file.lfs.sha256 if file.lfs else sealing.sha256(path), "bytes": path.stat().st_size}


def _info(model: str, revision: str) -> Any:
    """What the hub says of a model. Errors: ArchiveError naming the remedy."""
    from huggingface_hub import HfApi  # takes a second to import

    with _telling(model, revision):
        return HfApi().model_info(model, revision=revision, files_metadata=True)


def _fetch(model: str, commit: str, file: Any, partial: Path) -> None:
    """Have one file in `partial`, whole and as the hub has it; what was begun goes on. Errors: ArchiveError."""
    from huggingface_hub import hf_hub_download

    target = partial / file.rfilename
    if target.exists() and not _wrong(target, file):
        return
    target.unlink(missing_ok=True)
    with _telling(model, commit), sealing.writing(partial):
        hf_hub_download(model, file.rfilename, revision=commit, local_dir=partial)
    if wrong := _wrong(target, file):
        target.unlink()
        raise ArchiveError(f"{model}: {file.rfilename} arrived {wrong}; run the same command again")


def _wrong(path: Path, file: Any) -> str:
    """How a file differs from what the hub has: the SHA-256 of a large one, git's SHA-1 of a small one."""
    if file.lfs:
        return "" if sealing.sha256(path) == file.lfs.sha256 else "with another SHA-256 than the hub's"
    content = path.read_bytes()
    found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return "" if found == file.blob_id else "with another hash than the hub's"


@contextlib.contextmanager
def _telling(model: str, revision: str) -> Iterator[None]:
    """Turn what the hub's library raises into an ArchiveError that names the remedy."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        told = f"{model} is gated: accept its terms on the hub and set HF_TOKEN, {ELSEWHERE}"
    except errors.HFValidationError as error:
        told = f"base: {model!r} is no id of the hub, such as Qwen/Qwen2-Audio-7B ({_first(error)})"
    except errors.RevisionNotFoundError:
        told = f"{model}: the hub has no revision {revision!r} of it; see its list of commits"
    except errors.RepositoryNotFoundError:
        told = f"{model}: the hub has no such model, or it is private: set HF_TOKEN, {ELSEWHERE}"
    except Exception as error:
        if not _is_of_the_web(error):
            raise
        told = f"{model}: the hub cannot be reached ({_first(error)}); set HF_ENDPOINT to a mirror, {ELSEWHERE}"
    else:
        return
    raise ArchiveError(told)


def _is_of_the_web(error: BaseException) -> bool:
    """Whether an error is of the hub's library or of the connection below it."""
    return type(error).__module__.split(".")[0] in ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2")


def _first(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


if __name__ == "__main__":
    raise SystemExit(main())
