"""DP-SGD and AdvReg against Opacus and plain autograd, and the batches they draw."""

import re
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from hampkit.config.recipe import TrainConfig
from hampkit.data.toy import Toy
from hampkit.defenses import dp_sgd
from hampkit.defenses.advreg import AdvReg, _MinMax
from hampkit.defenses.dp_sgd import ClippedNoisy, DpSgd, by_rows, clipped_sum, tapped_sum
from hampkit.errors import UserError
from hampkit.nets import net_factory
from hampkit.nets.attack import InferenceNet, SortedNet
from hampkit.nets.mlp import MLP
from hampkit.nets.normalize import Normalize
from hampkit.rng import torch_rng
from hampkit.training import Trainer, accounting
from hampkit.training.batches import plan_epoch, poisson_steps
from hampkit.training.vectorize import vectorize_over
from hampkit.types import Batch, Stack, Task

pytestmark = pytest.mark.numeric


def stack_of(*nets):
    params, buffers = (
        {k: torch.stack([dict(getattr(n, f"named_{kind}")())[k].detach() for n in nets]) for k, _ in first}
        for kind, first in (("parameters", nets[0].named_parameters()), ("buffers", [*nets[0].named_buffers()]))
    )
    return Stack(nets[0], params, buffers)


def made(name, shape, classes, seed=0):
    torch.manual_seed(seed)
    return net_factory(name, shape, classes)()


def batch_of(n, shape, classes, padding=0, seed=1):
    rng = torch.Generator().manual_seed(seed)
    x, y = torch.rand((n, *shape), generator=rng), torch.randint(classes, (n,), generator=rng)
    weight = (torch.arange(n) < n - padding).float()
    return Batch(x, y, torch.empty(n, 0), weight)


@pytest.mark.parametrize(("name", "shape"), [("mlp-small", (24,)), ("convnet-gn", (3, 16, 16))])
def test_the_clipped_sum_is_that_of_opacus(name, shape):
    opacus = pytest.importorskip("opacus")
    from opacus.optimizers import DPOptimizer

    net, batch = made(name, shape, 4), batch_of(70, shape, 4, padding=9)  # more rows than one chunk holds
    stack = stack_of(net)
    real = int(batch.weight.sum())
    watched = opacus.GradSampleModule(made(name, shape, 4), loss_reduction="sum")
    cross_entropy(watched(batch.x[:real]), batch.y[:real], reduction="sum").backward()
    norms = torch.stack([p.grad_sample.flatten(1).norm(dim=1) for p in watched.parameters()]).norm(dim=0)
    clip = float(norms.median())  # half of the examples are clipped, and half are not
    assert 20 < int((norms > clip * 1.001).sum()) < 40
    sgd = torch.optim.SGD(watched.parameters(), lr=1.0)
    DPOptimizer(sgd, noise_multiplier=0.0, max_grad_norm=clip, expected_batch_size=1, loss_reduction="sum").pre_step()
    ours, value = clipped_sum(
        stack, {k: p[0] for k, p in stack.params.items()}, {k: b[0] for k, b in stack.buffers.items()}, batch, clip
    )
    theirs = {k.removeprefix("_module."): p.grad for k, p in watched.named_parameters()}
    assert set(theirs) == set(ours)
    for k, g in ours.items():
        assert torch.allclose(g, theirs[k], atol=1e-5, rtol=1e-5), k
    with torch.no_grad():
        assert torch.allclose(value, cross_entropy(net(batch.x[:real]), batch.y[:real]), atol=1e-6)


