"""Make the tiny base: a small Qwen2-Audio model trained from scratch on synthetic speech in three languages.

First the encoder alone, by CTC against the language model's own token embeddings, so that its frames
already live where the language model reads; half-way up it also learns phonemes, whose times the synthesiser knows
(what that helps was not measured). Then everything together through the
language model's loss, so that the encoder's last phase is not CTC alone (which makes frames spiky and flatters
segmentation). No pooled, merged or dropped tokens are ever seen.

    python -m concertina.base --config config.yaml [--recipe models/tiny/recipe.yaml] [--out models/tiny]
"""

import argparse
import json
import os
from pathlib import Path

from transformers import WhisperFeatureExtractor

from concertina import config as configs
from concertina import console
from concertina.artefacts import fingerprint
from concertina.bases.scratch import processes
from concertina.bases.scratch.examples import make_pool
from concertina.bases.scratch.model import create
from concertina.bases.scratch.publish import publish
from concertina.bases.scratch.recipe import FILE, Recipe, digest, read_recipe
from concertina.bases.scratch.training import saved_at, train
from concertina.config import Config


@console.run
def main(argv: list[str] | None = None) -> int:
    """Train the base, or what of it is not yet in scratch, and publish it."""
    parser = argparse.ArgumentParser(
        prog="concertina.base", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", default="config.yaml", help="the config whose base.prompts it learns to follow")
    parser.add_argument(
        "--recipe", type=Path, help=f"what to train, and how (default: {FILE} in the config's base.model)"
    )
    parser.add_argument("--out", type=Path, help="folder of the finished model (default: the config's base.model)")
    parser.add_argument("--scratch", type=Path, default=Path("scratch/base"), help="folder for mels and checkpoints")
    args = parser.parse_args(argv)
    config = configs.load(args.config)
    make(config, args.recipe or Path(config.base.model, FILE), args.out or Path(config.base.model), args.scratch)
    return 0


def make(config: Config, recipe_file: Path, out: Path, scratch: Path) -> None:
    """Train by a recipe and publish to `out`; what earlier runs left in `scratch` is used. Errors: ConfigError."""
    recipe, recipe_text = read_recipe(recipe_file), recipe_file.read_text(encoding="utf-8")
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=recipe.window_s)
    pool = _pool(recipe, extractor, scratch)
    texts = _texts(pool)
    code = fingerprint.code_hash("concertina.bases.scratch.training") + str(fingerprint.packages(__name__))
    settings, prompts = recipe.model_dump_json(exclude={"phases", "mean_of"}), str(config.base.prompts)
    folder = scratch / digest(pool.name, settings, prompts, code)
    start = folder / "untrained"
    if not start.exists():
        temporary = start.with_suffix(".tmp")
        create(temporary, recipe, list(recipe.clips), recipe.seed, texts, extractor)
        os.replace(temporary, start)
    for stale in folder.glob(f"{processes.MEETING}*"):
        stale.unlink()
    processes.spawn(train, (recipe, config.base.prompts, pool, folder), recipe.processes)
    phases = [saved_at(folder, recipe.phases[: n + 1]) for n in range(len(recipe.phases))]
    if not phases[-1].exists():
        raise console.Stopped("stopped after a step; the same command goes on from there")
    publish(start, phases, out, recipe, texts)
    (out / FILE).write_text(recipe_text, encoding="utf-8")  # beside the seal: whoever changes it damages no model


def _pool(recipe: Recipe, extractor: WhisperFeatureExtractor, scratch: Path) -> Path:
    """The folder of the clips that a recipe asks for, spoken now where no earlier run did."""
    speaking = fingerprint.code_hash("concertina.bases.scratch.examples", ["concertina.corpora.synthesis.espeak"])
    pool = scratch / f"clips-{digest(str(recipe.clips), str(recipe.seed), str(recipe.window_s), speaking)}"
    if not (pool / "clips.json").exists():
        make_pool(pool, extractor, recipe.clips, recipe.seed, recipe.processes)
    return pool


def _texts(pool: Path) -> list[str]:
    """Every sentence of the clips, in every language."""
    clips = json.loads((pool / "clips.json").read_text(encoding="utf-8"))
    return [text for clip in clips for text in clip["texts"].values()]
