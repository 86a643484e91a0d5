"""LoRA as the train stage does it, beside the plain way: transformers' Trainer on padded batches, encoder included.

    PYTHONPATH=src python benchmarks/batches.py [--data build/tiny/data/synthetic/train] [--steps 8]

The same LoRA, utterances, batch size, optimiser and arithmetic, one thread, no compression; what is read from disk or
computed once (frames here, log-mels there) is ready before the clock starts. Prints one JSON: utterances per second of
Trainer, and of our padded and packed batches (CPU time, so that other work on the machine counts little), ratios, and
the mean loss of each, which differ by the order of utterances alone: Trainer draws its own.

    PYTHONPATH=src python benchmarks/batches.py --large

On a CUDA GPU alone: the LLM at Qwen2-Audio-7B's true dimensions with random weights, packed, at 1 and 3 frames per
token: the largest batch that fits, positions per second, the share of the card's peak (--peak, in TFLOP/s), memory.
"""

import argparse
import gc
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from features import speech as recordings
from transformers import (
    AutoProcessor,
    Qwen2AudioForConditionalGeneration,
    Qwen2Config,
    Qwen2Model,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from concertina import config, train
from concertina.compressors._segments import Segments
from concertina.config import Config
from concertina.model import batching, devices, encoding, lalm, packed_decoder
from concertina.model.inputs import IGNORED, Inputs, pack
from concertina.units import RATE_HZ

ANSWER = "the red light is over there at three"
LARGE: dict[str, Any] = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
}
DEVICE = "cuda"
SECONDS, TEXT = 10, 40  # of a large utterance, and the positions of its prompt and answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="a folder of the data stage (default: noise)")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--large", action="store_true", help="the true dimensions, on a CUDA GPU")
    parser.add_argument("--peak", type=float, default=989.0, help="of the card, dense bfloat16, in TFLOP/s")
    args = parser.parse_args()
    if args.large and not torch.cuda.is_available():
        parser.error("--large needs a CUDA GPU, and there is none here")
    if args.large:
        print(json.dumps({f"{ratio}x": large(ratio, args.peak) for ratio in (1, 3)}, indent=1))
        return 0
    experiment = config.load()
    devices.fix(1)
    waves = recordings(args.data, args.steps * experiment.train.batch)
    if len(waves) < args.steps * experiment.train.batch:
        parser.error(f"{args.data} holds {len(waves)} utterances, too few for {args.steps} steps")
    found = {"trainer": plain(experiment, waves, args.steps)}
    for layout in ("padded", "packed"):
        chosen = experiment.train.model_copy(update={"layout": layout})
        found[layout] = ours(experiment.model_copy(update={"train": chosen}), waves, args.steps)
    result = {
        "utterances_per_second": {name: rate for name, (rate, _) in found.items()},
        "times_the_trainer": {name: found[name][0] / found["trainer"][0] for name in ("padded", "packed")},
        "mean_loss": {name: loss for name, (_, loss) in found.items()},
    }
    print(json.dumps(result, indent=1))
    return 0


def ours(experiment: Config, waves: list[np.ndarray], steps: int) -> tuple[float, float]:
    """From cached frames, true lengths, the head on labels alone: utterances per second, and the mean loss."""
    model = lalm.load(experiment.base, encoder=True, llm=True, device="cpu")
    frames = encoding.encode(model, waves, int(experiment.features.batch_seconds * RATE_HZ))
    batch = experiment.train.batch
    torch.manual_seed(0)
    adapted = peft.get_peft_model(model.model, train.lora(experiment, model))
    trainable = [p for p in adapted.parameters() if p.requires_grad]
    chosen = experiment.train
    optimizer = torch.optim.AdamW(trainable, lr=chosen.learning_rate, weight_decay=chosen.weight_decay)
    prompt = lalm.prompt_ids(model, experiment.base, "transcribe", "en", None)
    answer = lalm.answer_ids(model, ANSWER)
    adapted.train()
    taken, losses = [], []
    for step in range(steps):
        began = time.process_time()
        read = frames[step * batch : (step + 1) * batch]
        frames_TD, lengths_B = torch.from_numpy(np.concatenate(read)), torch.tensor([len(one) for one in read])
        every_frame = Segments.cut(torch.ones(len(frames_TD), dtype=torch.bool), lengths_B)
        prompts, answers = [prompt] * batch, [answer] * batch
        inputs = batching.inputs(model, frames_TD, lengths_B.tolist(), every_frame, prompts, answers)
        extra = dict[str, Any]()
        if experiment.train.layout == "packed":
            inputs, extra["packing"] = pack(inputs)
        loss = lalm.loss(model, inputs, **extra)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, experiment.train.clip_norm)
        optimizer.step()
        losses.append(loss.item())
        taken.append(time.process_time() - began)
    return batch / float(np.median(taken[1:])), float(np.mean(losses))


