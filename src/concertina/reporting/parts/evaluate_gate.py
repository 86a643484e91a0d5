"""How the uncompressed base compares with published figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from concertina.config import Config
from concertina.reporting.board import measure
from concertina.reporting.prose import bounds, number
from concertina.reporting.statistics import Interval
from concertina.store.records import Run


def sentences(records: Sequence[Run], config: Config) -> list[str]:
    """Give each figure beside ours, and the reason for which the gate was passed over, where there is one."""
    (record,) = records
    figures = "; ".join(_figure(test_set, fact) for test_set, fact in record.facts.items())
    overridden = [f"The gate was overridden: {record.override}"] if record.override else []
    return [f"The uncompressed base against published figures: {figures}.", *overridden]


def _figure(test_set: str, fact: Mapping[str, Any]) -> str:
    """Write a published figure and ours: 'clean: WER 1.85 [1.6, 2.1], published 1.7, within the tolerance of 0.2'."""
    interval = Interval(fact["value"], fact["low"], fact["high"])
    words = {"pass": "within", "warn": "a warning, beyond", "stop": "beyond"}[fact["verdict"]]
    ours = f"{measure(fact['metric']).label} {number(interval.value, 2)}{bounds(interval)}"
    return f"{test_set}: {ours}, published {fact['published']:g}, {words} the tolerance of {fact['tolerance']:g}"
