"""Compare prompts of a task on a few dev utterances, uncompressed and zero-shot, before anything else is decoded.

The prompt that a run uses is the config's own, always: a wording that is clearly better is named, and does not take its
place by itself. Names end in their shape: S resamples.
"""

from typing import Any

import numpy as np

from concertina import console, metrics
from concertina.config import UNCOMPRESSED, Config, TestSet
from concertina.model import batching, decoding, devices, lalm
from concertina.model.batching import Speech
from concertina.model.lalm import Lalm
from concertina.reporting import scoring
from concertina.reporting.statistics import Bootstrap, Resampled
from concertina.store.predictions import Predictions

Row = dict[str, Any]


def compare(config: Config) -> dict[str, list[Row]]:
    """Return, by task, a row for the base's prompt and for each of the gate's: its score on each set of the trial.

    The rows of the gate's prompts also have the mean difference from the base's, positive where it is better, with its
    paired interval. The metric is the task's first. Errors: DamagedError, ConfigError (a token, no usable utterance).
    """
    settings = config.evaluate
    devices.fix(settings.threads, settings.precision)
    speeches = Speech.of(config, config.trial, UNCOMPRESSED)
    model = lalm.load(config.base, encoder=False, llm=True, dtype=settings.precision)
    return {
        task: _rows(model, config, task, [one for one in config.trial if one.task == task], speeches)
        for task in sorted({one.task for one in config.trial})
    }


def better(rows: list[Row]) -> Row | None:
    """Return the row of the best prompt whose difference from the base's is clearly positive; None if there is none."""
    clear = [row for row in rows[1:] if row["difference"]["low"] is not None and row["difference"]["low"] > 0]
    return max(clear, key=lambda row: float(row["difference"]["value"]), default=None)


def message(task: str, rows: list[Row]) -> str:
    """Return the line that the console shows of a task's prompts."""
    told = []
    for row in rows:
        scores = ", ".join(f"{name} {value:.2f}" for name, value in row["scores"].items())
        told.append(f"{row['prompt']!r} has {row['metric']} {scores}{difference(row)}")
    return f"prompts of {task}: {'; '.join(told)}"


def difference(row: Row) -> str:
    """Return the mean difference from the base's own prompt, ' (+1.2 [+0.3, +2.1] on average)'; '' for that itself."""
    if not (fact := row.get("difference")):
        return ""
    ends = f" [{fact['low']:+.2f}, {fact['high']:+.2f}]" if fact["low"] is not None else ""
    return f" ({fact['value']:+.2f}{ends} on average, better is positive)"


def _rows(model: Lalm, config: Config, task: str, trial: list[TestSet], speeches: dict[Any, Speech]) -> list[Row]:
    """Decode and score a task's prompts, the base's own first."""
    metric = {str(key): names for key, names in config.evaluate.metrics.items()}[task][0]
    sign = 1.0 if metrics.load(metric).higher_is_better else -1.0
    own = {str(key): prompt for key, prompt in config.base.prompts.items()}[task]
    wordings = [own, *config.rivals(task)]
    by_prompt: list[dict[str, Resampled]] = [{} for _ in wordings]
    for test_set in trial:
        systems = {}
        for number, prompt in enumerate(wordings):
            console.say(f"prompts: {test_set.name}, {prompt}")
            rows = _decoded(model, asking(config, task, prompt), test_set, speeches[test_set.place])
            systems[number] = (metric, scoring.score(config, test_set, rows)[metric].stats_UK)
        bootstrap = Bootstrap(rows["speaker"], config.report.bootstrap_samples, config.report.confidence_percent)
        for number, scored in bootstrap.resampled(systems).items():
            by_prompt[number][test_set.name] = scored
    told: list[Row] = []
    for prompt, scored_on in zip(wordings, by_prompt, strict=True):
        row: Row = {"prompt": prompt, "metric": metric, "scores": {name: one.value for name, one in scored_on.items()}}
        if told:
            pairs = [(one, by_prompt[0][name]) for name, one in scored_on.items()]
            gain = sign * float(np.mean([one.value - base.value for one, base in pairs]))
            gain_S = sign * np.mean([one.values_S - base.values_S for one, base in pairs], axis=0)
            interval = bootstrap.percentile(gain, gain_S)
            row["difference"] = {"value": interval.value, "low": interval.low, "high": interval.high}
        told.append(row)
    return told


def asking(config: Config, task: str, prompt: str) -> Config:
    """Return the config with another prompt of a task."""
    base = config.base.model_copy(update={"prompts": {**config.base.prompts, task: prompt}})
    return config.model_copy(update={"base": base})


def _decoded(model: Lalm, config: Config, test_set: TestSet, speech: Speech) -> Predictions:
    items, _ = decoding.scorable(batching.items(model, config, test_set, speech, test_set.utterances), test_set)
    generated = decoding.decode(model, config, items)
    pairs = zip(items, generated, strict=True)
    rows = [decoding.prediction(item, result, test_set.answer_language) for item, result in pairs]
    return Predictions({name: [row[name] for row in rows] for name in rows[0]})