@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_the_sum_from_slopes_and_inputs_is_that_of_single_gradients(models, bias):
    nets = []
    for seed in range(models):
        torch.manual_seed(seed)
        nets.append(
            nn.Sequential(nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 8, bias=bias), nn.Tanh(), nn.Linear(8, 4))
        )
    stack = stack_of(*nets)
    single = [batch_of(50, (24,), 4, padding=m + 3, seed=m) for m in range(models)]
    batch = Batch(*(torch.stack(parts) for parts in zip(*single, strict=True)))
    for clip in (0.05, 1.0, 1e6):  # all are clipped, some, none
        found, values = tapped_sum(vectorize_over(models), stack, batch, clip)
        for m in range(models):
            true, value = clipped_sum(stack, {k: p[m] for k, p in stack.params.items()}, {}, single[m], clip)
            assert set(true) == set(found)
            for k, g in true.items():
                assert torch.allclose(found[k][m], g, atol=1e-5, rtol=1e-4), (k, clip)
            assert torch.allclose(values[m], value, atol=1e-6)
        assert not any(layer._forward_hooks for layer in stack.net.modules())


class Own(nn.Module):
    """A network of linear layers that centres by the batch while it is trained, as a user may write one."""

    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Linear(24, 24), nn.Linear(24, 4)

    def forward(self, x):
        h = self.layer(x)
        return self.last(torch.tanh(h - h.mean(0) if self.training and len(x) > 4 else h))


def twice():
    layer = nn.Linear(24, 24)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(24, 4))


def tied():
    net = nn.Sequential(nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 24), nn.Linear(24, 4))
    net[2].weight = net[0].weight
    return net


def frozen():
    net = nn.Sequential(nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 4))
    net[0].weight.requires_grad_(False)
    return net


def hooked():
    net = nn.Sequential(nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 4))
    net[1].register_forward_hook(lambda m, args, out: out - out.mean(0))
    return net


def prepared():
    net = nn.Sequential(nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 4))
    net[1].register_forward_pre_hook(lambda m, args: (args[0] - args[0].mean(0),))
    return net


def backward(register):
    def factory():
        net = nn.Sequential(nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 4))
        register(net)
        return net

    return factory


def extended():
    net = MLP((24,), 4, (8,))
    net.extra = nn.Linear(3, 3)
    return net


def called():
    net = nn.Sequential(nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 4))
    net[1]._call_impl = lambda x: x - x.mean(0)
    return net


def carrying():
    net = nn.Sequential(nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 4))
    net[0].register_parameter("extra", nn.Parameter(torch.zeros(3)))
    return net


def scaled():
    net = nn.Sequential(nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 4))
    nn.utils.parametrizations.weight_norm(net[0])
    return net


@pytest.mark.parametrize(("factory", "right"), [
    (lambda: net_factory("mlp-small", (24,), 4)(), True),
    (lambda: net_factory("mlp", (24,), 4, Normalize(torch.zeros(24), torch.ones(24), own=True))(), True),
    (lambda: nn.Sequential(nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 4)), True),
    (lambda: nn.Sequential(nn.Linear(24, 8), nn.Dropout(), nn.Linear(8, 4)), False),
    (Own, False), (lambda: Own().eval(), False), (twice, False), (tied, False), (frozen, False), (hooked, False),
    (prepared, False), (scaled, False), (extended, False), (called, False), (carrying, False),
    (backward(lambda net: net[1].register_full_backward_hook(lambda m, gi, go: gi)), False),
    (backward(lambda net: net[1].register_full_backward_pre_hook(lambda m, go: go)), False),
    (backward(lambda net: net[0].weight.register_hook(lambda g: g)), False),
    (backward(lambda net: net[0].weight.register_post_accumulate_grad_hook(lambda p: None)), False),
    (lambda: net_factory("convnet-gn", (3, 16, 16), 4)(), False),
])  # fmt: skip
def test_slopes_and_inputs_are_used_only_where_the_structure_proves_them_right(factory, right):
    torch.manual_seed(0)
    net = factory()
    params = {k: p for k, p in net.named_parameters() if p.requires_grad}
    assert by_rows(net, params, 1) is right
    assert by_rows(nn.Sequential(nn.Linear(6, 4)), {"0.weight": params, "0.bias": params}, 2) is False  # pyright: ignore


