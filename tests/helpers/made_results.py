"""Make up results as the stages leave them: records, predictions, curves and manifests for a config, in seconds."""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from concertina import metrics
from concertina.artefacts import dag
from concertina.config import Adapter, Cell, Config, TestSet, load, run_name
from concertina.store import predictions, records, sealing

WORDS = "seven nine boats sail past the northern island while anna reads a long letter at half past four".split()
DAMAGE = {"none": 0.03, "average": 0.05, "sample": 0.09, "segment": 0.06, "random": 0.16}
FRAMES_PER_SECOND, DURATION_S = 25, 2.0
Damage = Callable[[str, str, bool, int | None], float]


def config(folder: Path, name: str = "tiny", **sections: Any) -> tuple[Config, Path]:
    """Write an overlay of the default config with sections replaced; return it loaded, and its path."""
    path = folder / "overlay.yaml"
    path.write_text(json.dumps({"name": name, **sections}), encoding="utf-8")
    return load(path), path


def damage(compressor: str, ratio: str, adapted: bool, seed: int | None) -> float:
    """Return the share of words that are wrong in the made-up hypotheses."""
    frames = 3.4 if ratio == "natural" else float(ratio)
    share = DAMAGE[compressor] * (1 + 0.5 * (frames - 1)) * (1 if adapted else 3.2 if frames > 1 else 1.1)
    return min(share + 0.004 * (seed or 0), 0.9)


def write(
    config: Config, utterances: int = 40, wrong: Damage = damage, hostile: Iterable[str] = (), **without: Any
) -> None:
    """Write everything a report reads. `without`: cells that have no `adapted` result, or none at all (`cells`)."""
    for corpus in config.data.corpora:
        for split in {part.split for s in config.train.sets for part in (*s.parts, *s.dev)} | {
            s.split for s in config.evaluate.sets
        }:
            _write_data(config, corpus.name, split, utterances)
    for cuts in config.cuts:
        if cuts.name in without.get("cells", ()):
            continue
        runs = []
        for cell in config.placed(cuts):
            adapters = [] if cuts.name in without.get("adapted", ()) else config.adapters(cell)
            for adapter in adapters:
                _write_training(config, adapter, wrong(cell.compressor, str(cell.ratio), True, adapter.seed))
            runs += [(cell, run) for run in (None, *adapters)]
        scored = {str(one): _run_key(one) for _, one in runs if one}
        with sealing.sealed(
            dag.artefact(config, "evaluate", cell=cuts).folder, {"run_key": cuts.name, "adapters": scored}
        ) as folder:
            for test_set in config.evaluate.sets:
                for cell, run in runs:
                    _write_result(config, test_set, cell, run, folder, utterances, wrong, list(hostile))


def head(config: Config, **fields: Any) -> dict[str, Any]:
    """Return the fields of every made-up record that say how it was made."""
    made = {
        "commit": "0123456789abcdef",
        "versions": {"python": "3.11.9", "torch": "2.13.0"},
        "device": "cpu (made up)",
    }
    return {"name": config.name, "run_key": "0" * 16, "config": {}, "threads": 1, "seconds": 42.0, **made, **fields}


def references(test_set: TestSet, utterances: int) -> list[str]:
    rng = random.Random(test_set.name)
    return [" ".join(rng.sample(WORDS, rng.randint(5, 9))) for _ in range(utterances)]


