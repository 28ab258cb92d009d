"""A network, a defense or an attack of one's own that is no good: one clear line before anything is trained."""

from pathlib import Path

import pytest

QUICK = ["toy/hamp", "rows=300", "features=16", "classes=3", "epochs=2", "neural.epochs=2"]


NETS = """
import torch
from torch import nn
from torch.nn import functional as F

class Base(nn.Module):
    def __init__(self, shape=(16,), classes=3):
        super().__init__()
        self.last = nn.Linear(16, classes)
        self.calls = 0

class Nan(Base):
    def forward(self, x): return self.last(x) / 0 * 0

class Infinite(Base):
    def forward(self, x): return self.last(x).exp() * float("inf")

class Dropout(Base):
    def forward(self, x): return F.dropout(self.last(x))

class Noise(Base):
    def forward(self, x): return self.last(x) + 0.1 * torch.randn(len(x), 3)

class TrainTuple(Base):
    def forward(self, x): return (self.last(x), x) if self.training else self.last(x)

class TrainWidth(Base):
    def forward(self, x): return torch.cat([self.last(x)] * 2, 1) if self.training else self.last(x)

class TrainRaises(Base):
    def forward(self, x):
        if self.training: raise ValueError("no training\\nhere")
        return self.last(x)

class TrainBackward(Base):
    def forward(self, x): return self.last(x).exp().add_(1) if self.training else self.last(x)

class TwoRows(Base):
    def forward(self, x): return self.last(x[:2])

class Folded(Base):
    def forward(self, x): return self.last(x.view(2, 16))

class Whole(Base):
    def forward(self, x): return self.last(x).long()

class Raises(Base):
    def __init__(self): raise ValueError("no such thing")

class Exits(Base):
    def __init__(self): raise SystemExit(3)

class Norm(Base):
    def __init__(self, shape, classes):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
    def forward(self, x): return self.norm(self.last(x))

class Softmax(Base):
    def forward(self, x): return self.last(x).softmax(1)

class Seeded(Base):
    def __init__(self, shape, classes):
        torch.manual_seed(7)
        super().__init__()
    def forward(self, x): return self.last(x)

KEPT = Seeded((16,), 3)
def Kept(): return KEPT

class Zeros(Base):
    def __init__(self, shape, classes):
        super().__init__()
        nn.init.zeros_(self.last.weight), nn.init.zeros_(self.last.bias)
    def forward(self, x): return self.last(x)

class OwnNorm(Base):
    def forward(self, x): return F.batch_norm(self.last(x), torch.zeros(3), torch.ones(3), training=self.training)
"""
OWN = {
    "Nan": ["NaN or infinite", "train.standardize"],
    "Infinite": ["NaN or infinite"],
    "Dropout": ["different answers to the same inputs", "nn.Dropout"],
    "Noise": ["different answers to the same inputs"],
    "TrainTuple": ["in training mode returns a tuple for 64 rows", "(64, 3)"],
    "TrainWidth": ["in training mode returns shape (64, 6) for 64 rows"],
    "TrainRaises": ["fails in training", "ValueError: no training"],
    "TrainBackward": ["fails in training", "inplace"],
    "TwoRows": ["returns shape (2, 3) for 246 rows", "(246, 3)"],
    "Folded": ["fails on inputs of shape (16,), 246 at once"],
    "Whole": ["torch.int64", "floating-point"],
    "Softmax": ["returns probabilities", "leave the last softmax out"],
    "Seeded": ["the same weights each time", "random weights"],
    "Kept": ["the same weights each time", "trained already"],
    "Raises": ["cannot be made: ValueError: no such thing"],
    "Exits": ["cannot be made: SystemExit: 3"],
    "Norm batch_size=1": ["train.batch_size=1", "at least two rows"],
    "OwnNorm batch_size=61": ["train.batch_size=61", "at least two rows"],
}


@pytest.mark.parametrize("case", OWN)
def test_a_network_that_cannot_be_trained_or_asked_is_refused_before_training(
    cli, monkeypatch, case, refused, nothing_written
):
    name, *options = case.split()
    Path("ownnets_for_test.py").write_text(NETS)
    monkeypatch.syspath_prepend(".")
    refused(cli("run", *QUICK, f"net=ownnets_for_test:{name}", *options), f"ownnets_for_test:{name}", *OWN[case])
    nothing_written()


@pytest.mark.parametrize("name", ["Norm", "OwnNorm", "Zeros"])
def test_the_trial_lets_good_networks_pass(cli, monkeypatch, name):
    Path("ownnets_for_test.py").write_text(NETS)
    monkeypatch.syspath_prepend(".")
    assert cli("train", *QUICK, f"net=ownnets_for_test:{name}", "--quiet")[0] == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_module_at_all", "No module named 'no_such_module_at_all'"),
        ("def net(:", "SyntaxError"),
        ("import torch; torch.no_such_thing", "no_such_thing"),
        ("raise SystemExit(0)", "SystemExit"),
    ],
)
def test_a_module_that_cannot_be_imported(cli, monkeypatch, text, said, refused, nothing_written):
    Path("badmodule_for_test.py").write_text(text)
    monkeypatch.syspath_prepend(".")
    refused(cli("run", *QUICK, "net=badmodule_for_test:net"), "badmodule_for_test", said)
    nothing_written()


