"""Where an experiment stands: which of its artefacts are here, belong here, or can be taken over.

Run keys alone decide. An artefact belongs to the present config and code when the run key in its seal is the one
that they give it; what any workflow engine remembers counts for nothing.
"""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from concertina.artefacts import dag, keys
from concertina.artefacts.dag import Artefact
from concertina.config import Config, ConfigError
from concertina.store import sealing
from concertina.store.sealing import SEAL

COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Stranger:
    """An artefact of another config or code: the run key that it should have, and the one in its seal."""

    artefact: Artefact
    wanted: str
    sealed: str


class Standing:
    """The run keys that an experiment's artefacts should have, and those that the seals here hold.

    `accepting`: folders that count as what they should be from here on, as those that `make accept` blessed do.
    """

    def __init__(self, config: Config, accepting: Collection[Path] = ()) -> None:
        self.config = config
        self._accepting = set(accepting)
        self._accepted = _accepted(config.name)
        self._wanted: dict[Artefact, str] = {}
        self._sealed: dict[Path, str | None] = {}

    def wanted(self, artefact: Artefact) -> str:
        """Return the run key that the config and the code give an artefact.

        Where an input's seal was accepted in place of the key that it should have, that seal's key counts.
        """
        if artefact not in self._wanted:
            made_from = [self._stands(one) for one in dag.inputs(self.config, artefact)]
            self._wanted[artefact] = keys.run_key(dag.key(self.config, artefact), made_from)
        return self._wanted[artefact]

    def sealed(self, artefact: Artefact) -> str | None:
        """Return the run key in an artefact's seal; None where there is no seal, or a damaged one."""
        return self._read(artefact.folder)

    def belongs(self, artefact: Artefact) -> bool:
        """Say whether an artefact is here and is of the present config and code, or was accepted as such."""
        sealed = self.sealed(artefact)
        return sealed is not None and (sealed == self.wanted(artefact) or self._blessed(artefact, sealed))

    def strangers(self) -> Iterator[Stranger]:
        """Yield the artefacts that are here and are of another config or code, and those being accepted."""
        for artefact in self.kept:
            sealed, wanted = self.sealed(artefact), self.wanted(artefact)
            if sealed is None or sealed == wanted:
                continue
            if not self._blessed(artefact, sealed) or artefact.folder in self._accepting:
                yield Stranger(artefact, wanted, sealed)

    def twin(self, artefact: Artefact) -> Path | None:
        """Return the folder of another experiment here with just the run key that an artefact should have."""
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

    def _stands(self, artefact: Artefact) -> str:
        """The run key that an input has, or will have, in what is made from it."""
        if not dag.row(artefact.kind).kept:
            return self._shared(artefact)
        sealed = self.sealed(artefact)
        return sealed if sealed is not None and self._blessed(artefact, sealed) else self.wanted(artefact)

    def _blessed(self, artefact: Artefact, sealed: str) -> bool:
        return artefact.folder in self._accepting or self._accepted.get(self.wanted(artefact)) == sealed

    def _shared(self, artefact: Artefact) -> str:
        """The run key of something in downloads/, which every experiment here shares.

        Of what is not there yet: the key that it will have where its commit is pinned, else an empty text.
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
        """The sealed folders of a kind in every other experiment."""
        place = pattern.split("/").index("{name}")
        seals = Path().glob(f"{re.sub('{[a-z_]+}', '*', pattern)}/{SEAL}")
        return sorted(path.parent for path in seals if path.parts[place] != self.config.name)


def check_pinned(config: Config) -> None:
    """See that it is known which commit of the hub's models artefacts must rest on. Errors: ConfigError."""
    for artefact in dag.of_kind(config, "base_hub"):
        model, revision = artefact.where["model"], artefact.where["revision"]
        if not COMMIT.fullmatch(revision) and not artefact.seal.exists():
            raise ConfigError(
                f"base: {model} at revision {revision!r} is not here, so nothing says which commit of it the artefacts "
                "rest on; set `revision` to that commit, or have `make reproduce` fetch the model first"
            )


def _accepted(name: str) -> dict[str, str]:
    """The run keys that stand in for others since `make accept`: by the key that an artefact should have."""
    path = Path("results", name, "accepted.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {wanted: sealed for line in lines for wanted, sealed in json.loads(line).get("keys", {}).items()}
