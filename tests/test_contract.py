"""A compressor that breaks its contract is named with the rule, and a cell that cannot be made with the remedy."""

import importlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from concertina import compressors, segments
from concertina.compressors import _contract
from concertina.config import ConfigError, Ratio

NUMBER = itertools.count()  # a name is imported once


@pytest.fixture
def plugin() -> Iterator[Callable[[str], str]]:
    """Drops a compressor into the folder for one test: takes its source, gives its name."""
    written: list[Path] = []

    def drop(source: str) -> str:
        path = compressors.FOLDER / f"dropped_in_by_a_test_{next(NUMBER)}.py"
        written.append(path)
        path.write_text(source)
        importlib.invalidate_caches()
        return path.stem

    yield drop
    for path in written:
        path.unlink()


def noise(lengths: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, lengths and seeds of some utterances."""
    frames_TD = torch.randn(sum(lengths), 4, generator=torch.Generator().manual_seed(0))
    return frames_TD, torch.tensor(lengths), torch.arange(len(lengths))


SIGNATURE = "def segment(frames_TD, lengths_B, ratio, cues, seeds_B):\n"
ANSWER = f"""
import torch
from dataclasses import replace
from concertina.compressors import _ragged as packed
from concertina.compressors._segments import Segments

{SIGNATURE}
    good = Segments.cut(packed.window_starts(lengths_B, ratio), lengths_B)
"""


class TestBrokenContract:
    @pytest.mark.parametrize(
        ("answer", "rule"),
        [
            ("(good.lengths_N, good.counts_B, good.weights_T)", "returns Segments, not tuple"),
            ("replace(good, lengths_N=good.lengths_N * 1.0)", "lengths_N is a row of whole numbers"),
            ("replace(good, lengths_N=good.lengths_N * 2)", "lengths of an utterance's tokens sum to its frames"),
            ("replace(good, counts_B=good.counts_B + 1)", "counts_B says for each utterance"),
            ("replace(good, weights_T=good.weights_T * 2)", "sum to 1; here one is off by 1"),
            ("replace(good, weights_T=good.weights_T * float('nan'))", "sum to 1"),
            ("replace(good, weights_T=good.weights_T[1:])", "every frame has a weight"),
            (
                "Segments.cut(packed.window_starts(lengths_B, 2 * ratio), lengths_B)",
                r"ceil\(T / ratio\) tokens, 2 for 6",
            ),
            (
                "Segments(torch.tensor([0, 6, 3]), torch.tensor([2, 1]), good.weights_T)",
                "every token has at least one frame",
            ),
        ],
    )
    def test_is_named_with_its_rule(self, plugin: Callable[[str], str], answer: str, rule: str) -> None:
        name = plugin(f"{ANSWER}    return {answer}\n")
        with pytest.raises(_contract.ContractError, match=rf"compressor {name} breaks its contract: .*{rule}"):
            segments.decider(name, 3.0, {})(*noise([6, 3]))

    def test_inexact_method_says_so(self, plugin: Callable[[str], str]) -> None:
        name = plugin(f"exact = False\n{ANSWER}    return Segments.cut(good.weights_T > 1, lengths_B)\n")
        assert segments.decider(name, 3.0, {})(*noise([6, 3])).counts_B.tolist() == [1, 1]

    def test_answer_that_depends_on_the_batch(self, plugin: Callable[[str], str]) -> None:
        name = plugin(
            f"exact = False\n{ANSWER}    return Segments.cut(torch.arange(len(frames_TD)) % 7 == 0, lengths_B)\n"
        )
        decide, batch = segments.decider(name, 3.0, {}), noise([30, 20, 40])
        with pytest.raises(_contract.ContractError, match=f"{name} .*alike alone, in any batch and in any order"):
            _contract.check_company(decide, *batch, decide(*batch), name)


class TestCell:
    @pytest.mark.parametrize(
        ("name", "ratio", "options", "message"),
        [
            ("avrage", 3.0, {}, r"'avrage' has no file .*avrage\.py \(did you mean 'average'\?\)"),
            ("average", "natural", {}, "average has no ratio 'natural'"),
            ("none", 2.0, {}, r"none does not take ratio 2 \(valid: 1\)"),
            ("sample", 3.0, {"fase": 1}, r"sample has no option 'fase' \(did you mean 'phase'\?\)"),
            ("average", 3.0, {"phase": 1}, r"average has no option 'phase' \(it takes none\)"),
        ],
    )
    def test_what_is_not_taken_is_named(self, name: str, ratio: Ratio, options: dict, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            compressors.check_cell(name, ratio, options)

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("def segment(:\n", "line 1 of .* is not Python"),
            (
                "def compress(frames):\n    pass\n",
                r"has no function segment\(frames_TD, lengths_B, ratio, cues, seeds_B",
            ),
            ("natural = bool(1)\n" + SIGNATURE + "    pass\n", "plain constants"),
            ("cues = ('attention',)\n" + SIGNATURE + "    pass\n", "needs attention"),
        ],
    )
    def test_file_that_is_no_compressor(self, plugin: Callable[[str], str], source: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            compressors.check_cell(plugin(source), 3.0, {})
