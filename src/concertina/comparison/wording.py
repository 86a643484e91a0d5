"""The words for a comparison: the text that a person reads on a terminal, and the JSON that a script reads."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from concertina import console
from concertina.comparison.measures import SIGNIFICANT, Comparison, System, most_different
from concertina.reporting.statistics import BLOCKED, CONFIDENCE_PERCENT, SAMPLES, Interval

LONGEST = 200  # letters of a text on the terminal
OF_P = f"p: of swapping A and B at random. Better or worse needs p below {SIGNIFICANT:g} and an interval without zero."
NAMED = 3  # utterances that a line names


def shown(text: str, longest: int | None = None) -> str:
    """Make a text of another's safe for a terminal: control and invisible characters become escapes, and it is cut."""
    if longest and len(text) > longest:
        text = text[: longest - 3] + "..."
    return console.shown(text)


def report(found: Comparison, a: Path, b: Path, most: int) -> str:
    """The whole report for a terminal, with the `most` utterances that differ most."""
    n = len(found.pairs.names)
    parts = [
        f"A  {shown(str(a))}",
        f"B  {shown(str(b))}",
        f"{n} utterances, paired by {found.pairs.by}{_left_out(found.left_out)}",
        f"metric {found.metric_name}, language {found.language}: {found.signature}",
        "",
        *_table(found),
        "",
        f"B does worse on {_share(found, 1)}, better on {_share(found, -1)}, the same on {_share(found, 0)}.",
        f"Brackets: {CONFIDENCE_PERCENT:g} % intervals of {SAMPLES} bootstrap resamples {_over(found)}.",
        OF_P,
        "",
        sentence(found),
        *_differing(found, most),
    ]
    return "\n".join(parts)


def sentence(found: Comparison) -> str:
    """The verdict in a sentence, with the difference, its interval and p."""
    label, difference = found.metric.label, found.difference
    if found.verdict == "tie":
        return f"A and B tie: {label} {found.a.score.value:.2f} each."
    if found.verdict == "undecided":
        doubt = "; the interval leaves zero out, but p does not bear it out" if difference.excludes_zero else ""
        told = f"{_interval(difference, '+')} points of {label}, p {_p(found.p)}"
        return f"A and B cannot be distinguished: B - A is {told}{doubt}."
    return f"B is {found.verdict} by {_interval(_upwards(difference))} points of {label}, p {_p(found.p)}."


def as_json(found: Comparison, a: Path, b: Path, most: int) -> dict[str, Any]:
    """The comparison for a script; the documentation describes its keys."""
    worse, better, same = (int((_signs(found) == sign).sum()) for sign in (1, -1, 0))
    return {
        "schema": 1,
        "a": {"path": str(a), **_system_json(found.a)},
        "b": {"path": str(b), **_system_json(found.b)},
        "metric": found.metric_name,
        "language": found.language,
        "signature": found.signature,
        "higher_is_better": found.metric.higher_is_better,
        "difference": {**_interval_json(found.difference), "p": found.p},
        "verdict": found.verdict,
        "sentence": sentence(found),
        "intervals": found.drawn,
        "utterances": len(found.pairs.names),
        "paired_by": found.pairs.by,
        "not_scored": found.left_out,
        "worse": worse,
        "better": better,
        "same": same,
        "most_different": [_utterance(found, i) for i in most_different(found, most)],
    }


