"""What a user drops into a loop of their own."""

import math

import pytest
import torch
from torch import nn

import hampkit.nn
from hampkit.defenses.hamp import soft_labels
from hampkit.errors import UserError
from hampkit.types import Domain

pytestmark = pytest.mark.numeric


def test_loss_equals_the_published_formula():
    g = torch.Generator().manual_seed(1)
    logits, y = 4 * torch.randn(9, 5, generator=g, dtype=torch.float64), torch.randint(5, (9,), generator=g)
    loss = hampkit.nn.HampLoss(5, gamma=0.7, alpha=0.05)(logits, y)
    t, p = soft_labels(y, 5, 0.7), torch.softmax(logits, -1)
    expected = (t * (t.log() - p.log())).sum() / (9 * 5) + 0.05 * (p * p.log()).sum(-1).mean()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
    batchmean = hampkit.nn.HampLoss(5, gamma=0.7, alpha=0.25, kl="batchmean")(logits, y)
    assert batchmean.item() == pytest.approx(5 * expected.item(), abs=1e-9), (
        "alpha · C for the one is alpha for the other"
    )


def test_loss_trains_to_the_optimum_of_the_publication():
    """Protocol 3.2b: for Location30 the best top-1 probability of the per-sample objective is 0.653."""
    logits = torch.zeros(1, 30, dtype=torch.float64, requires_grad=True)
    loss = hampkit.nn.HampLoss(30, gamma=0.5, alpha=0.001, grid=0.01)
    # with steps of free length the search overshoots on some processors, and never returns
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = loss(logits, torch.tensor([4]))
        value.backward()
        return value

    optimizer.step(closure)
    p = torch.softmax(logits.detach(), -1)[0]
    assert p[4].item() == pytest.approx(0.653, abs=2e-3)
    assert -(p * p.log()).sum().item() / math.log(30) == pytest.approx(0.534, abs=2e-3)


def test_loss_refuses_what_does_not_fit():
    loss = hampkit.nn.HampLoss(5, gamma=0.5, alpha=0.1)
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        loss(torch.zeros(3, 4), torch.zeros(3, dtype=torch.long))
    with pytest.raises(UserError, match="gamma"):
        hampkit.nn.HampLoss(5, gamma=1.0, alpha=0.1)
    with pytest.raises(UserError, match="kl"):
        hampkit.nn.HampLoss(5, gamma=0.5, alpha=0.1, kl="sum")  # pyright: ignore[reportArgumentType]


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4))


NOISES = {
    "bernoulli": "bernoulli",
    "uniform": "uniform",
    "domain": Domain.grid((8,), -2, 2, 0),
    "inputs": torch.randn(50, 8),
    "function": lambda n, rng: torch.randn(n, 8, generator=rng),
}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("options", [{}, {"bank": 20}, {"keyed": True}, {"bank": 20, "keyed": True}], ids=str)
def test_model_keeps_labels_and_evaluates_whatever_its_mode(noise, options):
    model = make_model().train()
    statistics = model[1].running_mean.clone()
    released = hampkit.nn.HampModel(model, NOISES[noise], seed=3, **options)
    x = torch.randn(200, 8)
    out = released(x)
    assert model.training
    assert torch.equal(model[1].running_mean, statistics), "no batch statistics were touched"
    own = model.eval()(x)
    assert torch.equal(out.argmax(-1), own.argmax(-1))
    assert not torch.allclose(out, own)
    assert not out.requires_grad
    if options.get("keyed"):
        assert torch.equal(released(x), out)
    else:
        assert not torch.equal(released(x), out)


def test_model_does_not_move_the_global_generator():
    released = hampkit.nn.HampModel(make_model(), "uniform", seed=0)
    state = torch.random.get_rng_state()
    released(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_model_refuses_unknown_noise():
    with pytest.raises(UserError, match="noise='gauss'"):
        hampkit.nn.HampModel(make_model(), "gauss")
    with pytest.raises(UserError, match="bank=-1"):
        hampkit.nn.HampModel(make_model(), bank=-1)


def test_images_in_and_label_order_kept():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    x = torch.rand(10, 3, 2, 2)
    assert torch.equal(hampkit.nn.HampModel(model, "uniform")(x).argmax(-1), model(x).argmax(-1))
