"""Turn the cached frames and the segments of a split into the padded batches that the LLM reads.

Tensor names: B utterances, T frames and N tokens of all of them end to end, D width.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors.torch import load_file

from concertina.artefacts import dag
from concertina.compressors import _contract
from concertina.compressors._segments import Segments, pool, positions
from concertina.config import Cell, Config, ConfigError, Part, Positions, Split, splits_of
from concertina.model import lalm
from concertina.model.lalm import Inputs, Lalm, Prompt
from concertina.store import folders, jsonl, sealing, shards, subsets
from concertina.store.sealing import DamagedError


class Speech:
    """A split: the `rows` of its manifest, its `frames`, and the `segments` into which one cell cuts them.

    `place`: the positions that the cell gives its tokens; `windows`: by id the samples of each piece in which an
    utterance was encoded that is longer than the encoder's window.
    """

    def __init__(self, features: Path, folder: Path, place: Positions = "keep") -> None:
        """Open and verify a split's features and segments. Errors: DamagedError, also when they do not match."""
        self.windows: dict[str, list[int]] = sealing.verify(features).get("windows", {})
        sealing.verify(folder)
        self.place = place
        self.frames = shards.Reader(features)
        self.rows = jsonl.read(features / folders.MANIFEST)
        cut = load_file(folder / "segments.safetensors")
        self.segments = Segments(cut["lengths_N"].long(), cut["counts_B"].long(), cut["weights_T"], cut.get("peaks_B"))
        self.lengths_B = torch.from_numpy(self.frames.lengths)
        if not torch.equal(cut["frames_B"].long(), self.lengths_B) or self.frames.ids != [r["id"] for r in self.rows]:
            raise DamagedError(f"{folder} was not made from {features}; delete both and run `make reproduce`")

    @classmethod
    def of(cls, config: Config, parts: Iterable[Part], cell: Cell) -> dict[Split, "Speech"]:
        """Open every split that the parts name, as the cell cuts it. Errors: DamagedError."""
        speeches = {}
        for split in splits_of(parts):
            features = dag.artefact(config, "features", **split._asdict())
            segments = dag.artefact(config, "segments", **split._asdict(), cell=cell.cuts)
            speeches[split] = cls(features.folder, segments.folder, cell.positions or "keep")
        return speeches

    def read(self, indices: Sequence[int]) -> tuple[torch.Tensor, Segments]:
        """Return the frames [T, D] as stored, and the segments, of some utterances in the order of `indices`."""
        values, _ = self.frames.read(indices)
        frames_TD = torch.from_numpy(values)
        if self.frames.dtype == "bfloat16":
            frames_TD = frames_TD.view(torch.bfloat16)
        return frames_TD, _contract.select(self.segments, self.lengths_B, torch.tensor(indices, dtype=torch.long))

    def peaks(self, indices: Sequence[int]) -> int | None:
        """Return how many cuts within some utterances are peaks; None for a compressor that has no peaks."""
        return None if self.segments.peaks_B is None else int(self.segments.peaks_B[list(indices)].sum())


class Item(NamedTuple):
    """One utterance with a task: its prompt, and the right answer as text and as token ids."""

    speech: Speech
    at: int  # its index in the split
    prompt: Prompt
    text: str
    answer: list[int]


def items(model: Lalm, config: Config, part: Part, speech: Speech, at_most: int | None = None) -> list[Item]:
    """Return the utterances of a split that a part can use: they are in its language and have the text that it needs.

    `at_most` limits them to a fixed subset: those whose ids have the lowest hashes, in whatever order the split holds
    them. Errors: ConfigError when there is none.
    """
    prompt = lalm.prompt_ids(model, config.base, part.task, part.language, part.to)
    texts = {i: str(reference(speech.rows[i], part)) for i in subset(speech.rows, part, at_most)}
    return [Item(speech, i, prompt, text, lalm.answer_ids(model, text)) for i, text in texts.items()]


