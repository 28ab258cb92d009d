"""The trainer against torch.optim and plain loops; checkpoints, divergence, schedules, batches."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import hampkit
from hampkit.config.recipe import TrainConfig
from hampkit.config.sections import TrainOverrides
from hampkit.defenses.advreg import AdvReg
from hampkit.defenses.dmp import Dmp
from hampkit.defenses.memguard import MemGuard
from hampkit.defenses.selena import Selena
from hampkit.errors import UserError
from hampkit.nets import net_factory
from hampkit.nets.normalize import Normalize
from hampkit.rng import derive, forked
from hampkit.training import Diverged, MeanLoss, Trainer
from hampkit.training.batches import batches, plan_epoch
from hampkit.training.optim import Optimizer, learning_rate

pytestmark = pytest.mark.numeric

CE = MeanLoss(lambda logits, batch: cross_entropy(logits, batch.y, reduction="none"))


@pytest.fixture
def network(toy):
    return net_factory("mlp-small", toy.shape, toy.num_classes)


CONFIGS = {
    "sgd": TrainConfig(optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=1e-3),
    "plain sgd": TrainConfig(optimizer="sgd", lr=0.1),
    "adam": TrainConfig(optimizer="adam", lr=1e-3, weight_decay=1e-3),
    "published": TrainConfig(
        optimizer="sgd",
        lr=0.2,
        momentum=0.99,
        weight_decay=1e-5,
        restart_optimizer=True,
        schedule="steps",
        milestones=(2,),
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_training_equals_a_plain_loop_with_torch_optim(name, task, float64):
    """Same initialisation, same consecutive batches, torch.optim: the same weights after a whole training."""
    config = replace(CONFIGS[name], epochs=4, batch_size=32, shuffle=False, select="last", retries=0)
    ours = Trainer(config, width=8).fit(task, CE)
    m = 5
    with forked(derive(task.seeds[m], "init")):
        net = task.net()
    x, y = task.pool.x[task.members[m]].double(), task.pool.y[task.members[m]]
    optimizer = None
    for epoch in range(4):
        if optimizer is None or config.restart_optimizer:
            optimizer = _of_torch(list(net.parameters()), config)
        optimizer.param_groups[0]["lr"] = config.lr * (0.1 if config.milestones and epoch >= 2 else 1)
        for bx, by in zip(x.split(32), y.split(32), strict=True):
            optimizer.zero_grad()
            cross_entropy(net(bx), by).backward()
            optimizer.step()
    for key, value in net.state_dict().items():
        assert torch.allclose(ours.params[key][m], value, rtol=1e-9, atol=1e-12), key


def _of_torch(params, config):
    if config.optimizer == "adam":
        return torch.optim.Adam(params, lr=config.lr, weight_decay=config.weight_decay, foreach=False, fused=False)
    decay, momentum = config.weight_decay, config.momentum
    return torch.optim.SGD(params, config.lr, momentum, weight_decay=decay, foreach=False, fused=False)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("decay", [0.0, 1e-3])
def test_the_optimizer_is_one_of_torch_per_model(name, decay, float64):
    """Equal gradients in, some near 0; M optimisers of torch out. Models rest at steps of their own, and all start again once."""
    config, rng = replace(CONFIGS[name], weight_decay=decay), torch.Generator().manual_seed(1)
    start = {"w": torch.randn(4, 3, 2, generator=rng), "b": torch.randn(4, 3, generator=rng)}
    ours, stacked = {k: v.clone() for k, v in start.items()}, Optimizer(config)
    single = [[v[m].clone().requires_grad_() for v in start.values()] for m in range(4)]
    theirs = [_of_torch(params, config) for params in single]
    for step in range(12):
        if step == 7:
            stacked.restart()
            theirs = [_of_torch(params, config) for params in single]
        size = 10.0 ** torch.randint(-9, 1, (4, 1), generator=rng)
        grads = {
            "w": torch.randn(4, 3, 2, generator=rng) * size.unsqueeze(-1),
            "b": torch.randn(4, 3, generator=rng) * size,
        }
        idle = torch.rand(4, generator=rng) < 0.4
        lr = config.lr * (0.5 if step > 4 else 1)
        stacked.step(ours, grads, lr, idle if step % 3 else None)
        for m, optimizer in enumerate(theirs):
            if step % 3 and idle[m]:
                continue
            optimizer.param_groups[0]["lr"] = lr
            for p, g in zip(single[m], grads.values(), strict=True):
                p.grad = g[m].clone()
            optimizer.step()
    for k, name in enumerate(start):
        for m in range(4):
            assert torch.allclose(ours[name][m], single[m][k], rtol=1e-10, atol=1e-12), (name, m)


def test_the_best_checkpoint_is_kept_per_model(task):
    config = TrainConfig(epochs=6, batch_size=32, lr=0.01, retries=0)
    stack = Trainer(config, width=8).fit(task, CE)
    assert task.val is not None
    logits = Trainer(config).predict(stack, task.val.x)
    for m, history in enumerate(stack.history):
        kept = float((logits[m].argmax(-1) == task.val.y).double().mean())
        assert kept == pytest.approx(max(history.val_accuracy), abs=1e-6)
        assert history.epoch == history.val_accuracy.index(max(history.val_accuracy)), "the first of equals"


def test_min_delta_keeps_an_earlier_checkpoint(task):
    config = TrainConfig(epochs=6, batch_size=32, lr=0.01, retries=0)
    free = Trainer(config, width=8).fit(task, CE)
    strict = Trainer(replace(config, min_delta=0.9), width=8).fit(task, CE)
    assert all(h.epoch == 5 for h in strict.history), "nothing gains 90 points: the last epoch stands"
    assert any(h.epoch != 5 for h in free.history)


class Touchy(nn.Module):
    """Answers NaN where one weight of its initialisation is positive: about half of all seeds fail."""

    def __init__(self, features, classes):
        super().__init__()
        self.layer = nn.Linear(features, classes)
        self.register_buffer("bad", (self.layer.weight[0, 0] > 0).to(self.layer.weight).detach().clone())

    def forward(self, x):
        return self.layer(x) + torch.where(self.bad > 0, torch.nan, 0.0)


def test_a_diverged_model_is_tried_again_and_never_touches_the_others(task, float64):
    touchy = replace(task, net=lambda: Touchy(24, 4))
    config = TrainConfig(epochs=6, lr=0.05, retries=20)
    stack = Trainer(config, width=8).fit(touchy, CE)
    retried = [m for m, h in enumerate(stack.history) if len(h.seeds) > 1]
    assert 0 < len(retried) < 8
    assert all(v.isfinite().all() for v in stack.params.values())
    assert all(h.seeds[0] == task.seeds[m] for m, h in enumerate(stack.history))
    fine = next(m for m in range(8) if m not in retried)
    alone = Trainer(replace(config, retries=0)).fit(touchy.only([fine]), CE)
    assert torch.allclose(stack.params["layer.weight"][fine], alone.params["layer.weight"][0], rtol=1e-9, atol=1e-12)


def test_divergence_with_every_seed_is_one_clear_error(task):
    with pytest.raises(Diverged, match=r"diverged with every seed .* lower train.lr=1e\+38"):
        Trainer(TrainConfig(optimizer="sgd", lr=1e38, epochs=2, retries=1)).fit(task.only([0]), CE)


def test_divergence_names_the_rates_of_the_training_that_diverged(task, short):
    with pytest.raises(Diverged, match=r"lower defense.surrogate_lr=1e\+38, or") as caught:
        MemGuard(surrogate_lr=1e38, surrogate_epochs=3).fit(task.only([0]), Trainer(short))
    assert "train.lr" not in str(caught.value)
    with pytest.raises(Diverged, match=r"lower train.lr=1e\+38 or defense.attack_lr=0.0001, or"):
        AdvReg().fit(task.only([0]), Trainer(replace(short, optimizer="sgd", lr=1e38)))
    for defense in (Selena(distill=TrainOverrides(lr=1e38)), Dmp(synthetic=100, distill=TrainOverrides(lr=1e38))):
        with pytest.raises(Diverged, match=r"lower defense.distill.lr=1e\+38, or"):
            defense.fit(task.only([0]), Trainer(replace(short, optimizer="sgd")))


def test_a_model_that_learns_nothing_is_kept_with_a_note(task):
    stack = Trainer(TrainConfig(optimizer="sgd", lr=1e-12, epochs=1, retries=1)).fit(task.only([0]), CE)
    assert "learnt nothing" in stack.history[0].diverged
    assert len(stack.history[0].seeds) == 2


def test_every_member_is_seen_once_per_pass_and_padding_is_its_own(task):
    config = TrainConfig(batch_size=32, passes_per_epoch=2)
    members = [row.nonzero().squeeze(-1) for row in task.members]
    plan = plan_epoch(members, task.seeds, 0, config)
    for m, rows in enumerate(members):
        counted = plan.rows[m][plan.weight[m] > 0].bincount(minlength=320)
        assert (counted[rows] == 2).all()
        assert counted.sum() == 2 * len(rows)
        assert set(plan.rows[m].flatten().tolist()) == set(rows.tolist()), "padding touches no other model's rows"
        assert plan.active[m].sum() == math.ceil(2 * len(rows) / 32)
    first, second = (plan_epoch(members, task.seeds, e, config).rows for e in (0, 1))
    assert not torch.equal(first, second)


def test_batches_hold_targets_of_each_model(task):
    members = [row.nonzero().squeeze(-1) for row in task.members]
    targets = torch.randn(8, 320, 4)
    plan = plan_epoch(members, task.seeds, 0, TrainConfig(batch_size=32))
    batch, idle = next(batches(plan, task.pool, targets, False))
    assert idle is None
    for m in range(8):
        assert torch.equal(batch.target[m], targets[m][plan.rows[m, 0]])
        assert torch.equal(batch.y[m], task.pool.y[plan.rows[m, 0]])


def test_schedules_have_the_published_values():
    dp = TrainConfig(lr=0.005, schedule="cosine", epochs=200)
    assert learning_rate(dp, 0) == 0.005
    assert learning_rate(dp, 199) == pytest.approx(1.22e-6, rel=0.01)
    assert learning_rate(replace(dp, epochs=50), 49) == pytest.approx(1.89e-5, rel=0.01)
    hamp = TrainConfig(lr=0.5, schedule="steps", milestones=(60, 90, 150))
    assert [learning_rate(hamp, e) for e in (0, 59, 60, 90, 150)] == pytest.approx([0.5, 0.5, 0.05, 0.005, 0.0005])


class HalfUsed(nn.Module):
    """One of its layers has no part in the answer."""

    def __init__(self, features, classes):
        super().__init__()
        self.layer, self.idle = nn.Linear(features, classes), nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("width", [1, 4])
def test_a_parameter_without_a_part_in_the_answer_stays(task, width):
    half = replace(task, net=lambda: HalfUsed(24, 4)).only([0, 1, 2, 3])
    config = TrainConfig(optimizer="sgd", lr=0.1, momentum=0.9, epochs=2, retries=0)
    stack = Trainer(config, width=width).fit(half, CE)
    with forked(derive(half.seeds[2], "init")):
        fresh = half.net()
    assert torch.equal(stack.params["idle.weight"][2], fresh.idle.weight)
    assert not torch.equal(stack.params["layer.weight"][2], fresh.layer.weight)


def test_momentum_gain_with_a_restart_is_the_published_one():
    """Location30: 22 steps of momentum 0.99 move by at most (1 − 0.99^22) / 0.01 = 19.8 gradients at a time."""
    from hampkit.training.optim import Optimizer

    optimizer = Optimizer(TrainConfig(optimizer="sgd", momentum=0.99))
    params, one = {"w": torch.zeros(1, 1)}, {"w": torch.ones(1, 1)}
    for _ in range(22):
        before = params["w"].clone()
        optimizer.step(params, one, 1.0)
    assert (before - params["w"]).item() == pytest.approx(19.8, abs=0.06)


def test_denormal_numbers_count_as_zero_while_a_network_is_trained_and_only_then(task):
    tiny, seen = torch.tensor(1e-40), []

    class Watching(MeanLoss):
        def begin(self, stack, state, epoch, rngs):
            seen.append(float(tiny * 0.5))
            return state

    before = float(tiny * 0.5)
    Trainer(TrainConfig(epochs=1, retries=0)).fit(task.only([0]), Watching(CE.loss))
    assert seen == [0.0]
    assert float(tiny * 0.5) == before


def test_own_statistics_come_from_the_members_of_each_model(task):
    normalize = Normalize(torch.zeros(24), torch.ones(24), own=True)
    factory = net_factory("mlp-small", (24,), 4, normalize)
    stack = Trainer(TrainConfig(epochs=1, retries=0), width=8).fit(replace(task, net=factory), CE)
    for m in range(8):
        mine = task.pool.x[task.members[m]].float()
        assert torch.allclose(stack.buffers["0.mean"][m], mine.mean(0), atol=1e-6)
        assert torch.allclose(stack.buffers["0.std"][m], mine.std(0, correction=0), atol=1e-6)


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 4))

    def forward(self, x):
        return self.layers(x)


def test_networks_with_dropout_do_not_know_their_neighbours(task, short):
    dropping = replace(task, net=Dropping)
    together = Trainer(short, width=8).fit(dropping, CE)
    alone = Trainer(short, width=8).fit(dropping.only([6]), CE)
    assert torch.equal(together.params["layers.3.weight"][6], alone.params["layers.3.weight"][0])
    state = torch.random.get_rng_state()
    Trainer(short).fit(dropping.only([6]), CE)
    assert torch.equal(state, torch.random.get_rng_state()), "the global generator is as it was"


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(24, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x):
        return self.layers(x)


def test_prediction_is_in_evaluation_mode_and_does_not_depend_on_the_batch(task):
    conv = replace(task, net=Normed)
    trainer = Trainer(TrainConfig(epochs=1, retries=0), width=8)
    stack = trainer.fit(conv, CE)
    whole, part = trainer.predict(stack, task.pool.x), trainer.predict(stack, task.pool.x[:3])
    assert torch.allclose(whole[:, :3], part, atol=1e-5)


def test_frozen_parameters_stay_as_they_were_and_shared_ones_stay_shared(task):
    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.frozen, self.twice, self.head = nn.Linear(24, 16), nn.Linear(16, 16), nn.Linear(16, 4)
            self.again = self.twice
            self.frozen.requires_grad_(False)

        def forward(self, x):
            return self.head(self.again(torch.relu(self.twice(torch.relu(self.frozen(x))))))

    stack = Trainer(TrainConfig(epochs=2, retries=0), width=8).fit(replace(task, net=Partly), CE)
    assert "frozen.weight" in stack.buffers
    assert {k for k in stack.params if "weight" in k} == {"twice.weight", "head.weight"}
    with forked(derive(task.seeds[3], "init")):
        fresh = Partly()
    assert torch.equal(stack.buffers["frozen.weight"][3], fresh.frozen.weight)
    assert not torch.equal(stack.params["twice.weight"][3], fresh.twice.weight)


def test_products_in_bfloat16_leave_weights_updates_and_answers_in_float32(task):
    """The weights follow those of float32 at the distance of bfloat16's eight bits, and would not at float16's or float32's."""
    config = TrainConfig(optimizer="sgd", lr=0.05, momentum=0.9, epochs=4, batch_size=32, retries=0)
    exact = Trainer(config, width=1).fit(task, CE)
    seen = []

    def spy(logits, batch):
        seen.append(logits.dtype)
        return cross_entropy(logits, batch.y, reduction="none")

    trainer = Trainer(replace(config, precision="bfloat16"), width=1)
    rough = trainer.fit(task, MeanLoss(spy))
    assert set(seen) == {torch.float32}
    assert not rough.mixed
    assert trainer.predict(rough, task.pool.x).dtype == torch.float32
    for name, value in exact.params.items():
        assert rough.params[name].dtype == torch.float32, name
        away = (rough.params[name] - value).norm() / value.norm()
        assert 1e-6 < away < 0.02, (name, away)