@pytest.mark.parametrize("register", [
    nn.modules.module.register_module_forward_hook, nn.modules.module.register_module_forward_pre_hook,
    nn.modules.module.register_module_full_backward_hook, nn.modules.module.register_module_full_backward_pre_hook,
])  # fmt: skip
def test_hooks_on_all_modules_there_are_lead_to_gradients_one_by_one(register):
    net = net_factory("mlp-small", (24,), 4)()
    params = dict(net.named_parameters())
    handle = register(lambda *args: None)
    try:
        assert by_rows(net, params, 1) is False
    finally:
        handle.remove()
    assert by_rows(net, params, 1) is True


def test_of_examples_with_several_axes_an_mlp_must_see_the_values_first(task, short):
    pytest.importorskip("opacus")
    small = {"hidden": (8,)}
    nets = {
        lambda: nn.Sequential(MLP((4, 6), 4, **small)): True,
        lambda: nn.Sequential(Normalize(torch.zeros(4, 6), torch.ones(4, 6)), nn.Tanh(), MLP((4, 6), 4, **small)): True,
        lambda: nn.Sequential(MLP((4, 6), 8, **small), nn.Tanh(), nn.Linear(8, 4)): True,
        lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh(), MLP((4, 6), 4, **small)): False,
    }
    pool = replace(task.pool, x=task.pool.x.view(-1, 4, 6))
    for factory, right in nets.items():
        net = factory()
        assert by_rows(net, dict(net.named_parameters()), 2) is right
        DpSgd().check(replace(task, pool=pool, net=factory), Trainer(short))


def test_the_check_takes_the_step_that_training_takes(task, short, monkeypatch):
    """Where the structure proves too much, the user gets one line before anything is trained."""
    pytest.importorskip("opacus")
    monkeypatch.setattr(dp_sgd, "by_rows", lambda *args: True)
    with pytest.raises(UserError, match="single examples through the network MLP") as caught:
        DpSgd().check(replace(task, net=extended), Trainer(short))
    assert "\n" not in str(caught.value)


def test_one_example_moves_the_sum_by_the_clipping_norm_at_most(task):
    """Also through a network that mixes its batch while it is trained: there the examples are taken one by one."""
    for factory in (Own, lambda: Own().eval(), lambda: net_factory("mlp-small", (24,), 4)()):
        torch.manual_seed(0)
        stack = stack_of(factory())
        stack.net.train()
        objective = ClippedNoisy(1.0, lambda n: 1e-9, 32)
        state = objective.init(stack, task.only([0]), [])
        batch = Batch(*(t.unsqueeze(0) for t in batch_of(64, (24,), 4)))
        batch.x[0, 0] *= 200.0
        without = batch._replace(weight=batch.weight.clone())
        without.weight[0, 0] = 0.0
        two = [
            objective.gradient(vectorize_over(1), stack, state, b, [torch.Generator()]).grads for b in (batch, without)
        ]
        expected = state.scales[0][1]
        moved = sum(float((a - b).square().sum()) for a, b in zip(two[0].values(), two[1].values(), strict=True)) ** 0.5
        assert moved * expected <= 1.0 + 1e-4


class Asking(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(24, 4)

    def forward(self, x):
        return self.last(x / 2 if x.abs().max() > 1 else x)


@pytest.mark.parametrize(("options", "words"), [
    ({"noise_multiplier": 1e-200}, "between 0.01 and 10000"),
    ({"noise_multiplier": 1e300}, "between 0.01 and 10000"),
    ({"noise_multiplier": 0.1, "accountant": "prv"}, "take rdp"),
    ({"delta": 0.5}, "guarantees nothing"),
    ({"target_epsilon": 1e-6}, "cannot be reached"),
    ({"target_epsilon": 1e9}, " 0.01, the least noise"),
    ({"target_epsilon": 1e9, "accountant": "prv"}, " 0.3, the least noise"),
    ({"target_epsilon": 1e-6, "accountant": "prv"}, "cannot be reached"),
])  # fmt: skip
def test_budgets_that_mean_nothing_are_refused_before_anything_is_trained(task, short, options, words):
    pytest.importorskip("opacus")
    mlp = replace(task, net=net_factory("mlp-small", (24,), 4))
    with pytest.raises(UserError, match=words) as caught:
        DpSgd(**options).check(mlp, Trainer(short))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("target", "accountant"), [(0.1, "rdp"), (0.05, "rdp"), (0.001, "prv"), (1e9, "prv")])
