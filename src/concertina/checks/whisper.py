"""The whisper stage transcribes the test sets with the whole Whisper whose encoder a joined base has.

It shows what the base could reach: the same encoder on the same utterances, with the decoder that it was trained with.

INPUTS   build/<name>/data/... of the transcription sets, the encoder's files
OUTPUTS  results/<name>/whisper/: record.json (each set's scores with their intervals) and texts (JSON)
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import WhisperForConditionalGeneration

from concertina import console, metrics
from concertina.artefacts import dag, stage
from concertina.artefacts.stage import Run
from concertina.bases.joined import pretrained
from concertina.config import Config, Pretrained, TestSet
from concertina.metrics import _normaliser
from concertina.model import batching, devices
from concertina.reporting.statistics import Bootstrap
from concertina.store import folders, jsonl, sealing
from concertina.store.shards import Reader
from concertina.units import RATE_HZ

BATCH = 8
MULTILINGUAL = 51_865  # the tokens of a Whisper for more languages than English
MOST_TOKENS = 224  # per window, the limit in Whisper's own decoding
Row = dict[str, Any]


def make(run: Run) -> None:
    """Decode and score every transcription set of the config. Errors: DamagedError, as `pretrained`."""
    config, part = run.config, run.config.joined.encoder
    run.head |= {"config": {"encoder": part.model_dump(mode="json")}, "threads": config.evaluate.threads}
    devices.fix(config.evaluate.threads)
    for data in run.inputs("data"):
        sealing.verify(data.folder)
    model: Any = pretrained.whisper(part)
    model.to(devices.device())
    sets = [test_set for test_set in config.evaluate.sets if test_set.task == "transcribe"]
    run.record({test_set.name: measure(model, part, config, test_set, run.folder) for test_set in sets})


def measure(
    model: WhisperForConditionalGeneration, part: Pretrained, config: Config, test_set: TestSet, folder: Path
) -> Row:
    """Score one set, each metric with its interval, and write its texts into `folder`."""
    source = dag.artefact(config, "data", **test_set.place._asdict()).folder
    audio, rows = Reader(source), jsonl.read(source / folders.MANIFEST)
    references = {
        i: str(batching.reference(rows[i], test_set)) for i in batching.subset(rows, test_set, test_set.utterances)
    }
    references = {i: text for i, text in references.items() if _normaliser.has_words(text, test_set.language)}
    console.say(f"{test_set.name}: decoding with Whisper itself")
    texts = decode(model, part, [audio.one(i) for i in references], test_set.language)
    speakers, report = [rows[i].get("speaker") for i in references], config.report
    bootstrap = Bootstrap(speakers, report.bootstrap_samples, report.confidence_percent)
    systems = {
        name: (name, metrics.load(name).score(list(references.values()), texts, test_set.language).stats_UK)
        for name in config.evaluate.metrics["transcribe"]
    }
    intervals = {name: bootstrap.interval(scored) for name, scored in bootstrap.resampled(systems).items()}
    scores = {
        name: {"value": interval.value, "low": interval.low, "high": interval.high}
        for name, interval in intervals.items()
    }
    lines = [
        {"id": rows[i]["id"], "reference": reference, "hypothesis": text}
        for (i, reference), text in zip(references.items(), texts, strict=True)
    ]
    sealing.write_json(folder / f"{test_set.name}.json", lines)
    return {"n_utterances": len(references), "scores": scores}


def decode(
    model: WhisperForConditionalGeneration, part: Pretrained, audio: list[np.ndarray], language: str
) -> list[str]:
    """Decode int16 samples at 16 kHz greedily, in windows padded to the 30 s that Whisper was trained on."""
    tokenizer, extractor = pretrained.whisper_tokenizer(part), pretrained.feature_extractor(model)
    known = tokenizer.get_vocab()
    named = ["<|startoftranscript|>", f"<|{language}|>", "<|transcribe|>", "<|notimestamps|>"]
    multilingual = len(known) >= MULTILINGUAL
    start = [known[name] for name in (named if multilingual else (named[0], named[3]))]
    window = extractor.n_samples
    pieces = [
        (i, wave[first : first + window]) for i, wave in enumerate(audio) for first in range(0, len(wave), window)
    ]
    pieces.sort(key=lambda piece: len(piece[1]))
    texts: list[list[str]] = [[] for _ in audio]
    with console.Progress(len(pieces), "windows") as progress:
        for first in range(0, len(pieces), BATCH):
            batch = pieces[first : first + BATCH]
            waves = [wave.astype(np.float32) / 32768 for _, wave in batch]
            mel_BML = extractor(waves, sampling_rate=RATE_HZ, return_tensors="pt").input_features
            ids = _greedy(model, mel_BML, start, tokenizer.eos_token_id)
            for (i, _), text in zip(batch, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
                texts[i].append(text.strip())
            progress.add(len(batch))
    return [" ".join(parts) for parts in texts]


@torch.inference_mode()
def _greedy(
    model: WhisperForConditionalGeneration, mel_BML: torch.Tensor, start: list[int], end: int
) -> list[list[int]]:
    """Decode a batch of windows token by token, until every row has the end token; the rows are cut before it."""
    ids_BS = torch.tensor([start] * len(mel_BML), device=model.device)
    states = model.model.encoder(mel_BML.to(model.device))
    cache = None
    step_BS = ids_BS
    for _ in range(MOST_TOKENS):
        out = model(encoder_outputs=states, decoder_input_ids=step_BS, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        step_BS = out.logits[:, -1:].argmax(-1)
        ids_BS = torch.cat([ids_BS, step_BS], dim=1)
        if bool((ids_BS == end).any(1).all()):
            break
    rows = ids_BS[:, len(start) :].tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]


main = stage.command(
    "evaluate_whisper",
    make,
    about="Transcribe the test sets with the whole Whisper whose encoder the base was joined from.",
    device=devices.gpu_name,
)


if __name__ == "__main__":
    raise SystemExit(main())
