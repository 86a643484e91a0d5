"""Check everything that the results of an experiment depend on; print what is damaged and what makes it again.

    python -m tools.verify --config config.yaml

Compares every file of every artefact with its seal, the base model with the hash that the config pins, and the copies
of the report with the sealed ones. Exits with 1 when something is damaged or missing.
"""

import argparse

from concertina import console
from concertina.config import load
from tools import damage


@console.run
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config.yaml")
    args = parser.parse_args(argv)
    config = load(args.config)
    if damaged := damage.troubles(config):
        damage.tell(damaged, args.config)
        return 1
    console.say(f"{config.name}: every artefact is whole, and so is the base model")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
