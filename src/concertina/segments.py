"""The stage segments: a compressor and a ratio decide, for each utterance, where to cut and how to weigh.

INPUTS   build/<name>/features/<corpus>/<split>/
OUTPUTS  build/<name>/segments/<corpus>/<split>/<cell>/segments.safetensors, sealed with the realised
         ratio (frames per token over the split) and, where it means something, the share of cuts that are peaks

Names end in their shape: B utterances, T frames and N tokens of all of them end to end, D width.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from concertina import compressors, console
from concertina.artefacts import stage
from concertina.artefacts.stage import Run
from concertina.compressors import _contract
from concertina.compressors._segments import Segments
from concertina.compressors._utterances import Utterances
from concertina.config import Cell
from concertina.store import sealing
from concertina.store.shards import INDEX, Reader

FILE = "segments.safetensors"
BATCH_FRAMES = 2**15
Decide = Callable[[Utterances], Segments]


def decider(cell: Cell) -> Decide:
    """A compressor ready for use: a function of a batch of utterances that checks its own answers.

    The batch holds at least what the compressor's file declares to read; it is shown no more.
    Errors: ConfigError when the compressor does not take the ratio or an option; ContractError from the function
    when an answer breaks the contract.
    """
    compressors.check_cell(cell)
    cut = compressors.load(cell.compressor)
    compressor = compressors.describe(cell.compressor)
    ratio = cell.ratio.value

    def decide(speech: Utterances) -> Segments:
        with _contract.named(cell.compressor):
            answer: Segments = cut(speech.only(compressor.reads), ratio, **cell.options)
            _contract.check(answer, speech.lengths_B, ratio, compressor.exact)
        return answer

    return decide


def seeds(ids: Sequence[str], seed: int) -> Tensor:
    """One number per utterance from its id and the config's seed: int64 [B]."""
    digests = b"".join(hashlib.blake2b(f"{seed}:{id}".encode(), digest_size=8).digest() for id in ids)
    return torch.from_numpy(np.frombuffer(digests, dtype="<i8").astype(np.int64))


def make(run: Run) -> None:
    """Segment one split with one cell of the grid. Errors: ConfigError, ContractError."""
    torch.set_num_threads(1)  # bound by memory: jobs side by side beat threads
    (features,) = run.inputs("features")
    cell: Cell = run.artefact.where["cell"]
    sealing.verify(features.folder, wanted(cell.compressor))
    facts = write(run.folder / FILE, Reader(features.folder), cell, run.config.segments.seed)
    run.note(**facts)
    console.say(f"{run.artefact.folder}: {facts['realised_ratio']:.3g} frames per token")


def wanted(compressor: str) -> str:
    """The files of a feature store that a compressor needs, as a pattern: the index alone where it reads no frames."""
    return "*" if "frames" in compressors.describe(compressor).reads else INDEX


def write(path: Path, features: Reader, cell: Cell, seed: int) -> dict[str, Any]:
    """Segment every utterance of a store into one file, in the store's order; returns the facts for its seal.

    Errors: ConfigError, ContractError.
    """
    decide = decider(cell)
    reads = compressors.describe(cell.compressor).reads
    answers: list[Segments] = []
    with torch.inference_mode(), console.Progress(len(features), "utterances") as progress:
        for indices in batches(features.lengths):
            speech = read(features, indices, reads, seed)
            answers.append(decide(speech))
            if len(answers) == 1:
                _contract.check_company(decide, speech, answers[0], cell.compressor)
            progress.add(len(indices))
    lengths_N = torch.cat([torch.empty(0, dtype=torch.int32), *(answer.lengths_N.int() for answer in answers)])
    counts_B = torch.cat([torch.empty(0, dtype=torch.int32), *(answer.counts_B.int() for answer in answers)])
    weights_T = torch.cat([torch.empty(0), *(answer.weights_T.float() for answer in answers)])
    frames_B = torch.from_numpy(features.lengths).int()
    tensors = {"lengths_N": lengths_N, "counts_B": counts_B, "weights_T": weights_T, "frames_B": frames_B}
    if peaks := [answer.peaks_B.int() for answer in answers if answer.peaks_B is not None]:
        tensors["peaks_B"] = torch.cat(peaks)
    save_file(tensors, path)
    cuts = len(lengths_N) - int((counts_B > 0).sum())
    return {
        "realised_ratio": len(weights_T) / max(len(lengths_N), 1),
        "peak_share": int(tensors["peaks_B"].sum()) / cuts if peaks and cuts else None,
    }


def read(features: Reader, indices: Sequence[int], reads: Sequence[str], seed: int) -> Utterances:
    """Some utterances of a store with what is to be read of them: frames as stored, seeds from ids and `seed`."""
    columns = {}
    if "frames" in reads:
        frames_TD = torch.from_numpy(features.read(indices)[0])
        columns["frames"] = frames_TD.view(torch.bfloat16) if features.dtype == "bfloat16" else frames_TD
    if "seeds" in reads:
        columns["seeds"] = seeds([features.ids[i] for i in indices], seed)
    return Utterances(torch.from_numpy(features.lengths[indices]), columns)


def batches(lengths: np.ndarray) -> Iterator[list[int]]:
    """Consecutive utterances, as many as fill a batch."""
    batch_of = (np.cumsum(lengths) - 1) // BATCH_FRAMES
    for batch in np.split(np.arange(len(lengths)), np.flatnonzero(np.diff(batch_of)) + 1):
        yield batch.tolist()


main = stage.command(
    "segments",
    make,
    about="Decide where a compressor cuts the utterances of a split, and how it weighs their frames.",
    example="--corpus synthetic --split clean --cell average-3",
)


if __name__ == "__main__":
    raise SystemExit(main())
