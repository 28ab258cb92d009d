"""What the tests share: small problems, and a network with batch norm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hampkit.cli.app import guarded
from hampkit.config.recipe import TrainConfig
from hampkit.data.toy import Toy
from hampkit.errors import UserError
from hampkit.nets import net_factory
from hampkit.types import Task


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """No test finds what another session or the user measured or downloaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """No test writes into the checkout: what it names without a folder lies in its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def toy():
    return Toy(rows=400, features=24, classes=4, flip=0.25).load(None)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def float64():
    """Networks are made in float64, where two orders of adding up agree to 1e-9 after a whole training.

    In float32 they do not: a fresh Adam step has a slope of lr / 1e-8 in a gradient near 0, and makes a difference in the last
    bit of a gradient, which is the processor's, one of the weights.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


class SmallConv(nn.Module):
    """A convolutional network with batch norm, for inputs that can be folded into squares."""

    def __init__(self, shape, classes, norm=nn.BatchNorm2d):
        super().__init__()
        self.side = int(torch.tensor(shape).prod().item() ** 0.5)
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), norm(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
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
        reference=toy.take(torch.arange(360, 400)),
    )


INNER = ("conv-memguard", "conv-advreg", "one_by_one_equals_alone[mlp-memguard", "one_by_one_equals_alone[mlp-advreg")


def pytest_collection_modifyitems(items):
    """Contracts of the two defenses with networks of their own are slow with convolutions, and the longest of them with an MLP.

    These inner networks see answers, not inputs: with an MLP as the target the same is tested in less time.
    """
    for item in items:
        if item.path.name == "test_contracts.py" and any(name in item.name for name in INNER):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def task_of(task, toy):
    """The task for a defense; with group norm where the defense refuses batch norm."""

    def fitting(defense, trainer):
        try:
            defense.check(task, trainer)
        except UserError as error:
            if "batch norm" not in str(error):
                raise
            return replace(task, net=lambda: SmallConv(toy.shape, toy.num_classes, lambda n: nn.GroupNorm(1, n)))
        return task

    return fitting


@pytest.fixture
def short():
    """A short whole training, with everything that could couple models: momentum, decay, a schedule, best checkpoints."""
    return TrainConfig(
        epochs=4, batch_size=32, optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=1e-4, schedule="steps",
        milestones=(2,), retries=0,
    )  # fmt: skip


@pytest.fixture
def cli(capsys, monkeypatch):
    """Run the command inside the test's own folder: (exit code, stdout, stderr)."""
    monkeypatch.delenv("HAMPKIT_DATA", raising=False)

    def call(*argv):
        code = guarded([str(a) for a in argv])
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


@pytest.fixture
def refused():
    """Check what `cli` returned: exit code 2, one line, every one of the words in it, and no traceback."""
    return _refused


@pytest.fixture
def nothing_written():
    """Check that nothing but the test's own input lies in the folder."""
    return _nothing_written


def _refused(result, *said):
    """Exit code 2, one line, every one of these words in it, and no traceback."""
    code, _, err = result
    assert code == 2, err
    assert err.startswith("hampkit: error: "), err
    assert err.count("\n") == 1, err
    for word in said:
        assert word in err, err


def _nothing_written(folder="."):
    left = [
        p
        for p in Path(folder).rglob("*")
        if p.is_file() and p.suffix not in (".csv", ".npz", ".npy", ".toml", ".tgz", ".py")
    ]
    assert not left, left


@pytest.fixture
def plugin(monkeypatch, tmp_path):
    """Lay a file into the package of the defenses or the attacks."""
    import importlib
    import sys

    from hampkit import registry

    laid = []

    def lay(package, name, text):
        folder = tmp_path / "plugins" / package
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(text)
        module = importlib.import_module(f"hampkit.{package}")
        monkeypatch.setattr(module, "__path__", [*module.__path__, str(folder)])
        laid.append(f"hampkit.{package}.{name}")
        registry._scan.cache_clear()

    yield lay
    registry._scan.cache_clear()
    for name in laid:
        sys.modules.pop(name, None)