def _table(found: Comparison) -> Iterator[str]:
    rows = [["", "A", "B", "B - A"]]
    unit = f", {found.metric.unit}" if found.metric.unit else ""
    a, b = found.a, found.b
    scores = [_interval(a.score), _interval(b.score), f"{_interval(found.difference, '+')}, p {_p(found.p)}"]
    rows.append([f"{found.metric.label}{unit}", *scores])
    tail = "5th" if found.metric.higher_is_better else "95th"
    rows.append([f"{tail} percentile of utterances", f"{a.tail:.2f}", f"{b.tail:.2f}", f"{b.tail - a.tail:+.2f}"])
    if a.above_half is not None and b.above_half is not None:
        shares = [100 * a.above_half, 100 * b.above_half]
        rows.append(["utterances above 50 %, %", *(f"{x:.2f}" for x in shares), f"{shares[1] - shares[0]:+.2f}"])
    if a.counts and b.counts:
        units = a.counts["length"]
        name = (re.findall(r"unit:(\w+)", found.signature) or ["units"])[0]
        for kind in ("substitutions", "deletions", "insertions"):
            counts = [a.counts[kind], b.counts[kind]]
            told = [f"{count} ({100 * count / units:.2f})" for count in counts]
            rows.append([f"{kind} (per 100 {name})", *told, f"{counts[1] - counts[0]:+d}"])
        rows.append([f"{name} of the references", str(units), str(units), ""])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for name, *fields in rows:
        aligned = (field.rjust(width) for field, width in zip(fields, widths[1:], strict=True))
        yield "  ".join([name.ljust(widths[0]), *aligned]).rstrip()


def _differing(found: Comparison, most: int) -> Iterator[str]:
    chosen = most_different(found, most)
    if chosen:
        yield "\nWhere they differ most:"
    for i in chosen:
        one = _utterance(found, i)
        gap = f"{one['b'] - one['a']:+.1f} points of {found.metric.label}"
        if found.counts_errors:
            gap = f"{one['errors']:+d} errors"
        yield f"\n  {shown(one['name'], LONGEST)}: B {gap} ({one['a']:.1f} -> {one['b']:.1f})"
        for name, text in (("reference", one["reference"]), ("A", one["text_a"]), ("B", one["text_b"])):
            yield f"    {name:9}  {shown(text, LONGEST)}".rstrip()


def _utterance(found: Comparison, i: int) -> dict[str, Any]:
    pairs = found.pairs
    errors = {"errors": int(found.gaps_U[i])} if found.counts_errors else {}
    scores = {"a": float(found.a.values_U[i]), "b": float(found.b.values_U[i])}
    texts = {"reference": pairs.references[i], "text_a": pairs.a[i], "text_b": pairs.b[i]}
    return {"name": pairs.names[i], **scores, **errors, **texts}


def _over(found: Comparison) -> str:
    """What intervals are over, with the label of the bootstrap."""
    if found.drawn == BLOCKED:
        return f"over {len(set(found.pairs.speakers))} speakers ({BLOCKED})"
    return f"over utterances, {found.drawn}"


def _left_out(names: list[str]) -> str:
    """The end of a line about utterances that no score can count; '' where there are none."""
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    first = ", ".join(shown(name, LONGEST) for name in names[:NAMED])
    return f"; {len(names)} more cannot be scored, for their references hold no words: {first}{more}"


def _signs(found: Comparison) -> np.ndarray:
    """1 where B does worse on an utterance, -1 where better, 0 where the same."""
    return np.sign(found.gaps_U).astype(int)


def _share(found: Comparison, sign: int) -> str:
    chosen = _signs(found) == sign
    return f"{chosen.sum()} ({100 * chosen.mean():.1f} %)"


def _p(p: float) -> str:
    return f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def _upwards(found: Interval) -> Interval:
    """The interval of the difference taken the way that makes it positive."""
    ends = (found.value, found.low, found.high)
    if (found.value or 0.0) > 0:
        return found
    value, high, low = (None if x is None else -x for x in ends)
    return Interval(value, low, high)


def _interval(found: Interval, sign: str = "") -> str:
    value, low, high = ("?" if x is None else f"{x:{sign}.2f}" for x in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def _interval_json(found: Interval) -> dict[str, float | None]:
    return {"value": found.value, "low": found.low, "high": found.high}


def _system_json(system: System) -> dict[str, Any]:
    tail = {"tail": system.tail, "share_above_half": system.above_half}
    return {**_interval_json(system.score), **tail, **(system.counts or {})}
