"""What must hold on a GPU. Each check also runs on the CPU, so that a machine without a GPU still tests the checks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import hampkit
from hampkit.defenses.hamp import Hamp
from hampkit.errors import UserError
from hampkit.nets import NETS, net_factory
from hampkit.registry import ATTACKS, DEFENSES
from hampkit.targets.blackbox import BlackBox
from hampkit.training import CROSS_ENTROPY, Trainer
from hampkit.training.cuda_graphs import cuda_graph
from hampkit.training.trainer import _Run
from hampkit.types import Dataset, Domain, Task
from hampkit.workflows.session import Session

IMAGE_NETS = sorted(name for name, net in NETS.items() if net.side)
GPU = pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")])
devices = pytest.mark.parametrize("device", ["cpu", GPU])
defenses = pytest.mark.parametrize("defense", [c(**c.quick) for c in DEFENSES.classes().values()], ids=lambda d: d.name)


@pytest.fixture
def steps(monkeypatch):
    """Where the tensors of every training step lie."""
    seen, step = [], _Run._step

    def watched(run, batch, *rest):
        tensors = [*batch, *run.stack.params.values(), *run.stack.buffers.values()]
        seen.append({t.device.type for t in tensors if t.numel()})
        step(run, batch, *rest)

    monkeypatch.setattr(_Run, "_step", watched)
    return seen


@devices
@defenses
def test_a_defense_trains_and_answers_there(defense, device, task_of, short, steps, float64):
    """Stacked as one by one, in float64; what comes back lies on the CPU, and devices are never mixed."""
    config = replace(short, epochs=2)
    task = task_of(defense, Trainer(config)).only([0, 3, 5])
    stacked, alone = (defense.fit(task, Trainer(config, torch.device(device), width)) for width in (3, 1))
    assert steps
    assert all(places == {device} for places in steps)
    for name, value in (stacked.stack.params | stacked.stack.buffers).items():
        other = (alone.stack.params | alone.stack.buffers)[name]
        assert value.device.type == "cpu"
        scale = max(float(value.abs().max()), 1e-6)
        assert float((value - other).abs().max()) <= 1e-8 * scale, name
    trainer = Trainer(config, torch.device(device))
    release = defense.release(stacked.state_of(0), task.pool.domain)
    answers = BlackBox(stacked.stack.take([0]), release, trainer).query(task.pool.x, seed=1)
    own = trainer.predict(stacked.stack.take([0]), task.pool.x)[0]
    assert (answers.device.type, own.device.type) == ("cpu", "cpu")
    assert answers.isfinite().all()
    assert torch.equal(answers.argmax(-1), own.argmax(-1))


@devices
@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in IMAGE_NETS if n not in ("densenet", "wrn-28-10", "wrn-28-2")])
def test_an_image_network_trains_there_in_a_stack(name, device, short, steps):
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (24, 3, 16, 16), generator=rng, dtype=torch.uint8)
    data = Dataset("images", x, torch.arange(24) % 3, 3, Domain.grid((3, 16, 16), 0, 255, 1))
    members = torch.rand(2, 24, generator=rng) < 0.6
    task = Task(data, members, (1, 2), net_factory(name, (3, 16, 16), 3))
    config = replace(short, epochs=1, batch_size=8, select="last", augment=("flip", "shift"))
    for precision in ("float32", "bfloat16"):
        stack = Trainer(replace(config, precision=precision), torch.device(device), 2).fit(task, CROSS_ENTROPY)
        assert all(value.isfinite().all() for value in stack.params.values())
    assert all(places == {device} for places in steps)


@devices
def test_every_attack_runs_against_a_model_that_was_trained_there(device, tmp_path):
    options = {"rows": 800, "features": 40, "classes": 3, "epochs": 2, "neural.epochs": 2}
    found = hampkit.run("toy/hamp", options=options, shadows=4, device=device, workers=1, runs_dir=tmp_path)
    others = {name for defense in DEFENSES.classes().values() for name in defense.adaptive} - set(Hamp.adaptive)
    assert {a.attack for a in found.models[0].attacks} == set(ATTACKS.classes()) - others
    assert found.models[0].of("leave-one-out")
    again = hampkit.run("toy/hamp", options=options, shadows=4, device=device, workers=1, runs_dir=tmp_path)
    assert again.to_json() == found.to_json()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_recorded_steps_are_the_plain_ones(task, short):
    few, device = task.only([0, 1, 2]), torch.device("cuda")
    plain, recorded = (Trainer(short, device, 3, cuda_graphs=r).fit(few, CROSS_ENTROPY) for r in (None, cuda_graph))
    for name, value in plain.params.items():
        assert np.allclose(value, recorded.params[name], atol=1e-4), name


def test_one_of_several_gpus_can_be_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda:1: this machine has no CUDA device") as error:
        Session(device="cuda:1").torch_device()
    assert "cpu or auto" in str(error.value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Session(device="cuda:1").torch_device() == torch.device("cuda:1")
    assert Session(device="auto").torch_device() == torch.device("cuda")
    assert Session(device="cpu").torch_device() == torch.device("cpu")
    with pytest.raises(UserError, match="--device cuda:2: this machine has 2 CUDA devices, cuda:0 to cuda:1"):
        Session(device="cuda:2").torch_device()
    for name in ("gpu", "cuda:", "cuda:x", "mps", "cuda:0:1"):
        with pytest.raises(UserError, match="must be auto, cpu, cuda or cuda:N"):
            Session(device=name).torch_device()
