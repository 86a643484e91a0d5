"""The hub stage: a model on the Hugging Face hub, at a revision -> its files, in downloads/, for every experiment here.

Weights come as safetensors or not at all. Every file is checked against the hash that the hub has of it; afterwards
the hub is not asked again.
"""

import argparse
import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from concertina import config as configs
from concertina import console, download, fetch, integrity, keys, layout
from concertina.archives import ArchiveError
from concertina.config import ConfigError
from concertina.spelling import nearest

WEIGHTS = "*.safetensors"
WANTED = (WEIGHTS, "*.json", "*.jinja", "merges.txt", "vocab.txt", "tokenizer.model", "README.md", "LICENSE*")
ELSEWHERE = "or put the files into a folder and name that as `model`, without `revision`"


@console.run
def main(argv: list[str] | None = None) -> int:
    """Fetch one model that the config names."""
    parser = argparse.ArgumentParser(
        prog="python -m concertina.hub",
        description="Fetch a model from the Hugging Face hub at a revision, check its files, and keep them for good.",
        epilog="HF_TOKEN: for a gated model; HF_ENDPOINT: a mirror of the hub.",
    )
    parser.add_argument("--config", type=Path, default=configs.DEFAULT, help="config.yaml or an overlay over it")
    parser.add_argument("--model", required=True, help="a model of the config's base, such as Qwen/Qwen2-Audio-7B")
    parser.add_argument("--revision", required=True, help="its commit, tag or branch in the config")
    asked = parser.parse_args(argv)
    known = dict(keys.on_the_hub(configs.load(asked.config)))
    if known.get(asked.model) != asked.revision:
        near = nearest(asked.model, list(known))
        raise ConfigError(f"base: no model {asked.model!r} at revision {asked.revision!r} in the config{near}")
    stage(asked.model, asked.revision)
    return 0


def stage(model: str, revision: str) -> Path:
    """Have a model's files, sealed with their commit and licence, and return their folder.

    Errors: ArchiveError (it cannot be had, has no safetensors, or a file is not what the hub says), OutputError.
    """
    folder = layout.hub(model, revision)
    with download.alone(folder.parent):
        if fetch.is_there(folder, keys.hub(model, revision)):
            console.say(f"{folder}: is there already")
            return folder
        info = _info(model, revision)
        chosen = [file for file in info.siblings if any(fnmatch(file.rfilename, pattern) for pattern in WANTED)]
        if not any(fnmatch(file.rfilename, WEIGHTS) for file in chosen):
            raise ArchiveError(f"{model}: it has no {WEIGHTS}, and no other weights are read; convert it, {ELSEWHERE}")
        partial = folder.with_name(f".{folder.name}.part")
        for number, file in enumerate(chosen, start=1):
            console.say(f"{model}: {file.rfilename} ({number} of {len(chosen)}, {(file.size or 0) / 1e6:.0f} MB)")
            _fetch(model, info.sha, file, partial)
        licence = str((info.card_data or {}).get("license") or "see its README.md")
        named = keys.hub_at(model, revision, info.sha)
        facts = {"run_key": keys.run_key(named), **named}
        with integrity.sealed(folder, {**facts, "licence": licence}) as temporary:
            for file in chosen:
                (temporary / file.rfilename).parent.mkdir(parents=True, exist_ok=True)
                os.replace(partial / file.rfilename, temporary / file.rfilename)
        fetch.keep_seal(folder)
        shutil.rmtree(partial, ignore_errors=True)
    pinned = "" if revision == info.sha else f"; to pin it, set `revision: {info.sha}`"
    console.say(f"{folder}: fetched; its licence: {licence}{pinned}")
    return folder


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
    with _telling(model, commit), integrity.writing(partial):
        hf_hub_download(model, file.rfilename, revision=commit, local_dir=partial)
    if wrong := _wrong(target, file):
        target.unlink()
        raise ArchiveError(f"{model}: {file.rfilename} arrived {wrong}; run the same command again")


def _wrong(path: Path, file: Any) -> str:
    """How a file differs from what the hub has: the SHA-256 of a large one, git's SHA-1 of a small one."""
    if file.lfs:
        return "" if integrity.sha256(path) == file.lfs.sha256 else "with another SHA-256 than the hub's"
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
