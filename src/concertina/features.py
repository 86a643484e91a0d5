"""The features stage: the frozen encoder, once per utterance, so that every compressor and ratio shares its frames.

Utterances are encoded in stretches of consecutive ones, each with shards of its own; of a long split (see scatter.py)
several jobs do a share of the stretches each, and one joins them.
Tensor names: T frames of many utterances end to end, D width.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from concertina import config as configs
from concertina import console
from concertina.artefacts import keys, layout, scatter
from concertina.artefacts.scatter import Share
from concertina.config import Config
from concertina.model import devices, encoder, lalm
from concertina.model.lalm import Lalm
from concertina.store import sealing, shards

SHORTEST_SAMPLES = 4 * encoder.SAMPLES_PER_MEL  # one frame: what is shorter is followed by silence
MANIFEST = "manifest.jsonl"
BATCHES_IN_MEMORY = 32  # utterances are sorted by length within so many batches, then written in the manifest's order


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m concertina.features",
        description="Run the frozen encoder over one split and store its frames (25 a second, before the projector).",
        epilog="Reads build/<name>/data/<corpus>/<split>, writes build/<name>/features/<corpus>/<split>.",
    )
    parser.add_argument("--config", type=Path, default=configs.DEFAULT, help="config.yaml or an overlay over it")
    parser.add_argument("--corpus", required=True, help="a corpus of data.corpora")
    parser.add_argument("--split", required=True, help="one of its splits")
    scatter.arguments(parser)
    return parser


@console.run
def main(argv: list[str] | None = None) -> int:
    """Encode one split."""
    arguments = parser().parse_args(argv)
    config, corpus, split = configs.load(arguments.config), arguments.corpus, arguments.split
    source = layout.data(config.name, corpus, split)
    seal = sealing.verify(source, shards.INDEX, MANIFEST)
    facts = {"run_key": keys.run_key(keys.features(config, corpus, split), [seal["run_key"], *keys.base_seals(config)])}
    if arguments.gather:
        gather(arguments.gather, source, layout.features(config.name, corpus, split), facts)
    elif arguments.share:
        folder = layout.share(config.name, "features", corpus, split, str(arguments.share))
        stage(config, source, folder, facts, arguments.share)
    else:
        stage(config, source, layout.features(config.name, corpus, split), facts, Share(1, 1))
    return 0


def stage(config: Config, source: Path, target: Path, facts: dict[str, Any], share: Share) -> None:
    """Encode a share of the split in `source` into `target`. Errors: DamagedError, ValueError (frames not finite)."""
    chosen = config.features
    devices.fix(chosen.threads, chosen.precision)
    budget_samples = int(chosen.batch_seconds * encoder.RATE_HZ)
    audio = shards.Reader(source)
    stretches = list(_stretches(audio.lengths, BATCHES_IN_MEMORY * budget_samples))
    stretches = [stretches[number] for number in share.range(len(stretches))]
    indices = [i for stretch in stretches for i in stretch]
    sealing.verify(source, *audio.files(indices))
    model = lalm.load(config.base, encoder=True, llm=False, dtype=chosen.precision)
    facts = facts | {"utterances": len(indices)}
    with sealing.sealed(target, facts) as folder, console.Progress(len(indices), "utterances") as progress:
        width = model.encoder.config.d_model
        writer = shards.Writer(folder, chosen.dtype, width, chosen.shard_mib * 2**20)
        for stretch in stretches:
            waves = [audio.one(i) for i in stretch]
            for i, frames_TD in zip(stretch, encode(model, waves, budget_samples, progress), strict=True):
                writer.add(audio.ids[i], frames_TD)
            writer.cut()
        writer.close()
        shutil.copyfile(source / MANIFEST, folder / MANIFEST)


def gather(shares: Sequence[Path], source: Path, target: Path, facts: dict[str, Any]) -> None:
    """Join the shares of the split in `source`. Errors: DamagedError, also when shares are missing."""
    seals = {folder: scatter.verified(folder, facts["run_key"]) for folder in shares}
    facts = facts | {"utterances": sum(seal["utterances"] for seal in seals.values())}
    known: dict[str, Any] = {}
    with sealing.sealed(target, facts, known) as folder:
        files = shards.join(shares, folder)
        known |= {name: seals[path.parent]["files"][path.name] for name, path in files.items()}
        if shards.Reader(folder).ids != shards.Reader(source).ids:
            raise sealing.DamagedError(f"{shares[0].parent} does not hold all of {source}; run `make reproduce`")
        shutil.copyfile(source / MANIFEST, folder / MANIFEST)


def encode(
    model: Lalm, waves: Sequence[np.ndarray], budget_samples: int, progress: console.Progress | None = None
) -> list[np.ndarray]:
    """Frames [T, D] (float32) of each utterance, given as int16 samples at 16 kHz.

    Audio longer than the encoder's window is encoded window by window and its frames joined. Batches are of like
    lengths and hold at most `budget_samples`, padding included; they depend on nothing but the lengths.
    """
    window = encoder.window_samples(model.encoder)
    pieces = [(i, start) for i, wave in enumerate(waves) for start in range(0, max(len(wave), 1), window)]
    lengths = [min(len(waves[i]) - start, window) for i, start in pieces]
    done: dict[int, np.ndarray] = {}
    for batch in batches(lengths, budget_samples):
        cut = [_wave(waves[pieces[p][0]][pieces[p][1] :][:window]) for p in batch]
        for p, frames_TD in zip(batch, _encode_batch(model, cut, window), strict=True):
            done[p] = frames_TD
        if progress:
            progress.add(sum(pieces[p][1] == 0 for p in batch))
    joined: list[list[np.ndarray]] = [[] for _ in waves]
    for p, (i, _) in enumerate(pieces):
        joined[i].append(done.pop(p))
    return [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in joined]


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices by rising length, in groups whose padded size (members times the longest) is at most `budget`."""
    group: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if group and (len(group) + 1) * lengths[i] > budget:
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def manifest(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder's manifest.jsonl."""
    with open(folder / MANIFEST, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@torch.inference_mode()
def _encode_batch(model: Lalm, waves: list[np.ndarray], window: int) -> list[np.ndarray]:
    mel_BML, lengths_B = encoder.log_mel(model.feature_extractor, waves, window)
    frames_BTD, counts_B = encoder.encode(model.encoder, mel_BML.to(model.device), lengths_B)
    frames = frames_BTD.float().cpu().numpy()
    return [frames[b, :count].copy() for b, count in enumerate(counts_B.tolist())]


def _wave(samples: np.ndarray) -> np.ndarray:
    """int16 samples as float32 in [-1, 1), with silence after what is too short for one frame."""
    wave = samples.astype(np.float32) / 32768
    return np.pad(wave, (0, max(0, SHORTEST_SAMPLES - len(wave))))


def _stretches(lengths: np.ndarray, budget: int) -> Iterator[range]:
    """Consecutive utterances, so many that their lengths come to about `budget`."""
    start, held = 0, 0
    for i, length in enumerate(lengths.tolist()):
        held += length
        if held >= budget:
            yield range(start, i + 1)
            start, held = i + 1, 0
    if start < len(lengths):
        yield range(start, len(lengths))


if __name__ == "__main__":
    raise SystemExit(main())