def test_the_advice_about_a_target_that_cannot_be_reached_can_be_followed(task, short, target, accountant):
    pytest.importorskip("opacus")
    mlp = replace(task, net=net_factory("mlp-small", (24,), 4))
    with pytest.raises(UserError) as caught:
        DpSgd(target_epsilon=target, accountant=accountant).check(mlp, Trainer(short))
    text = str(caught.value)
    assert "\n" not in text
    advised = dict(re.findall(r"(accountant|target_epsilon)=([\w.]+)(?= or more|, or|$)", text))
    assert advised
    if "target_epsilon" in advised:
        DpSgd(target_epsilon=float(advised["target_epsilon"]), accountant=accountant).check(mlp, Trainer(short))
    if "accountant" in advised and target < 1e9:
        DpSgd(target_epsilon=target, accountant=advised["accountant"]).check(mlp, Trainer(short))
    assert ("accountant=prv" in text.split(";")[1]) == (accountant == "rdp")


def test_a_network_without_gradients_of_single_examples_is_refused_in_one_line(task, short):
    pytest.importorskip("opacus")
    with pytest.raises(UserError, match="Asking") as caught:
        DpSgd().check(replace(task, net=Asking), Trainer(short))
    assert "\n" not in str(caught.value)


def test_the_noise_has_the_right_deviation_and_the_sum_is_divided_by_the_expected_batch_size():
    nets = [made("mlp", (24,), 4, seed) for seed in (0, 1)]
    stack = stack_of(*nets)
    members = torch.zeros(2, 300, dtype=torch.bool)
    members[0, :200], members[1, :290] = True, True
    data = Toy(rows=300, features=24, classes=4).load(None)  # pyright: ignore[reportArgumentType]
    task = Task(data, members, (1, 2), lambda: nets[0])
    objective = ClippedNoisy(0.5, lambda n: {200: 2.0, 290: 6.0}[n], 32)
    state = objective.init(stack, task, [])
    single = batch_of(40, (24,), 4, padding=40)  # no example was drawn: nothing but noise is left
    nothing = Batch(*(torch.stack([t, t]) for t in single))
    rngs = [torch.Generator().manual_seed(s) for s in (3, 4)]
    noise = objective.gradient(vectorize_over(2), stack, state, nothing, rngs).grads
    expected = [200 // 7, 290 // 10]  # 7 and 10 batches of at most 32
    for m, sd in enumerate((2.0 * 0.5 / expected[0], 6.0 * 0.5 / expected[1])):
        drawn = torch.cat([g[m].flatten() for g in noise.values()]).double()
        n = len(drawn)
        assert n > 10_000
        assert abs(float(drawn.mean())) < 5 * sd / n**0.5
        assert abs(float(drawn.std()) / sd - 1) < 5 / (2 * n) ** 0.5
    quiet = replace(state, scales=[(0.0, b) for _, b in state.scales])
    batch = Batch(*(torch.stack([t, t]) for t in batch_of(40, (24,), 4, padding=3)))
    grads = objective.gradient(vectorize_over(2), stack, quiet, batch, rngs).grads
    for m in (0, 1):
        mine = Batch(*(t[m] for t in batch))
        total, _ = clipped_sum(stack, {k: p[m] for k, p in stack.params.items()}, {}, mine, 0.5)
        for k, g in total.items():
            assert torch.allclose(grads[k][m], g / expected[m], atol=1e-6), k


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "published"),
    [(1.7, 1 / 141, 28_200, 3.520), (1.44, 1 / 211, 42_200, 3.525), (2.91, 1 / 11, 550, 3.531)],
)
def test_epsilon_is_the_accountants(noise, rate, steps, published):
    accountants = pytest.importorskip("opacus.accountants")
    found = {name: accounting.epsilon(noise, rate, steps, 1e-5, name) for name in ("rdp", "prv")}
    assert abs(found["rdp"] - published) <= 1e-3
    rdp = accountants.RDPAccountant()
    prv = accountants.PRVAccountant()
    for accountant in (rdp, prv):
        accountant.history = [(noise, rate, steps)]
    assert found["rdp"] == pytest.approx(rdp.get_epsilon(1e-5), abs=1e-9)
    assert found["prv"] == pytest.approx(prv.get_epsilon(1e-5), abs=1e-9)
    assert found["prv"] < found["rdp"]


