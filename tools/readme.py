"""Put the tables that the pipeline made into the README: each goes between its markers.

    <!-- results:tiny -->
    <!-- /results:tiny -->

is filled from results/tiny/report/table.md. Run `make readme` after `make reproduce`; a marker whose
results are not on this machine keeps its table. `--check` writes nothing and exits 1 where a table is out of date.
"""

import argparse
import re
import sys
from pathlib import Path

from concertina import console
from concertina.store import sealing

BLOCK = re.compile(
    r"(?P<begin><!-- results:(?P<name>[a-z0-9][a-z0-9_-]*) -->\n).*?(?P<end><!-- /results:(?P=name) -->)", re.S
)


def filled(text: str) -> tuple[str, list[str]]:
    """The text with every table that is at hand, and the names that were found.

    Errors: ValueError when there is no complete pair of markers; DamagedError when a report is damaged.
    """
    names = []

    def table(match: re.Match[str]) -> str:
        folder = Path("results", match["name"], "report")  # as the DAG has it, which needs the environment
        if not (folder / sealing.SEAL).exists():
            return match[0]
        sealing.verify(folder)
        names.append(match["name"])
        return f"{match['begin']}{(folder / 'table.md').read_text(encoding='utf-8')}{match['end']}"

    if not BLOCK.search(text):
        raise ValueError("no `<!-- results:NAME -->` ... `<!-- /results:NAME -->` to fill")
    return BLOCK.sub(table, text), names


@console.run
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readme", nargs="?", type=Path, default=Path("README.md"))
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a table is out of date")
    arguments = parser.parse_args(argv)
    before = arguments.readme.read_text(encoding="utf-8")
    try:
        after, names = filled(before)
    except ValueError as error:
        console.say(f"error: {arguments.readme}: {error}")
        return 1
    if arguments.check:
        return int(after != before)
    arguments.readme.write_text(after, encoding="utf-8")
    console.say(f"{arguments.readme}: {', '.join(names) or 'no table'} filled in")
    return 0


if __name__ == "__main__":
    sys.exit(main())