def subset(rows: Sequence[dict[str, Any]], part: Part, at_most: int | None = None) -> list[int]:
    """Return the indices of the rows that a part can use, in order; `at_most` as for `items`. Errors: ConfigError."""
    usable = [i for i, row in enumerate(rows) if reference(row, part)]
    if not usable:
        wanted = f"{part.language} to {part.to}" if part.to else part.language
        raise ConfigError(f"{part.corpus}/{part.split} has no utterance to {part.task} ({wanted})")
    return sorted(sorted(usable, key=lambda i: subsets.rank(rows[i]["id"]))[:at_most])


def reference(row: dict[str, Any], part: Part) -> str | None:
    """Return the right answer for a manifest row; None where the row does not fit the part."""
    if row["language"] != part.language:
        return None
    text = row["text"] if part.to is None else (row.get("translation") or {}).get(part.to)
    return text if text and text.strip() else None


def batch(
    model: Lalm, config: Config, batch_items: Sequence[Item], answers: bool = False, pad_left: bool = False
) -> Inputs:
    """Pool, project and embed the items' cached frames: returns a padded batch in the items' order."""
    frames_TD, frames_B, segments = _packed(batch_items)
    return inputs(
        model,
        frames_TD,
        frames_B,
        segments,
        [item.prompt for item in batch_items],
        [item.answer for item in batch_items] if answers else None,
        place=batch_items[0].speech.place,
        pool_at=config.segments.pool_at,
        pad_left=pad_left,
    )


def inputs(
    model: Lalm,
    frames_TD: torch.Tensor,
    frames_B: Sequence[int],
    segments: Segments,
    prompts: Sequence[Prompt],
    answers: Sequence[list[int]] | None = None,
    *,
    place: Positions = "keep",
    pool_at: Literal["encoder", "projector"] = "encoder",
    pad_left: bool = False,
) -> Inputs:
    """Turn frames of the encoder into what the LLM reads: pool, project, and embed them beside the texts.

    `frames_TD`: the utterances' frames end to end; `frames_B`: how many each has; `segments`: where they are cut;
    `place`: the positions of tokens are 0, 1, 2 ... ('renumber') or the weighted mean index of their frames ('keep').
    """
    counts_B = segments.counts_B.tolist()
    return lalm.embed(
        model,
        prompts,
        compress(model, frames_TD, segments, pool_at),
        counts_B,
        positions(segments, place),
        frames_B if place == "keep" else counts_B,
        answers,
        pad_left,
    )


def _packed(batch_items: Sequence[Item]) -> tuple[torch.Tensor, list[int], Segments]:
    """Return the items' frames [T, D] end to end in the items' order, how many each has, and their segments.

    Each split is read once, however the items of several splits alternate; the result is then put in their order.
    """
    speeches = list({id(item.speech): item.speech for item in batch_items}.values())
    by_speech = [b for speech in speeches for b, item in enumerate(batch_items) if item.speech is speech]
    batches = [speech.read([item.at for item in batch_items if item.speech is speech]) for speech in speeches]
    segments = Segments(
        torch.cat([segments.lengths_N for _, segments in batches]),
        torch.cat([segments.counts_B for _, segments in batches]),
        torch.cat([segments.weights_T for _, segments in batches]),
    )
    lengths_B = torch.tensor([int(batch_items[b].speech.lengths_B[batch_items[b].at]) for b in by_speech])
    frames = torch.cat([frames_TD for frames_TD, _ in batches]).split(lengths_B.tolist())
    at_B = torch.tensor(by_speech).argsort()  # where each item is in the order of reading
    frames_TD = torch.cat([frames[i] for i in at_B.tolist()])
    return frames_TD, lengths_B[at_B].tolist(), _contract.select(segments, lengths_B, at_B)


def compress(model: Lalm, frames_TD: torch.Tensor, segments: Segments, pool_at: str) -> torch.Tensor:
    """Turn frames into projected tokens [N, D], pooled before the projector ('encoder') or after it ('projector')."""
    if pool_at == "encoder":
        return lalm.project(model, pool(frames_TD.float(), segments))
    device = model.device
    on_device = Segments(segments.lengths_N.to(device), segments.counts_B.to(device), segments.weights_T.to(device))
    return pool(lalm.project(model, frames_TD), on_device)
