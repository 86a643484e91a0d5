"""Put the artefacts of a track where others can pull them: `dvc commit`, then `dvc push`.

    python tools/push.py --config config.yaml

Nothing is pushed unless everything is whole and belongs to the present config and code, so that dvc.lock says what
is true. Afterwards commit dvc.lock: it names what was pushed.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import artefacts
import run
import yaml

from concertina import console
from concertina.config import Config, ConfigError, load

DVC = [sys.executable, "-m", "dvc"]


@console.run
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config.yaml")
    chosen = parser.parse_args(argv)
    config = load(chosen.config)
    track = stage(config, chosen.config)
    if not run.hold():
        return 1
    if found := artefacts.troubles(config):
        artefacts.tell(found, chosen.config)
        console.say("error: nothing was pushed: not everything is whole")
        return 1
    if others := artefacts.strangers(config):
        console.say("\n".join(f"{folder} was made by another config or code" for folder in others))
        console.say(f"error: nothing was pushed; run `make reproduce CONFIG={chosen.config}` first")
        return 1
    for command in (["commit", "--force", track], ["push", track]):
        if subprocess.run([*DVC, *command], check=False).returncode:
            console.say(f"error: `dvc {' '.join(command)}` failed, see above; a remote: dvc remote add --default NAME URL")
            return 1
    console.say(f"{config.name} is pushed; now commit dvc.lock, and others can `make pull CONFIG={chosen.config}`")
    return 0


def stage(config: Config, path: str) -> str:
    """The stage of a config in dvc.yaml. Errors: ConfigError when it has none."""
    tracks = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]["track"]["foreach"]
    if tracks.get(config.name) != path:
        raise ConfigError(f"dvc.yaml: no track `{config.name}: {path}` under stages.track.foreach; add it there")
    return f"track@{config.name}"


if __name__ == "__main__":
    raise SystemExit(main())
