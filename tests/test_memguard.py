"""MemGuard's batched descent against the one-sample loop of the published evaluation, and its surrogate against autograd."""

import copy

import numpy as np
import pytest
import torch
from benchmarks.memguard import one_sample
from torch import nn

from hampkit.defenses import memguard
from hampkit.defenses.base import Keyed
from hampkit.defenses.memguard import MemGuard, Surrogate, _Guarded, _Region, mixing, obfuscate
from hampkit.nets.attack import SortedNet
from hampkit.training.threads import threads
from hampkit.types import Domain

pytestmark = pytest.mark.numeric


def net(classes, seed=0, gain=3.0):
    """A surrogate that has an opinion: its last layer is turned up."""
    torch.manual_seed(seed)
    made = SortedNet(classes).double()
    with torch.no_grad():
        for layer in made.layers:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(gain)
        answers = torch.from_numpy(np.random.default_rng(seed).normal(size=(200, classes)) * 2).softmax(-1)
        made.layers[-1].bias.sub_(made(answers.sort(-1).values).median())  # members and non-members half and half
    return made


def surrogate_of(made):
    return Surrogate([(made.layers[k].weight.detach(), made.layers[k].bias.detach()) for k in (0, 2, 4, 6)])


@pytest.mark.parametrize(("classes", "n"), [(3, 16), (10, 12), pytest.param(10, 200, marks=pytest.mark.slow)])
def test_the_batch_equals_the_loop_over_samples(classes, n):
    made = net(classes)
    rng = np.random.default_rng(classes)
    logits = torch.from_numpy(rng.normal(size=(n, classes)) * rng.choice([1.0, 4.0], (n, 1)))
    batched, changed = obfuscate(logits, surrogate_of(made))
    with threads(1):  # products of one row: two threads would wait for each other hundreds of thousands of times
        alone = [one_sample(row, made) for row in logits]
    assert changed.tolist() == [flag for _, flag in alone]
    assert changed.double().mean() > 0.2
    assert torch.allclose(batched, torch.stack([z for z, _ in alone]), atol=1e-4, rtol=0)


def test_answers_that_are_nearly_certain_or_tied_go_as_the_loop_goes():
    """Where the largest probability is 1 but for rounding, the last bit of a sum decides which way a step goes."""
    made = net(3, seed=3)
    with torch.no_grad():
        sure = torch.tensor([[0.0, 0.0, 1.0], [0.01, 0.01, 0.98]], dtype=torch.float64)
        made.layers[-1].bias.sub_(made(sure).mean())  # it changes its mind between the two
    rng = np.random.default_rng(3)
    logits = torch.from_numpy(rng.normal(size=(8, 3)))
    sure = torch.linspace(20, 39, 8, dtype=torch.float64)
    logits[torch.arange(8), torch.from_numpy(rng.integers(0, 3, 8))] += sure
    logits = torch.cat([logits, torch.tensor([[1.0, 3, 3], [2, 2, 2], [3, 3, -1], [1, 1, 5]], dtype=torch.float64)])
    batched, changed = obfuscate(logits, surrogate_of(made))
    with threads(1):  # products of one row: two threads would wait for each other hundreds of thousands of times
        alone = [one_sample(row, made) for row in logits]
    assert changed.tolist() == [flag for _, flag in alone]
    assert changed[:8].any()
    assert torch.allclose(batched, torch.stack([z for z, _ in alone]), atol=1e-4, rtol=0)


def test_a_row_does_not_know_its_neighbours_and_the_label_is_kept():
    made = surrogate_of(net(6, seed=4))
    logits = torch.from_numpy(np.random.default_rng(1).normal(size=(64, 6)) * 3)
    logits[0] = 0.0  # all tied: the label is the first class
    together, changed = obfuscate(logits, made)
    assert torch.equal(together.argmax(-1), logits.argmax(-1))
    assert torch.allclose(together[5:6], obfuscate(logits[5:6], made)[0], atol=1e-9)
    assert torch.equal(together[~changed], logits[~changed])


