"""`hampkit list` answers from catalog.json as the registries would, without importing torch."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hampkit import catalog, registry
from hampkit.catalog import FILE, foreign, from_json, stored, to_json
from hampkit.cli import catalog as lists
from hampkit.config.sections import SECTIONS
from hampkit.errors import UserError
from hampkit.registry import ATTACKS, DATASETS, DEFENSES
from hampkit.workflows.catalog import from_registries

OWNERS = sorted({g.owner for g in from_registries().options} - {""})
WORDS = sorted({w for g in from_registries().options for key, _ in g.lines for w in key.partition("=")[0].split(".")})
DATA = [name for name in DATASETS.classes() if name != "file"]


@pytest.fixture
def unstored(monkeypatch):
    """Answers come from the registries."""
    registered = from_registries()

    def switch():
        monkeypatch.setattr(lists, "_registered", lambda: registered)
        for module in (lists, registry):
            monkeypatch.setattr(module, "stored", lambda: None)

    return switch


def test_the_catalog_is_up_to_date():
    written = json.loads(FILE.read_text("utf-8"))
    assert written == json.loads(json.dumps(to_json(from_registries()))), "python -m benchmarks.catalog --write"
    assert stored() == from_json(written)


FORMS = [
    [],
    *([what] for what in lists.LISTS),
    *(
        ["options", name]
        for name in (*OWNERS, *SECTIONS, *WORDS, "data", "defense", "generator", "lira", "hmap", "zzzz")
    ),
    ["recipes", "hamp"],
    ["recipes", "digits/hmap"],
    ["recipes", "digits/hamp", "toy/hamp"],
    ["reicpes"],
]


def test_every_list_is_that_of_the_registries(unstored):
    quick = [answered(*form) for form in FORMS]
    unstored()
    for form, lines in zip(FORMS, quick, strict=True):
        assert lines == answered(*form), form


def answered(what="", *names):
    try:
        return lists.listing(what, names)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("data", [*DATA, "file"])
def test_every_recipe_is_printed_as_its_classes_check_it(data, unstored):
    names = [f"{data}/{defense}" for defense in DEFENSES.classes()]
    assert all(lists._shipped_values(name) for name in names), "the catalog answers for all"
    quick = [lists.recipe_lines(name) for name in names]
    unstored()
    assert quick == [lists.recipe_lines(name) for name in names]


OWN = {
    "only the training": ('extends = "digits/hamp"\n[train]\nepochs = 3\n', True),
    "another defense": ('data = "digits"\nextends = "undefended"\ndefense = "round"\n', True),
    "an option of the defense": ('extends = "digits/hamp"\n[defense]\ngamma = 0.25\n', False),
    "an option of an attack": ('extends = "digits/hamp"\n[attacks.neural]\nepochs = 7\n', False),
    "a wrong value": ('extends = "digits/hamp"\n[train]\nepochs = 0\n', False),
    "an unknown key": ('extends = "digits/hamp"\n[train]\nepoch = 3\n', False),
}


@pytest.mark.parametrize("case", OWN)
def test_a_recipe_of_ones_own_is_printed_alike(case, unstored):
    text, quick = OWN[case]
    Path("mine.toml").write_text(text)
    assert bool(lists._shipped_values("mine.toml")) == quick
    first = answered("recipes", "mine.toml")
    unstored()
    assert first == answered("recipes", "mine.toml")


OPTIONS = {  # whether the values are checked without the classes
    "epochs=3 lr=0.5": True,
    "train.milestones=[1,2] schedule=steps judge.strict=true": True,
    "models=4 split.seed=3 shadows.keep_models=yes": True,
    "precision=float32 threads=2 layout=with-reference": True,
    "epochs=x": False,
    "epochs=0": False,
    "epochs=3 train.epochs=4": False,
    "gamma=0.25": False,
    "rows=3": False,
    "seed=3": False,
    "epoch=3": False,
    "neural.epochs=3": False,
    "train=3": False,
    "train.epochs.x=3": False,
}


@pytest.mark.parametrize("words", OPTIONS)
@pytest.mark.parametrize("recipe", ["toy/hamp", "digits/early-stopping"])
def test_a_recipe_with_options_is_printed_alike(recipe, words, unstored):
    """Values of sections are checked here, and those of classes by the classes, which have to be imported."""
    options = dict(word.split("=") for word in words.split())

    def shown():
        try:
            return lists.recipe_lines(recipe, options)
        except UserError as error:
            return str(error)

    assert bool(lists._shipped_values(recipe, options)) == OPTIONS[words]
    first = shown()
    unstored()
    assert first == shown()


def test_an_option_that_the_defense_has_too_is_left_to_the_classes():
    assert lists._shipped_values("toy/early-stopping", {"patience": "3"}) is None
    assert lists._shipped_values("toy/hamp", {"patience": "3"})


COMMANDS = [
    "",
    "recipes",
    "options",
    "options hamp",
    "recipes digits/hamp",
    "recipes toy/selena",
    "recipes digits/hamp epochs=3 train.lr=0.5",
    "recipes digits/hamp split.seed=1 layout=default",
    "recipes digits/hamp judge.strict=true",
    "recipes digits/hamp models=4 shadows.keep_models=yes",
    "defenses",
    "attacks",
]


def test_lists_import_no_torch(tmp_path):
    code = (
        "import sys\nfrom hampkit.cli.app import guarded\n"
        f"codes = [guarded(['list', *words.split()]) for words in {COMMANDS!r}]\n"
        "codes += [guarded(['--help']), guarded(['--version']), guarded(['list', 'options', 'hmap'])]\n"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'plotly', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        f"assert codes == [0] * {len(COMMANDS) + 2} + [2], codes\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)


THEIRS = '''raise SystemExit("imported")
class Mine:
    """A defense of one's own. It does nothing."""
    name: "ClassVar[str]" = "not-the-key"
