"""Put the tables that the pipeline made into README.md and docs/, each between its markers.

    <!-- headline: tiny -->          from results/tiny/report/headline.md; its quality.svg becomes docs/quality.svg
    <!-- end -->

    <!-- results: tiny -->           from results/tiny/report/table.md
    <!-- end -->

    <!-- positions: tiny -->         from results/tiny/report/positions.md; its positions.svg becomes docs/positions.svg
    <!-- end -->

Run `make readme` after `make reproduce`. Text between markers stays as it is if its results are not on this machine.
`--check` writes nothing and exits with 1 if something is out of date.
"""

import argparse
import re
import sys
from pathlib import Path

from concertina import console
from concertina.store import sealing

PAGES = (Path("README.md"), Path("docs/results.md"), Path("docs/positions.md"))
TABLES = {"headline": "headline.md", "results": "table.md", "positions": "positions.md"}
PICTURES = {"headline": "quality.svg", "positions": "positions.svg"}  # go to docs/ under the same name
BLOCK = re.compile(
    rf"(?P<begin><!-- (?P<kind>{'|'.join(TABLES)}): (?P<name>[a-z0-9][a-z0-9_-]*) -->\n).*?(?P<end><!-- end -->)", re.S
)


def fill(text: str) -> tuple[str, list[str], dict[str, str]]:
    """Fill a page with the tables that are on this machine.

    Returns the page, the names of the experiments in it, and the pictures (SVG) that go with its tables, by name.
    Errors: ValueError when there is no complete pair of markers; DamagedError when a report is damaged.
    """
    names: list[str] = []
    pictures: dict[str, str] = {}

    def table(match: re.Match[str]) -> str:
        folder = Path("results", match["name"], "report")
        if not (folder / sealing.SEAL).exists():
            return match[0]
        sealing.verify(folder)
        names.append(match["name"])
        if picture := PICTURES.get(match["kind"]):
            pictures.setdefault(picture, (folder / picture).read_text(encoding="utf-8"))
        return f"{match['begin']}{(folder / TABLES[match['kind']]).read_text(encoding='utf-8')}{match['end']}"

    if not BLOCK.search(text):
        raise ValueError("no `<!-- headline: NAME -->` or `<!-- results: NAME -->` with its `<!-- end -->` to fill")
    return BLOCK.sub(table, text), names, pictures


@console.run
def main(argv: list[str] | None = None) -> int:
    """Fill the pages, or with `--check` compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, default=PAGES, help="by default README.md and those in docs/")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if something is out of date")
    args = parser.parse_args(argv)
    files: dict[Path, str] = {}
    for page in args.pages:
        try:
            files[page], names, pictures = fill(page.read_text(encoding="utf-8"))
        except ValueError as error:
            console.say(f"error: {page}: {error}")
            return 1
        files |= {Path("docs", name): picture for name, picture in pictures.items()}
        if not args.check:
            console.say(f"{page}: {', '.join(dict.fromkeys(names)) or 'no table'} filled in")
    if args.check:
        return int(any(not path.exists() or path.read_text(encoding="utf-8") != text for path, text in files.items()))
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
