"""What a joined base's encoder hears with its own decoder: Whisper itself, the yardstick of the base."""

from collections.abc import Sequence

from concertina.config import Config
from concertina.reporting.board import measure
from concertina.reporting.parts import Table
from concertina.reporting.prose import bounds, number
from concertina.reporting.statistics import Interval
from concertina.store.records import Run


def sentences(records: Sequence[Run], config: Config) -> list[str]:
    """Give the headline scores in a sentence."""
    name = config.evaluate.metrics["transcribe"][0]
    facts = records[0].facts
    scores = [f"{measure(name).label} {_score(fact['scores'][name])} on {test_set}" for test_set, fact in facts.items()]
    return [f"The base's encoder with its own decoder, Whisper itself, on the same audio: {'; '.join(scores)}."]


caption = sentences


def table(records: Sequence[Run], config: Config) -> Table:
    """Show the scores of every transcription set by every metric."""
    metrics = config.evaluate.metrics["transcribe"]
    rows = [
        [test_set, str(fact["n_utterances"]), *(_score(fact["scores"][name]) for name in metrics)]
        for test_set, fact in records[0].facts.items()
    ]
    columns = ["Test set", "Utterances", *(measure(name).heading for name in metrics)]
    note = "The encoder of the base with the decoder that it was trained with, on whole windows of 30 s."
    return Table("Whisper itself", note, columns, rows)


def _score(fact: dict[str, float | None]) -> str:
    interval = Interval(fact["value"], fact["low"], fact["high"])
    return f"{number(interval.value)}{bounds(interval)}"
