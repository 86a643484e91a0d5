"""Explain in a user's words why Snakemake would run a job: what is new or gone, which config key or code has changed.

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
PLACES = {  # first part of a stage's key -> where a user finds it; the others are at <stage>.<part>
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
    "published": "the file gate.published",
    "asked": "gate",
    "override": "gate.override",
    "encoder": "base.assembled.encoder",
    "budget": "train",
    "decode": "evaluate",
    "max_new_tokens_per_second": "evaluate.max_new_tokens_per_second",
    "max_new_tokens_at_least": "evaluate.max_new_tokens_at_least",
    "options": "data.corpora.{corpus}",
    "set": {"train": "train.sets.{train_set}", "evaluate": "evaluate.sets.{test_set}"},
    "metrics": {"evaluate": "evaluate.metrics.{task}", "report": "evaluate.metrics"},
    "adapters": "adapters of the cell",
}
TASKS = ("transcribe", "translate")
HASHED = ("files", "sources", "templates", "said", "published")  # keys whose values tell a reader nothing
SIGNS = (  # Snakemake's reason, and the same for a user
    ("Incomplete output files", "was not finished"),
    ("Updated input files", "changed: {files}"),
    ("Set of input files has changed", "reads other inputs"),
    ("Code has changed", "the rule's shell line"),
    ("Software environment definition has changed", "environment (envs/)"),
    ("Forced execution", "made by another config or code"),
)


def why(job: Job) -> str:
    """Return the reason of a job in a user's words."""
    reason, reasons = job["reason"], list(dict.fromkeys(changes(job)))
    if "Missing output files" in reason:
        reasons.append("gone" if _made_before(job) else "new")
    files = _files(reason, "Updated input files")
    reasons += [words.format(files=files) for sign, words in SIGNS if sign in reason]
    return "; ".join(reasons) or ("inputs are made again" if "updated by another job" in reason else reason)


def changes(job: Job) -> Iterator[str]:
    """Yield the keys that differ from those when a job last ran, as 'train.learning_rate 0.004 -> 0.002'.

    A job that also makes other artefacts has their keys inside its own, each under the artefact's path; a change that
    concerns all of them is yielded for each.
    """
    if not (match := re.search(r"before: (\{.*\}) now: (\{.*\}) ?", job["reason"])):
        if "Params have changed" in job["reason"]:
            yield "parameters"
        return
    try:
        before, now = (ast.literal_eval(text) for text in match.groups())
    except (ValueError, SyntaxError):
        yield "parameters"
        return
    stage = job["rule"].partition("_")[0]
    for path, old, new in _differences(before, now):
        where = {**job["wildcards"], "task": TASKS[0]}
        if "/" in path[0]:
            _, where["test_set"], _ = path[0].split("/")
            path = path[1:]
        elif path[0] in TASKS:  # how the answers of a task are scored
            where["task"], *rest = path
            path = tuple(rest)
        if path:  # a whole artefact that is new or gone shows in the job's own lists
            yield _worded(stage, where, path, old, new)


def _worded(stage: str, where: dict[str, str], path: tuple[str, ...], old: Any, new: Any) -> str:
    """Describe a difference between two keys; `where`: the values of the placeholders in PLACES."""
    if path[0] == "code":
        return f"code of {stage}"
    known = PLACES.get(path[0], f"{stage}.{path[0]}")
    place = str(known.get(stage, path[0]) if isinstance(known, dict) else known).format(**where)
    if path[0] in HASHED:
        return f"{place} changed"
    separator = " " if place == "package" else "."
    return f"{separator.join((place, *path[1:]))} {_change(old, new)}"


def _differences(before: Any, now: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield the paths at which two keys differ, with both values; None is an absent value."""
    before, now = _by_name(before), _by_name(now)
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            yield from _differences(before.get(key), now.get(key), (*path, str(key)))
    elif before != now:
        yield path, before, now


def _by_name(value: Any) -> Any:
    """Return a list of sections that have names as a mapping by name."""
    named = isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value)
    return {item["name"]: item for item in value} if named and value else value


def _change(old: Any, new: Any) -> str:
    """Describe a change by both values; for lists by the elements that are new and gone."""
    if isinstance(old, dict) or isinstance(new, dict):
        return "is new" if old is None else "is gone" if new is None else "changed"
    if isinstance(old, list) and isinstance(new, list):
        gone, added = ([v for v in a if v not in b] for a, b in ((old, new), (new, old)))
        words = [*(f"+ {_short(value)}" for value in added), *(f"- {_short(value)}" for value in gone)]
        return " ".join(words) or "in another order"
    return f"{_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = "unset" if value is None else "-".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _files(reason: str, sign: str) -> str:
    listed = re.search(rf"{sign}: (.*?)(?:$|; )", reason)
    return listed[1] if listed else ""


def _made_before(job: Job) -> bool:
    """Return whether Snakemake has a record of a job's first output."""
    name = base64.urlsafe_b64encode(job["outputs"][0].encode()).decode()
    return Path(".snakemake/metadata", name).exists()
