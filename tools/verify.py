"""Check everything that the results of an experiment rest on, and say what is damaged and what makes it again.

    python -m tools.verify --config config.yaml

Reads every file of every artefact against its seal, the base model against the hash that the config pins, and the
copies of the report against the sealed ones. Exits 1 when something is damaged or missing.
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
    if found := damage.troubles(config):
        damage.tell(found, args.config)
        return 1
    console.say(f"{config.name}: every artefact is whole, and so is the base model")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
