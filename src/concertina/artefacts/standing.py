"""Standing: which of an experiment's artefacts are here, belong here, or can be taken over from another experiment.

Run keys alone decide. An artefact belongs to the present config and code when the run key in its seal is the one
that they give it. The memory of a workflow engine has no say.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from concertina.artefacts import dag, keys
from concertina.artefacts.dag import Artefact
from concertina.config import Config, ConfigError
from concertina.store import jsonl, sealing
from concertina.store.sealing import SEAL

COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Stranger:
    """An artefact of another config or code: the run key that it should have, and the one in its seal."""

    artefact: Artefact
    wanted: str
    sealed: str


class Standing:
    """The run keys that an experiment's artefacts should have, and those in the seals here.

    `accepting`: folders whose artefacts count as belonging, like those that `make accept` has accepted before.
    """

    def __init__(self, config: Config, accepting: Collection[Path] = ()) -> None:
        self.config = config
        self._accepting = set(accepting)
        self._accepted = _accepted(config.name)
        self._wanted: dict[Artefact, str] = {}
        self._sealed: dict[Path, str | None] = {}  # both are kept: one walk asks for the same inputs many times

    def wanted(self, artefact: Artefact) -> str:
        """Return the run key that the config and the code give an artefact.

        The keys of its inputs are part of it. Of an input that was accepted with another key than it should have, the
        key in the seal counts: what was made from it carries that one.
        """
        if artefact not in self._wanted:
            inputs = [self._input_key(one) for one in dag.inputs(self.config, artefact)]
            self._wanted[artefact] = keys.run_key(dag.key(self.config, artefact), inputs)
        return self._wanted[artefact]

    def sealed(self, artefact: Artefact) -> str | None:
        """Return the run key in an artefact's seal; None when there is no seal, or a damaged one."""
        return self._read(artefact.folder)

    def belongs(self, artefact: Artefact) -> bool:
        """Return whether an artefact is here and belongs to the present config and code, or was accepted."""
        sealed = self.sealed(artefact)
        return sealed is not None and (sealed == self.wanted(artefact) or self._is_accepted(artefact, sealed))

    def strangers(self) -> Iterator[Stranger]:
        """Yield the artefacts here that belong to another config or code, and those that are being accepted."""
        for artefact in self.kept:
            sealed, wanted = self.sealed(artefact), self.wanted(artefact)
            if sealed is None or sealed == wanted:
                continue
            if not self._is_accepted(artefact, sealed) or artefact.folder in self._accepting:
                yield Stranger(artefact, wanted, sealed)

    def twin(self, artefact: Artefact) -> Path | None:
        """Return the folder of another experiment here whose seal has the run key that an artefact should have."""
        if self.belongs(artefact):
            return None
        pattern = dag.row(artefact.kind).folder
        if "{name}" not in pattern:
            return None
        return next((path for path in self._others(pattern) if self._read(path) == self.wanted(artefact)), None)

    @cached_property
    def kept(self) -> list[Artefact]:
        """The artefacts that are verified, pushed and pulled with the results."""
        return [one for one in dag.every(self.config) if dag.row(one.kind).kept]

    def _input_key(self, artefact: Artefact) -> str:
        """Return the run key with which an artefact enters those that are made from it, now or once it is there."""
        if not dag.row(artefact.kind).kept:
            return self._shared(artefact)
        sealed = self.sealed(artefact)
        return sealed if sealed is not None and self._is_accepted(artefact, sealed) else self.wanted(artefact)

    def _is_accepted(self, artefact: Artefact, sealed: str) -> bool:
        """Return whether the key in an artefact's seal counts as the wanted one, by `make accept` or by `accepting`."""
        return artefact.folder in self._accepting or self._accepted.get(self.wanted(artefact)) == sealed

    def _shared(self, artefact: Artefact) -> str:
        """Return the run key of an artefact in downloads/, which every experiment here shares.

        Before it is there, its key is known unless it is a model of the hub at a branch or tag: then an empty text is
        returned, which no seal holds, so nothing that rests on the model counts as belonging.
        """
        if (sealed := self.sealed(artefact)) is not None:
            return sealed
        if artefact.kind == "base_hub" and COMMIT.fullmatch(artefact.where["revision"]):
            where = artefact.where
            return keys.run_key(keys.hub_at(where["model"], where["revision"], where["revision"]))
        return "" if artefact.kind == "base_hub" else keys.run_key(dag.key(self.config, artefact))

    def _read(self, folder: Path) -> str | None:
        if folder not in self._sealed:
            try:
                self._sealed[folder] = str(sealing.read_seal(folder).get("run_key", ""))
            except sealing.DamagedError:
                self._sealed[folder] = None
        return self._sealed[folder]

    def _others(self, pattern: str) -> list[Path]:
        """Return the sealed folders that match a kind's folder pattern in every other experiment."""
        position = pattern.split("/").index("{name}")
        seals = Path().glob(f"{re.sub('{[a-z_]+}', '*', pattern)}/{SEAL}")
        return sorted(path.parent for path in seals if path.parts[position] != self.config.name)


def check_pinned(config: Config) -> None:
    """Check that the commit of every hub model is pinned, or known from its seal. Errors: ConfigError."""
    for artefact in dag.of_kind(config, "base_hub"):
        model, revision = artefact.where["model"], artefact.where["revision"]
        if not COMMIT.fullmatch(revision) and not artefact.seal.exists():
            raise ConfigError(
                f"base: {model} at revision {revision!r} is not here, so its commit is not known, and no artefact can "
                "be compared with it; set `revision` to a commit, or let `make reproduce` fetch the model first"
            )


def _accepted(name: str) -> dict[str, str]:
    """Return the run keys that `make accept` lets count for others, by the key that an artefact should have."""
    path = Path("results", name, "accepted.jsonl")
    rows = jsonl.read(path, remedy="correct that line, or delete it") if path.exists() else []
    return {wanted: sealed for row in rows for wanted, sealed in row.get("keys", {}).items()}
