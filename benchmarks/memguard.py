"""MemGuard's release against the published way of doing it: one sample after the other, each step by automatic differentiation.

    python -m benchmarks.memguard [N] [C]

Made-up answers of an overfitted model (more confident on members) and a surrogate trained on them as published. The loop runs on
a part of the rows; on these, both must change the same ones, to logits that agree to 1e-4. Prints seconds a sample and the ratio.
"""

from __future__ import annotations

import sys
import time

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from hampkit.defenses.memguard import LABEL, LENGTH, STEPS, UNDECIDED, WEIGHTS, Surrogate, obfuscate
from hampkit.nets.attack import SortedNet
from hampkit.training.threads import threads

LOOPED = 40  # rows that the loop is timed on


def one_sample(logits: Tensor, net: nn.Module) -> tuple[Tensor, bool]:
    """The loop of protocol 3.5b for the logits (C,) of one sample: the logits that are released, and whether they were changed.

    The label is the first of the largest logits, and stays last among tied ones.
    """
    order = len(logits) - 1 - torch.from_numpy(logits.flip(0).numpy().argsort(kind="stable"))
    z0 = logits[order].clone()
    last = len(z0) - 1
    p0 = z0.softmax(-1)
    with torch.no_grad():
        start = net(p0.unsqueeze(0))[0, 0]
    best, changed = z0, False
    for c in WEIGHTS if abs(float(start.sigmoid()) - 0.5) > UNDECIDED else ():
        z, success = z0.clone(), False
        for _ in range(STEPS):
            z = z.detach().requires_grad_()
            p = z.softmax(-1)
            loss = net(p.unsqueeze(0))[0, 0].abs() + LABEL * torch.relu(z[:last].max() - z[last])
            loss = loss + c * (p - p0).abs().sum()
            (slope,) = torch.autograd.grad(loss, z)
            z = (z - LENGTH * slope / slope.norm()).detach()
            with torch.no_grad():
                now = net(z.softmax(-1).unsqueeze(0))[0, 0]
            success = int(z.argmax()) == last and float((now.sigmoid() - 0.5) * (start.sigmoid() - 0.5)) <= 0
            if success:
                break
        if not success:
            break
        best, changed = z, True
    out = torch.empty_like(best)
    out[order] = best
    return out, changed


def answers(n: int, classes: int, margin: float, rng: torch.Generator) -> Tensor:
    """Logits (n, classes), float64, of a model that is so sure of its label on average."""
    z = torch.randn(n, classes, generator=rng, dtype=torch.float64) * 1.5
    z[torch.arange(n), torch.randint(classes, (n,), generator=rng)] += margin + 2 * torch.randn(n, generator=rng)
    return z


def surrogate(members: Tensor, others: Tensor, rng: torch.Generator) -> SortedNet:
    """Trained as published (protocol 3.5a): SGD, learning rate 0.001, 400 epochs in batches of 256."""
    torch.manual_seed(0)
    net = SortedNet(members.shape[1])
    x = torch.cat([members, others]).softmax(-1).sort(-1).values.float()
    y = torch.cat([torch.ones(len(members)), torch.zeros(len(others))])
    sgd = torch.optim.SGD(net.parameters(), lr=1e-3)
    for _ in range(400):
        for rows in torch.randperm(len(x), generator=rng).split(256):
            sgd.zero_grad()
            binary_cross_entropy_with_logits(net(x[rows])[:, 0], y[rows]).backward()
            sgd.step()
    return net.double()


def measure(n: int = 5000, classes: int = 100) -> dict[str, float]:
    """With one thread, as a run on a table has."""
    with threads(1):
        return _measure(n, classes)


def _measure(n: int, classes: int) -> dict[str, float]:
    rng = torch.Generator().manual_seed(0)
    members, others = answers(n // 2, classes, 12.0, rng), answers(n - n // 2, classes, 8.0, rng)
    net = surrogate(members, others, rng)
    layers = [layer for layer in net.layers if isinstance(layer, nn.Linear)]
    ours = Surrogate([(layer.weight.detach(), layer.bias.detach()) for layer in layers])
    logits = torch.cat([members, others])[torch.randperm(n, generator=rng)]
    obfuscate(logits[:64], ours)  # warm up
    first, second = logits[:LOOPED].split(LOOPED // 2)  # before and after: the machine may not stay as quick as it is
    clock = [time.perf_counter()]
    looped = [one_sample(row, net) for row in first]
    clock.append(time.perf_counter())
    released, changed = obfuscate(logits, ours)
    clock.append(time.perf_counter())
    looped += [one_sample(row, net) for row in second]
    clock.append(time.perf_counter())
    fast, slow = (clock[2] - clock[1]) / n, (clock[1] - clock[0] + clock[3] - clock[2]) / LOOPED
    assert changed[:LOOPED].tolist() == [flag for _, flag in looped]
    off = float((released[:LOOPED] - torch.stack([z for z, _ in looped])).abs().max())
    assert off < 1e-4, off
    return {
        "loop_s": slow,
        "batched_s": fast,
        "ratio": slow / fast,
        "changed": float(changed.double().mean()),
        "off": off,
    }


def main() -> None:
    n, classes = [int(word) for word in sys.argv[1:]] or [5000, 100]
    m = measure(n, classes)
    print(
        f"MemGuard, {n:,} samples of {classes} classes: loop {1e3 * m['loop_s']:.1f} ms a sample (of {LOOPED}), hampkit"
        f" {1e3 * m['batched_s']:.3f} ms a sample, {n * m['batched_s']:.1f} s in all, ratio {m['ratio']:.0f};"
        f" {m['changed']:.0%} of the answers changed, logits equal to {m['off']:.0e}"
    )


if __name__ == "__main__":
    main()
