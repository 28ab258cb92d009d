"""HAMP's arithmetic: published constants, formulas, and the release against slow obvious loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hampkit import signals
from hampkit.defenses.hamp import Hamp, SwapConfidences, soft_labels, swap_confidences
from hampkit.defenses.label_smoothing import LabelSmoothing
from hampkit.errors import UserError
from hampkit.training.soft_labels import entropy, hamp_loss, top_probability
from hampkit.types import Batch, Domain

pytestmark = pytest.mark.numeric

PUBLISHED = [  # protocol 3.2a: C, gamma, top, other, exact top
    (100, 0.8, 0.33, 0.00676768, 0.337371),
    (100, 0.6, 0.54, 0.00464646, 0.548506),
    (30, 0.5, 0.68, 0.01103448, 0.680923),
    (10, 0.95, 0.26, 0.08222222, 0.269814),
    (100, 0.5, 0.64, 0.00363636, 0.640981),
    (100, 0.05, 0.97, 0.00030303, 0.975185),
    (100, 0.15, 0.91, 0.00090909, 0.913653),
    (100, 0.01, 0.99, 0.00010101, 0.995842),
]


@pytest.mark.parametrize(("classes", "gamma", "top", "other", "exact"), PUBLISHED)
def test_soft_labels_equal_the_published_constants(classes, gamma, top, other, exact):
    grid = soft_labels(torch.tensor([3, 0]), classes, gamma, grid=0.01)
    assert grid[0, 3].item() == pytest.approx(top, abs=1e-9)
    assert grid[0, 4].item() == pytest.approx(other, abs=5e-9)
    assert soft_labels(torch.tensor([0]), classes, gamma)[0, 0].item() == pytest.approx(exact, abs=5e-7)


@given(st.integers(2, 200), st.floats(0, 0.999))
def test_exact_soft_labels_have_the_asked_entropy(classes, gamma):
    row = soft_labels(torch.tensor([0]), classes, gamma)[0]
    entropy = -torch.xlogy(row, row).sum().item()
    assert row.sum().item() == pytest.approx(1)
    assert entropy == pytest.approx(gamma * math.log(classes), abs=1e-9)
    assert row.argmax() == 0


@pytest.mark.parametrize("gamma", [1.0, -0.1, 1.5, math.nan])
def test_gamma_outside_its_range_is_refused(gamma):
    with pytest.raises(UserError, match=r"gamma=.*\[0, 1\)"):
        Hamp(gamma=gamma)
    with pytest.raises(UserError, match="gamma"):
        soft_labels(torch.tensor([0]), 10, gamma)


def test_a_grid_that_cannot_reach_the_entropy_ends_with_an_error():
    with pytest.raises(UserError, match="grid"):
        top_probability(10, 0.99999, grid=0.07)


@pytest.mark.parametrize("kl", ["mean", "batchmean"])
def test_loss_equals_the_formula(kl):
    g = torch.Generator().manual_seed(0)
    for _ in range(20):
        logits = 5 * torch.randn(7, 11, generator=g, dtype=torch.float64)
        y = torch.randint(11, (7,), generator=g)
        t, alpha = soft_labels(y, 11, 0.6), 0.02
        p = torch.softmax(logits, -1)
        expected = 0.0
        for b in range(7):
            divergence = sum(float(t[b, c] * (t[b, c].log() - p[b, c].log())) for c in range(11))
            entropy = -sum(float(p[b, c] * p[b, c].log()) for c in range(11))
            expected += divergence / (7 * 11 if kl == "mean" else 7) - alpha * entropy / 7
        rows = hamp_loss(alpha, kl)(logits, Batch(logits, y, t, torch.ones(7)))
        assert rows.mean().item() == pytest.approx(expected, abs=1e-6)


def published_loop(z, r):
    """Wherever a row equals its j-th smallest value, write the j-th smallest noise value (the last one wins)."""
    new = np.zeros_like(r)
    for i in range(len(z)):
        ordered, noise = sorted(z[i]), sorted(r[i])
        for j, value in enumerate(ordered):
            for c in range(z.shape[1]):
                if z[i, c] == value:
                    new[i, c] = noise[j]
    return new


def distinct_loop(z, r):
    """The class with the j-th largest logit, the first one of equals, gets the j-th largest noise value."""
    new = np.zeros_like(r)
    for i in range(len(z)):
        noise, left = sorted(r[i]), list(range(z.shape[1]))
        for value in reversed(noise):
            best = max(left, key=lambda c: (z[i, c], -c))
            new[i, best] = value
            left.remove(best)
    return new


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(2, 12), st.booleans(), st.sampled_from([np.float32, np.float64]))
def test_swap_equals_explicit_loops(seed, classes, tied, dtype):
    rng = np.random.default_rng(seed)
    z, r = rng.normal(size=(2, 9, classes)).astype(dtype)
    z = np.round(2 * z) / 2 if tied else z
    assert np.array_equal(swap_confidences(z, r), distinct_loop(z, r))
    assert np.array_equal(swap_confidences(z, r, ties="published"), published_loop(z, r))
    as_tensors = swap_confidences(torch.from_numpy(z), torch.from_numpy(r))
    assert np.array_equal(as_tensors.numpy(), distinct_loop(z, r))


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.integers(2, 6))
def test_swap_keeps_every_predicted_label_even_where_everything_is_tied(seed, classes):
    rng = np.random.default_rng(seed)
    z, r = rng.integers(-1, 2, size=(2, 20, classes)).astype(np.float32)
    for ties in ("distinct", "published"):
        assert np.array_equal(swap_confidences(z, r, ties=ties).argmax(-1), z.argmax(-1)), ties


def test_swap_does_not_change_its_inputs_and_refuses_other_shapes():
    z, r = np.random.default_rng(0).normal(size=(2, 4, 3))
    kept = r.copy()
    swap_confidences(z, r)
    assert np.array_equal(r, kept)
    with pytest.raises(ValueError, match="shape"):
        swap_confidences(z, r[:2])


def release(noise="fresh", bank=None, calls=None):
    weight = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))

    def ask(x):
        if calls is not None:
            calls.append(len(x))
        return x @ weight

    secret = torch.arange(32, dtype=torch.uint8)
    return SwapConfidences(Domain.grid((6,), 0, 1, 1), noise, secret, bank), ask


def rng(seed):
    return torch.Generator().manual_seed(seed)


def test_release_keeps_labels_and_nothing_of_the_confidence():
    swap, ask = release()
    x = torch.rand(500, 6)
    out = swap(ask, x, rng(0))
    assert torch.equal(out.argmax(-1), ask(x).argmax(-1))
    # another input with the same order of classes gets the same answer from the same noise
    assert torch.equal(swap(lambda q: ask(q) * 3 if len(q) == 500 and torch.equal(q, x) else ask(q), x, rng(0)), out)


def test_fresh_noise_changes_and_keyed_noise_does_not():
    x = torch.rand(50, 6)
    fresh, ask = release("fresh")
    keyed, _ = release("keyed")
    assert not torch.equal(fresh(ask, x, rng(0)), fresh(ask, x, rng(1)))
    assert torch.equal(fresh(ask, x, rng(0)), fresh(ask, x, rng(0)))
    assert torch.equal(keyed(ask, x, rng(0)), keyed(ask, x, rng(1)))
    assert torch.equal(keyed(ask, x[:7], rng(0)), keyed(ask, x, rng(1))[:7])  # whatever else is in the batch


@pytest.mark.parametrize("noise", ["fresh", "keyed"])
def test_a_bank_costs_no_second_forward_pass(noise):
    calls = []
    bank = torch.randn(16, 4, generator=rng(3))
    swap, ask = release(noise, bank, calls)
    x = torch.rand(40, 6)
    out = swap(ask, x, rng(0))
    assert calls == [40]
    rows = {tuple(row) for row in bank.sort(-1).values.tolist()}
    assert {tuple(row) for row in out.sort(-1).values.tolist()} <= rows
    assert torch.equal(swap(ask, x, rng(1)), out) == (noise == "keyed")


@pytest.mark.parametrize("grid", [0.0, -0.1, 1.0])
def test_a_grid_that_the_search_would_never_leave_is_refused(grid):
    for make in (lambda: Hamp(gamma=0.5, grid=grid), lambda: LabelSmoothing(gamma=0.5, grid=grid)):
        with pytest.raises(UserError, match="between 0 and 1"):
            make()


def test_the_entropy_in_training_is_that_of_the_signals_and_that_of_soft_labels():
    z = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 7)) * 4)
    assert torch.allclose(entropy(z.log_softmax(-1)), signals.entropy(z), rtol=1e-12, atol=1e-12)
    label = soft_labels(torch.tensor([2]), 7, 0.6)
    assert entropy(label.log()).item() == pytest.approx(0.6 * math.log(7), rel=1e-12)
