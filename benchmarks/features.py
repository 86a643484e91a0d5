"""What encoding at true length saves over the stock padded forward, beside what the lengths allow.

    PYTHONPATH=src python benchmarks/features.py [--config CONFIG] [--data build/tiny/data/synthetic/clean]

Encodes the same utterances twice on one thread: as the features stage does, and through transformers' own encoder
padded to its window. Prints one JSON: the seconds of each (CPU time, so that other work on the machine counts
little), the FLOPs of each, the share of the FLOP saving that was won as time, and the largest difference of outputs.
Without --data the utterances are noise of 1 to 4.3 seconds.

    PYTHONPATH=src python benchmarks/features.py --like librispeech --utterances 40

Noise about as long as LibriSpeech's training utterances (12.3 s on average), and a random encoder of Whisper
tiny's size that hears 30 s, as the shipped base hears 10 s only. The stock forward has the attention function that
transformers chooses by itself (--attention eager: ours).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration, WhisperFeatureExtractor
from transformers.masking_utils import create_bidirectional_mask

from concertina import config
from concertina.model import devices, encoder, encoding, lalm
from concertina.model.lalm import Lalm
from concertina.store.shards import Reader
from concertina.units import RATE_HZ


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default=config.DEFAULT)
    parser.add_argument("--data", type=Path, help="a folder of the data stage")
    parser.add_argument("--like", choices=["librispeech"], help="lengths of utterances, instead of --data")
    parser.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa", help="of the stock forward")
    parser.add_argument("--utterances", type=int, default=100)
    args = parser.parse_args()
    experiment = config.load(args.config)
    devices.fix(1)
    if args.like:
        model, waves = whisper_tiny(), noise(librispeech(args.utterances))
    else:
        model = lalm.load(experiment.base, encoder=True, llm=False, device="cpu")
        waves = speech(args.data, args.utterances)
    budget = int(experiment.features.batch_seconds * RATE_HZ)
    window = encoder.window_samples(model.encoder)
    waves = [wave for wave in waves if len(wave) <= window]
    ours_s, ours = best(lambda: encoding.encode(model, waves, budget))
    model.encoder.config._attn_implementation = args.attention
    stock_s, theirs = best(lambda: stock(model, waves, max(1, budget // window)))
    lengths = [len(wave) for wave in waves]
    ours_flop, stock_flop = sum(flop(model, n) for n in lengths), flop(model, window) * len(lengths)
    flop_saving, time_saving = 1 - ours_flop / stock_flop, 1 - ours_s / stock_s
    result = {
        "utterances": len(waves),
        "mean_seconds_of_audio": float(np.mean(lengths)) / RATE_HZ,
        "window_seconds": window / RATE_HZ,
        "stock_attention": args.attention,
        "true_length_seconds": ours_s,
        "stock_seconds": stock_s,
        "times_faster": stock_s / ours_s,
        "times_fewer_flop": stock_flop / ours_flop,
        "flop_saving_percent": 100 * flop_saving,
        "time_saving_percent": 100 * time_saving,
        "share_of_flop_saving_percent": 100 * time_saving / flop_saving,
        "largest_difference": max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True)),
    }
    print(json.dumps(result, indent=1))
    return 0


@torch.inference_mode()
def stock(model: Lalm, waves: list[np.ndarray], batch: int) -> list[np.ndarray]:
    """Frames [T, D] of each utterance through the encoder's own forward, with the mask that Qwen2AudioModel builds."""
    found = []
    for first in range(0, len(waves), batch):
        floats = [wave.astype(np.float32) / 32768 for wave in waves[first : first + batch]]
        inputs = model.feature_extractor(floats, sampling_rate=RATE_HZ, return_attention_mask=True, return_tensors="pt")
        positions_B, frames_B = model.encoder._get_feat_extract_output_lengths(inputs["attention_mask"].sum(-1))
        n_positions = model.encoder.config.max_source_positions
        valid_BS = (torch.arange(n_positions)[None] < positions_B[:, None]).long()
        like_BS1 = torch.zeros(len(floats), n_positions, 1)
        mask = create_bidirectional_mask(model.encoder.config, inputs_embeds=like_BS1, attention_mask=valid_BS)
        frames_BTD = model.encoder(inputs["input_features"], attention_mask=mask).last_hidden_state
        found += [frames_TD[:count].numpy() for frames_TD, count in zip(frames_BTD, frames_B.tolist(), strict=True)]
    return found


def flop(model: Lalm, samples: int) -> float:
    """Multiplications and additions of the encoder's matrix products for so many samples."""
    shape = model.encoder.config
    mel = -(-samples // encoder.SAMPLES_PER_MEL)
    steps, width = (mel - 1) // 2 + 1, shape.d_model
    convolutions = 2 * 3 * width * (mel * shape.num_mel_bins + steps * width)
    layer = 2 * steps * (4 * width**2 + 2 * width * shape.encoder_ffn_dim) + 4 * steps**2 * width
    return convolutions + shape.encoder_layers * layer


def speech(folder: Path | None, count: int) -> list[np.ndarray]:
    """int16 utterances of a data folder, evenly spread over it; or noise."""
    if folder:
        reader = Reader(folder)
        return [reader.one(int(i)) for i in np.linspace(0, len(reader) - 1, min(count, len(reader)))]
    return noise(np.random.default_rng(0).uniform(1, 4.3, count))


def noise(seconds: np.ndarray) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 3000, int(RATE_HZ * length)).astype(np.int16) for length in seconds]


def librispeech(count: int) -> np.ndarray:
    """Seconds as in its training splits: three quarters about 14 s, where its makers cut, the rest shorter."""
    cut = statistics.NormalDist(14.2, 1.5).quantiles(count - count // 4 + 1)
    return np.concatenate([cut, np.linspace(1.5, 12, count // 4)])


def whisper_tiny() -> Lalm:
    """A random encoder of its size (384 wide, 4 layers), as transformers' own class."""
    audio = {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536}
    shape = Qwen2AudioConfig(
        audio_config={"model_type": "qwen2_audio_encoder", "num_mel_bins": 80, "max_source_positions": 1500, **audio},
        text_config={"model_type": "qwen2", "num_hidden_layers": 0, "hidden_size": 64, "vocab_size": 64},
        audio_token_index=0,
    )
    torch.manual_seed(0)
    model = Qwen2AudioForConditionalGeneration._from_config(shape, attn_implementation="eager").eval()
    return Lalm(model.requires_grad_(False), None, WhisperFeatureExtractor(feature_size=80, chunk_length=30), ())


def best(run: Callable[[], list[np.ndarray]], times: int = 3) -> tuple[float, list[np.ndarray]]:
    """The shortest of some runs in CPU seconds, and what the last one returned."""
    taken = []
    for _ in range(times):
        began = time.process_time()
        found = run()
        taken.append(time.process_time() - began)
    return min(taken), found


if __name__ == "__main__":
    raise SystemExit(main())