@pytest.mark.parametrize("package", ["defenses", "attacks"])
@pytest.mark.parametrize(
    ("text", "said"), [("x = y", "NameError"), ("def f(:", "SyntaxError"), ("import nope", "nope")]
)
def test_a_plug_in_that_cannot_be_loaded(cli, plugin, package, text, said, refused):
    plugin(package, "broken_for_test", text)
    refused(cli("list", package), "cannot load", f"{package}/broken_for_test.py", said)


BAD_ANSWERS = """
from dataclasses import dataclass
import torch
from hampkit.defenses.base import Plain, Release
from hampkit.defenses.undefended import Undefended

class Bad(Release):
    about = "mostly numbers"
    def __call__(self, ask, x, rng):
        z = ask(x).double()
        z[::50, {column}] = float("{value}")
        return z

@dataclass(frozen=True)
class Mine(Undefended):
    \"\"\"Answers that no attack can use.\"\"\"
    name = "bad-answers-for-test"
    def release(self, state, domain):
        return Bad()
"""


@pytest.mark.parametrize(("column", "value"), [("0", "nan"), ("0", "inf"), ("1:", "-inf")])
def test_shadow_models_with_answers_that_are_no_numbers_are_refused_and_not_kept(cli, plugin, column, value, refused):
    plugin("defenses", "bad_answers_for_test", BAD_ANSWERS.format(column=column, value=value))
    words = [
        "toy/bad-answers-for-test",
        "rows=300",
        "features=48",
        "classes=3",
        "epochs=2",
        "--models",
        4,
        "--workers",
        1,
    ]
    refused(cli("shadow", *words), "shadow model 0", "of defense bad-answers-for-test", "then run again")
    assert not list(Path("runs").rglob("scaled_logit.npy"))
    assert not list(Path("runs").rglob("*.partial"))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [("0", "nan", "hold NaN or infinity"), ("1:", "-inf", "hold NaN or infinity"), (":", "1", "changed the predicted label of")],
)  # fmt: skip
def test_a_target_with_answers_that_are_no_answers_is_refused_by_name(cli, plugin, column, value, said, refused):
    plugin("defenses", "bad_answers_for_test", BAD_ANSWERS.format(column=column, value=value))
    words = ["toy/bad-answers-for-test", "rows=300", "features=48", "classes=3", "epochs=2", "neural.epochs=1"]
    refused(cli("run", *words), said, "defense bad-answers-for-test", "then run again")
    assert not list(Path("runs").rglob("released.npy"))


def test_an_entry_point_that_cannot_be_loaded(cli, monkeypatch, refused):
    import importlib.metadata

    from hampkit import registry

    points = [importlib.metadata.EntryPoint("mine", "no_such_package:Mine", "hampkit.attacks")]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **k: points)
    registry._scan.cache_clear()
    assert "mine" in cli("list", "attacks")[1], "it is named, not imported"
    refused(cli("list", "options", "mine"), "cannot load no_such_package:Mine", "entry point mine")
    registry._scan.cache_clear()


def test_a_retry_that_becomes_infinite_does_not_replace_a_model_that_learnt_nothing():
    import torch

    from hampkit.training.stacks import NOT_FINITE, with_models
    from hampkit.types import History, Stack

    def stack(value, *seeds, diverged):
        params = {"w": torch.full((1, 2), value)}
        return Stack(torch.nn.Identity(), params, {}, (History(seeds, 0, (), diverged),))

    weak = stack(1.0, 5, diverged="it learnt nothing")
    kept = with_models(weak, [0], stack(float("nan"), 6, diverged=NOT_FINITE))
    assert kept.params["w"].isfinite().all()
    assert kept.history[0] == History((6, 5), 0, (), "it learnt nothing")
    last = with_models(kept, [0], stack(2.0, 7, diverged=""))
    assert last.history[0].seeds == (6, 5, 7)
    assert last.params["w"].eq(2).all()


def test_a_network_of_ones_own(cli, monkeypatch, refused):
    Path("mynets_for_test.py").write_text(
        "from torch import nn\n"
        "def tiny(shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear(shape[0], classes))\n"
        "def fixed(): return nn.Linear(16, 3)\n"
        "def wrong(): return nn.Linear(16, 4)\n"
        "def broken(): return nn.Linear(5, 3)\n"
        "number = 3\n"
        "def lazy(): return nn.LazyLinear(3)\n"
    )
    monkeypatch.syspath_prepend(".")
    for name in ("tiny", "fixed"):
        code, _, err = cli("run", *QUICK, f"net=mynets_for_test:{name}", "--quiet")
        assert (code, err) == (0, "")
    refused(cli("run", *QUICK, "net=mynets_for_test:wrong"), "(2, 4)", "(2, 3)")
    refused(cli("run", *QUICK, "net=mynets_for_test:broken"), "fails on inputs of shape (16,)")
    refused(cli("run", *QUICK, "net=mynets_for_test:tinny"), "did you mean 'tiny'")
    refused(cli("run", *QUICK, "net=mynets_for_test:lazy"), "lazy layers")
    refused(cli("run", *QUICK, "net=mynets_for_test:number"), "must be a function or class")
    refused(cli("run", *QUICK, "net=no_such_module:x"), "cannot import 'no_such_module'")
