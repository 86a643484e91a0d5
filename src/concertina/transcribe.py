"""`concertina transcribe`: recordings of any length to text, and how many audio tokens compression saved.

Tensor names: T samples or frames of utterances end to end, N tokens of them, D width, B windows.
"""

import argparse
import contextlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch

from concertina import compressors, console, segments
from concertina import config as configs
from concertina.artefacts import keys
from concertina.compressors._utterances import Utterances
from concertina.config import Cell, Config, ConfigError, Positions, Ratio
from concertina.corpora import _audio
from concertina.model import answering, batching, decoding, devices, encoder, encoding, lalm
from concertina.model.lalm import Lalm, Prompt
from concertina.store import sealing
from concertina.units import RATE_HZ

PROJECT = Path(__file__).parents[2]


class Method(NamedTuple):
    """How the audio tokens are made."""

    cell: Cell
    decide: segments.Decide


class Transcript(NamedTuple):
    """The text of a recording, and its audio tokens before and after compression."""

    text: str
    seconds: float
    windows: int
    frames: int
    tokens: int


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="concertina transcribe",
        description="Print what is said in recordings, and the audio tokens that compression saved. They may have any "
        "length and rate; WAV, FLAC, MP3, Ogg, M4A, WebM and other formats are read.",
        epilog="example: concertina transcribe talk.flac --adapter build/tiny/train/english/average-3-keep/seed0",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="recordings")
    parser.add_argument("--compressor", help=f"one of {', '.join(compressors.names())} (default: none)")
    parser.add_argument("--ratio", help="frames per token, such as 3 or 2.5, or natural (default: 1 with none)")
    about = "where the LLM reads the tokens (default: the adapter's, else the config's first)"
    parser.add_argument("--positions", choices=get_args(Positions), help=about)
    parser.add_argument("--task", choices=["transcribe", "translate"], default="transcribe", help="what to do")
    parser.add_argument("--language", default="en", help="the language that is spoken (default: en)")
    parser.add_argument("--to", help="the language to translate into, such as de")
    parser.add_argument("--adapter", type=Path, help="a trained adapter's folder; it knows its compressor and ratio")
    parser.add_argument("--config", type=Path, help="an overlay over config.yaml (default: the project's config.yaml)")
    return parser


@console.run
def main(argv: list[str] | None = None) -> int:
    """Print each recording's text, then what was saved; a recording that cannot be read is told and passed over."""
    asked = parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a console that lacks a letter does not end the command
    files = [(console.shown(str(file)), file if file == Path("-") else file.absolute()) for file in asked.files]
    asked.config = asked.config and asked.config.absolute()
    asked.adapter = asked.adapter and asked.adapter.absolute()
    with contextlib.chdir(project_of(asked.config)):  # the paths in a config are relative to its project
        return _run(asked, files)


def _run(asked: argparse.Namespace, files: list[tuple[str, Path]]) -> int:
    """Transcribe files, each given by its name on the console and its path."""
    if (asked.task == "translate") != (asked.to is not None):
        raise ConfigError("--to LANGUAGE belongs to --task translate, and only to it")
    config = configs.load(asked.config or configs.DEFAULT)
    described = description(asked.adapter, config) if asked.adapter else {}
    method = choose(config, asked.compressor, asked.ratio, asked.positions, described)
    where: dict[str, Any] = {"pool_at": described["pool_at"]} if "pool_at" in described else {}
    config = config.model_copy(update={"segments": config.segments.model_copy(update=where)})
    devices.fix(config.evaluate.threads)
    model = lalm.load(config.base, encoder=True, llm=True, dtype=config.evaluate.precision)
    prompt = lalm.prompt_ids(model, config.base, asked.task, asked.language, asked.to)
    if asked.adapter:
        decoding.attach(model, asked.adapter)
    failed = 0
    for name, file in files:
        try:
            samples_T = heard(name, file)
        except _audio.AudioError as error:
            console.say(f"error: {error}")
            failed += 1
            continue
        transcript = transcribe(model, config, samples_T, method, prompt)
        print(told(name, transcript, method, named=len(files) > 1), flush=True)
    return 1 if failed else 0


def heard(name: str, file: Path) -> np.ndarray:
    """Return the sound of a recording, int16 [T] at 16 kHz. Errors: AudioError, also for what is no file."""
    if file == Path("-"):
        raise _audio.AudioError("-: recordings are read from files alone; save what comes in to one, and name it")
    return _audio.mono(file, name=name)


def project_of(config: Path | None) -> Path:
    """Return the folder of a config's project: the nearest above it with a config.yaml, or else this one."""
    above = config.parents if config else []
    return next((folder for folder in above if (folder / configs.DEFAULT).is_file()), PROJECT)


