"""Make the tiny base: a small Qwen2-Audio model trained from scratch on synthetic speech in three languages.

First the encoder alone, by CTC against the language model's own token embeddings, so that its frames
already live where the language model reads; half-way up it also learns phonemes, whose times the synthesiser knows
(what that helps was not measured). Then everything together through the
language model's loss, so that the encoder's last phase is not CTC alone (which makes frames spiky and flatters
segmentation). No pooled, merged or dropped tokens are ever seen.

    python -m concertina.base --config config.yaml --out models/tiny
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
from concertina.bases.scratch.recipe import digest, read_recipe
from concertina.bases.scratch.training import saved_at, train

SUBSTEPS = {"hub": "concertina.fetching.hub", "join": "concertina.bases.join"}


@console.substeps(SUBSTEPS)
@console.run
def main(argv: list[str] | None = None) -> int:
    """Train the base, or what of it is not yet in scratch, and publish it."""
    parser = argparse.ArgumentParser(
        prog="concertina.base", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", default="config.yaml", help="the config whose base.recipe is followed")
    parser.add_argument("--out", type=Path, help="folder of the finished model (default: the config's base.model)")
    parser.add_argument("--scratch", type=Path, default=Path("scratch/base"), help="folder for mels and checkpoints")
    arguments = parser.parse_args(argv)
    config = configs.load(arguments.config)
    recipe = read_recipe(config, arguments.config)
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=recipe.window_s)
    code = fingerprint.code_hash("concertina.bases.scratch.training") + str(fingerprint.packages("concertina.base"))
    speaking = fingerprint.code_hash("concertina.bases.scratch.examples", ["concertina.corpora.synthesis.espeak"])
    pool = arguments.scratch / f"clips-{digest(str(recipe.clips), str(recipe.seed), str(recipe.window_s), speaking)}"
    recipe_text, prompts = recipe.model_dump_json(exclude={"phases", "mean_of"}), str(config.base.prompts)
    scratch = arguments.scratch / digest(pool.name, recipe_text, prompts, code)
    if not (pool / "clips.json").exists():
        make_pool(pool, extractor, recipe.clips, recipe.seed, recipe.processes)
    texts = [
        text
        for clip in json.loads((pool / "clips.json").read_text(encoding="utf-8"))
        for text in clip["texts"].values()
    ]
    start = scratch / "untrained"
    if not start.exists():
        begun = start.with_suffix(".tmp")
        create(begun, recipe, list(recipe.clips), recipe.seed, texts, extractor)
        os.replace(begun, start)
    arguments_of_train = (recipe, config.base.prompts, pool, scratch)
    for stale in scratch.glob(f"{processes.MEETING}*"):
        stale.unlink()
    processes.spawn(train, arguments_of_train, recipe.processes)
    phases = [saved_at(scratch, recipe.phases[: n + 1]) for n in range(len(recipe.phases))]
    if not phases[-1].exists():
        raise console.Stopped("stopped after a step; the same command goes on from there")
    publish(start, phases, arguments.out or Path(config.base.model), recipe, texts, arguments.config)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
