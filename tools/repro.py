"""What a stage of dvc.yaml runs: Snakemake, after a look at where the artefacts come from.

    python tools/repro.py --config config.yaml [arguments of snakemake]

DVC puts the artefacts of another commit or experiment in place without telling Snakemake, which would take them for
what it has made itself. So run keys decide: what another config or code has made is made again, and in a folder
where Snakemake has never run, what is whole and belongs there goes on its record.
"""

import argparse
from pathlib import Path

import artefacts
import run
import tracks

from concertina import console
from concertina.artefacts.layout import SEAL
from concertina.config import load

RECORD = Path(".snakemake/metadata")


@console.run
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config.yaml")
    chosen, rest = parser.parse_known_args(argv)
    config = load(chosen.config)
    if not run.hold():
        return 1
    others = artefacts.strangers(config)
    if not any(RECORD.glob("*")):
        unfit = set(others) | {trouble.remove for trouble in artefacts.troubles(config)}
        kept = [one.folder for one in artefacts.of(config) if one.folder not in unfit]
        if kept and not tracks.on_record(kept, chosen.config):
            return 1
    again = ["--forcerun", *(str(folder / SEAL) for folder in others)] if others else []
    return run.go([*again, "--config", f"experiment={chosen.config}", *rest])


if __name__ == "__main__":
    raise SystemExit(main())
