"""Pair the utterances of two prediction files: by id where every file has ids, by line otherwise, all or none."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from concertina.comparison.files import InputError, Utterances

By = Literal["id", "line"]


@dataclass(frozen=True)
class Pairs:
    """The utterances of A and B side by side, in A's order.

    `names`: each one's id, or its place in A. `seconds`: B's own references where it has some beside A's, to be checked
    against `references`, else None. `speakers`: None where unknown.
    """

    by: By
    names: list[str]
    references: list[str]
    seconds: list[str] | None
    a: list[str]
    b: list[str]
    speakers: list[str | None]

    def only(self, kept: list[int]) -> "Pairs":
        """The pairs with these numbers."""
        columns = {name: getattr(self, name) for name in ("names", "references", "seconds", "a", "b", "speakers")}
        return replace(self, **_picked(columns, kept))


def pair(a: Utterances, b: Utterances, references: Utterances | None = None, by: By | None = None) -> Pairs:
    """Pair A's utterances with B's, and with references of their own where those of the files shall not count.

    `by`: how, where the files do not decide it. Errors: InputError naming the first utterance without a partner.
    """
    others = [b] + ([references] if references else [])
    lacking = next((file.path for file in [a, *others] if file.ids is None), None)
    if by == "id" and lacking:
        raise InputError(f"--by id: {lacking} has no ids; pair with --by line")
    by = by or ("line" if lacking else "id")
    order = _by_id if by == "id" else _by_line
    b, *given = [_ordered(file, order(a, file)) for file in others]
    first, second = (given[0].references, None) if given else (a.references, b.references)
    if first is None and second is None:
        raise InputError(f"neither {a.path} nor {b.path} has references; name their file with --references FILE")
    told = (file.speakers for file in (a, b, *given) if file.speakers and any(file.speakers))
    speakers: list[str | None] = next(told, [None] * len(a))
    return Pairs(
        by,
        names=(a.ids if by == "id" else None) or a.places,
        references=first or second or [],
        seconds=second if first else None,
        a=a.hypotheses or [],
        b=b.hypotheses or [],
        speakers=speakers,
    )


def _by_id(a: Utterances, other: Utterances) -> list[int]:
    """For each of A's utterances, the number of the other file's that has its id."""
    of_a, of_other = _numbers(a), _numbers(other)
    for file, own, strange in ((a, of_a, of_other), (other, of_other, of_a)):
        lonely = [name for name in own if name not in strange]
        if lonely:
            where = file.places[own[lonely[0]]]
            more = f", nor have {len(lonely) - 1} more" if len(lonely) > 1 else ""
            there = (other if file is a else a).path
            raise InputError(f"{file.path} {where}: id {lonely[0]} has no partner in {there}{more}")
    return [of_other[name] for name in of_a]


def _numbers(file: Utterances) -> dict[str, int]:
    """The number of each id. Errors: InputError naming an id that is there twice."""
    numbers: dict[str, int] = {}
    for number, name in enumerate(file.ids or []):
        if numbers.setdefault(name, number) != number:
            first, again = file.places[numbers[name]], file.places[number]
            raise InputError(f"{file.path}: id {name} is in {first} and {again}; make ids unique, or pair by --by line")
    return numbers


def _by_line(a: Utterances, other: Utterances) -> list[int]:
    """The other file's utterances in their order, if they are as many as A's."""
    if len(a) != len(other):
        longer, shorter = (a, other) if len(a) > len(other) else (other, a)
        raise InputError(
            f"{longer.path} has {len(longer)} utterances and {shorter.path} {len(shorter)}: "
            f"{longer.places[len(shorter)]} of {longer.path} has no partner"
        )
    return list(range(len(other)))


def _ordered(file: Utterances, order: list[int]) -> Utterances:
    """A file's utterances in another order."""
    columns = {name: getattr(file, name) for name in ("places", "ids", "references", "hypotheses", "speakers")}
    return replace(file, **_picked(columns, order))


def _picked(columns: dict[str, list[Any] | None], numbers: list[int]) -> dict[str, Any]:
    return {name: column and [column[i] for i in numbers] for name, column in columns.items()}
