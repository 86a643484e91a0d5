"""Push the artefacts of a track to where others can pull them: `dvc commit`, then `dvc push`.

    python -m tools.dvc.push --config config.yaml

Nothing is pushed unless everything is whole and belongs to the present config and code, so that dvc.lock is right.
Commit dvc.lock afterwards: it names what was pushed.
"""

import argparse

from concertina import console
from concertina.artefacts.standing import Standing
from concertina.config import load
from tools import damage, run
from tools.dvc import tracks


@console.run
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config.yaml")
    parser.add_argument("--remote", help="a remote of DVC (default: its default)")
    args = parser.parse_args(argv)
    config, where = load(args.config), ["--remote", args.remote] if args.remote else []
    track = tracks.stage(config, args.config)
    if not run.hold():
        return 1
    if damaged := damage.troubles(config):
        damage.tell(damaged, args.config)
        console.say("error: nothing was pushed, because artefacts are damaged or missing; run the commands above first")
        return 1
    if strangers := list(Standing(config).strangers()):
        for one in strangers:
            console.say(f"{one.artefact.folder} was made by another config or code")
        console.say(f"error: nothing was pushed; run `make reproduce CONFIG={args.config}` first")
        return 1
    if not tracks.dvc("commit", "--force", track) or not tracks.dvc("push", track, *where):
        return 1
    console.say(f"{config.name} is pushed; commit dvc.lock, and others can run `make pull CONFIG={args.config}`")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