'''


@pytest.fixture
def theirs(monkeypatch, tmp_path):
    """A package whose import fails registers a defense, and one that is not there an attack."""
    (tmp_path / "theirpackage").mkdir()
    (tmp_path / "theirpackage" / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "theirpackage" / "defense.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        importlib.metadata.EntryPoint("key", "theirpackage.defense:Mine", "hampkit.defenses"),
        importlib.metadata.EntryPoint("gone", "no_such_package:Gone", "hampkit.attacks"),
    ]
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: [point for point in points if point.group == group]
    )
    registry._scan.cache_clear()
    yield
    registry._scan.cache_clear()


def test_classes_of_other_packages_are_named_and_not_imported(theirs):
    (mine,), (gone,) = foreign("hampkit.defenses"), foreign("hampkit.attacks")
    assert (mine.name, gone.name) == ("not-the-key", "gone")
    assert mine.about == "A defense of one's own. (theirpackage.defense:Mine, of another package)"
    shown = lists.listing("defenses")
    shipped = stored()
    assert shipped is not None
    assert [line.split()[0] for line in shown] == sorted([*shipped.names("defenses"), "not-the-key"])
    assert any("hampkit list options not-the-key lists its options" in line for line in lists.listing("options"))
    assert lists.listing("options", ["hamp"])[0].startswith("defense.gamma=")
    assert "theirpackage" not in sys.modules
    with pytest.raises(UserError, match="cannot load theirpackage.defense:Mine".replace(".", "[.]")):
        lists.listing("options", ["not-the-key"])


def test_a_class_with_the_name_of_a_built_in_one_is_refused_by_lists_too(monkeypatch, tmp_path):
    (tmp_path / "samename_for_list.py").write_text(
        "from hampkit.defenses.undefended import Undefended\nclass One(Undefended):\n    name = 'hamp'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    point = importlib.metadata.EntryPoint("one", "samename_for_list:One", "hampkit.defenses")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == point.group else [])
    registry._scan.cache_clear()
    try:
        with pytest.raises(UserError, match="has the name 'hamp' of"):
            lists.listing("defenses")
    finally:
        registry._scan.cache_clear()
        sys.modules.pop("samename_for_list", None)


NEW = '''from dataclasses import dataclass
from hampkit.attacks.base import Attack

@dataclass(frozen=True)
class Coin(Attack):
    """Guesses."""
    name = "coin-for-test"
    paper = "none"
    sides: int = 2  # of the coin

    def score(self, evidence):
        return evidence.y * 0.0
'''


def test_a_new_file_in_a_clone_is_listed_at_once(plugin):
    assert stored() is not None
    plugin("attacks", "coin_for_test", NEW)
    assert stored() is None
    assert lists.listing("options", ["coin-for-test"]) == ["coin-for-test.sides=2  of the coin"]
    assert any(line.startswith("coin-for-test ") for line in lists.listing("attacks"))


def test_a_damaged_catalog_is_as_good_as_none(monkeypatch):
    damaged = Path("catalog.json")
    for text in ("{", "[]", '{"modules": {}}'):
        damaged.write_text(text)
        monkeypatch.setattr(catalog, "FILE", damaged)
        catalog._written.cache_clear()
        try:
            assert stored() is None
        finally:
            catalog._written.cache_clear()


def test_names_are_known_without_importing_their_classes(monkeypatch):
    monkeypatch.setattr(registry, "_scan", lambda registry: pytest.fail("imported"))
    assert DEFENSES.has("hamp")
    assert DATASETS.has("digits")
    assert ATTACKS.has("loss")
