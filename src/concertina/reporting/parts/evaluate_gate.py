"""How the uncompressed base compares with published figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from concertina.config import Config
from concertina.config.prompts import COMPARED
from concertina.reporting.board import measure
from concertina.reporting.prose import bounds, number, signed
from concertina.reporting.statistics import Interval
from concertina.store.records import Run


def sentences(records: Sequence[Run], config: Config) -> list[str]:
    """Give each figure beside ours, and the reason for which the gate was passed over, where there is one."""
    (record,) = records
    facts = dict(record.facts)
    compared = [_prompts(task, rows) for task, rows in facts.pop(COMPARED, {}).items()]
    figures = "; ".join(_figure(test_set, fact) for test_set, fact in facts.items())
    overridden = [f"The gate was overridden: {record.override}"] if record.override else []
    return [f"The uncompressed base against published figures: {figures}.", *compared, *overridden]


def _prompts(task: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write how the prompts of a task compare: the one that is used, and how much better or worse each other one is."""
    used, *others = rows
    told = []
    for row in others:
        fact = row["difference"]
        interval = Interval(fact["value"], fact["low"], fact["high"])
        told.append(f"'{row['prompt']}' {signed(interval.value, 2)}{bounds(interval, signed)}")
    where, label = ", ".join(used["scores"]), measure(used["metric"]).label
    used_here = f"Prompt of {task}: '{used['prompt']}'"
    return f"{used_here}; compared with it in {label} on {where}, positive where better: {'; '.join(told)}."


def _figure(test_set: str, fact: Mapping[str, Any]) -> str:
    """Write a published figure and ours: 'clean: WER 1.85 [1.6, 2.1], published 1.7, within the tolerance of 0.2'."""
    interval = Interval(fact["value"], fact["low"], fact["high"])
    words = {"pass": "within", "warn": "a warning, beyond", "stop": "beyond"}[fact["verdict"]]
    ours = f"{measure(fact['metric']).label} {number(interval.value, 2)}{bounds(interval)}"
    return f"{test_set}: {ours}, published {fact['published']:g}, {words} the tolerance of {fact['tolerance']:g}"
