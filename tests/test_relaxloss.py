"""RelaxLoss against a loop over examples and classes, in both of its forms."""

from dataclasses import replace

import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from hampkit.defenses.relaxloss import Relaxed, RelaxLoss, flattening
from hampkit.nets import net_factory
from hampkit.training.vectorize import vectorize_over
from hampkit.types import Batch, Stack

FORMS = [(1.0, False), (0.6, False), (1.0, True), (0.6, True)]  # upper, the form for images


def flattened(z, y, upper, image, detached=False):
    """RelaxLoss's flattening loss of one example, class by class: z (C,), y its class."""
    p = z.softmax(-1)
    seen = p.detach() if detached else p
    top = seen[y] if float(p[y].detach()) <= upper else torch.tensor(upper, dtype=torch.float64)
    total = 0.0
    for c in range(len(z)):
        total = total - (top if c == y else (1 - top) / (len(z) - 1)) * torch.log(p[c])
    if not image:
        return total
    right = int(z.argmax()) == y
    return (0.0 if right else total) + torch.log(p[y])


def network(seed, scale):
    """An MLP in float64, its weights multiplied by scale."""
    torch.manual_seed(seed)
    net = net_factory("mlp-small", (24,), 4)().double()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(scale)
    return net


def stack_of(*nets):
    named = [dict(net.named_parameters()) for net in nets]
    return Stack(nets[0], {k: torch.stack([params[k].detach() for params in named]) for k in named[0]})


def batch_of(models, n, padding=0):
    """A batch in float64; the last rows are padding."""
    rng = torch.Generator().manual_seed(1)
    x = torch.rand((models, n, 24), generator=rng).double()
    y = torch.randint(4, (models, n), generator=rng)
    weight = (torch.arange(n) < n - padding).double().expand(models, n)
    return Batch(x, y, torch.empty(models, n, 0), weight)


@pytest.mark.parametrize(("upper", "image"), FORMS)
def test_relaxloss_flattens_as_a_loop_over_examples_and_classes(upper, image):
    rng = torch.Generator().manual_seed(2)
    logits = (3 * torch.randn((60, 4), generator=rng).double()).requires_grad_()
    y = torch.where(torch.arange(60) < 30, logits.argmax(-1), logits.argmin(-1))  # half of the answers are right
    above = int((logits.softmax(-1)[torch.arange(60), y] > upper).sum())
    assert above == 0 if upper == 1 else 10 < above <= 30
    rows = flattening(logits, y, upper, image)
    (ours,) = torch.autograd.grad(rows.sum(), logits)
    slow = [flattened(z, int(c), upper, image) for z, c in zip(logits, y, strict=True)]
    (theirs,) = torch.autograd.grad(torch.stack(slow).sum(), logits)
    assert torch.allclose(rows, torch.stack(slow), atol=1e-12, rtol=0)
    assert torch.allclose(ours, theirs, atol=1e-12, rtol=0)
    fixed = [flattened(z, int(c), upper, image, detached=True) for z, c in zip(logits, y, strict=True)]
    (other,) = torch.autograd.grad(torch.stack(fixed).sum(), logits)
    assert not torch.allclose(ours, other, atol=1e-2), "a soft label without a gradient must be another objective"


@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize(("upper", "image"), FORMS)
def test_the_gradient_of_relaxloss_is_that_of_autograd(models, upper, image):
    stack = stack_of(*[network(seed, 2.5) for seed in range(models)])  # some answers are surer than upper
    batch = batch_of(models, 32, padding=5)

    def plain(z, y):
        return cross_entropy(z, y)

    def flat(z, y):
        return torch.stack([flattened(row, int(c), upper, image) for row, c in zip(z, y, strict=True)]).mean()

    cases = [
        (0.1, 0, lambda *a: plain(*a) - 0.1), (0.1, 1, plain), (0.1, 7, plain),  # the loss is above 0.1: descent
        (9.0, 2, lambda *a: 9.0 - plain(*a)), (9.0, 3, flat), (9.0, 1, flat),  # and below 9: ascent or flattening
    ]  # fmt: skip
    for alpha, epoch, loss in cases:
        objective = Relaxed(alpha, upper, image)
        rngs = [torch.Generator() for _ in range(models)]
        state = objective.begin(stack, None, epoch, rngs)
        found = objective.gradient(vectorize_over(models), stack, state, batch, rngs)
        for m in range(models):
            leaves = {k: p[m].clone().requires_grad_() for k, p in stack.params.items()}
            value = loss(functional_call(stack.net, leaves, (batch.x[m, :27],)), batch.y[m, :27])
            value.backward()
            for k, leaf in leaves.items():
                assert torch.allclose(found.grads[k][m], leaf.grad, atol=1e-10), (k, alpha, epoch)
            assert torch.allclose(found.value[m], value, atol=1e-10)


def test_relaxloss_flattens_where_the_loss_is_exactly_its_target():
    """Answers that are uniform have the loss ln C, and flattening them changes nothing."""
    batch = batch_of(1, 16)
    level = float(cross_entropy(torch.zeros(1, 4).double(), batch.y[0, :1]))
    for alpha, still in ((level, True), (level - 1e-4, False)):
        found = Relaxed(alpha, 1.0, False).gradient(
            vectorize_over(1), stack_of(network(0, 0.0)), 1, batch, [torch.Generator()]
        )
        assert all(float(g.abs().max()) < 1e-6 for g in found.grads.values()) is still


@pytest.mark.parametrize(("shape", "form", "image"), [
    ((64,), "auto", False), ((4, 16), "auto", False), ((3, 4, 4), "auto", True), ((3, 4, 4), "table", False),
    ((64,), "image", True),
])  # fmt: skip
def test_relaxloss_takes_the_form_for_images_where_inputs_have_three_axes(toy, shape, form, image):
    data = replace(toy, x=torch.zeros(len(toy), *shape))
    assert RelaxLoss(form=form).objective(data).image is image