def _write_result(
    config: Config, test_set: TestSet, cell: Cell, adapter: Adapter | None, folder: Path, utterances: int,
    wrong: Damage, hostile: list[str],
) -> None:  # fmt: skip
    compressor, ratio = cell.compressor, str(cell.ratio)
    train_set, seed = (adapter.train_set, adapter.seed) if adapter else (None, None)
    rng = random.Random(f"{test_set.name} {cell} {(train_set, seed) if adapter else None}")
    harder = 3.0 if "hard" in test_set.name else 1.0
    share = min(harder * wrong(compressor, ratio, adapter is not None, seed), 0.95)
    texts = references(test_set, utterances)
    texts[: len(hostile)] = hostile
    hypotheses = [
        " ".join(w if rng.random() > share else rng.choice([*WORDS, ""]) for w in text.split()) for text in texts
    ]
    hypotheses[: len(hostile)] = hostile if compressor == "none" else reversed(hostile)
    names = config.evaluate.metrics[test_set.task]
    language = test_set.to or test_set.language
    scores = {name: metrics.load(name).score(texts, hypotheses, language) for name in names}
    frames_per_token = 3.37 if ratio == "natural" else float(ratio) * 0.98 if float(ratio) > 1 else 1.0
    rate = FRAMES_PER_SECOND / frames_per_token
    record = records.build(
        **head(config, test_set=test_set.name, corpus=test_set.corpus, split=test_set.split, task=test_set.task),
        source_language=test_set.language, target_language=test_set.to, compressor=compressor, ratio=ratio,
        positions=cell.positions or None, options=dict(cell.options),
        adapted=adapter is not None, train_set=train_set, seed=seed, scores=scores,
        n_utterances=utterances, realised_ratio=frames_per_token, peak_share=None,
        loops=round(9 * share), cap_hits=round(5 * share), date="2025-11-23",
        audio_tokens_per_second={"mean": rate, "p05": 0.93 * rate, "p95": 1.06 * rate},
    )  # fmt: skip
    kinds, noises = ["statement", "digits", "spelled", "clock"], [0.0, 5.0, 10.0, 15.0]
    rows = [
        {
            "id": f"{test_set.split}-en-{i:05d}", "reference": reference, "hypothesis": hypothesis,
            "audio_tokens": round(rate * DURATION_S), "frames": round(FRAMES_PER_SECOND * DURATION_S),
            "duration_s": DURATION_S, "new_tokens": 12, "cap_hit": False, "loop": False, "speaker": f"voice {i % 20}",
            "tags": {"kind": kinds[i % 4]} | ({"snr_db": noises[i // 4 % 4]} if "hard" in test_set.name else {}),
        }
        for i, (reference, hypothesis) in enumerate(zip(texts, hypotheses, strict=True))
    ]  # fmt: skip
    run = run_name(cell, "zero-shot" if adapter is None else f"{train_set}-seed{seed}")
    records.write(folder / test_set.name / f"{run}.json", record)
    predictions.write(folder / test_set.name / f"{run}.parquet", rows, scores)


def _write_training(config: Config, adapter: Adapter, share: float) -> None:
    cell, seed = adapter.cell, adapter.seed
    rng = random.Random(f"{cell}-{seed}")
    curve: list[dict[str, float]] = [{"step": 0, "dev_loss": 1.2 + 6 * share}]
    for step in range(10, 301, 10):
        level = 0.15 + 3 * share + 2 * 2 ** (-step / 40)
        curve.append(
            {"step": step, "loss": level * rng.uniform(0.9, 1.1), "learning_rate": 1e-3, "utterances_per_second": 210.0}
        )
        if step % 100 == 0:
            curve.append({"step": step, "dev_loss": 1.05 * level})
    trained = dag.artefact(config, "train", **vars(adapter)).folder
    with sealing.sealed(trained, {"run_key": _run_key(adapter)}) as folder:
        (folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve), encoding="utf-8")
        place = {"compressor": cell.compressor, "ratio": str(cell.ratio), "train_set": adapter.train_set, "seed": seed}
        place |= {"positions": cell.positions or None}
        run = head(config, stage="train", **place)
        records.write(folder / "record.json", records.run(**run))


def _run_key(adapter: Adapter) -> str:
    return f"{adapter.cell.compressor}-{adapter.seed}"


def _write_data(config: Config, corpus: str, split: str, utterances: int) -> None:
    with sealing.sealed(dag.artefact(config, "data", corpus=corpus, split=split).folder, {"run_key": split}) as folder:
        rows = [
            {"id": f"{split}-{i}", "duration_s": DURATION_S, "speaker": f"voice {i % 20}", "text": "x"}
            for i in range(utterances)
        ]
        (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        (folder / "rejects.jsonl").write_text('{"id": "bad", "reason": "no text"}\n', encoding="utf-8")
