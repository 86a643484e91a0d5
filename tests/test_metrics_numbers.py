"""A number of more digits than Python converts, such as a model in a loop writes, ends no cell."""

import pytest

from concertina import metrics
from concertina.metrics import _normaliser

UNREADABLE = {
    "digits": "9" * 4301,
    "digits with commas": "1" + ",000" * 1500,
    "hundreds": f"{'9' * 4300} hundred",
}


@pytest.mark.parametrize("name", [name for name in metrics.names() if name.startswith(("wer", "cer"))])
@pytest.mark.parametrize("kind", UNREADABLE)
def test_it_is_heard_as_the_basic_normaliser_has_it(name: str, kind: str) -> None:
    metric = metrics.load(name)
    assert metric.score(["a boat", "two"], ["a boat", UNREADABLE[kind]], "en").value > 0
    assert metric.score([f"room {UNREADABLE[kind]}"], [f"room {UNREADABLE[kind]}"], "en").value == 0


@pytest.mark.parametrize("kind", UNREADABLE)
def test_as_a_reference_it_counts_as_no_words_in_english_alone(kind: str) -> None:
    assert not _normaliser.has_words(UNREADABLE[kind], "en")
    assert _normaliser.has_words(UNREADABLE[kind], "de")
    assert _normaliser.has_words("9" * 4300, "en")
