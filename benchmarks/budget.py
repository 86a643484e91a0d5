"""Is the training budget fair and enough? Learning rates and step counts compared on the dev loss.

The learning rate is chosen on dev for `none` and `average` at 3, then fixed for every cell; and twice the steps must
not lower the dev loss of `average` at 3 by more than 5 %. Run it after `make reproduce`, whose frames and segments
it uses; it prints one JSON row per training.

    python benchmarks/budget.py --learning-rates 5e-4 1e-3 2e-3 4e-3
    python benchmarks/budget.py --step-factors 1 2 --cells average-3
"""

import argparse
import itertools
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from concertina import config as configs
from concertina.artefacts import dag
from concertina.config import Config
from concertina.store import records


def main() -> None:
    """Train every combination and print its losses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=configs.DEFAULT)
    parser.add_argument("--cells", nargs="+", default=["none-1", "average-3"])
    parser.add_argument("--learning-rates", nargs="+", type=float, help="default: the config's")
    parser.add_argument("--step-factors", nargs="+", type=float, default=[1.0])
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side")
    args = parser.parse_args()
    config = configs.load(args.config)
    rates = args.learning_rates or [config.train.learning_rate]
    todo = list(itertools.product(args.cells, rates, args.step_factors))
    with ThreadPoolExecutor(args.jobs) as pool:
        for row in pool.map(lambda one: trained(args.config, config, *one), todo):
            print(json.dumps(row), flush=True)


def trained(path: Path, config: Config, cell: str, rate: float, factor: float) -> dict[str, object]:
    """One training under a set name of its own, so that no result of the experiment is touched."""
    steps = round(config.train.steps * factor)
    chosen = config.train.sets[0].model_dump(mode="json")
    name = f"budget-{rate:g}-{steps}".replace(".", "p").replace("+", "")
    overlay = yaml.safe_load(path.read_text(encoding="utf-8")) if path != configs.DEFAULT else {}
    changed = {"sets": [{**chosen, "name": name, "cells": None, "seeds": None}], "learning_rate": rate, "steps": steps}
    file = Path("scratch", "budget", f"{name}-{cell}.yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(configs.merge(overlay, {"train": changed})), encoding="utf-8")
    where = {"train_set": name, "cell": cell, "seed": 0}
    arguments = ["--train-set", name, "--cell", cell, "--seed", "0"]
    command = [sys.executable, "-m", "concertina.train", "--config", str(file), *arguments]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    artefact = dag.artefact(configs.load(file), "train", **where)
    record = records.read(artefact.folder / "record.json")
    facts = record.model_dump()["facts"]
    return {"cell": cell, "learning_rate": rate, "steps": steps, "seconds": round(record.seconds), **facts}


if __name__ == "__main__":
    main()