@pytest.mark.parametrize("target", [0.8, 4.0])
def test_the_noise_for_a_target_keeps_to_it(target):
    pytest.importorskip("opacus")
    noise = accounting.noise_for(target, 1e-5, 1 / 11, 550)
    assert 0.98 * target <= accounting.epsilon(noise, 1 / 11, 550, 1e-5) <= target
    assert accounting.epsilon(noise * 0.97, 1 / 11, 550, 1e-5) > target


@pytest.mark.parametrize("target", [0.8, 4.0, 60.0])
def test_the_search_for_noise_is_that_of_opacus(target):
    utils = pytest.importorskip("opacus.accountants.utils")
    for accountant in ("rdp", "prv")[: 1 if target > 4 else 2]:
        wanted = utils.get_noise_multiplier(
            target_epsilon=target, target_delta=1e-5, sample_rate=1 / 11, steps=550, accountant=accountant
        )
        assert accounting.noise_for(target, 1e-5, 1 / 11, 550, accountant) == wanted


def test_a_target_that_the_tighter_accountant_alone_sees_below_its_bound_is_refused(monkeypatch):
    """Between what the two say of the least noise, the search itself must end there."""
    pytest.importorskip("opacus")
    asked = []

    def spent(noise, rate, steps, delta, accountant="rdp"):
        asked.append((noise, accountant))
        return 30 / noise if accountant == "rdp" else 20 / noise

    monkeypatch.setattr(accounting, "epsilon", spent)
    with pytest.raises(UserError, match="least noise"):
        accounting.noise_for(80.0, 1e-5, 1 / 11, 551, "prv")
    assert min(noise for noise, _ in asked) == accounting.PRV_NOISE
    assert 20 / accounting.noise_for(66.0, 1e-5, 1 / 11, 551, "prv") == pytest.approx(66, abs=0.01)


def test_a_budget_counts_the_steps_that_are_taken(task, short):
    """The epsilon of the report belongs to the batches that the trainer really drew."""
    pytest.importorskip("opacus")
    seen = []

    class Counted(ClippedNoisy):
        def gradient(self, *args):
            seen.append(1)
            return super().gradient(*args)

    config = replace(short, epochs=4, stop_after=3, passes_per_epoch=2, sampling="poisson")
    one = task.only([4])
    (fact,) = DpSgd().fit(one, Trainer(config)).facts
    Trainer(config).fit(one, Counted(1.0, lambda n: 1.0, 32))
    n = int(one.members.sum())
    assert fact["steps"] == len(seen)
    assert fact["sample_rate"] == pytest.approx(1 / poisson_steps(n, 32))
    assert fact["epsilon"] == accounting.epsilon(1.0, fact["sample_rate"], len(seen), 1e-5)