def test_models_in_bfloat16_run_together_too(task):
    config = TrainConfig(
        optimizer="sgd", lr=0.05, momentum=0.9, epochs=3, batch_size=32, retries=0, precision="bfloat16"
    )
    together, alone = (Trainer(config, width=w).fit(task, CE) for w in (8, 1))
    for name, value in alone.params.items():
        assert (together.params[name] - value).norm() / value.norm() < 0.02, name


def normed(shape, classes):
    return nn.Sequential(nn.Linear(*shape, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, classes))


@pytest.mark.parametrize("net", ["mlp-small", "test_train:normed"])
def test_the_trained_network_can_be_taken_out(tmp_path, monkeypatch, net):
    """With the buffers of batch norm and in evaluation mode, as a copy."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    trained = hampkit.train("toy/undefended", options={"rows": 300, "epochs": 1, "net": net}, runs_dir=tmp_path)
    x, network = trained.test.x, trained.network()
    with torch.no_grad():
        assert torch.allclose(network(x.float()).double(), trained.black_box().query(x, seed=0), atol=1e-5)
        for p in network.parameters():
            p.zero_()
        assert trained.network()(x.float()).abs().sum() > 0


def test_a_training_that_diverges_leaves_no_folder(tmp_path, monkeypatch):
    from hampkit.workflows import train as training

    def diverge(problem, folder):
        (folder / "half").write_text("")
        raise Diverged("it diverged")

    with monkeypatch.context() as broken:
        broken.setattr(training, "_write", diverge)
        with pytest.raises(UserError, match="diverged"):
            hampkit.train("toy/undefended", options={"epochs": 1}, runs_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".locks"]
    folder = hampkit.train("toy/undefended", options={"epochs": 1}, runs_dir=tmp_path).folder
    (folder / "models/000-000/stack.safetensors").write_bytes(b"damaged")
    (folder / "attacks").mkdir()
    (folder / "attacks" / "manifest.json").write_text("{}")
    with monkeypatch.context() as broken:
        broken.setattr(training, "_write", diverge)
        with pytest.raises(UserError, match="diverged"):
            hampkit.train("toy/undefended", options={"epochs": 1}, runs_dir=tmp_path)
    assert folder.exists(), "a folder with other finished steps is kept"
