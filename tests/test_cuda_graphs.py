"""Recorded steps give what the steps themselves give, or are not used; a fake takes the place of the GPU's recorder."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from hampkit.config.recipe import TrainConfig
from hampkit.nets import net_factory
from hampkit.shadow_models.mode import ExecutionMode
from hampkit.training import CROSS_ENTROPY, MeanLoss, Trainer
from hampkit.training.cuda_graphs import Replayed, cuda_graph
from hampkit.types import Batch

pytestmark = pytest.mark.numeric


class Recorder:
    """Runs a step three times and repeats it, as a CUDA graph does; ``fault`` makes it go wrong."""

    def __init__(self, fault=None):
        self.fault, self.recordings, self.replays = fault, 0, 0

    def __call__(self, step):
        self.recordings += 1
        for _ in range(3):
            step()
        if self.fault == "fails":
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

        def replay():
            self.replays += 1
            if self.fault != "does nothing":
                step()

        return replay


CONFIGS = {
    "momentum": TrainConfig(
        optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=1e-3, epochs=3, batch_size=32, retries=0
    ),
    "plain, steps": TrainConfig(
        optimizer="sgd", lr=0.2, schedule="steps", milestones=(1, 2), epochs=4, batch_size=32, retries=0
    ),
    "restarted": TrainConfig(
        optimizer="sgd", lr=0.1, momentum=0.99, restart_optimizer=True, epochs=3, batch_size=32, retries=0
    ),
}


def trained(task, config, record):
    return Trainer(config, width=len(task), cuda_graphs=record).fit(task, CROSS_ENTROPY)


def same(a, b):
    groups = zip((a.params, a.buffers), (b.params, b.buffers), strict=True)
    return all(torch.equal(x[k], y[k]) for x, y in groups for k in x) and a.history == b.history


@pytest.mark.parametrize("name", CONFIGS)
def test_replayed_steps_give_the_same_weights(task, name):
    record = Recorder()
    few = task.only([0, 1, 2, 5])
    assert same(trained(few, CONFIGS[name], None), trained(few, CONFIGS[name], record))
    rates = 3 if name == "plain, steps" else 1
    assert record.recordings == rates, "once for every learning rate"
    least = int(few.members.sum(-1).min()) // 32  # steps of an epoch that all models take with full batches
    assert record.replays >= CONFIGS[name].epochs * (least - 1) > 0


@pytest.mark.parametrize("fault", ["fails", "does nothing"])
def test_a_recording_that_is_wrong_is_not_used(task, fault):
    record = Recorder(fault)
    few = task.only([0, 1])
    config = CONFIGS["momentum"]
    assert same(trained(few, config, None), trained(few, config, record))
    assert record.recordings == 1
    assert record.replays <= 1


def test_the_reason_is_kept():
    weight = torch.zeros(1)

    def step(batch, lr):
        weight.add_(lr)

    batch = Batch(torch.zeros(1, 2, 3), torch.zeros(1, 2), torch.empty(1, 2, 0), torch.ones(1, 2))
    for fault, reason in (
        ("fails", "not permitted when stream is capturing"),
        ("does nothing", "gives other results"),
    ):
        replayed = Replayed(Recorder(fault), step, lambda: [weight])
        weight.zero_()
        for _ in range(5):
            replayed(batch, 1.0)
        assert weight == 5.0
        assert reason in replayed.refused
        assert "\n" not in replayed.refused


def test_what_is_not_the_same_work_every_time_is_not_recorded(task):
    few, record = task.only([0, 1]), Recorder()

    class Own(MeanLoss):
        pass

    own = Own(lambda logits, batch: cross_entropy(logits, batch.y, reduction="none"))
    Trainer(replace(CONFIGS["momentum"], epochs=1), width=2, cuda_graphs=record).fit(few, own)
    Trainer(replace(CONFIGS["momentum"], epochs=1, optimizer="adam"), width=2, cuda_graphs=record).fit(
        few, CROSS_ENTROPY
    )
    Trainer(replace(CONFIGS["momentum"], epochs=1), width=1, cuda_graphs=record).fit(few, CROSS_ENTROPY)
    assert record.recordings == 0


def test_only_a_way_that_asks_for_it_records():
    trainer = Trainer(TrainConfig())
    assert ExecutionMode(16).of(trainer).cuda_graphs is None
    assert ExecutionMode(16, cuda_graphs=True).of(trainer).cuda_graphs is cuda_graph
    assert ExecutionMode(16, cuda_graphs=True).of(trainer).width == 16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_cuda_graph_gives_what_the_steps_give(task):
    device = torch.device("cuda")
    net = net_factory("mlp-small", task.pool.shape, task.pool.num_classes)
    few = replace(task.only([0, 1, 2]), net=net)
    plain, graph = (
        Trainer(CONFIGS["momentum"], device, 3, cuda_graphs=r).fit(few, CROSS_ENTROPY) for r in (None, cuda_graph)
    )
    for k, p in plain.params.items():
        assert torch.allclose(p, graph.params[k], atol=1e-4), k
