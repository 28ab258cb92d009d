"""Arguments of the public calls: a value of a wrong type is one line that names it, before anything is read or written."""

import functools
import inspect
from pathlib import Path

import numpy as np
import pytest

import hampkit
from hampkit import api
from hampkit.errors import UserError
from hampkit.workflows.arguments import KINDS, checked

CALLS = [hampkit.run, hampkit.train, hampkit.shadow, hampkit.plan, hampkit.attack, hampkit.compare]
WRONG = {  # argument → values of other types
    "options": ["lr=1", ["lr=1"], {3: 1}, np.zeros(2)],
    "attacks": ["loss", [3], {"loss": 1}, 3],
    "defenses": ["hamp", [None], 3],
    "seed": ["1", 1.5, True, [1]],
    "seeds": ["2", 2.0, None],
    "shadows": ["4", 4.5, None, True],
    "data": [3, np.zeros(3), ["a.csv"], b"a.csv", None],
    "label": [3, ["y"], None],
    "out": [3, [Path("a")]],
    "force": ["yes", 1],
    "shadows_from": [3, None],
    "runs_dir": [3, None, ["runs"]],
    "data_dir": [3, ["runs"]],
    "device": [0, None],
    "workers": ["2", 1.5, None],
    "progress": [print, True, None],
    "session": ["runs", 3],
}
CASES = [(call, name, value) for call in CALLS for name, values in WRONG.items() for value in values]


def takes(call, name):
    return name in inspect.signature(call).parameters or name in api.Settings.__annotations__


@pytest.mark.parametrize(
    ("call", "name", "value"),
    [c for c in CASES if takes(*c[:2])],
    ids=lambda v: v.__name__ if callable(v) and v is not print else repr(v)[:30],
)
def test_a_value_of_a_wrong_type_is_refused_in_one_line(call, name, value, tmp_path):
    first = {"shadow": ("toy/hamp", 4), "plan": ("toy/hamp", 4), "compare": ("toy",)}.get(call.__name__, ("toy/hamp",))
    given = (
        {name: value} if name in inspect.signature(call).parameters else {"runs_dir": tmp_path / "runs", name: value}
    )
    if call is hampkit.plan and name == "shadows":
        first = first[:1]
    with pytest.raises(hampkit.UserError) as error:
        call(*first, **given)
    text = str(error.value)
    assert text.startswith(name)
    assert "must be" in text
    assert len(text) < 300
    assert "\n" not in text
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("value", [["toy/hamp"], 3, None, np.zeros(3), {}], ids=repr)
def test_a_recipe_a_run_and_a_data_set_of_another_type_are_refused_too(value):
    for call in (
        hampkit.run,
        hampkit.train,
        hampkit.attack,
        hampkit.compare,
        functools.partial(api.write_report, out="o"),
    ):
        with pytest.raises(hampkit.UserError, match=r"^(recipes\[0\]|recipe|runs?|runs\[0\]|dataset)=.* must be"):
            call(value)


def test_every_argument_of_a_public_call_has_a_kind():
    for call in CALLS:
        assert set(inspect.signature(call).parameters) - {"settings"} <= set(KINDS), call
    assert set(api.Settings.__annotations__) - {"launcher"} <= set(KINDS)


@pytest.mark.parametrize(
    "names", [["a", "b"], ("a", "b"), np.array(["a", "b"]), {"b", "a"}, (n for n in "ab"), {"a": 0, "b": 1}.keys()]
)
def test_lists_of_every_kind_are_lists(names):
    @checked
    def call(options=None):
        return options

    assert list(call(options={"drop": names})["drop"]) == ["a", "b"]
    assert call(options={"na": np.array([1, -999])}) == {"na": [1, -999]}, "and not the text '[1 -999]'"
    for wrong in (b"a", {"a": 1}):
        with pytest.raises(UserError, match=r"options\['drop'\]=.* must be a number, a text, True, False or a list"):
            call(options={"drop": wrong})


def test_numbers_of_numpy_and_paths_from_home_are_taken(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))

    @checked
    def call(*recipes, options=None, seed=None, out=None, data="", **settings):
        return recipes, options, seed, out, data, settings

    recipes, options, seed, out, data, settings = call(
        Path("~/mine.toml"), options={"lr": np.float32(0.5), "epochs": np.int64(3), "decay": np.array(2)},
        seed=np.int64(4), out=Path("~/reports"), data="~/table.csv", runs_dir="~/runs",
    )  # fmt: skip
    assert recipes == (tmp_path / "mine.toml",)
    assert options == {"lr": 0.5, "epochs": 3, "decay": 2}
    assert [type(v) for v in options.values()] == [float, int, int]
    assert (seed, type(seed)) == (4, int)
    assert (out, data) == (tmp_path / "reports", str(tmp_path / "table.csv"))
    assert settings == {"runs_dir": str(tmp_path / "runs")}


def test_the_calls_keep_their_names_and_docstrings():
    for call in CALLS:
        assert "Raises: `UserError`" in call.__doc__
        assert call.__module__ == "hampkit.api"
