"""Every mistake a user can make is one clear line, with exit code 2, and leaves nothing half-written."""

import threading
from pathlib import Path

import pytest

QUICK = ["toy/hamp", "rows=300", "features=16", "classes=3", "epochs=2", "neural.epochs=2"]


def refused(result, *said):
    """Exit code 2, one line, every one of these words in it, and no traceback."""
    code, _, err = result
    assert code == 2, err
    assert err.startswith("hampkit: error: "), err
    assert err.count("\n") == 1, err
    for word in said:
        assert word in err, err


def nothing_written(folder="."):
    left = [
        p
        for p in Path(folder).rglob("*")
        if p.is_file() and p.suffix not in (".csv", ".npz", ".npy", ".toml", ".tgz", ".py")
    ]
    assert not left, left


def test_a_network_of_ones_own(cli, monkeypatch):
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


MISTAKES = {
    "unknown recipe": (["run", "digits/hmap"], ["'digits/hmap'", "did you mean 'hamp'?"]),
    "unknown data set": (["run", "digit/hamp"], ["'digit/hamp'", "did you mean 'digits/hamp'"]),
    "bare word": (["run", "digits"], ["'digits'", "DATA/DEFENSE"]),
    "unknown key": (["run", "toy/hamp", "gama=0.5"], ["'gama'", "did you mean 'gamma'?"]),
    "wrong type": (["run", "toy/hamp", "epochs=many"], ["train.epochs='many'", "whole number"]),
    "fraction for a whole number": (["run", "toy/hamp", "epochs=1.5"], ["train.epochs=1.5", "whole number"]),
    "wrong choice": (["run", "toy/hamp", "optimizer=adan"], ["train.optimizer='adan'", "did you mean 'adam'?"]),
    "gamma too high": (["run", "toy/hamp", "gamma=1"], ["gamma=1.0", "[0, 1)"]),
    "gamma negative": (["run", "toy/hamp", "gamma=-0.1"], ["gamma=-0.1", "[0, 1)"]),
    "train_size too large": (["run", "digits/hamp", "train_size=100000"], ["100000", "1797"]),
    "unknown network": (["run", "toy/hamp", "net=mpl"], ["'mpl'", "did you mean 'mlp'"]),
    "unknown device": (["run", "toy/hamp", "--device", "gpu"], ["gpu", "auto, cpu or cuda"]),
    "missing toml": (["run", "no.toml"], ["no.toml"]),
    "unknown list": (["list", "atacks"], ["'atacks'", "did you mean 'attacks'"]),
    "unknown data set to check": (["data", "check", "digts"], ["did you mean 'digits'?"]),
    "no such run": (["attack", "runs/nothing"], ["nothing", "no run folder"]),
    "unknown option": (["run", "--seeed", "3"], ["--seeed"]),
    "negative seed": (["run", "--seed", "-1"], ["-1"]),
    "missing table": (["run", "hamp", "--data", "no.csv", "--label", "y"], ["no.csv"]),
    "unknown command": (["ran"], ["ran"]),
    "missing data folder": (["run", "location30/hamp", "--data-dir", "nowhere"], ["nowhere"]),
    "milestones without steps": (["run", "toy/hamp", "milestones=[3]"], ["train.milestones=[3]", "schedule=steps"]),
    "known shares": (["run", "toy/hamp", "known_train=0.99"], ["known_train=0.99"]),
    "nothing known": (["run", "toy/hamp", "rows=100", "known_train=0.001"], ["known_train=0.001", "0 known"]),
    "learning rate": (["run", "toy/hamp", "lr=0"], ["train.lr=0"]),
    "infinite learning rate": (["run", "toy/hamp", "lr=inf"], ["train.lr=inf", "finite"]),
    "data given twice": (["run", "digits/hamp", "--data", "x.csv"], ["'digits/hamp'", "x.csv"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_line_and_nothing_is_written(cli, name):
    argv, said = MISTAKES[name]
    refused(cli(*argv), *said)
    nothing_written()


def test_unknown_attack(cli):
    cli("train", *QUICK, "--quiet")
    (run,) = Path("runs").glob("toy-hamp-*")
    refused(cli("attack", run, "nural"), "'nural'", "did you mean 'neural'?")
    refused(cli("attack", run, "epochs=3"), "'epochs'", "judge and attack options")
    refused(cli("attack", run, "neural.epoks=3"), "epoks", "did you mean 'epochs'?")


def test_cuda_absent(cli):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    refused(cli("run", "toy/hamp", "--device", "cuda"), "--device cuda", "--device cpu")
    nothing_written()


TABLES = {
    "missing label column": ({}, "rsik", ["rsik", "did you mean 'risk'?"]),
    "one class": ({"risk": ["low"] * 200}, "risk", ["low", "class"]),
    "nan": ({"income": ["nan"] + ["1.5"] * 199}, "risk", ["income"]),
    "infinite": ({"income": ["inf"] + ["1.5"] * 199}, "risk", ["income"]),
    "free text": ({"town": [f"house {i}" for i in range(200)]}, "risk", ["town", "drop"]),
    "class without members": ({"risk": ["low"] * 100 + ["mid"] * 99 + ["rare"]}, "risk", ["rare"]),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_bad_table_is_one_clear_line(cli, write_table, name):
    columns, label, said = TABLES[name]
    file = write_table(**columns)
    # whether the one rare row is a member depends on the seed; with seed 1 it is not
    refused(cli("run", "hamp", "--data", file, "--label", label, "--seed", "1"), *said)
    nothing_written()


def test_an_empty_table(cli):
    Path("empty.csv").write_text("")
    refused(cli("run", "hamp", "--data", "empty.csv", "--label", "y"), "empty.csv")
    nothing_written()


def test_unwritable_runs_folder(cli):
    Path("file").write_text("")
    refused(cli("run", *QUICK, "--runs-dir", "file/runs"), "file/runs", "another folder")
    refused(cli("run", *QUICK, "--out", "file/out"), "file/out")
    assert not Path("runs").exists() or not any(p.is_file() for p in Path("runs").rglob("*"))


def test_an_edited_recipe_is_noticed(cli):
    cli("train", *QUICK, "--quiet")
    (run,) = Path("runs").glob("toy-hamp-*")
    recipe = run / "recipe.json"
    recipe.write_text(recipe.read_text().replace('"epochs": 2', '"epochs": 3'))
    refused(cli("attack", run), "edited, or its folder renamed")
    refused(cli("run", *QUICK), "edited, or its folder renamed")
    recipe.write_text("{")
    refused(cli("attack", run), "recipe.json")


@pytest.mark.parametrize("name", ["local.json", "result.json", "details.json"])
def test_a_damaged_run_folder_is_one_clear_line(cli, name):
    cli("run", *QUICK, "--quiet")
    (run,) = Path("runs").glob("toy-hamp-*")
    command = ("attack", run) if name == "local.json" else ("report", run, "--out", "o")
    for content in ("{}", "[1]", "{"):
        (run / name).write_text(content)
        refused(cli(*command), name, "run again")
    (run / name).unlink()
    refused(cli(*command), "hampkit")


def test_changed_data_are_noticed(cli, write_table):
    cli("train", "hamp", "--data", write_table(), "--label", "risk", "epochs=1", "--quiet")
    (run,) = Path("runs").glob("people-hamp-*")
    write_table(age=range(200))
    refused(cli("attack", run), "not those it was trained on")


def test_two_processes_on_one_run(cli):
    from hampkit.config import load_recipe
    from hampkit.problem import Settings, prepare
    from hampkit.store import locked

    folder = prepare(load_recipe(QUICK[0], dict(w.split("=") for w in QUICK[1:])), Settings()).folder
    held, done = threading.Event(), threading.Event()

    def hold():
        with locked(Path("runs"), folder):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    try:
        refused(cli("run", *QUICK), "another process", folder)
    finally:
        done.set()
        thread.join()
    assert cli("run", *QUICK, "--quiet")[0] == 0


def test_a_full_disk_is_one_clear_line(cli, monkeypatch):
    import hampkit.store

    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(hampkit.store, "write_file", full)
    refused(cli("run", *QUICK), "No space left on device")
    assert not list(Path("runs").rglob("*.partial"))


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

class OwnNorm(Base):
    def forward(self, x): return F.batch_norm(self.last(x), torch.zeros(3), torch.ones(3), training=self.training)
"""
OWN = {
    "Nan": ["NaN or infinite", "train.standardize"],
    "Infinite": ["NaN or infinite"],
    "Dropout": ["other answers when asked again", "nn.Dropout"],
    "Noise": ["other answers when asked again"],
    "TrainTuple": ["in training mode answers 64 rows with a tuple", "(64, 3)"],
    "TrainWidth": ["in training mode answers 64 rows with shape (64, 6)"],
    "TrainRaises": ["fails in training", "ValueError: no training"],
    "TrainBackward": ["fails in training", "inplace"],
    "TwoRows": ["246 rows with shape (2, 3)", "(246, 3)"],
    "Folded": ["fails on inputs of shape (16,), 246 at once"],
    "Whole": ["torch.int64", "floating-point"],
    "Raises": ["cannot be made: ValueError: no such thing"],
    "Exits": ["cannot be made: SystemExit: 3"],
    "Norm batch_size=1": ["train.batch_size=1", "at least two rows"],
    "OwnNorm batch_size=61": ["train.batch_size=61", "at least two rows"],
}


@pytest.mark.parametrize("case", OWN)
def test_a_network_that_cannot_be_trained_or_asked_is_refused_before_training(cli, monkeypatch, case):
    name, *options = case.split()
    Path("ownnets_for_test.py").write_text(NETS)
    monkeypatch.syspath_prepend(".")
    refused(cli("run", *QUICK, f"net=ownnets_for_test:{name}", *options), f"ownnets_for_test:{name}", *OWN[case])
    nothing_written()


@pytest.mark.parametrize("name", ["Norm", "OwnNorm"])
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
def test_a_module_that_cannot_be_imported(cli, monkeypatch, text, said):
    Path("badmodule_for_test.py").write_text(text)
    monkeypatch.syspath_prepend(".")
    refused(cli("run", *QUICK, "net=badmodule_for_test:net"), "badmodule_for_test", said)
    nothing_written()


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


@pytest.mark.parametrize("package", ["defenses", "attacks"])
@pytest.mark.parametrize(
    ("text", "said"), [("x = y", "NameError"), ("def f(:", "SyntaxError"), ("import nope", "nope")]
)
def test_a_plug_in_that_cannot_be_loaded(cli, plugin, package, text, said):
    plugin(package, "broken_for_test", text)
    refused(cli("list", package), "cannot load", f"{package}/broken_for_test.py", said)


def test_an_entry_point_that_cannot_be_loaded(cli, monkeypatch):
    import importlib.metadata

    from hampkit import registry

    points = [importlib.metadata.EntryPoint("mine", "no_such_package:Mine", "hampkit.attacks")]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **k: points)
    registry._scan.cache_clear()
    refused(cli("list", "attacks"), "cannot load no_such_package:Mine", "entry point mine")
    registry._scan.cache_clear()


def test_a_retry_that_becomes_infinite_does_not_replace_a_model_that_learnt_nothing():
    import torch

    from hampkit.training.trainer import NOT_FINITE, _put
    from hampkit.types import History, Stack

    def stack(value, *seeds, diverged):
        params = {"w": torch.full((1, 2), value)}
        return Stack(torch.nn.Identity(), params, {}, (History(seeds, 0, (), diverged),))

    weak = stack(1.0, 5, diverged="it learnt nothing")
    kept = _put(weak, [0], stack(float("nan"), 6, diverged=NOT_FINITE))
    assert kept.params["w"].isfinite().all()
    assert kept.history[0] == History((6, 5), 0, (), "it learnt nothing")
    last = _put(kept, [0], stack(2.0, 7, diverged=""))
    assert last.history[0].seeds == (6, 5, 7)
    assert last.params["w"].eq(2).all()
