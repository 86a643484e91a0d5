"""Pooling against a loop, its gradients, and where tokens stand."""

import pytest
import torch
from torch import Tensor

from concertina.compressors._segments import Segments, pool, positions, select

LENGTHS_B = torch.tensor([5, 0, 1, 4])
SEGMENTS = Segments(
    torch.tensor([2, 3, 1, 1, 1, 2]),
    torch.tensor([2, 0, 1, 3]),
    torch.tensor([0.5, 0.5, 0.2, 0.3, 0.5, 1.0, 1.0, 1.0, 0.0, 1.0]),
)


def naive(frames_TD: Tensor, segments: Segments) -> Tensor:
    tokens, start = [], 0
    for length in segments.lengths_N.tolist():
        token_D = torch.zeros(frames_TD.shape[1], dtype=frames_TD.dtype)
        for t in range(start, start + length):
            token_D = token_D + segments.weights_T[t] * frames_TD[t]
        tokens.append(token_D)
        start += length
    return torch.stack(tokens)


def test_agrees_with_a_loop() -> None:
    frames_TD = torch.randn(10, 7)
    assert torch.allclose(pool(frames_TD, SEGMENTS), naive(frames_TD, SEGMENTS), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_keeps_the_dtype_and_sums_in_a_wider_one(dtype: torch.dtype) -> None:
    frames_TD = torch.full((3000, 2), 1 + 2**-7, dtype=dtype)
    whole = Segments(torch.tensor([3000]), torch.tensor([1]), torch.full((3000,), 1 / 3000))
    tokens_ND = pool(frames_TD, whole)
    assert tokens_ND.dtype == dtype
    assert torch.allclose(tokens_ND, frames_TD[:1], rtol=1e-4)


def test_takes_segments_as_they_are_stored() -> None:
    stored = Segments(SEGMENTS.lengths_N.int(), SEGMENTS.counts_B.int(), SEGMENTS.weights_T)
    frames_TD = torch.randn(10, 7)
    assert torch.equal(pool(frames_TD, stored), pool(frames_TD, SEGMENTS))
    assert torch.equal(positions(stored, "keep"), positions(SEGMENTS, "keep"))


def test_gradients_reach_frames_and_weights() -> None:
    frames_TD = torch.randn(10, 3, dtype=torch.float64, requires_grad=True)
    weights_T = SEGMENTS.weights_T.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda frames, weights: pool(frames, Segments(SEGMENTS.lengths_N, SEGMENTS.counts_B, weights)),
        (frames_TD, weights_T),
    )


def test_same_bits_every_time_forward_and_backward() -> None:
    counts_B = torch.randint(1, 30, (40,), generator=torch.Generator().manual_seed(0))
    lengths_N = torch.randint(1, 9, (int(counts_B.sum()),), generator=torch.Generator().manual_seed(1))
    segments = Segments(lengths_N, counts_B, (1 / lengths_N).repeat_interleave(lengths_N))
    frames_TD = torch.randn(int(lengths_N.sum()), 96)
    runs = []
    for _ in range(3):
        leaf_TD = frames_TD.clone().requires_grad_()
        tokens_ND = pool(leaf_TD, segments)
        tokens_ND.square().sum().backward()
        assert leaf_TD.grad is not None
        runs.append((tokens_ND.detach(), leaf_TD.grad))
    assert all(torch.equal(tokens, runs[0][0]) and torch.equal(grad, runs[0][1]) for tokens, grad in runs)


def test_token_does_not_depend_on_its_batch() -> None:
    frames_TD = torch.randn(10, 96)
    alone = select(SEGMENTS, LENGTHS_B, torch.tensor([3]))
    assert torch.equal(pool(frames_TD[6:], alone), pool(frames_TD, SEGMENTS)[3:])


def test_one_frame_per_token_changes_nothing() -> None:
    frames_TD = torch.randn(10, 7)
    assert torch.equal(pool(frames_TD, Segments.cut(torch.ones(10, dtype=torch.bool), LENGTHS_B)), frames_TD)


def test_nothing_pools_to_nothing() -> None:
    nothing = Segments.cut(torch.zeros(0, dtype=torch.bool), torch.tensor([0, 0]))
    assert pool(torch.zeros(0, 4), nothing).shape == (0, 4)


