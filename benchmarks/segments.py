"""How long the segment cells take, beside the encoder and beside one call for each utterance.

    PYTHONPATH=src python benchmarks/segments.py [--config CONFIG] [--utterances 7300]

Makes noise of the default corpus' size in a temporary folder: frames of the base's width for the cells, and audio of
the same lengths, of which the base's encoder encodes a part. Runs every cell of the config as the stage does (verify,
read, decide, check, write) but without imports, and prints one JSON: the seconds of each cell, their sum as a share
of the encoder's time, and how many times faster a packed batch is than one call for each of its utterances.

Times are those of a core, added over cores: the encoder has a job to itself and uses two, while cells take one each
and run side by side, so on two cores either takes half of its time.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from concertina import compressors, config, segments
from concertina.config import Cell
from concertina.model import encoding, lalm
from concertina.store import sealing
from concertina.store.shards import Reader, Writer

FRAMES = (25, 175)  # 1 to 7 s at 25 frames per second
SAMPLES_PER_FRAME = 640
ENCODED = 400  # utterances that the encoder is timed on


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default=config.DEFAULT)
    parser.add_argument("--utterances", type=int, default=7300, help="as many as the default corpus has")
    args = parser.parse_args()
    experiment = config.load(args.config)
    lengths = np.random.default_rng(0).integers(*FRAMES, args.utterances)
    encode_s, width = time_encoder(experiment, lengths)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "features")
        write_noise(folder, lengths, width)
        cells = {cell.name: time_cell(folder, cell, Path(scratch, "cell")) for cell in experiment.cells}
    seconds = sum(cell["seconds"] for cell in cells.values())
    result = {
        "utterances": len(lengths),
        "frames": int(lengths.sum()),
        "width": width,
        "cells": cells,
        "seconds": seconds,
        "encode_seconds": encode_s,
        "share_of_encode_percent": 100 * seconds / encode_s,
    }
    print(json.dumps(result, indent=1))
    return 0


def time_encoder(experiment: config.Config, lengths: np.ndarray) -> tuple[float, int]:
    """Seconds that the features stage's encoder takes for so many frames, from a part of them; its width."""
    torch.set_num_threads(experiment.features.threads)
    model = lalm.load(experiment.base, encoder=True, llm=False, dtype=experiment.features.precision)
    rng = np.random.default_rng(0)
    waves = [rng.integers(-3000, 3000, n * SAMPLES_PER_FRAME).astype(np.int16) for n in lengths[:ENCODED]]
    budget = int(experiment.features.batch_seconds * 16000)
    taken = best(lambda: encoding.encode(model, waves, budget), times=2)
    return taken * int(lengths.sum()) / int(lengths[:ENCODED].sum()), int(model.encoder.config.d_model)


def time_cell(folder: Path, cell: Cell, path: Path) -> dict[str, float]:
    """Seconds of one cell, and how many times faster its first batch is than a loop over that batch."""
    wanted = segments.wanted(cell.compressor)

    def run() -> None:
        sealing.verify(folder, wanted)
        segments.write(path, Reader(folder), cell, 0)

    seconds = best(run)
    reader = Reader(folder)
    decide = segments.decider(cell)
    indices = next(segments.batches(reader.lengths))
    speech = segments.read(reader, indices, compressors.describe(cell.compressor).reads, 0)
    alone = [speech.pick(torch.tensor([i])) for i in range(len(indices))]

    def loop() -> None:
        for one in alone:
            decide(one)

    packed_s = best(lambda: decide(speech), times=20)
    return {"seconds": seconds, "times_faster_than_a_loop": round(best(loop, times=5) / packed_s, 1)}


def best(run: Callable[[], object], times: int = 3) -> float:
    """The least processor time of some runs, in seconds."""
    taken = []
    for _ in range(times):
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return round(min(taken), 6)


def write_noise(folder: Path, lengths: np.ndarray, width: int) -> None:
    """A sealed feature store."""
    rng = np.random.default_rng(0)
    with sealing.sealed(folder) as temporary:
        writer = Writer(temporary, "float16", width, 64 * 2**20)
        for i, length in enumerate(lengths):
            writer.add(f"noise-{i}", rng.standard_normal((length, width), dtype=np.float32))
        writer.close()


if __name__ == "__main__":
    raise SystemExit(main())
