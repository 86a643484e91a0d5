"""How a step is divided: packed or padded, in micro-batches, over processes; its gradients are the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file

import tiny_run
from concertina import config, train
from concertina.artefacts import layout
from concertina.config import Config
from concertina.model import batching
from concertina.model.batching import Item, Speech
from concertina.model.lalm import Lalm, load
from concertina.store import records
from concertina.training import gradients
from concertina.training.gradients import Team

ADAPTER = "adapter_model.safetensors"


@pytest.fixture
def overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tiny_run.prepared(tmp_path)


def gradients_of(chosen: Config, queries_per_key: int = 1) -> tuple[float, dict[str, torch.Tensor]]:
    """One step's loss and LoRA gradients, from the same start."""
    torch.manual_seed(0)
    model = load(chosen.base, encoder=False, llm=True)
    if queries_per_key > 1:
        _group(model, queries_per_key)
    cached = Speech("t", "synthetic", "train", "average", "3")
    items = [i for part in chosen.train.sets[0].parts for i in batching.items(model, chosen, part, cached)][:13]
    gradients.ready(model, chosen)
    adapted = peft.get_peft_model(model.model, train.lora(chosen, model))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    adapted.train()
    trainable = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    loss, _ = gradients.gradients(model, chosen, items, list(trainable.values()), Team())
    return loss, {name: p.grad for name, p in trainable.items() if p.grad is not None}


def _group(model: Lalm, queries_per_key: int) -> None:
    """Leave each layer fewer keys and values than queries."""
    for layer in model.llm.layers:
        attention = layer.self_attn
        attention.num_key_value_groups = queries_per_key
        for name in ("k_proj", "v_proj"):
            linear = getattr(attention, name)
            kept = linear.out_features // queries_per_key
            smaller = torch.nn.Linear(linear.in_features, kept, bias=linear.bias is not None)
            smaller.weight.data = linear.weight.data[:kept].clone()
            if linear.bias is not None:
                smaller.bias.data = linear.bias.data[:kept].clone()
            setattr(attention, name, smaller.requires_grad_(False))


@pytest.mark.parametrize("queries_per_key", [1, 2])
@pytest.mark.parametrize(
    "how",
    [
        {"layout": "packed"},
        {"layout": "padded", "batch_tokens": 60},
        {"layout": "packed", "batch_tokens": 45},
        {"layout": "padded", "gradient_checkpointing": True},
        {"layout": "packed", "gradient_checkpointing": True},
    ],
    ids=str,
)
def test_gradients_are_those_of_the_plain_padded_path(
    overlay: Path, how: dict[str, object], queries_per_key: int
) -> None:
    loss, plain = gradients_of(config.load(tiny_run.change(overlay, layout="padded")), queries_per_key)
    other_loss, found = gradients_of(config.load(tiny_run.change(overlay, **how)), queries_per_key)
    assert other_loss == pytest.approx(loss, rel=1e-5)
    assert found.keys() == plain.keys()
    assert len(plain) > 10
    assert max(float(g.abs().max()) for g in plain.values()) > 1e-3
    for name, gradient in plain.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=2e-6), name


def test_microbatches_hold_the_budget_and_every_item_once(overlay: Path) -> None:
    chosen = config.load(overlay)
    model = load(chosen.base, encoder=False, llm=True)
    cached = Speech("t", "synthetic", "train", "average", "3")
    items: list[Item] = batching.items(model, chosen, chosen.train.sets[0].parts[0], cached)
    for budget in (1, 50, 120, None):
        groups = list(gradients.microbatches(items, budget, gradients.positions))
        assert [id(item) for group in groups for item in group] == [id(item) for item in items]
        if budget is not None:
            sizes = [len(group) * max(map(gradients.positions, group)) for group in groups]
            assert all(size <= budget or len(group) == 1 for size, group in zip(sizes, groups, strict=True))
    assert len(groups) == 1


