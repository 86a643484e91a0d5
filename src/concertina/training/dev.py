"""Measure an adapter on dev parts while it learns: the loss of all, and the WER of what it transcribes of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch

from concertina.config import Config, Part, Split, Subset
from concertina.metrics import _normaliser, wer
from concertina.model import answering, batching, lalm
from concertina.model.batching import Item, Speech
from concertina.model.lalm import Lalm
from concertina.training import gradients


@dataclass(frozen=True)
class Dev:
    """The dev parts of a training set: `items` of all, for the loss, and by part those that are transcribed."""

    config: Config
    model: Lalm
    items: list[Item]
    transcribed: list[tuple[Part, list[Item]]]

    @classmethod
    def of(cls, config: Config, model: Lalm, parts: Sequence[Subset], opened: Mapping[Split, Speech]) -> Self:
        """Take of each part as much as its `utterances`, `dev_utterances` and `dev_transcribed` allow.

        Errors: ConfigError.
        """

        def some(part: Subset, at_most: int) -> list[Item]:
            return batching.items(model, config, part, opened[part.place], min(at_most, part.utterances or at_most))

        settings = config.train
        chosen = [part for part in parts if part.task == "transcribe" and settings.dev_transcribed]
        return cls(
            config,
            model,
            [item for part in parts for item in some(part, settings.dev_utterances)],
            [(part, list(_with_words(part, some(part, settings.dev_transcribed)))) for part in chosen],
        )

    @torch.inference_mode()
    def measure(self) -> dict[str, float]:
        """Return 'dev_loss', the mean loss per label token, and the WER of each part by its name.

        A name is 'wer/<corpus>/<split>/<language>'. The model is left in evaluation mode.
        """
        self.model.model.eval()
        return {"dev_loss": self._loss(), **{_name(part): self._wer(part, items) for part, items in self.transcribed}}

    def _loss(self) -> float:
        """Return the mean loss per label token over all items, batched by length."""
        by_length = sorted(self.items, key=lambda item: int(item.speech.segments.counts_B[item.at]))
        total, count = 0.0, 0
        size = self.config.train.batch
        for start in range(0, len(by_length), size):
            with self._precision():
                batch, extra = gradients.batch(self.model, self.config, by_length[start : start + size])
                labels = int((batch.labels_BS != lalm.IGNORED).sum())
                total += lalm.loss(self.model, batch, **extra).item() * labels
            count += labels
        return total / count

    def _wer(self, part: Part, items: Sequence[Item]) -> float:
        """Return the WER in percent of greedy transcripts."""
        with self._precision():
            heard = answering.answers(self.model, self.config, items, self.config.train.batch)
        texts = [item.text for item in items]
        return wer.score(texts, [answer.text for answer in heard], part.answer_language).value

    def _precision(self) -> torch.autocast:
        """Return the context that computes as training does."""
        bfloat16 = self.config.train.precision == "bfloat16"
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=bfloat16)


def _name(part: Part) -> str:
    """Return the name under which a part's WER stands in the curve and the record."""
    return f"wer/{part.place}/{part.language}"


def _with_words(part: Part, items: Sequence[Item]) -> Iterator[Item]:
    """Yield the items whose reference has words after normalisation, as a WER needs."""
    yield from (item for item in items if _normaliser.has_words(item.text, part.answer_language))