def test_without_opacus_there_is_one_clear_line(task, short, monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(UserError, match=r"pip install 'hampkit\[dp\]'") as caught:
        DpSgd().check(task, Trainer(short))
    assert "\n" not in str(caught.value)


def test_poisson_batches_take_every_member_with_equal_chance_and_nobody_else():
    config = TrainConfig(batch_size=32, sampling="poisson")
    members = [torch.arange(0, 400, 4), torch.arange(1, 400, 2)]  # 100 and 200 of 400: 4 and 7 batches
    counts = torch.zeros(2, 400)
    together = torch.zeros(2)  # how often a member's first two batches both hold it: chances are independent
    epochs = 300
    for epoch in range(epochs):
        plan = plan_epoch(members, (11, 12), epoch, config)
        real = plan.weight == 1
        assert ((plan.weight == 0) | real).all()
        assert (real.long().diff(dim=-1) <= 0).all(), "real rows come first"
        for m, mine in enumerate(members):
            assert torch.isin(plan.rows[m], mine).all(), "padding too is one of the model's own members"
            steps = poisson_steps(len(mine), 32)
            assert plan.active[m].tolist() == [s < steps for s in range(plan.rows.shape[1])]
            assert not real[m, steps:].any()
            drawn = [plan.rows[m, s][real[m, s]] for s in range(steps)]
            assert all(len(d) == len(d.unique()) for d in drawn), "a row is at most once in a batch"
            counts[m] += torch.cat(drawn).bincount(minlength=400)
            together[m] += int(torch.isin(drawn[0], drawn[1]).sum())
    for m, mine in enumerate(members):
        steps, n = poisson_steps(len(mine), 32), len(mine)
        rate, trials = 1 / steps, epochs * steps
        sd = (trials * rate * (1 - rate)) ** 0.5
        assert ((counts[m, mine] - trials * rate).abs() < 5 * sd).all()
        total = counts[m].sum()
        assert abs(float(total) - n * trials * rate) < 5 * sd * n**0.5
        both = epochs * n * rate**2
        assert abs(float(together[m]) - both) < 5 * both**0.5
    assert counts[0, members[1]].sum() == 0


@pytest.fixture
def network(toy):
    return net_factory("mlp-small", toy.shape, toy.num_classes)


@pytest.fixture
def minmax(task):
    """AdvReg's objective on two models, with inference networks that have an opinion."""

    def of(models, strength=3.0, **options):
        mine = task.only(models)
        stack = stack_of(*[made("mlp-small", task.pool.shape, task.pool.num_classes, seed) for seed in models])
        objective = _MinMax(
            AdvReg(strength=strength, attack_lr=1e-3, **options), TrainConfig(batch_size=32), task.reference
        )
        state = objective.init(stack, mine, [])
        for k, p in state.params.items():
            p.mul_(20.0) if k.endswith("weight") else p.add_(0.05)
        for group in (stack.params, state.params):
            group.update({k: p.double() for k, p in group.items()})
        return objective, stack, state

    return of


@pytest.mark.parametrize("models", [[1], [1, 5]])
def test_the_min_max_gradient_is_that_of_autograd(minmax, task, models):
    objective, stack, state = minmax(models)
    single = [batch_of(32, task.pool.shape, 4, padding=5, seed=m) for m in models]
    batch = Batch(*(torch.stack(parts) for parts in zip(*single, strict=True)))
    batch = batch._replace(x=batch.x.double())
    rngs = [torch.Generator() for _ in models]
    state.epoch, state.step = 0, 1  # the first epoch has no second term
    alone = objective.gradient(vectorize_over(len(models)), stack, state, batch, rngs)
    state.epoch, state.step = 1, 1  # the second batch of a round: the inference network rests
    ours = objective.gradient(vectorize_over(len(models)), stack, state, batch, rngs)
    for m in range(len(models)):
        for found, strength in ((alone, 0.0), (ours, 3.0)):
            leaves = {k: p[m].clone().requires_grad_() for k, p in stack.params.items()}
            logits = functional_call(stack.net, leaves, (batch.x[m, :27],))
            g = functional_call(state.net, {k: p[m] for k, p in state.params.items()}, (logits, batch.y[m, :27]))
            loss = cross_entropy(logits, batch.y[m, :27]) + strength * (g.sigmoid().mean() - 0.5)
            loss.backward()
            for k, leaf in leaves.items():
                assert torch.allclose(found.grads[k][m], leaf.grad, atol=1e-6, rtol=1e-5), (k, strength)
            assert torch.allclose(found.value[m], loss, atol=1e-6)
        moved = max(float((alone.grads[k][m] - ours.grads[k][m]).abs().max()) for k in stack.params)
        assert moved > 1e-3, "the inference network must matter in this test"


@pytest.mark.parametrize("models", [[1], [1, 5]])
def test_a_step_of_the_inference_network_is_adam_on_the_squared_error(minmax, models):
    objective, _, state = minmax(models)
    theirs = [InferenceNet(4).double() for _ in models]
    for m, net in enumerate(theirs):
        net.load_state_dict({k: p[m].clone() for k, p in state.params.items()})
    adams = [torch.optim.Adam(net.parameters(), lr=1e-3) for net in theirs]
    rng = torch.Generator().manual_seed(3)
    half = 8
    target = torch.cat([torch.ones(half), torch.zeros(half)])
    for step in range(4):
        logits = torch.randn((len(models), 2 * half, 4), generator=rng, dtype=torch.float64) * 3
        y = torch.randint(4, (len(models), 2 * half), generator=rng)
        weight = torch.ones(len(models), 2 * half)
        weight[0, 5:half] = weight[0, half + 5 :] = 0.0  # the last, incomplete half batch
        if step == 2 and len(models) > 1:
            weight[1] = 0.0  # this model has finished its epoch: its network must not move
        resting = torch.tensor([False, True]) if step == 2 and len(models) > 1 else None
        objective._step(state, logits, y, weight, resting)
        for m, (net, adam) in enumerate(zip(theirs, adams, strict=True)):
            use = weight[m] > 0
            if use.any():
                adam.zero_grad()
                (net(logits[m], y[m]).sigmoid() - target)[use].square().mean().backward()
                adam.step()
            for k, p in net.named_parameters():
                assert torch.allclose(state.params[k][m], p.detach(), atol=1e-6), (step, m, k)


def rounds(objective, n, batch):
    """The half batches of every round of one epoch."""
    steps = -(-n // batch)
    return [objective._round(n, s // 2, s) for s in range(0, steps, 2)]


@pytest.mark.parametrize(("n", "batch", "reached"), [(1350, 64, 1312), (18_000, 64, None), (22_500, 256, 17_664)])
def test_the_published_order_never_reaches_the_last_members_and_ours_reaches_all(task, n, batch, reached):
    def objective(published):
        return _MinMax(AdvReg(published_order=published), TrainConfig(batch_size=batch), task.reference)

    half = batch // 2

    def members(rounds):
        places = torch.tensor(sorted({k for r in rounds for k in r})).view(-1, 1) * half + torch.arange(half)
        return {p for p in places.flatten().tolist() if p < n}

    mended = rounds(objective(False), n, batch)
    assert members(mended) == set(range(n)) or len(mended) * 52 * half < n
    assert all(len(r) == 52 for r in mended)
    published = rounds(objective(True), n, batch)
    if reached:
        assert len(members(published)) == reached
    assert n - 1 not in members(published)
    assert max(k for r in published for k in r) <= n // half - 2
    assert objective(True)._pass(n) == list(range(n // half - 1))
    assert members([objective(False)._pass(n)]) == set(range(n))
    for which in (True, False):
        assert objective(which)._round(n, 99, -(-n // batch)) == [], "a model that has finished the epoch rests"


def test_half_batches_hold_members_and_reference_rows_in_equal_numbers(minmax):
    objective, _, state = minmax([2])
    members = state.rows[0]
    n, half, last = len(members), 16, len(members) // 16
    assert n % half, "this test needs an incomplete half batch"
    mine, others, weight = objective._rows(
        members, [*range(last + 1)], last + 3, half, torch.Generator().manual_seed(0)
    )
    counted = weight.bool()
    assert torch.equal(counted[:, :half], counted[:, half:])
    assert torch.equal(mine[counted[:, :half]], members)
    assert torch.isin(mine, members).all()
    assert not counted[last + 1 :].any()
    drawn = others[: last + 1].flatten()
    size = len(objective.reference)
    assert all(len(set(part.tolist())) == len(part) for part in drawn.split(size)), (
        "no reference row twice before all were once"
    )


def warmed_up(net, inference, members, reference, orders, half, lr, whole):
    """The published warm-up, pass by pass and batch by batch: members in turn, reference rows by one order per pass.

    whole: with the last full batch and the rest, which the published loop leaves out.
    """
    adam = torch.optim.Adam(inference.parameters(), lr=lr)
    batches = -(-len(members.y) // half) if whole else len(members.y) // half - 1
    for order in orders:
        for i in range(batches):
            mine = members.take(torch.arange(i * half, min((i + 1) * half, len(members.y))))
            others = reference.take(order[i * half : i * half + len(mine.y)])
            errors = []
            for rows, target in ((mine, 1.0), (others, 0.0)):
                with torch.no_grad():
                    logits = net(rows.x.double())
                errors.append((inference(logits, rows.y).sigmoid() - target) ** 2)
            adam.zero_grad()
            torch.cat(errors).mean().backward()
            adam.step()
    return dict(inference.named_parameters())


@pytest.mark.parametrize(("warmup", "half", "whole"), [(16, 8, False), (16, 8, True), (0, 16, True)])
def test_the_warm_up_is_that_of_a_slow_loop(minmax, task, warmup, half, whole):
    """Passes with the batches of the published code, 8 members and 8 reference rows; 0 takes those of train.batch_size."""
    models = [1, 5]
    objective, stack, state = minmax(models, warmup_batch=warmup, warmup_passes=2, published_order=not whole)
    state.rows = [rows[:n] for rows, n in zip(state.rows, (45, 37), strict=True)]  # neither is a multiple of half
    size = len(task.reference)
    slow = []
    for m, seed in enumerate(models):
        net, inference = (n.double() for n in (made("mlp-small", task.pool.shape, 4, seed), InferenceNet(4)))
        inference.load_state_dict({k: p[m].clone() for k, p in state.params.items()})
        rng, orders = torch.Generator().manual_seed(seed), []
        for _ in range(2):
            draws = torch_rng(int(torch.randint(2**62, (), generator=rng)))
            orders.append(
                torch.cat([torch.randperm(size, generator=draws) for _ in range(4)])
            )  # again where rows run out
        members = task.pool.take(state.rows[m])
        slow.append(warmed_up(net, inference, members, task.reference, orders, half, 1e-3, whole))
    before = {k: p.clone() for k, p in state.params.items()}
    rngs = [torch.Generator().manual_seed(seed) for seed in models]
    state = objective.begin(stack, state, 0, rngs)
    assert all(torch.equal(p, before[k]) for k, p in state.params.items()), (
        "the first epoch trains the classifier alone"
    )
    state = objective.begin(stack, state, 1, rngs)
    for k, p in state.params.items():
        for m in range(len(models)):
            assert torch.allclose(p[m], slow[m][k], atol=1e-9, rtol=0), (k, m)
    assert max(float((p - before[k]).abs().max()) for k, p in state.params.items()) > 1e-3
    after = {k: p.clone() for k, p in state.params.items()}
    objective.begin(stack, state, 2, rngs)
    assert all(torch.equal(p, after[k]) for k, p in state.params.items()), "there is one warm-up"


@pytest.mark.parametrize(
    ("rows", "words"), [(3, "even number"), (-2, "even number"), (4096, "defense.warmup_batch=4096")]
)
def test_a_warm_up_batch_that_cannot_be_filled_is_refused(task, short, rows, words):
    with pytest.raises(UserError, match=words) as caught:
        AdvReg(warmup_batch=rows).check(task, Trainer(short))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "inference", "surrogate"), [(100, 920_833, 67_073), (30, 840_193, 49_153), (10, 817_153, 44_033)]
)
def test_the_networks_have_as_many_weights_as_the_published_ones(classes, inference, surrogate):
    def count(net):
        return sum(p.numel() for p in net.parameters())

    assert count(InferenceNet(classes)) == inference
    assert count(SortedNet(classes)) == surrogate


def test_advreg_of_one_epoch_is_refused(task, short):
    for config in (replace(short, epochs=1), replace(short, stop_after=1)):
        with pytest.raises(UserError, match="at least 2"):
            AdvReg().check(task, Trainer(config))
