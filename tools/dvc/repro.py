"""Run a stage of dvc.yaml, which is the same as `make reproduce`.

    python -m tools.dvc.repro --config config.yaml [arguments of snakemake]

DVC restores the artefacts of another commit or experiment without telling Snakemake; tools.settle finds out by run
keys which of them may stay.
"""

import argparse

from concertina import console
from tools import run


@console.run
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config.yaml")
    args, rest = parser.parse_known_args(argv)
    return run.go(["--config", f"experiment={args.config}", *rest]) if run.hold() else 1


if __name__ == "__main__":
    raise SystemExit(main())
