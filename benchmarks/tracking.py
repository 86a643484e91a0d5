"""How long MLflow takes for an experiment of 13 adapters, replayed, and with one call for every value.

    PYTHONPATH=src python benchmarks/tracking.py [--adapters 13] [--steps 400]

Makes the adapters' records and curves up in a temporary folder, replays them as `make track` does into a fresh SQLite
file whose tables are there, and then logs the same curves by `log_metric`, value by value, into another. The files are
on the same disk, one after the other in one process. Prints one JSON: the seconds of either, of a second replay, which
finds all runs known, and how many times faster the replay is, though it also writes scores, tags and files.
"""

import argparse
import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from concertina import config as configs
from concertina.artefacts import dag
from concertina.config import Cell, Config, Ratio
from concertina.store import jsonl, records, sealing
from concertina.tracking import mlflow_client, replay, runs
from concertina.tracking.mlflow_client import Experiment


def main() -> None:
    """Print one JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, default=13)
    parser.add_argument("--steps", type=int, default=400, help="of each adapter's curve: three values a step")
    args = parser.parse_args()
    default = Path(configs.DEFAULT).resolve()
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        shutil.copy(default, configs.DEFAULT)
        ratios = [1 + i / 10 for i in range(args.adapters)]
        overlay = {"name": "made-up", "segments": {"cells": [{"compressor": "average", "ratios": ratios}]}}
        Path("overlay.yaml").write_text(json.dumps(overlay), encoding="utf-8")
        config = configs.load("overlay.yaml")
        curves = [write(config, Cell("average", Ratio.parse(ratio)), args.steps) for ratio in ratios]
        Experiment("made before").client.search_experiments()  # imports and tables are not what is measured
        shutil.copy(mlflow_client.DATABASE, "naive.db")
        replay_s = seconds(lambda: replay.replay(config))
        again_s = seconds(lambda: replay.replay(config))
        naive_s = seconds(lambda: one_by_one(curves))
    result = {
        "adapters": args.adapters,
        "values": sum(len(list(runs.values(curve))) for curve in curves),
        "replay_s": replay_s,
        "runs_per_second": args.adapters / replay_s,
        "second_replay_s": again_s,
        "one_call_per_value_s": naive_s,
        "times_faster": naive_s / replay_s,
    }
    print(json.dumps({name: round(value, 2) for name, value in result.items()}, indent=1))


def write(config: Config, cell: Cell, steps: int) -> list[dict[str, float]]:
    """Seal an adapter without scores; its curve."""
    curve: list[dict[str, float]] = [{"step": 0, "dev_loss": 2.0}]
    for step in range(1, steps + 1):
        curve.append({"step": step, "loss": 1 / step, "learning_rate": 1e-3, "utterances_per_second": 70.0})
        if step % 100 == 0:
            curve.append({"step": step, "dev_loss": 1 / step})
    key = cell.name
    place = {"compressor": cell.compressor, "ratio": str(cell.ratio), "train_set": "english", "seed": 0}
    made = {"commit": "unknown", "versions": {}, "device": "none", "threads": 1, "seconds": 1.0, "run_key": key}
    head = {"stage": "train", "name": config.name, "config": config.train.model_dump(mode="json"), **place, **made}
    adapter = dag.artefact(config, "train", train_set="english", cell=cell, seed=0)
    with sealing.sealed(adapter.folder, {"run_key": key}) as folder:
        records.write(folder / "record.json", records.run(**head))
        jsonl.write(folder / "curve.jsonl", curve)
        (folder / "adapter_model.safetensors").write_bytes(b"0" * 2**20)
    return curve


def one_by_one(curves: list[list[dict[str, float]]]) -> None:
    """The same curves by one call for each value."""
    from mlflow import MlflowClient

    client = MlflowClient("sqlite:///naive.db")
    experiment = client.create_experiment("naive")
    for curve in curves:
        run_id = client.create_run(experiment).info.run_id
        for name, value, step in runs.values(curve):
            client.log_metric(run_id, name, value, step=step)


def seconds(run: Callable[[], object]) -> float:
    """Wall time of a call."""
    began = time.monotonic()
    run()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
