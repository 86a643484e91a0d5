"""Every file in compressors/ keeps the contract, and each of ours does what its definition says."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from concertina import compressors, segments
from concertina.compressors import _ragged
from concertina.compressors._segments import Segments
from concertina.config import ConfigError, Ratio

RATIOS: tuple[Ratio, ...] = (1.0, 1.1, 1.5, 2.0, 2.5, 3.0, 4.0, 7.3, 1000.0, "natural")


def takes(name: str, ratio: Ratio) -> bool:
    try:
        compressors.check_cell(name, ratio, {})
    except ConfigError:
        return False
    return True


CELLS = [(name, ratio) for name in compressors.names() for ratio in RATIOS if takes(name, ratio)]
every_cell = pytest.mark.parametrize(("name", "ratio"), CELLS)


def speech(lengths: list[int], seed: int = 0, width: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Frames with ties and silences in them, lengths and seeds of some utterances."""
    generator = torch.Generator().manual_seed(seed)
    frames_TD = torch.randn(sum(lengths), width, generator=generator)
    frames_TD[torch.rand(len(frames_TD), generator=generator) < 0.2] = 0
    frames_TD[torch.rand(len(frames_TD), generator=generator) < 0.2] = 1
    return frames_TD, torch.tensor(lengths), segments.seeds([f"utterance {i}" for i in range(len(lengths))], seed)


def one_by_one(answer: Segments, lengths_B: Tensor) -> list[tuple[list[int], list[float]]]:
    """Token lengths and frame weights of each utterance."""
    tokens = answer.lengths_N.split(answer.counts_B.tolist())
    weights = answer.weights_T.split(lengths_B.tolist())
    return [(t.tolist(), w.tolist()) for t, w in zip(tokens, weights, strict=True)]


def tokens_of(name: str, ratio: Ratio, frames: list[list[float]], seed: int = 0, **options: object) -> list[int]:
    """Token lengths of one utterance."""
    frames_TD = torch.tensor(frames)
    decide = segments.decider(name, ratio, options)
    return decide(frames_TD, torch.tensor([len(frames)]), torch.tensor([seed])).lengths_N.tolist()


class TestContract:
    @every_cell
    @settings(max_examples=10, deadline=None, derandomize=True)
    @given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=5), seed=st.integers(0, 9))
    def test_cuts_every_utterance_whole(self, name: str, ratio: Ratio, lengths: list[int], seed: int) -> None:
        frames_TD, lengths_B, seeds_B = speech(lengths, seed)
        answer = segments.decider(name, ratio, {})(frames_TD, lengths_B, seeds_B)
        for frames, (tokens, weights) in zip(lengths, one_by_one(answer, lengths_B), strict=True):
            assert min(tokens) >= 1
            assert sum(tokens) == frames
            if compressors.describe(name).exact and ratio != "natural":
                assert len(tokens) == math.ceil(round(frames / ratio, 9))
            for token in torch.tensor(weights).split(tokens):
                assert float(token.sum()) == pytest.approx(1, abs=1e-5)

    @every_cell
    @settings(max_examples=4, deadline=None, derandomize=True)
    @given(lengths=st.lists(st.integers(1, 60), min_size=2, max_size=5), seed=st.integers(0, 9))
    def test_answer_knows_no_company(self, name: str, ratio: Ratio, lengths: list[int], seed: int) -> None:
        frames_TD, lengths_B, seeds_B = speech(lengths, seed)
        decide = segments.decider(name, ratio, {})
        together = one_by_one(decide(frames_TD, lengths_B, seeds_B), lengths_B)
        assert one_by_one(decide(frames_TD, lengths_B, seeds_B), lengths_B) == together
        parts = frames_TD.split(lengths)
        order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed))
        shuffled_TD = torch.cat([parts[i] for i in order])
        shuffled = one_by_one(decide(shuffled_TD, lengths_B[order], seeds_B[order]), lengths_B[order])
        assert shuffled == [together[i] for i in order]
        for i, part_TD in enumerate(parts):
            assert one_by_one(decide(part_TD, lengths_B[[i]], seeds_B[[i]]), lengths_B[[i]]) == [together[i]]

    @every_cell
    def test_short_empty_and_no_utterances(self, name: str, ratio: Ratio) -> None:
        for lengths in ([1], [1, 1, 1], [2], [3, 1], [0], [0, 5, 0, 0], list[int]()):
            frames_TD, lengths_B, seeds_B = speech(lengths)
            answer = segments.decider(name, ratio, {})(frames_TD, lengths_B.long(), seeds_B)
            assert (answer.counts_B > 0).tolist() == [length > 0 for length in lengths], lengths

    @every_cell
    def test_wide_batch_is_bit_for_bit_its_parts(self, name: str, ratio: Ratio) -> None:
        """At real widths, where a sum over a row may depend on the shape of the batch."""
        frames_TD, lengths_B, seeds_B = speech([300, 1, 77, 2, 151], width=385)
        decide = segments.decider(name, ratio, {})
        together = one_by_one(decide(frames_TD, lengths_B, seeds_B), lengths_B)
        for i, part_TD in enumerate(frames_TD.split(lengths_B.tolist())):
            assert one_by_one(decide(part_TD, lengths_B[[i]], seeds_B[[i]]), lengths_B[[i]]) == [together[i]]


