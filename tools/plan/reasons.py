"""Why Snakemake would run a job, in a user's words: what is new or gone, and which config key or code has changed.

A job is what tools.plan.dryrun prints. Its reason holds the stage's key (see concertina.artefacts.keys) before and now.
"""

import ast
import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Job = dict[str, Any]
SHOWN = 60  # characters of a config value in a reason
PLACES = {  # first key of a stage's own key -> where a user finds it; what is not here is <stage>.<key>
    "packages": "package",
    "model": "base.sha256",
    "base": "base",
    "four_bit": "base.four_bit",
    "said": "files of base.model",
    "files": "files of base.model",
    "prompts": "base.prompts",
    "positions": "segments.positions",
    "pool_at": "segments.pool_at",
    "sources": "files of the corpus",
    "templates": "templates of the report",
    "budget": "train",
    "decode": "evaluate",
    "options": {"data": "data.corpora.{corpus}", "segments": "segments.cells.{compressor}.options"},
    "set": {"train": "train.sets.{train_set}", "evaluate": "evaluate.sets.{test_set}"},
    "adapters": "adapters of the cell",
}


def why(job: Job) -> str:
    """The reason of a job in a user's words."""
    said, reasons = job["reason"], list(dict.fromkeys(changes(job)))
    if "Missing output files" in said:
        reasons.append("gone" if _made_before(job) else "new")
    reasons += [
        told
        for sign, told in (
            ("Incomplete output files", "was not finished"),
            ("Updated input files", f"changed: {_files(said, 'Updated input files')}"),
            ("Set of input files has changed", "reads other inputs"),
            ("Code has changed", "the rule's shell line"),
            ("Software environment definition has changed", "environment (envs/)"),
            ("Forced execution", "forced"),
        )
        if sign in said
    ]
    return "; ".join(reasons) or ("inputs are made again" if "updated by another job" in said else said)


def changes(job: Job) -> Iterator[str]:
    """The keys that are not what they were when a job last ran, as 'train.learning_rate 0.004 -> 0.002'."""
    if not (found := re.search(r"before: (\{.*\}) now: (\{.*\}) ?", job["reason"])):
        if "Params have changed" in job["reason"]:
            yield "parameters"
        return
    try:
        before, now = (ast.literal_eval(text) for text in found.groups())
    except (ValueError, SyntaxError):
        yield "parameters"
        return
    stage = job["rule"].partition("_")[0]
    for path, old, new in _differences(before, now):
        where = dict(job["wildcards"])
        if "/" in path[0]:  # the key of something that the job makes on the way: <cell>/<test set>/<run>
            _, where["test_set"], _ = path[0].split("/")
            path = path[1:]
        if not path:  # it is new or gone: the lists of test sets and adapters say so
            continue
        known = PLACES.get(path[0], f"{stage}.{path[0]}")
        place = str(known.get(stage, path[0]) if isinstance(known, dict) else known)
        place = " ".join((place, *path[1:])) if place == "package" else ".".join((place, *path[1:]))
        if path[0] == "code":
            yield f"code of {stage}"
        elif path[0] in ("files", "sources", "templates", "said"):
            yield f"{place} changed"
        else:
            yield f"{place.format(**where)} {_change(old, new)}"


def _differences(before: Any, now: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """The paths at which two keys differ, with both values; None stands for what is not there."""
    before, now = _by_name(before), _by_name(now)
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            yield from _differences(before.get(key), now.get(key), (*path, str(key)))
    elif before != now:
        yield path, before, now


def _by_name(value: Any) -> Any:
    """A list of sections that have names as a mapping by name."""
    named = isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value)
    return {item["name"]: item for item in value} if named and value else value


def _change(old: Any, new: Any) -> str:
    """Two values; of lists what is new and what is gone."""
    if isinstance(old, dict) or isinstance(new, dict):
        return "is new" if old is None else "is gone" if new is None else "changed"
    if isinstance(old, list) and isinstance(new, list):
        gone, come = ([v for v in a if v not in b] for a, b in ((old, new), (new, old)))
        told = [*(f"+ {_short(value)}" for value in come), *(f"- {_short(value)}" for value in gone)]
        return " ".join(told) or "in another order"
    return f"{_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = "unset" if value is None else "-".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _files(said: str, sign: str) -> str:
    listed = re.search(rf"{sign}: (.*?)(?:$|; )", said)
    return listed[1] if listed else ""


def _made_before(job: Job) -> bool:
    """Whether Snakemake has a record of a job's first output."""
    name = base64.urlsafe_b64encode(job["outputs"][0].encode()).decode()
    return Path(".snakemake/metadata", name).exists()
