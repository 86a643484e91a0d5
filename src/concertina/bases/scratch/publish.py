"""Write the finished base as a folder that anyone can load: weights, tokenizer, card, hashes of its training texts."""

import hashlib
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from concertina import console
from concertina.bases.scratch.model import Learner
from concertina.bases.scratch.recipe import Recipe
from concertina.store import jsonl, sealing
from concertina.store.provenance import provenance


def publish(start: Path, phases: list[Path], out: Path, recipe: Recipe, texts: list[str]) -> None:
    """Write the finished model to `out`, sealed, with its card and the hashes of its training sentences.

    `start`: the untrained checkpoint; `phases`: the weights after each phase.
    """
    seconds = sum(jsonl.read(saved.with_suffix(".jsonl"))[-1]["seconds"] for saved in phases)
    learner = Learner(start, {})
    learner.load_state_dict(_mean(phases[-recipe.mean_of :]), strict=False)
    learner.lalm.lm_head.weight = nn.Parameter(learner.lalm.model.language_model.embed_tokens.weight.detach().clone())
    with sealing.sealed(out) as folder:
        learner.lalm.save_pretrained(folder)
        for path in start.iterdir():
            if not (folder / path.name).exists():
                shutil.copy(path, folder / path.name)
        hashes = sorted({hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts})
        (folder / "sentences.txt").write_text("\n".join(hashes) + "\n", encoding="ascii")
        card = {"recipe": recipe.model_dump(), "seconds": round(seconds), **provenance("cpu")}
        sealing.write_json(folder / "training.json", card)
        text = _card(recipe, seconds, len(hashes), card["commit"])
        (folder / "README.md").write_text(text, encoding="utf-8")
    console.say(f"{out}: set base.sha256 to {sealing.sha256(out / 'model.safetensors')}")


def _mean(saved: list[Path]) -> dict[str, torch.Tensor]:
    """Return the mean of some phases' weights, better than the last alone where each phase continues the one before."""
    states = [load_file(path) for path in saved]
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def _card(recipe: Recipe, seconds: float, sentences: int, commit: str) -> str:
    clips = ", ".join(f"{count:,} {language}" for language, count in recipe.clips.items())
    shares = ", ".join(f"{100 * share:.0f} % {language}" for language, share in recipe.languages.items())
    return f"""---
library_name: transformers
license: apache-2.0
language: [{", ".join(recipe.clips)}]
---
# The tiny base of Concertina

A Qwen2-Audio-architecture model ({recipe.encoder_layers} encoder and {recipe.llm_layers} language-model layers of
width {recipe.width}, a window of {recipe.window_s} s), trained from nothing on synthetic speech. It transcribes
English, German and French and translates en-de, en-fr, de-en and fr-en, by prompt. It is a test bench: it knows no
human voice.

Made by `python -m concertina.base` from recipe.yaml in {seconds / 60:.0f} minutes of training on 2 cores, at commit
{commit}; versions, and the recipe as it was read, stand in training.json.
Clips: {clips}; examples: {shares}; 1 to {recipe.window_s} s,
joined, in white, pink and band noise, with time and frequency masking. It never saw pooled, merged or dropped tokens.
The encoder's last phases trained through the language model's loss, with the CTC loss still on at a weight of
{recipe.ctc_weight}; the weights are the mean of those after the last {recipe.mean_of}.

sentences.txt holds the first 16 hexadecimal digits of the SHA-256 of each of its {sentences:,} training sentences, in
every language; no sentence of an adapter's training, of dev or of test is among them.
"""