class TestNone:
    def test_every_frame_is_a_token(self) -> None:
        assert tokens_of("none", 1.0, [[1.0]] * 4) == [1, 1, 1, 1]


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
        assert tokens_of("average", ratio, [[1.0]] * frames) == tokens

    def test_frames_weigh_alike(self) -> None:
        answer = segments.decider("average", 2.0, {})(torch.ones(3, 1), torch.tensor([3]), torch.tensor([0]))
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
        decide = segments.decider("sample", ratio, {"phase": phase})
        answer = decide(torch.ones(8, 1), torch.tensor([8]), torch.tensor([0]))
        assert answer.weights_T.nonzero()[:, 0].tolist() == kept

    @pytest.mark.parametrize("phase", [-1, 3, 0.5, "first"])
    def test_phase_outside_the_window(self, phase: object) -> None:
        with pytest.raises(ConfigError, match=r"phase.*from 0 to below 3; got"):
            tokens_of("sample", 3.0, [[1.0]] * 8, phase=phase)


def angles(*degrees: float) -> list[list[float]]:
    return [[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees]


class TestSegment:
    # differences between neighbours grow with the angle between them: 10, 40, 20, 30, 5, 25, 60
    FRAMES = angles(0, 10, 50, 70, 100, 105, 130, 190)

    def test_natural_cuts_at_strict_interior_maxima(self) -> None:
        assert tokens_of("segment", "natural", self.FRAMES) == [2, 2, 4]  # at 40 and 30; 60 has no right neighbour

    def test_plateaus_and_constant_frames_have_no_peaks(self) -> None:
        assert tokens_of("segment", "natural", [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]) == [5]
        assert tokens_of("segment", "natural", [[3.0, 4.0]] * 5) == [5]

    def test_ratio_takes_the_largest_peaks_then_the_largest_others(self) -> None:
        assert tokens_of("segment", 4.0, self.FRAMES) == [2, 6]  # the peak at 40, though 60 is larger
        assert tokens_of("segment", 3.0, self.FRAMES) == [2, 2, 4]
        assert tokens_of("segment", 2.0, self.FRAMES) == [2, 2, 3, 1]  # then 60
        assert tokens_of("segment", 1.6, self.FRAMES) == [2, 2, 2, 1, 1]  # then 25

    def test_ties_go_to_the_earlier(self) -> None:
        assert tokens_of("segment", 2.0, [[1.0, 2.0]] * 6) == [1, 1, 4]

    def test_zero_vectors_differ_from_nothing(self) -> None:
        frames = [[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], *angles(0, 90), [0.0, 0.0]]
        assert tokens_of("segment", "natural", frames) == [4, 2]

    def test_length_of_a_frame_does_not_matter(self) -> None:
        scaled = [[1e-3 * 7**i * x for x in frame] for i, frame in enumerate(self.FRAMES)]
        assert tokens_of("segment", 2.0, scaled) == tokens_of("segment", 2.0, self.FRAMES)

    def test_counts_the_cuts_at_peaks(self) -> None:
        batch = torch.tensor(self.FRAMES * 2), torch.tensor([8, 8]), torch.tensor([0, 0])
        expected: dict[Ratio, list[int]] = {"natural": [2, 2], 2.0: [2, 2], 8.0: [0, 0]}
        for ratio, peaks in expected.items():
            peaks_B = segments.decider("segment", ratio, {})(*batch).peaks_B
            assert peaks_B is not None
            assert peaks_B.tolist() == peaks

    @pytest.mark.parametrize("ratio", [1.5, 2.0, 3.0, 6.0, "natural"])
    def test_agrees_with_a_loop_over_frames(self, ratio: Ratio) -> None:
        frames_TD, lengths_B, seeds_B = speech([1, 2, 3, 40, 7, 90], seed=5)
        answer = segments.decider("segment", ratio, {})(frames_TD, lengths_B, seeds_B)
        for frames, (tokens, _) in zip(frames_TD.split(lengths_B.tolist()), one_by_one(answer, lengths_B), strict=True):
            assert tokens == naive_segment(frames, ratio)

    def test_a_third_of_independent_differences_are_peaks(self) -> None:
        """The directions of normal frames are uniform, so the differences of neighbours are independent."""
        frames_TD = torch.randn(30_000, 16, generator=torch.Generator().manual_seed(0))
        answer = segments.decider("segment", "natural", {})(frames_TD, torch.tensor([30_000]), torch.tensor([0]))
        assert int(answer.counts_B) / 30_000 == pytest.approx(1 / 3, rel=0.03)


def naive_segment(frames_TD: Tensor, ratio: Ratio) -> list[int]:
    """The definition, said with loops: cut after position t."""
    frames = frames_TD.double()
    d = []
    for t in range(len(frames) - 1):
        scale = float(frames[t].norm() * frames[t + 1].norm())
        d.append(round(1 - float(frames[t] @ frames[t + 1]) / scale, 6) if scale else 0.0)
    peaks = [t for t in range(1, len(d) - 1) if d[t] > d[t - 1] and d[t] > d[t + 1]]
    if ratio == "natural":
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
        assert tokens_of("random", 3.0, frames, seed=1) == tokens_of("random", 3.0, frames, seed=1)
        assert tokens_of("random", 3.0, frames, seed=1) != tokens_of("random", 3.0, frames, seed=2)

    def test_every_place_is_cut_equally_often(self) -> None:
        draws, frames = 4000, 12
        lengths_B = torch.full((draws,), frames)
        decide = segments.decider("random", 3.0, {})
        answer = decide(torch.ones(draws * frames, 1), lengths_B, segments.seeds(list(map(str, range(draws))), 0))
        start_N = answer.lengths_N.cumsum(0) - answer.lengths_N
        cut_share = torch.bincount(start_N % frames, minlength=frames) / draws
        assert float(cut_share[0]) == 1
        expected = 3 / (frames - 1)
        spread = math.sqrt(expected * (1 - expected) / draws)
        assert float((cut_share[1:] - expected).abs().max()) < 4 * spread

    def test_numbers_are_those_of_splitmix64(self) -> None:
        """The first outputs for seed 1234567, as published with the generator's reference code."""
        from concertina.compressors.random import scramble

        drawn = scramble(torch.full((3,), 1234567), torch.arange(3)).tolist()
        published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
        assert [number % 2**64 for number in drawn] == published


class TestPacked:
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
