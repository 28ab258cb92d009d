"""Recipes: TOML, key=value, JSON, hashes; registries and entry points."""

import importlib.metadata
import json
import re
import shlex
import sys
from collections import OrderedDict
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hampkit import registry
from hampkit.attacks.threshold import Loss
from hampkit.config.command_line import option, parse_text, quoted, read_value, written
from hampkit.config.extends import shipped_recipes
from hampkit.config.recipe import LATER, TrainConfig, load_recipe, recipe_from_dict, with_seed
from hampkit.data.toy import Toy
from hampkit.errors import UserError
from hampkit.registry import DEFENSES


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads_and_survives_json(name):
    recipe = load_recipe(name)
    assert recipe.title == name
    again = json.loads(json.dumps(recipe.training()))
    assert again == recipe.training()


def test_published_location30_recipes_hold_the_published_numbers():
    hamp, plain = load_recipe("location30/hamp"), load_recipe("location30/undefended")
    assert plain.train == TrainConfig(epochs=50, batch_size=64, optimizer="sgd", lr=0.5, shuffle=False)
    assert hamp.train == TrainConfig(
        epochs=100, batch_size=64, optimizer="sgd", lr=0.5, momentum=0.99, weight_decay=1e-5, schedule="steps",
        milestones=(60, 90, 150), shuffle=False, restart_optimizer=True,
    )  # fmt: skip
    assert {k: hamp.defense.options[k] for k in ("gamma", "alpha", "kl", "grid")} == {
        "gamma": 0.5, "alpha": 0.001, "kl": "mean", "grid": 0.01,
    }  # fmt: skip
    for recipe in (hamp, plain):
        assert (recipe.split.train_size, recipe.split.layout, recipe.net) == (1500, "location30", "mlp")
        assert (recipe.judge.known_train, recipe.judge.known_val) == (0.3, 0.2)


def test_key_value_reaches_every_section():
    recipe = load_recipe(
        "toy/hamp",
        {"gamma": "0.25", "train.lr": "0.5", "rows": "900", "net": "mlp", "seed": "7", "neural.epochs": "3", "strict": "true",
         "milestones": "[2,4]", "schedule": "steps", "grid": "none"},
    )  # fmt: skip
    assert recipe.defense.options["gamma"] == 0.25
    assert recipe.defense.options["grid"] is None
    assert (recipe.train.lr, recipe.train.milestones, recipe.net, recipe.seed) == (0.5, (2, 4), "mlp", 7)
    assert recipe.data.options["rows"] == 900
    assert recipe.attacks["neural"]["epochs"] == 3
    assert recipe.judge.strict


def test_an_ambiguous_key_asks_for_its_section(monkeypatch):
    from dataclasses import dataclass

    from hampkit.defenses.undefended import Undefended

    @dataclass(frozen=True)
    class Slow(Undefended):
        lr: float = 0.1

    monkeypatch.setattr("hampkit.registry._scan", lambda registry: {"undefended": Slow, "toy": Toy, "loss": Loss})
    with pytest.raises(UserError, match=r"'lr' is ambiguous; write train.lr or defense.lr"):
        load_recipe("toy/undefended", {"lr": "0.2"})
    assert load_recipe("toy/undefended", {"defense.lr": "0.2"}).defense.options["lr"] == 0.2


def test_a_field_that_came_later_changes_the_hash_only_where_it_is_set():
    """Runs of an earlier version are found again, and never taken for what they are not."""
    base = load_recipe("toy/hamp")
    assert set(LATER) <= {f.name for f in fields(TrainConfig)}
    assert not set(LATER) & set(base.training()["train"])
    assert load_recipe("toy/hamp", {"precision": "float32"}).folder() == base.folder()
    assert load_recipe("toy/hamp", {"precision": "bfloat16"}).folder() != base.folder()


def test_the_hash_covers_training_and_not_the_judge():
    base = load_recipe("toy/hamp")
    assert load_recipe("toy/hamp", {"strict": "true", "neural.epochs": "2"}).folder() == base.folder()
    for key, value in {
        "gamma": "0.4",
        "epochs": "59",
        "rows": "500",
        "split.seed": "3",
        "net": "mlp",
        "noise": "keyed",
    }.items():
        assert load_recipe("toy/hamp", {key: value}).folder() != base.folder(), key
    assert with_seed(base, 1).folder() != base.folder()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3.0", 3.0),
        ("1e-3", 1e-3),
        ("TRUE", True),
        ("[]", []),
        ("[a, 2]", ["a", 2]),
        ("-1", -1),
        ("x=y", "x=y"),
    ],
)
def test_values_are_read_as_what_they_look_like(text, value):
    assert parse_text(text) == value
    assert type(parse_text(text)) is type(value)


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        "",
        " ",
        "01",
        "1e3",
        "true",
        "[a]",
        "[",
        '"',
        "'",
        '"a"',
        "a, b",
        "it's",
        'say "a, b"',
        "\\",
        "\x1b[31m",
        "\u202e",
        "#",
    ]
)


@given(st.lists(ANY_TEXT, max_size=5))
def test_a_list_can_hold_every_text(texts):
    assert parse_text(written(texts)) == texts
    assert read_value(written(texts), tuple[str, ...]) == texts


@given(ANY_TEXT)
def test_every_text_can_be_written(text):
    assert parse_text(written(text)) == text
    assert read_value(quoted(text), str) == text


