"""Pull the artefacts of a track: `dvc pull`, then check which of them may be used.

    python -m tools.dvc.pull --config config.yaml

Artefacts that are whole and belong to the present config and code go on Snakemake's record, so that they are not made
again. Those that are damaged, or were made by another config or code, are listed with the reason and removed, and the
next run makes them. A damaged file is also removed from DVC's cache, so that the next pull downloads it again.
"""

import argparse
import shutil
from pathlib import Path

from concertina import console
from concertina.artefacts import dag, standing
from concertina.config import load
from concertina.tracking import replay
from tools import damage, run, settle
from tools.dvc import tracks


@console.run
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config.yaml")
    parser.add_argument("--remote", help="a remote of DVC (default: its default)")
    args = parser.parse_args(argv)
    config, where = load(args.config), ["--remote", args.remote] if args.remote else []
    standing.check_pinned(config)
    track = tracks.stage(config, args.config)
    tracks.pushed(track)
    if not run.hold() or not tracks.dvc("pull", track, *where):
        return 1
    objects = tracks.listing(track)
    troubles = damage.troubles(config)
    damaged = [trouble for trouble in troubles if trouble.file in objects or trouble.file.exists()]
    others = [stranger.artefact.folder for stranger in standing.Standing(config).strangers()]
    for trouble in damaged:
        if trouble.file in objects:
            objects[trouble.file].unlink(missing_ok=True)
    ours = [trouble for trouble in damaged if trouble.make and trouble.kind != "base_hub"]  # downloads are shared
    report = dag.artefact(config, "report").folder
    remove({folder for trouble in ours for folder in trouble.remove} | set(others), report)
    kept = [artefact for artefact in damage.kept(config) if artefact.seal.exists()]
    here = [artefact.folder for artefact in settle.with_rules(kept)]
    if report in here:  # MLflow's copy of the runs is this clone's own
        replay.main(["--config", args.config, "--failures", "0"])
        here.append(dag.artefact(config, "report_track").folder)
    if here and not tracks.on_record(here, args.config):
        return 1
    for folder in others:
        console.say(f"{folder} was made by another config or code; removed: the next run makes it")
    for trouble in troubles:
        if trouble not in damaged:
            console.say(f"{trouble.remove[0]} is not part of {track} in dvc.lock: the next run makes it")
    console.say(f"{config.name}: {len(kept)} artefacts are whole, belong to this config and code, and are on record")
    if damaged:
        damage.tell(damaged, args.config)
        console.say("error: damaged artefacts were removed here and from DVC's cache; pull again or make them as above")
    return int(bool(damaged))


def remove(unfit: set[Path], report: Path) -> None:
    """Delete folders and files, and with the sealed report its copies."""
    copies = {report.parent / name for name in damage.COPIES} if report in unfit else set()
    for path in unfit | copies:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


if __name__ == "__main__":
    raise SystemExit(main())