def trained(overlay: Path) -> tuple[dict[str, torch.Tensor], dict[str, object], list[float]]:
    assert train.main(tiny_run.train_arguments(overlay)) == 0
    folder = layout.train("t", "english", "average", "3", 0)
    curve = [json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    facts = records.read(folder / "record.json").facts
    return load_file(folder / ADAPTER), facts, [row["loss"] for row in curve if "loss" in row]


@pytest.mark.slow
def test_two_processes_make_the_adapter_that_one_makes(overlay: Path) -> None:
    one, facts, losses = trained(tiny_run.change(overlay, steps=8, dev_every_steps=8))
    two, facts_of_two, losses_of_two = trained(tiny_run.change(overlay, processes=2, batch_tokens=80))
    assert facts_of_two["order_sha256"] == facts["order_sha256"]
    assert losses_of_two == pytest.approx(losses, rel=1e-4)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.allclose(two[name], tensor, rtol=1e-2, atol=1e-4), name


@pytest.mark.slow
def test_a_team_that_was_stopped_goes_on_to_the_same_adapter(overlay: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dropout = {"lora": {"dropout": 0.2}}  # each process draws its own, whatever the checkpoint holds
    whole, _, _ = trained(tiny_run.change(overlay, steps=6, dev_every_steps=6, processes=2, checkpoint_s=0, **dropout))
    step = train.Training.step

    def killed(self: train.Training, number: int, stop: bool = False) -> tuple[float, float, bool]:
        return step(self, number, stop or number == 3)

    monkeypatch.setattr(train.Training, "step", killed)
    assert train.main(tiny_run.train_arguments(overlay)) != 0
    monkeypatch.setattr(train.Training, "step", step)
    again, _, losses = trained(overlay)
    assert len(losses) == 6
    assert all(torch.equal(tensor, whole[name]) for name, tensor in again.items())


def lost(team: Team, *_: object) -> None:
    """What a process does that is killed."""
    raise SystemExit(7)


def lead_twice() -> None:
    with gradients.gathered(2, lost) as team:
        parameter = torch.nn.Parameter(torch.zeros(3))
        team.add_up([parameter], 1.0)
        team.add_up([parameter], 1.0)


@pytest.mark.slow
def test_a_process_that_is_lost_ends_the_team_and_is_named() -> None:
    with pytest.raises(gradients.TeamError, match="process 1 of 2 has ended"):
        lead_twice()


def differ(team: Team, *_: object) -> None:
    """What a process does that found an older checkpoint."""
    team.agree(5 - team.rank)


def refuse(team: Team, *_: object) -> None:
    """What a process does that cannot read what it must."""
    raise config.ConfigError("train.sets: none\nof these")


@pytest.mark.slow
def test_processes_that_found_different_checkpoints_do_not_train_on() -> None:
    with pytest.raises(gradients.TeamError, match="different checkpoints"), gradients.gathered(2, differ) as team:
        differ(team)


@pytest.mark.slow
def test_what_ended_a_process_is_told_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(gradients.TeamError, match="process 1 of 2"), gradients.gathered(2, refuse) as team:
        team.agree(0)
    told = capfd.readouterr().err
    assert "error in process 1 of 2: train.sets: none of these\n" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_a_leader_that_does_not_notice_is_ended_too() -> None:
    """Between GPUs a lost process is not noticed; here the leader sleeps instead of waiting for it."""
    sleeps = """if True:
        import time, test_optimise
        from concertina.training import gradients as optimise
        optimise.GRACE_S = 0.5
        with optimise.gathered(2, test_optimise.lost):
            time.sleep(99)
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", sleeps], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "error: process 1 of 2 has ended" in ended.stderr
    assert time.monotonic() - began < 60


def runs(pid: str) -> bool:
    """Whether there is such a process; one that has ended and that nobody has asked about is none."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_a_leader_that_is_killed_takes_its_team_along(overlay: Path, tmp_path: Path) -> None:
    tiny_run.change(overlay, steps=3000, processes=2, checkpoint_s=0)
    command = [sys.executable, "-m", "concertina.train", *tiny_run.train_arguments(overlay)]
    with open(tmp_path / "told", "w", encoding="utf-8") as told:
        leader = subprocess.Popen(command, stderr=told)
    try:
        until = time.monotonic() + 120
        while not list(tmp_path.glob("scratch/*/step-*")):
            assert leader.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)
        children = Path(f"/proc/{leader.pid}/task/{leader.pid}/children").read_text(encoding="ascii").split()
        followers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(followers) == 1
    finally:
        leader.send_signal(signal.SIGKILL)
        leader.wait()
    until = time.monotonic() + 30
    while runs(followers[0]):
        assert time.monotonic() < until
        time.sleep(0.2)
    assert "Traceback" not in (tmp_path / "told").read_text(encoding="utf-8")
