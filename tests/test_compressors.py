"""Every file in compressors/ keeps the contract, and each of ours does what its definition says."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from concertina import compressors, segments
from concertina.compressors import _contract, _ragged
from concertina.compressors._segments import Segments
from concertina.compressors._utterances import Utterances
from concertina.config import Cell, ConfigError, Ratio

RATIOS = (1, 1.1, 1.5, 2, 2.5, 3, 4, 7.3, 1000, "natural")
LISTS_OF_LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=5)


def cell(compressor: str, ratio: float | str, **options: Any) -> Cell:
    return Cell(compressor, Ratio.parse(ratio), options)


def taken(name: str) -> list[Cell]:
    """The cells at RATIOS that a compressor takes; none for a file that cannot be read, which has a test of its own."""
    cells = []
    for ratio in RATIOS:
        try:
            compressors.check_cell(cell(name, ratio))
        except ConfigError:
            continue
        cells.append(cell(name, ratio))
    return cells


every_cell = pytest.mark.parametrize("cell", [one for name in compressors.names() for one in taken(name)], ids=str)


def speech(lengths: list[int], seed: int = 0, width: int = 6) -> Utterances:
    """Utterances whose frames have ties and silences in them."""
    generator = torch.Generator().manual_seed(seed)
    frames_TD = torch.randn(sum(lengths), width, generator=generator)
    frames_TD[torch.rand(len(frames_TD), generator=generator) < 0.2] = 0
    frames_TD[torch.rand(len(frames_TD), generator=generator) < 0.2] = 1
    seeds_B = segments.seeds([f"utterance {i}" for i in range(len(lengths))], seed)
    return Utterances(torch.tensor(lengths, dtype=torch.long), {"frames": frames_TD, "seeds": seeds_B})


def one_by_one(answer: Segments, speech: Utterances) -> list[tuple[list[int], list[float]]]:
    """Token lengths and frame weights of each utterance."""
    tokens = answer.lengths_N.split(answer.counts_B.tolist())
    weights = answer.weights_T.split(speech.lengths_B.tolist())
    return [(t.tolist(), w.tolist()) for t, w in zip(tokens, weights, strict=True)]


def one(frames: list[list[float]], seed: int = 0) -> Utterances:
    """A batch of one utterance."""
    return Utterances(torch.tensor([len(frames)]), {"frames": torch.tensor(frames), "seeds": torch.tensor([seed])})


def tokens_of(cell: Cell, frames: list[list[float]], seed: int = 0) -> list[int]:
    """Token lengths of one utterance."""
    return segments.decider(cell)(one(frames, seed)).lengths_N.tolist()


@pytest.mark.parametrize("name", compressors.names())
class TestFile:
    def test_it_can_be_read_and_imported(self, name: str) -> None:
        assert compressors.describe(name).name == name
        assert callable(compressors.load(name))

    def test_it_takes_some_ratio(self, name: str) -> None:
        assert taken(name)


class TestContract:
    @every_cell
    @settings(max_examples=10, deadline=None, derandomize=True)
    @given(lengths=LISTS_OF_LENGTHS, seed=st.integers(0, 9))
    def test_cuts_every_utterance_whole(self, cell: Cell, lengths: list[int], seed: int) -> None:
        batch = speech(lengths, seed)
        answer = segments.decider(cell)(batch)
        for frames, (tokens, weights) in zip(lengths, one_by_one(answer, batch), strict=True):
            assert min(tokens) >= 1
            assert sum(tokens) == frames
            if compressors.describe(cell.compressor).exact and cell.ratio.frames:
                assert len(tokens) == math.ceil(round(frames / cell.ratio.frames, 9))
            assert all(0 <= weight <= 1 for weight in weights)
            for token in torch.tensor(weights).split(tokens):
                assert float(token.sum()) == pytest.approx(1, abs=1e-5)

    @every_cell
    @settings(max_examples=4, deadline=None, derandomize=True)
    @given(lengths=LISTS_OF_LENGTHS, seed=st.integers(0, 9))
    def test_is_the_same_again_in_any_order_and_alone(self, cell: Cell, lengths: list[int], seed: int) -> None:
        batch, decide = speech(lengths, seed), segments.decider(cell)
        together = one_by_one(decide(batch), batch)
        assert one_by_one(decide(batch), batch) == together
        order_B = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed))
        shuffled = batch.pick(order_B)
        assert one_by_one(decide(shuffled), shuffled) == [together[i] for i in order_B]
        for i in range(len(lengths)):
            alone = batch.pick(torch.tensor([i]))
            assert one_by_one(decide(alone), alone) == [together[i]]

    @every_cell
    def test_short_empty_and_no_utterances(self, cell: Cell) -> None:
        for lengths in ([1], [1, 1, 1], [2], [3, 1], [0], [0, 5, 0, 0], list[int]()):
            answer = segments.decider(cell)(speech(lengths))
            assert (answer.counts_B > 0).tolist() == [length > 0 for length in lengths], lengths

    @every_cell
    def test_wide_batch_is_bit_for_bit_its_parts(self, cell: Cell) -> None:
        """At real widths, where a sum over a row may depend on the shape of the batch."""
        batch, decide = speech([300, 1, 77, 2, 151], width=385), segments.decider(cell)
        answer = decide(batch)
        _contract.check_company(decide, batch, answer, cell.compressor)
        for i, expected in enumerate(one_by_one(answer, batch)):
            alone = batch.pick(torch.tensor([i]))
            assert one_by_one(decide(alone), alone) == [expected]


class TestNone:
    def test_every_frame_is_a_token(self) -> None:
        assert tokens_of(cell("none", 1.0), [[1.0]] * 4) == [1, 1, 1, 1]


class TestAverage:
    @pytest.mark.parametrize(
        ("ratio", "frames", "tokens"),
        [
            (3.0, 7, [3, 3, 1]),
            (3.0, 2, [2]),
            (2.5, 10, [3, 2, 3, 2]),
            (2.5, 12, [3, 2, 3, 2, 2]),
            (2.5, 13, [3, 2, 3, 2, 2, 1]),  # ceil(5 * 2.5) = 13 leaves the sixth window nothing: it begins at 12
            (1.1, 11, [2, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
            (1.1, 3, [1, 1, 1]),
        ],
    )
    def test_windows_begin_at_multiples_of_the_ratio(self, ratio: float, frames: int, tokens: list[int]) -> None:
        assert tokens_of(cell("average", ratio), [[1.0]] * frames) == tokens

    def test_frames_weigh_alike(self) -> None:
        answer = segments.decider(cell("average", 2))(one([[1.0]] * 3))
        assert answer.weights_T.tolist() == [0.5, 0.5, 1]


class TestSample:
    @pytest.mark.parametrize(
        ("ratio", "phase", "kept"),
        [
            (3.0, 0, [0, 3, 6]),
            (3.0, 1, [1, 4, 7]),
            (3.0, 2, [2, 5, 7]),  # the last window has two frames
            (2.5, 0, [0, 3, 5, 7]),
            (2.5, 2, [2, 4, 6, 7]),
        ],
    )
    def test_one_frame_of_each_window_has_all_the_weight(self, ratio: float, phase: int, kept: list[int]) -> None:
        answer = segments.decider(cell("sample", ratio, phase=phase))(one([[1.0]] * 8))
        assert answer.weights_T.nonzero()[:, 0].tolist() == kept


def angles(*degrees: float) -> list[list[float]]:
    return [[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees]


class TestSegment:
    # differences between neighbours grow with the angle between them: 10, 40, 20, 30, 5, 25, 60
    FRAMES = angles(0, 10, 50, 70, 100, 105, 130, 190)

    def test_natural_cuts_at_strict_interior_maxima(self) -> None:
        assert tokens_of(cell("segment", "natural"), self.FRAMES) == [
            2,
            2,
            4,
        ]  # at 40 and 30; 60 has no right neighbour

    def test_plateaus_and_constant_frames_have_no_peaks(self) -> None:
        assert tokens_of(cell("segment", "natural"), [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]) == [
            5
        ]
        assert tokens_of(cell("segment", "natural"), [[3.0, 4.0]] * 5) == [5]

    def test_ratio_takes_the_largest_peaks_then_the_largest_others(self) -> None:
        assert tokens_of(cell("segment", 4.0), self.FRAMES) == [2, 6]  # the peak at 40, though 60 is larger
        assert tokens_of(cell("segment", 3.0), self.FRAMES) == [2, 2, 4]
        assert tokens_of(cell("segment", 2.0), self.FRAMES) == [2, 2, 3, 1]  # then 60
        assert tokens_of(cell("segment", 1.6), self.FRAMES) == [2, 2, 2, 1, 1]  # then 25

    def test_ties_go_to_the_earlier(self) -> None:
        assert tokens_of(cell("segment", 2.0), [[1.0, 2.0]] * 6) == [1, 1, 4]

    def test_zero_vectors_differ_from_nothing(self) -> None:
        frames = [[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], *angles(0, 90), [0.0, 0.0]]
        assert tokens_of(cell("segment", "natural"), frames) == [4, 2]

    def test_length_of_a_frame_does_not_matter(self) -> None:
        scaled = [[1e-3 * 7**i * x for x in frame] for i, frame in enumerate(self.FRAMES)]
        assert tokens_of(cell("segment", 2.0), scaled) == tokens_of(cell("segment", 2.0), self.FRAMES)

    def test_counts_the_cuts_at_peaks(self) -> None:
        batch = Utterances(torch.tensor([8, 8]), {"frames": torch.tensor(self.FRAMES * 2)})
        expected: dict[float | str, list[int]] = {"natural": [2, 2], 2: [2, 2], 8: [0, 0]}
        for ratio, peaks in expected.items():
            peaks_B = segments.decider(cell("segment", ratio))(batch).peaks_B
            assert peaks_B is not None
            assert peaks_B.tolist() == peaks

    @pytest.mark.parametrize("ratio", [1.5, 2.0, 3.0, 6.0, "natural"])
    def test_agrees_with_a_loop_over_frames(self, ratio: float | str) -> None:
        batch = speech([1, 2, 3, 40, 7, 90], seed=5)
        answer = one_by_one(segments.decider(cell("segment", ratio))(batch), batch)
        for frames_TD, (tokens, _) in zip(batch.frames_TD.split(batch.lengths_B.tolist()), answer, strict=True):
            assert tokens == naive_segment(frames_TD, ratio)

    def test_a_third_of_independent_differences_are_peaks(self) -> None:
        """The directions of normal frames are uniform, so the differences of neighbours are independent."""
        frames_TD = torch.randn(30_000, 16, generator=torch.Generator().manual_seed(0))
        batch = Utterances(torch.tensor([30_000]), {"frames": frames_TD})
        answer = segments.decider(cell("segment", "natural"))(batch)
        assert int(answer.counts_B) / 30_000 == pytest.approx(1 / 3, rel=0.03)


def naive_segment(frames_TD: Tensor, ratio: float | str) -> list[int]:
    """The definition, written with loops: cut after position t."""
    frames = frames_TD.double()
    d = []
    for t in range(len(frames) - 1):
        scale = float(frames[t].norm() * frames[t + 1].norm())
        d.append(round(1 - float(frames[t] @ frames[t + 1]) / scale, 6) if scale else 0.0)
    peaks = [t for t in range(1, len(d) - 1) if d[t] > d[t - 1] and d[t] > d[t + 1]]
    if isinstance(ratio, str):
        cuts = peaks
    else:
        others = [t for t in range(len(d)) if t not in peaks]
        ranked = sorted(peaks, key=lambda t: -d[t]) + sorted(others, key=lambda t: -d[t])
        cuts = sorted(ranked[: math.ceil(len(frames) / ratio) - 1])
    edges = [0, *(t + 1 for t in cuts), len(frames)]
    return [after - before for before, after in itertools.pairwise(edges)]


class TestRandom:
    def test_seed_decides(self) -> None:
        frames = [[1.0]] * 60
        assert tokens_of(cell("random", 3.0), frames, seed=1) == tokens_of(cell("random", 3.0), frames, seed=1)
        assert tokens_of(cell("random", 3.0), frames, seed=1) != tokens_of(cell("random", 3.0), frames, seed=2)

    def test_every_place_is_cut_equally_often(self) -> None:
        draws, frames = 4000, 12
        batch = Utterances(torch.full((draws,), frames), {"seeds": segments.seeds(list(map(str, range(draws))), 0)})
        answer = segments.decider(cell("random", 3))(batch)
        start_N = answer.lengths_N.cumsum(0) - answer.lengths_N
        cut_share = torch.bincount(start_N % frames, minlength=frames) / draws
        assert float(cut_share[0]) == 1
        expected = 3 / (frames - 1)
        spread = math.sqrt(expected * (1 - expected) / draws)
        assert float((cut_share[1:] - expected).abs().max()) < 4 * spread


class TestPacked:
    def test_lots_are_the_numbers_of_splitmix64(self) -> None:
        """The first outputs for seed 1234567, as published with the generator's reference code."""
        drawn = _ragged.lots(torch.tensor([7, 1234567]), torch.tensor([2, 3]))[2:].tolist()
        published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
        assert [number % 2**64 for number in drawn] == published

    def test_dots_are_right_at_any_width(self) -> None:
        for width in (1, 2, 3, 7, 64, 100):
            left_TD, right_TD = torch.randn(2, 5, width, dtype=torch.float64)
            assert torch.allclose(_ragged.dots(left_TD, right_TD), (left_TD * right_TD).sum(1))

    def test_first_in_each_takes_the_preferred_then_the_largest_then_the_earlier(self) -> None:
        marked_T = _ragged.first_in_each(
            torch.tensor([2, 1]),
            torch.tensor([4, 3]),
            torch.tensor([False, True, True, True, True, True, True]),
            torch.tensor([9, 2, 3, 2, 0, 0, 0]),
        )
        assert marked_T.nonzero()[:, 0].tolist() == [1, 2, 4]
