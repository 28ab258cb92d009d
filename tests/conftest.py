"""What the tests share: small problems, and a network with batch norm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hampkit.cli import _guarded
from hampkit.config import Training
from hampkit.data.toy import Toy
from hampkit.nets import net_factory
from hampkit.types import Task


@pytest.fixture
def toy():
    return Toy(rows=400, features=24, classes=4, flip=0.25).load(None)  # pyright: ignore[reportArgumentType]


class SmallConv(nn.Module):
    """A convolutional network with batch norm, for inputs that can be folded into squares."""

    def __init__(self, shape, classes):
        super().__init__()
        self.side = int(torch.tensor(shape).prod().item() ** 0.5)
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.head = nn.Linear(16, classes)

    def forward(self, x):
        return self.head(self.body(x.flatten(1)[:, : self.side**2].view(-1, 1, self.side, self.side)))


@pytest.fixture(params=["mlp", "conv"])
def network(request, toy):
    if request.param == "mlp":
        return net_factory("mlp-small", toy.shape, toy.num_classes)
    return lambda: SmallConv(toy.shape, toy.num_classes)


@pytest.fixture
def task(toy, network):
    """Eight models with sets of uneven size, and their own seeds; the last 80 rows are for validation."""
    rng = torch.Generator().manual_seed(5)
    members = torch.rand(8, 320, generator=rng) < torch.linspace(0.3, 0.6, 8).unsqueeze(-1)
    return Task(
        pool=toy.take(torch.arange(320)),
        members=members,
        seeds=tuple(100 + m for m in range(8)),
        net=network,
        val=toy.take(torch.arange(320, 400)),
    )


@pytest.fixture
def short():
    """A short whole training, with everything that could couple models: momentum, decay, a schedule, best checkpoints."""
    return Training(
        epochs=4, batch_size=32, optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=1e-4, schedule="steps",
        milestones=(2,), retries=0,
    )  # fmt: skip


@pytest.fixture
def cli(capsys, tmp_path, monkeypatch):
    """Run the command inside an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HAMPKIT_DATA", raising=False)

    def call(*argv):
        code = _guarded([str(a) for a in argv])
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


@pytest.fixture
def write_table():
    """Write a small table with some columns replaced, and name it."""
    return _write_table


def _write_table(name="people.csv", rows=200, **columns):
    rng = np.random.default_rng(0)
    data = {
        "age": rng.integers(18, 90, rows),
        "income": rng.normal(3e4, 1e4, rows).round(2),
        "town": rng.choice(["Ulm", "Bonn", "Köln"], rows),
        "risk": rng.choice(["low", "mid", "high"], rows),
    } | columns
    lines = [",".join(data)] + [",".join(map(str, row)) for row in zip(*data.values(), strict=True)]
    Path(name).write_text("\n".join(lines) + "\n")
    return name
