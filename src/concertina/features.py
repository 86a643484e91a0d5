"""The features stage runs the frozen encoder once per utterance; all compressors and ratios share its frames.

Consecutive utterances are encoded in stretches, each with shards of its own. Of a long split (see
artefacts/scatter.py) several jobs each encode a share of the stretches, and a last job joins them.
Tensor names: T frames of many utterances end to end, D width.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from concertina import console
from concertina.artefacts import scatter, stage
from concertina.artefacts.scatter import Share
from concertina.artefacts.stage import Run
from concertina.model import devices, encoder, encoding, lalm
from concertina.store import sealing, shards
from concertina.store.folders import MANIFEST
from concertina.units import RATE_HZ

SHOWN_LONG = 5  # on the console; all of them are in the seal, with the samples of each piece
BATCHES_IN_MEMORY = 32  # of a stretch, sorted by length for encoding and written in the manifest's order


def make(run: Run) -> None:
    """Encode one split, or join its shares. Errors: DamagedError, ValueError (frames that are not finite)."""
    if run.args.gather:
        gather(run, run.args.gather)
    else:
        encode_share(run, Share(1, 1))


def make_share(run: Run) -> None:
    """Encode one share of a split. Errors: as `make`."""
    encode_share(run, run.artefact.where["share"])


def encode_share(run: Run, share: Share) -> None:
    """Encode a share of a split's utterances into the run's folder."""
    (data,) = run.inputs("data")
    settings = run.config.features
    devices.fix(settings.threads, settings.precision)
    budget_samples = int(settings.batch_seconds * RATE_HZ)
    sealing.verify(data.folder, shards.INDEX, MANIFEST)
    audio = shards.Reader(data.folder)
    stretches = list(_stretches(audio.lengths, BATCHES_IN_MEMORY * budget_samples))
    stretches = [stretches[number] for number in share.range(len(stretches))]
    indices = [i for stretch in stretches for i in stretch]
    sealing.verify(data.folder, *audio.files(indices))
    model = lalm.load(run.config.base, encoder=True, llm=False, dtype=settings.precision)
    window, cut = encoder.window_samples(model.encoder), dict[str, list[int]]()
    writer = shards.Writer(run.folder, settings.dtype, model.encoder.config.d_model, settings.shard_mib * 2**20)
    with console.Progress(len(indices), "utterances") as progress:
        for stretch in stretches:
            waves = [audio.one(i) for i in stretch]
            for i, frames_TD in zip(stretch, encoding.encode(model, waves, budget_samples, progress), strict=True):
                writer.add(audio.ids[i], frames_TD)
            spans = {audio.ids[i]: encoding.windows(wave, window) for i, wave in zip(stretch, waves, strict=True)}
            cut |= {id: [stop - start for start, stop in pieces] for id, pieces in spans.items() if len(pieces) > 1}
            writer.cut()
    writer.close()
    shutil.copyfile(data.folder / MANIFEST, run.folder / MANIFEST)
    if cut:
        names = ", ".join(list(cut)[:SHOWN_LONG]) + (", ..." if len(cut) > SHOWN_LONG else "")
        told = f"{len(cut)} of {len(indices)} utterances are longer than the encoder's window of {window / RATE_HZ:g} s"
        console.say(f"{told}; they are cut in their pauses, and answered piece by piece: {names}")
    run.note(utterances=len(indices), windows=cut)


def gather(run: Run, shares: Sequence[Path]) -> None:
    """Join the shares of a split. Errors: DamagedError, also when a share is missing."""
    (data,) = run.inputs("data")
    sealing.verify(data.folder, shards.INDEX, MANIFEST)
    seals = {folder: scatter.verified(folder, run.run_key) for folder in shares}
    files = shards.join(shares, run.folder)
    run.draft.trust({name: seals[path.parent]["files"][path.name] for name, path in files.items()})
    if shards.Reader(run.folder).ids != shards.Reader(data.folder).ids:
        raise sealing.DamagedError(f"{shares[0].parent} does not hold all of {data.folder}; run `make reproduce`")
    shutil.copyfile(data.folder / MANIFEST, run.folder / MANIFEST)
    windows = {id: frames for seal in seals.values() for id, frames in seal["windows"].items()}
    run.note(utterances=sum(seal["utterances"] for seal in seals.values()), windows=windows)


def _stretches(lengths: np.ndarray, budget: int) -> Iterator[range]:
    """Yield ranges of consecutive utterances whose lengths add up to about `budget`."""
    start, total = 0, 0
    for i, length in enumerate(lengths.tolist()):
        total += length
        if total >= budget:
            yield range(start, i + 1)
            start, total = i + 1, 0
    if start < len(lengths):
        yield range(start, len(lengths))


main = stage.scattered(
    "features",
    make,
    make_share,
    about="Run the frozen encoder over one split and store its frames (25 a second, before the projector).",
    example="--corpus synthetic --split clean",
    device=devices.gpu_name,
)


if __name__ == "__main__":
    raise SystemExit(main())
