"""The steps that every training does: the schedule's values, the check of the loss, and going on from a checkpoint."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from concertina import console
from concertina.bases.scratch.muon import Muon
from concertina.training.checkpoints import Checkpoints
from concertina.training.steps import DivergedError, Row, Schedule, Training, check_loss

STEPS = 12


def never() -> bool:
    return False


def test_the_rate_rises_to_the_peak_and_falls_to_the_floor() -> None:
    schedule = Schedule(steps=10, warmup=4, floor=0.1)
    shares = [schedule.share(step) for step in range(10)]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0]
    assert shares[4] == pytest.approx(1.0)
    assert shares[7] == pytest.approx(0.1 + 0.9 / 2)  # half-way down
    assert shares[4:] == sorted(shares[4:], reverse=True)
    assert schedule.share(10) == pytest.approx(0.1)


def test_a_cosine_may_begin_with_the_first_step() -> None:
    schedule = Schedule(steps=100, warmup=5, falls_from=0)
    for step in range(100):
        cosine = 0.5 * (1 + math.cos(math.pi * step / 100))
        assert schedule.share(step) == pytest.approx(min((step + 1) / 5, cosine))


@pytest.mark.parametrize("warmup", [0, 10])
def test_a_schedule_may_be_all_or_no_warm_up(warmup: int) -> None:
    shares = [Schedule(steps=10, warmup=warmup).share(step) for step in range(10)]
    assert shares[0] == (0.1 if warmup else 1.0)
    assert shares == sorted(shares, reverse=not warmup)


def test_a_growing_loss_is_divergence() -> None:
    with pytest.raises(DivergedError, match=r"diverged: up to step 30 .*; lower it"):
        check_loss([1.0] * 10 + [9.0] * 20, warmup=5, remedy="lower it")
    check_loss([0.01] * 10 + [0.3] * 20, warmup=5)
    check_loss([1.0] * 5 + [9.0] * 10, warmup=5)
    with pytest.raises(DivergedError, match="became inf at step 2"):
        check_loss([1.0, math.inf], warmup=5)


def training(loss_of: Callable[[int, torch.Tensor], torch.Tensor] | None = None) -> Training:
    """A small network with dropout, its matrices by Muon and its biases by AdamW; it learns to double."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.3), torch.nn.ReLU(), torch.nn.Linear(16, 8))
    matrices = [p for p in model.parameters() if p.ndim == 2]
    biases = [p for p in model.parameters() if p.ndim == 1]

    def gradients(step: int) -> Row:
        inputs_BD = torch.randn(32, 8, generator=torch.Generator().manual_seed(step))
        loss = (model(inputs_BD) - 2 * inputs_BD).square().mean()
        loss = loss_of(step, loss) if loss_of else loss
        loss.backward()
        return {"loss": loss.item()}

    def measure() -> Row:
        model.eval()
        with torch.no_grad():
            return {"dev_loss": float((model(torch.eye(8)) - 2 * torch.eye(8)).square().mean())}

    return Training(
        model=model,
        optimisers=[Muon(matrices, lr=0.02, weight_decay=0.01), torch.optim.AdamW(biases, lr=0.01)],
        schedule=Schedule(STEPS, warmup=3, floor=0.1),
        clip_norm=1.0,
        gradients=gradients,
        measure=measure,
        measure_every=5,
        label={"phase": 1},
    )


def lasting(done: Training) -> tuple[list[Row], dict[str, torch.Tensor]]:
    """What a training made, without what it took."""
    curve = [{key: value for key, value in row.items() if key != "steps_per_second"} for row in done.curve]
    return curve, done.model.state_dict()


def test_the_curve_says_what_was_done(tmp_path: Path) -> None:
    done = training()
    done.run(Checkpoints(tmp_path / "kept", 1000), never)
    curve, _ = lasting(done)
    assert [row["step"] for row in curve if "dev_loss" in row] == [0, 5, 10, 12]
    steps = [row for row in curve if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, STEPS + 1))
    assert set(steps[0]) == {"phase", "step", "loss", "learning_rate"}
    assert [row["learning_rate"] for row in steps[:3]] == pytest.approx([0.02 / 3, 0.04 / 3, 0.02])
    assert curve[-1]["dev_loss"] < 0.9 * curve[0]["dev_loss"]


@pytest.mark.parametrize("last", [1, 5, 7, STEPS - 1])
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(tmp_path: Path, last: int) -> None:
    whole = training()
    whole.run(Checkpoints(tmp_path / "whole", 1000), never)
    stopped = training()
    with pytest.raises(console.Stopped, match=f"stopped after step {last}; "):
        stopped.run(Checkpoints(tmp_path / "kept", 1000), lambda: len(stopped.losses) == last)
    again = training()
    kept = Checkpoints(tmp_path / "kept", 1000)
    again.resume(kept)
    assert len(again.losses) == last
    again.run(kept, never)
    curve, state = lasting(again)
    expected, expected_state = lasting(whole)
    assert curve == expected
    assert all(torch.equal(tensor, expected_state[name]) for name, tensor in state.items())
    kept.clear()
    assert list(tmp_path.glob("*kept*")) == []


def test_one_that_diverges_says_so_and_goes_on_from_before(tmp_path: Path) -> None:
    harmed = training(lambda step, loss: loss * math.nan if step == 4 else loss)
    with pytest.raises(DivergedError, match="became nan at step 4; lower the learning rate"):
        harmed.run(Checkpoints(tmp_path / "kept", 0), never)
    again = training()
    again.resume(Checkpoints(tmp_path / "kept", 0))
    assert len(again.losses) == 3
    assert all(bool(p.isfinite().all()) for p in again.model.parameters())


def test_one_that_does_not_own_the_checkpoints_reads_them_alone(tmp_path: Path) -> None:
    stopped = training()
    with pytest.raises(console.Stopped):
        stopped.run(Checkpoints(tmp_path / "kept", 1000), lambda: len(stopped.losses) == 4)
    before = sorted(tmp_path.rglob("*"))
    beside, other = Checkpoints(tmp_path / "kept", 0, owns=False), training()
    other.resume(beside)
    other.run(beside, never)
    beside.clear()
    assert len(other.losses) == STEPS
    assert sorted(tmp_path.rglob("*")) == before