class TestCut:
    def test_first_frame_of_an_utterance_always_begins_a_token(self) -> None:
        segments = Segments.cut(torch.tensor([0, 0, 1, 0, 0, 0, 0, 0, 1, 1]).bool(), LENGTHS_B)
        assert segments.lengths_N.tolist() == [2, 3, 1, 2, 1, 1]
        assert segments.counts_B.tolist() == [2, 0, 1, 3]
        assert segments.weights_T.tolist()[:3] == pytest.approx([1 / 2, 1 / 2, 1 / 3])

    def test_scores_weigh_frames_within_their_token(self) -> None:
        starts_T = torch.tensor([True, False, True, False, True])
        scores_T = torch.tensor([1, 3, 0, 0, 7])
        segments = Segments.cut(starts_T, torch.tensor([4, 1]), scores_T=scores_T)
        assert segments.weights_T.tolist() == [0.25, 0.75, 0.5, 0.5, 1]
        nothing = Segments.cut(starts_T[:0], torch.tensor([], dtype=torch.long), scores_T=scores_T[:0])
        assert nothing.weights_T.tolist() == []

    def test_other_scores_change_no_cut(self) -> None:
        segments = Segments.cut(torch.zeros(10, dtype=torch.bool), LENGTHS_B, peaks_T=torch.ones(10, dtype=torch.bool))
        anew = segments.weigh(torch.arange(10))
        assert anew.lengths_N is segments.lengths_N
        assert anew.peaks_B is segments.peaks_B
        assert anew.weights_T.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 1, 6 / 30, 7 / 30, 8 / 30, 9 / 30])

    def test_weights_sum_to_one_in_a_token_of_many_frames(self) -> None:
        scores_T = torch.rand(30_000, generator=torch.Generator().manual_seed(0))
        whole = Segments.cut(torch.zeros(30_000, dtype=torch.bool), torch.tensor([30_000]), scores_T=scores_T)
        assert float(whole.weights_T.double().sum()) == pytest.approx(1, abs=1e-6)


class TestKeep:
    def test_a_dropped_frame_joins_the_kept_one_before_it(self) -> None:
        kept_T = torch.tensor([0, 1, 0, 1, 0, 0, 0, 0, 0, 1]).bool()
        segments = Segments.keep(kept_T, LENGTHS_B)
        assert segments.lengths_N.tolist() == [3, 2, 1, 4]
        assert segments.counts_B.tolist() == [2, 0, 1, 1]
        assert segments.weights_T.tolist() == [0, 1, 0, 1, 0, 1, 0, 0, 0, 1]

    def test_an_utterance_of_which_nothing_is_kept_is_one_mean(self) -> None:
        segments = Segments.keep(torch.tensor([1, 0, 0]).bool(), torch.tensor([1, 2]))
        assert segments.lengths_N.tolist() == [1, 2]
        assert segments.weights_T.tolist() == [1, 0.5, 0.5]


class TestPositions:
    def test_renumbered(self) -> None:
        assert positions(SEGMENTS, "renumber").tolist() == [0, 1, 0, 0, 1, 2]

    def test_kept_at_the_weighted_mean_of_the_frames_indices(self) -> None:
        assert positions(SEGMENTS, "keep").tolist() == pytest.approx([0.5, 3.3, 0, 0, 1, 3])

    def test_a_frame_that_is_kept_alone_keeps_its_index(self) -> None:
        kept_T = torch.tensor([0, 1, 0, 1, 0, 0, 0, 0, 1, 0], dtype=torch.bool)
        kept = Segments.keep(kept_T, torch.tensor([5, 0, 1, 4]))
        assert positions(kept, "keep").tolist() == [1, 3, 0, 2]

    def test_utterance_without_tokens_at_the_end(self) -> None:
        segments = Segments.cut(torch.tensor([1, 0, 1], dtype=torch.bool), torch.tensor([3, 0]))
        assert positions(segments, "keep").tolist() == [0.5, 2]


class TestSelect:
    def test_in_the_order_asked_for(self) -> None:
        chosen = select(SEGMENTS, LENGTHS_B, torch.tensor([3, 1, 0]))
        assert chosen.counts_B.tolist() == [3, 0, 2]
        assert chosen.lengths_N.tolist() == [1, 1, 2, 2, 3]
        assert chosen.weights_T.tolist() == pytest.approx([1, 1, 0, 1, 0.5, 0.5, 0.2, 0.3, 0.5])