def description(adapter: Path, config: Config) -> dict[str, Any]:
    """An adapter's compressor.json, its folder verified where it is sealed.

    Errors: ConfigError when it is no adapter of ours, or one of another base; DamagedError.
    """
    if (adapter / sealing.SEAL).exists():
        sealing.verify(adapter)
    try:
        described: dict[str, Any] = json.loads((adapter / "compressor.json").read_text(encoding="utf-8"))
        described |= {"ratio": str(Ratio.parse(described["ratio"]))} if "ratio" in described else {}  # '3.0' is 3
    except FileNotFoundError:
        raise ConfigError(f"--adapter: {adapter} holds no compressor.json, so it is no adapter of ours") from None
    if described.get("base") != keys.identity(config):
        raise ConfigError(f"--adapter: {adapter} was trained on another base than {config.base.model}; train it again")
    return described


def choose(
    config: Config, compressor: str | None, ratio: str | None, positions: Positions | None, described: dict[str, Any]
) -> Method:
    """The cell asked for, or the adapter's own. Errors: ConfigError when the two differ, or there is no such."""
    trained = described.get("name"), described.get("ratio")
    spelled = str(Ratio.parse(ratio)) if ratio and re.fullmatch(r"\d+(\.\d+)?", ratio) else ratio
    place = described.get("positions") if trained[1] != "1" else None
    pairs = ((compressor, trained[0], "compressor"), (spelled, trained[1], "ratio"), (positions, place, "positions"))
    for asked, own, option in pairs:
        if asked and own and asked != own:
            raise ConfigError(f"--{option} {asked}: the adapter was trained with {option} {own}; leave it out")
    compressor = compressor or trained[0] or "none"
    ratio = ratio or trained[1] or ("1" if compressor == "none" else None)
    if ratio is None:
        raise ConfigError(f"--compressor {compressor} wants a --ratio: frames per token, such as 3")
    try:
        frames_per_token = Ratio.parse(ratio)
    except ValueError as error:
        raise ConfigError(f"--ratio {ratio}: {error}") from None
    options = described.get("options")
    if options is None:
        cells = [cell for cell in config.cuts if cell.compressor == compressor]
        same = [cell for cell in cells if cell.ratio == frames_per_token]
        options = next((cell.options for cell in same + cells), {})
    cuts = Cell(compressor, frames_per_token, options)
    cell = cuts.placed([positions or place or config.segments.positions[0]])[0]
    return Method(cell, segments.decider(cuts))


@torch.inference_mode()
def transcribe(model: Lalm, config: Config, samples_T: np.ndarray, method: Method, prompt: Prompt) -> Transcript:
    """Decode one recording, int16 at 16 kHz: window by window, the texts joined."""
    spans = encoding.windows(samples_T, encoder.window_samples(model.encoder))
    waves = [samples_T[start:stop] for start, stop in spans]
    frames = encoding.encode(model, waves, int(config.features.batch_seconds * RATE_HZ))
    texts: list[str] = []
    tokens = 0
    for first in range(0, len(waves), config.evaluate.batch):
        of_batch = slice(first, first + config.evaluate.batch)
        frames_TD = torch.from_numpy(np.concatenate(frames[of_batch]))
        lengths_B = torch.tensor([len(one) for one in frames[of_batch]])
        seeds_B = segments.seeds([str(start) for start, _ in spans[of_batch]], config.segments.seed)
        cut = method.decide(Utterances(lengths_B, {"frames": frames_TD, "seeds": seeds_B}))
        inputs = batching.inputs(
            model,
            frames_TD,
            lengths_B.tolist(),
            cut,
            [prompt] * len(lengths_B),
            place=method.cell.positions or "keep",
            pool_at=config.segments.pool_at,
            pad_left=True,
        )
        caps = [answering.cap(len(wave) / RATE_HZ, config) for wave in waves[of_batch]]
        texts += [result.text for result in lalm.generate(model, inputs, caps)]
        tokens += len(cut.lengths_N)
    seconds = len(samples_T) / RATE_HZ
    return Transcript(" ".join(filter(None, texts)), seconds, len(spans), sum(map(len, frames)), tokens)


def told(name: str, transcript: Transcript, method: Method, named: bool) -> str:
    """Two lines for the console: the text, and what was saved."""
    how = method.cell.title
    saved = 100 * (1 - transcript.tokens / transcript.frames)
    pieces = f" in {transcript.windows} windows" if transcript.windows > 1 else ""
    return (
        f"{f'{name}: ' if named else ''}{transcript.text}\n"
        f"  ({transcript.tokens} audio tokens instead of {transcript.frames}, {saved:.0f} % saved by {how}; "
        f"{transcript.seconds:.1f} s{pieces})"
    )


if __name__ == "__main__":
    raise SystemExit(main())