def test_the_surrogates_slope_is_that_of_autograd():
    made = net(7, seed=2)
    p = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(7), 20)).sort(-1).values
    leaf = p.clone().requires_grad_()
    value = made(leaf)[:, 0]
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    logit, ours = surrogate_of(made)(p)
    assert torch.allclose(logit, value.detach())
    assert torch.allclose(ours, slope)


def test_no_hidden_unit_moves_further_than_the_answer():
    made = surrogate_of(net(7, seed=2))
    rng = np.random.default_rng(0)

    def hidden(p):
        units = []
        for w, b in made.layers[:-1]:
            units.append(torch.addmm(b, units[-1].relu() if units else p, w.T))
        return torch.cat(units, 1)

    p, q = (torch.from_numpy(rng.dirichlet(np.full(7, k), 2000)) for k in (0.1, 1.0))
    share = (hidden(p) - hidden(q)).abs() / (p - q).abs().sum(-1, keepdim=True)
    assert share.max() <= 1
    assert share.split(made.widths, 1)[0].max() > 0.5  # the bound of the first layer is tight within a factor of 2


def test_within_the_radius_the_surrogate_has_the_same_gradient_and_sign():
    made = surrogate_of(net(7, seed=2))
    rng = np.random.default_rng(0)
    p = torch.from_numpy(rng.dirichlet(np.ones(7), 400))
    region = _Region.at(p, made)
    assert (region.radius > 0).all()
    for k in range(20):
        other = torch.from_numpy(rng.dirichlet(np.full(7, 0.1 + k % 3), 400)) - p
        q = p + (region.radius / other.abs().sum(-1)).clamp_max(1.0).unsqueeze(-1) * other
        logit, slope = made(q)
        assert torch.equal(slope, region.slope)
        assert (logit * region.logit > 0).all()


@pytest.mark.parametrize("count", [1, 3])
def test_blocks_and_threads_change_nothing(monkeypatch, count):
    made = surrogate_of(net(5, seed=3))
    logits = torch.from_numpy(np.random.default_rng(2).normal(size=(101, 5)) * 3)
    whole = obfuscate(logits, made)
    monkeypatch.setattr(memguard, "BLOCK", 30)
    with threads(count):
        parts = obfuscate(logits, made)
    assert torch.equal(parts[1], whole[1])
    assert torch.allclose(parts[0], whole[0], rtol=0, atol=1e-9)


def test_extreme_answers_stay_finite():
    made = surrogate_of(net(4, seed=5))
    logits = torch.tensor([[1e4, -1e4, 0, 0], [0, 0, 0, 0], [-1e4, -1e4, -1e4, 1e4]], dtype=torch.float64)
    out, _ = obfuscate(logits, made)
    assert out.isfinite().all()
    assert torch.equal(out.argmax(-1), logits.argmax(-1))


def test_the_second_phase_keeps_the_budget_and_repeats():
    made = surrogate_of(net(10, seed=1))
    rng = np.random.default_rng(3)
    logits, x = (
        torch.from_numpy(rng.normal(size=(200, 10)) * 2),
        torch.from_numpy(rng.integers(0, 2, (200, 24))).float(),
    )
    noisy, _ = obfuscate(logits, made)
    distance = (noisy.softmax(-1) - logits.softmax(-1)).abs().sum(-1)
    share = mixing(logits, noisy, made, 0.05)
    assert (share * distance <= 0.05 + 1e-12).all()
    assert ((share > 0) & (share < 1)).any()
    release = _Guarded(made, 0.05, Keyed(Domain.grid((24,), 0, 1, 1), torch.arange(32).to(torch.uint8)))
    first, again = (release(lambda rows: logits, x, torch.Generator()) for _ in range(2))
    assert torch.equal(first, again)
    moved = (first != logits).any(-1)
    assert abs(float(moved.double().mean() - share.mean())) < 0.1
    assert copy.copy(first).shape == (200, 10)


def test_a_surrogate_that_changes_nothing_is_named():
    assert "learnt too little" in MemGuard()._facts(10, 11, 0.005)["summary"]
    assert "learnt too little" not in MemGuard()._facts(10, 11, 0.4)["summary"]