@given(st.lists(ANY_TEXT, min_size=1, max_size=5))
def test_advice_can_be_pasted_into_a_shell(texts):
    words = shlex.split(option("drop", *texts))
    assert len(words) == 1
    found = read_value(words[0].removeprefix("drop="), tuple[str, ...])
    assert (found if isinstance(found, list) else [found]) == texts
    assert option("drop", *texts).isprintable()


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("1e3", str, "1e3"),
        ("01", str, "01"),
        ("true", str, "true"),
        ('"a b"', str, "a b"),
        ("[1, true, 01]", tuple[str, ...], ["1", "true", "01"]),
        ("[a, b,]", tuple[str, ...], ["a", "b"]),
        ("['a\\b', \"c\\td\"]", tuple[str, ...], ["a\\b", "c\td"]),
        ("[it's, x[0]]", tuple[str, ...], ["it's", "x[0]"]),
        ("3", int | None, 3),
        ("best", Literal["best", "last"], "best"),
    ],
)
def test_a_field_for_texts_takes_what_looks_like_a_number(text, hint, value):
    assert read_value(text, hint) == value


@pytest.mark.parametrize("text", ['["a]', "[a, 'b]", '["a" b]', "['a''b']"])
def test_a_quote_without_its_end_is_an_error(text):
    with pytest.raises(UserError, match="a quote has no end, or no comma follows it"):
        parse_text(text)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"defense": "hamp"}, "must name its data"),
        ({"data": "toy"}, "must name its defense"),
        ({"data": "toy", "defense": "hamp", "trian": {}}, "did you mean 'train'"),
        ({"data": "toy", "defense": "hamp", "train": 3}, "section"),
        ({"data": "toy", "defense": {"name": "hamp", "gamma": "high"}}, "a number"),
        ({"data": "toy", "defense": "hamp", "seed": -1}, "seed=-1"),
        ({"data": "toy", "defense": "hamp", "net": 3}, "net=3"),
        ({"data": "toy", "defense": "hamp", "attacks": {"neurla": {}}}, "did you mean 'neural'"),
    ],
)
def test_bad_recipes_are_refused(document, said):
    with pytest.raises(UserError, match=said):
        recipe_from_dict(document)


def install(monkeypatch, points):
    """Make these entry points those of installed defenses."""
    real = importlib.metadata.entry_points
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda **k: points if k.get("group") == "hampkit.defenses" else real(**k)
    )


def test_a_defense_of_another_package_is_found_by_entry_point(monkeypatch, tmp_path):
    (tmp_path / "otherdefense.py").write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\nfrom hampkit.defenses.undefended import Undefended\n"
        "@dataclass(frozen=True)\nclass Other(Undefended):\n    '''Another way to do nothing.'''\n"
        "    name: ClassVar[str] = 'other'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    point = importlib.metadata.EntryPoint("other", "otherdefense:Other", "hampkit.defenses")
    install(monkeypatch, [point])
    from hampkit import registry

    registry._scan.cache_clear()
    try:
        assert "other" in DEFENSES.classes()
        assert load_recipe("digits/other").train == load_recipe("digits/undefended").train
    finally:
        registry._scan.cache_clear()
        sys.modules.pop("otherdefense", None)


@pytest.mark.parametrize("first", ["undefended", "twice"])
def test_an_entry_point_with_the_name_of_another_class_is_an_error(monkeypatch, tmp_path, first):
    """A built-in defense, or that of another package: it would be unknown whose numbers a result has."""
    text = (
        "from hampkit.defenses.undefended import Undefended\n"
        "class One(Undefended):\n    name = {!r}\nclass Other(Undefended):\n    name = 'twice'\n"
    )
    (tmp_path / "samename.py").write_text(text.format(first))
    monkeypatch.syspath_prepend(tmp_path)
    points = [importlib.metadata.EntryPoint(n, f"samename:{n}", "hampkit.defenses") for n in ("One", "Other")]
    install(monkeypatch, points)
    registry._scan.cache_clear()
    try:
        with pytest.raises(UserError, match=f"samename:.* has the name '{first}' of .*; give it another name"):
            DEFENSES.classes()
    finally:
        registry._scan.cache_clear()
        sys.modules.pop("samename", None)


def test_an_entry_point_to_something_else_is_one_clear_line(monkeypatch):
    point = importlib.metadata.EntryPoint("other", "collections:OrderedDict", "hampkit.defenses")
    install(monkeypatch, [point])
    registry._scan.cache_clear()
    try:
        with pytest.raises(UserError) as caught:
            DEFENSES.classes()
    finally:
        registry._scan.cache_clear()
    for part in (
        "collections:OrderedDict of hampkit.defenses",
        "a subclass of hampkit.defenses.base:Defense",
        "correct or",
    ):
        assert part in str(caught.value)


def test_a_generic_alias_in_a_module_is_no_class():
    """In Python 3.10 ``inspect.isclass(dict[str, int])`` is true, and ``issubclass`` fails on it."""
    module = ModuleType("some")
    module.Params, module.Names = dict[str, int], list[str]  # pyright: ignore[reportAttributeAccessIssue]
    assert registry._concrete(module, dict) == []
    assert not registry._is_subclass(dict[str, int], dict)
    assert registry._is_subclass(OrderedDict, dict)


def test_the_lowest_versions_that_are_tested_are_those_that_are_declared():
    root = Path(__file__).parent.parent
    if not (root / "constraints-lowest.txt").is_file():
        pytest.skip("outside a checkout")
    declared = re.findall(
        r'^    "([a-z-]+)>=([\d.]+)', (root / "pyproject.toml").read_text().partition("[project.opt")[0], re.M
    )
    tested = dict(re.findall(r"^([a-z-]+)==([\d.]+)$", (root / "constraints-lowest.txt").read_text(), re.M))
    assert set(tested) == {name for name, _ in declared}
    for name, version in declared:
        assert f"{tested[name]}.".startswith(f"{version}."), name