class Clock(TrainerCallback):
    """CPU seconds of each optimiser step."""

    def __init__(self) -> None:
        self.began, self.taken = 0.0, list[float]()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.taken.append(time.process_time() - self.began)


def plain(experiment: Config, waves: list[np.ndarray], steps: int) -> tuple[float, float]:
    """Trainer over what the processor makes: log-mels padded to the window, the encoder in every step."""
    model = Qwen2AudioForConditionalGeneration.from_pretrained(experiment.base.folder, attn_implementation="eager")
    processor = AutoProcessor.from_pretrained(experiment.base.folder)
    torch.manual_seed(0)
    wanted = lalm.load(experiment.base, encoder=False, llm=True, device="cpu")
    adapted = peft.get_peft_model(model, train.lora(experiment, wanted))
    prompt = experiment.base.prompts["transcribe"].format(source="en", target="en")
    rows = []
    for wave in waves:
        row = processor(
            text=prompt + ANSWER + processor.tokenizer.eos_token,
            audio=wave.astype(np.float32) / 32768,
            sampling_rate=RATE_HZ,
            return_tensors="pt",
        )
        labels = row["input_ids"][0].clone()
        labels[: -len(lalm.answer_ids(wanted, ANSWER))] = lalm.IGNORED
        rows.append({name: value[0] for name, value in row.items()} | {"labels": labels})
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=experiment.train.batch,
            max_steps=steps,
            learning_rate=experiment.train.learning_rate,
            lr_scheduler_type="constant",
            weight_decay=experiment.train.weight_decay,
            max_grad_norm=experiment.train.clip_norm,
            remove_unused_columns=False,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            dataloader_num_workers=0,
        )
        done = Trainer(adapted, arguments, train_dataset=rows, data_collator=collate, callbacks=[clock]).train()
    return experiment.train.batch / float(np.median(clock.taken[1:])), float(done.training_loss)


def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Rows padded on the right to the longest."""
    fill = {"labels": lalm.IGNORED}
    return {
        name: torch.nn.utils.rnn.pad_sequence(
            [row[name] for row in rows], batch_first=True, padding_value=fill.get(name, 0)
        )
        for name in rows[0]
    }


def large(ratio: int, peak: float) -> dict[str, float]:
    """The true dimensions: the largest batch of 10 s utterances that a card takes, and its speed."""
    devices.fix(1, "bfloat16")
    torch.set_default_dtype(torch.bfloat16)
    gc.collect()  # of the ratio before
    with torch.device(DEVICE):
        llm = Qwen2Model(Qwen2Config(vocab_size=156032, num_key_value_heads=LARGE["num_attention_heads"], **LARGE))
    llm.requires_grad_(False)
    adapted = peft.get_peft_model(llm, peft.LoraConfig(r=64, target_modules="all-linear"))
    adapted.enable_input_require_grads()
    length, batch, found = SECONDS * 25 // ratio + TEXT, 1, dict[str, float]()
    width, inner = LARGE["hidden_size"], LARGE["intermediate_size"]
    layers = LARGE["num_hidden_layers"] * (4 * width**2 + 3 * width * inner)
    while batch <= 512:
        try:
            torch.cuda.reset_peak_memory_stats()
            mask_BS = torch.ones(batch, length, dtype=torch.long, device=DEVICE)
            labels_BS = mask_BS.masked_fill(torch.arange(length, device=DEVICE) < length - TEXT, IGNORED)
            embeds_BSD = torch.randn(batch, length, width, device=DEVICE)
            places_BS = torch.arange(length, dtype=torch.float32, device=DEVICE).expand(batch, length)
            row, packing = pack(Inputs(embeds_BSD, mask_BS, places_BS, labels_BS))
            for timed in (False, True):
                torch.cuda.synchronize()
                began = time.monotonic()
                packed_decoder.label_states(llm, row, packing).float().mean().backward()
                torch.cuda.synchronize()
                seconds = time.monotonic() - began if timed else 0.0
            found = {
                "batch": batch,
                "positions_per_second": batch * length / seconds,
                "share_of_peak": 4 * layers * batch * length / seconds / (peak * 1e12),
                "gigabytes": torch.cuda.max_memory_allocated() / 1e9,
            }
        except torch.cuda.OutOfMemoryError:
            break
        batch *= 2
    return found


if __name__ == "__main__":
    raise SystemExit(main())
