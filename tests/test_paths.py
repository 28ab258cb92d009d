"""Paths of the user: ~ is expanded wherever a path is taken, and a user that does not exist is one line."""

import numpy as np
import pytest

import hampkit
from hampkit.errors import UserError

OPTIONS = {"rows": 200, "epochs": 1}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The user's folder, with a file for each option that takes a path."""
    (tmp_path / "elsewhere").mkdir()
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.chdir(tmp_path / "elsewhere")
    (folder / "base.toml").write_text(
        '[data]\nname = "toy"\nrows = 200\n[defense]\nname = "undefended"\n[train]\nepochs = 1\n'
    )
    (folder / "own.toml").write_text('extends = "~/base.toml"\n')
    (folder / "t.csv").write_text("a,b,y\n" + "".join(f"{k},{k * k % 17},{k % 2}\n" for k in range(100)))
    (folder / "table.toml").write_text(
        '[data]\nname = "file"\nfile = "~/t.csv"\nlabel = "y"\n[defense]\nname = "undefended"\n[train]\nepochs = 1\n'
    )
    np.save(folder / "p.npy", np.random.default_rng(0).permutation(200))
    np.save(folder / "x.npy", np.zeros((300, 40)))
    yield folder
    assert not list((tmp_path / "elsewhere").iterdir()), "nothing is written into a folder named ~"


def test_recipes_and_tables(home):
    assert hampkit.recipe("~/own.toml").title == "toy/undefended"
    for recipe in ("~/own.toml", "~/table.toml"):
        assert hampkit.train(recipe, runs_dir="~/runs").folder.parent == home / "runs"
    found = hampkit.train("undefended", data="~/t.csv", label="y", options={"epochs": 1}, runs_dir="~/runs")
    assert found.folder.parent == home / "runs"


def test_sessions_reports_and_runs(home):
    session = hampkit.Session(runs_dir="~/runs", data_dir="~")  # pyright: ignore[reportArgumentType]
    folder = hampkit.train("toy/undefended", options=OPTIONS, session=session).folder
    assert folder.parent == home / "runs"
    hampkit.attack(f"~/runs/{folder.name}", "loss", out="~/first")
    hampkit.write_report(f"~/runs/{folder.name}", out="~/second")
    assert (home / "first/report.html").exists()
    assert (home / "second/report.html").exists()


@pytest.mark.parametrize("options", [{"split.permutation": "~/p.npy"}, {"split.permutation": "~/p.npy", "seed": 3}])
def test_files_of_options(home, options):
    assert hampkit.train("toy/undefended", options=OPTIONS | options, runs_dir="~/runs").folder.exists()


def test_the_inputs_of_a_student(home):
    x = hampkit.train("toy/undefended", options=OPTIONS, runs_dir="~/runs").pool.x
    np.save(home / "x.npy", np.random.default_rng(0).integers(0, 2, (300, x.shape[1])))
    options = OPTIONS | {"defense.file": "~/x.npy", "distill.epochs": 1}
    assert hampkit.train("toy/dmp", options=options, runs_dir="~/runs").folder.exists()


@pytest.mark.parametrize(
    "call",
    [
        lambda path: hampkit.recipe(f"{path}/r.toml"),
        lambda path: hampkit.Session(runs_dir=path),
        lambda path: hampkit.Session(data_dir=path).place(),
        lambda path: hampkit.train("undefended", data=f"{path}/t.csv", label="y"),
        lambda path: hampkit.train("toy/undefended", options={"split.permutation": f"{path}/p.npy"}),
    ],
)
def test_a_user_that_does_not_exist_is_one_line(call, home):
    with pytest.raises(UserError) as caught:
        call("~nobody-of-that-name")
    assert "\n" not in str(caught.value)
