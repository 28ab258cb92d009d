"""Recipes that extend others: merging, chains, origins, and the shipped files, which repeat nothing."""

import json
from importlib import resources
from pathlib import Path

import pytest

from hampkit.cli.catalog import recipe_lines
from hampkit.config.extends import LONGEST, from_file, merge, resolve, shipped, tomllib
from hampkit.config.recipe import accepts, load_recipe, recipe_from_dict
from hampkit.errors import UserError
from hampkit.registry import DATASETS, DEFENSES
from hampkit.text import flatten

ROOT = resources.files("hampkit") / "recipes"
FILES = sorted((d.name, f.name[:-5]) for d in ROOT.iterdir() if d.is_dir() for f in d.iterdir())
CHILDREN = [(data, name) for data, name in FILES if name != "undefended"]
TOY = '[data]\nname = "toy"\nrows = 300\n'


def written(data, name):
    """A shipped file as it stands there."""
    return tomllib.loads((ROOT / data / f"{name}.toml").read_text("utf-8"))


def flat(document):
    """Address → value."""
    found = {}
    for address in flatten(document):
        value = document
        for key in address:
            value = value[key]
        found[address] = value
    return found


def inherited(data, name):
    """What a shipped recipe has from those above it, the slow way: one value at a time, from the top of the chain."""
    above = written(data, name).get("extends")
    if above is None:
        return {}
    values = {**inherited(data, above), **flat(written(data, above))}
    mine = written(data, name).get("defense", {}).get("name")
    other = mine not in (None, values["defense", "name"])
    return {k: v for k, v in values.items() if k != ("extends",) and not (other and k[0] == "defense")}


def file(name, text):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
    return name


def parent_of(path):
    return resolve(from_file(Path(path))).chain[1]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("data", "name"), CHILDREN)
def test_a_shipped_recipe_extends_another_one_and_repeats_none_of_its_values(data, name):
    values, above = flat(written(data, name)), inherited(data, name)
    assert values.pop(("extends",)) in {n for d, n in FILES if d == data}
    repeated = {".".join(k): v for k, v in values.items() if k in above and above[k] == v}
    assert not repeated


@pytest.mark.parametrize(("data", "name"), FILES)
def test_a_shipped_recipe_resolves_as_value_by_value(data, name):
    values = {**inherited(data, name), **flat(written(data, name))}
    values.pop(("extends",), None)
    found = resolve(shipped(data, name))
    assert flat(found.document) == values
    assert set(found.origins) == set(values)
    for address, origin in found.origins.items():
        assert flat(written(*origin.split("/")))[address] == values[address]


def test_a_defense_without_a_recipe_is_one_that_extends_the_undefended():
    found = resolve(shipped("digits", "round"))
    assert found.chain == ("digits/round", "digits/undefended")
    assert found.document == {**written("digits", "undefended"), "defense": {"name": "round"}}
    assert found.origins["defense", "name"] == "digits/round"
    assert found.origins["train", "lr"] == "digits/undefended"


def test_values_are_merged_key_by_key_at_every_depth_and_the_inputs_are_left_alone():
    parent = {
        "train": {"lr": 0.1, "epochs": 5},
        "defense": {"distill": {"lr": 1.0, "epochs": 7}},
        "judge": {"strict": True},
    }
    child = {"train": {"lr": 0.2}, "defense": {"distill": {"epochs": 8}}, "attacks": {"neural": {"epochs": 3}}}
    merged = merge(parent, child)
    assert merged == {
        "judge": {"strict": True},
        "train": {"lr": 0.2, "epochs": 5},
        "defense": {"distill": {"lr": 1.0, "epochs": 8}},
        "attacks": {"neural": {"epochs": 3}},
    }
    merged["train"]["lr"] = merged["defense"]["distill"]["lr"] = merged["attacks"]["neural"]["epochs"] = 9
    merged["judge"]["strict"] = False
    assert parent["judge"]["strict"]
    assert parent["train"]["lr"] == 0.1
    assert parent["defense"]["distill"]["lr"] == 1.0
    assert child["attacks"]["neural"]["epochs"] == 3


@pytest.mark.parametrize(
    ("section", "parent", "child", "merged"),
    [
        ("defense", {"name": "hamp", "gamma": 0.5}, {"name": "round"}, {"name": "round"}),
        ("defense", {"name": "hamp", "gamma": 0.5}, {"name": "hamp"}, {"name": "hamp", "gamma": 0.5}),
        ("defense", {"name": "hamp", "gamma": 0.5}, {"alpha": 1}, {"name": "hamp", "gamma": 0.5, "alpha": 1}),
        ("data", {"name": "toy", "rows": 9}, {"name": "digits"}, {"name": "digits"}),
        ("data", {"name": "toy", "rows": 9}, {"classes": 3}, {"name": "toy", "rows": 9, "classes": 3}),
        (
            "defense",
            {"name": "dmp", "generator": "dcgan", "options": ["epochs=5"], "synthetic": 9},
            {"generator": "ctgan"},
            {"name": "dmp", "generator": "ctgan", "synthetic": 9},
        ),
        ("train", {"epochs": 5}, 3, 3),  # refused when the recipe is built
    ],
)
def test_options_of_another_class_are_not_inherited(section, parent, child, merged):
    assert merge({section: parent}, {section: child}) == {section: merged}


def test_a_child_undoes_an_inherited_value_by_setting_it():
    file("a.toml", 'extends = "digits/hamp"\n[train]\nmomentum = 0.0\nschedule = "constant"\nmilestones = []\n')
    train = load_recipe("a.toml").train
    assert (train.momentum, train.schedule, train.milestones) == (0.0, "constant", ())
    file("b.toml", 'extends = "digits/selena"\n[defense.distill]\nepochs = "none"\n')
    assert load_recipe("b.toml").defense.options["distill"].epochs is None
    assert load_recipe("digits/selena").defense.options["distill"].epochs == 100


def test_a_file_extends_a_shipped_recipe_and_has_its_hash_where_nothing_differs():
    file("mine.toml", 'extends = "toy/hamp"\n')
    assert load_recipe("mine.toml") == load_recipe("toy/hamp")
    assert load_recipe("mine.toml").folder() == load_recipe("toy/hamp").folder()
    file("mine.toml", 'extends = "toy/hamp"\n[defense]\ngamma = 0.7\n')
    assert load_recipe("mine.toml") == load_recipe("toy/hamp", {"gamma": "0.7"})


def test_a_path_is_relative_to_the_file_in_which_it_stands():
    file("shared/base.toml", 'defense = "hamp"\n' + TOY)
    file("shared/sub/a.toml", 'extends = "../base.toml"\nnet = "mlp-small"\n')
    file("b.toml", 'extends = "shared/sub/a.toml"\nseed = 3\n')
    recipe = load_recipe("b.toml")
    assert (recipe.seed, recipe.net, recipe.data.options["rows"], recipe.defense.name) == (3, "mlp-small", 300, "hamp")
    file("c.toml", f'extends = "{Path("b.toml").resolve()}"\n')
    assert load_recipe("c.toml") == recipe


@pytest.mark.parametrize("data", ['[data]\nname = "toy"\nrows = 300\n', 'data = "toy"\n'])
def test_a_bare_name_is_a_recipe_of_the_data_set_that_the_file_names(data):
    file("mine.toml", 'extends = "hamp"\n' + data)
    assert parent_of("mine.toml") == "toy/hamp"
    assert load_recipe("mine.toml").train == load_recipe("toy/hamp").train


def test_a_bare_name_is_a_recipe_for_tables_where_the_data_is_a_table():
    file("mine.toml", 'extends = "hamp"\n[data]\nname = "file"\nfile = "x.csv"\nlabel = "y"\n')
    assert load_recipe("mine.toml") == load_recipe("hamp", file="x.csv", label="y")
    file("any.toml", 'extends = "hamp"\n')
    assert load_recipe("any.toml", file="x.csv", label="y") == load_recipe("hamp", file="x.csv", label="y")
    assert accepts("any.toml", "gamma", "x.csv", "y")


def test_a_recipe_for_tables_can_be_named_in_full():
    file("mine.toml", 'extends = "file/hamp"\n[data]\nfile = "x.csv"\nlabel = "y"\n')
    assert load_recipe("mine.toml") == load_recipe("hamp", file="x.csv", label="y")


def test_a_table_of_the_command_line_takes_the_place_of_inherited_data():
    file("mine.toml", 'extends = "digits/hamp"\n')
    assert load_recipe("mine.toml", file="x.csv", label="y").data.options["file"] == "x.csv"


def chain(length):
    """A chain of files; the last one extends nothing."""
    for k in range(length):
        last = k == length - 1
        file(f"{k}.toml", 'defense = "hamp"\n' + TOY if last else f'extends = "{k + 1}.toml"\n')
    return "0.toml"


def test_four_recipes_may_extend_one_another_and_no_more(cli, refused):
    assert load_recipe(chain(LONGEST)).defense.name == "hamp"
    refused(cli("train", chain(LONGEST + 1)), "more than 4", "0.toml → 1.toml → 2.toml → 3.toml → 4.toml", "merge")


def test_a_defense_without_a_file_counts_as_a_recipe():
    file("a.toml", 'extends = "b.toml"\n')
    file("b.toml", 'extends = "digits/round"\n')
    assert resolve(from_file(Path("a.toml"))).chain == ("a.toml", "b.toml", "digits/round", "digits/undefended")


WRONG = {
    "itself": ('extends = "mine.toml"', ["circle", "mine.toml → mine.toml", "take extends out of mine.toml"]),
    "itself by another name": ('extends = "dir.toml/../mine.toml"', ["circle", "take extends out of mine.toml"]),
    "circle of two": ('extends = "back.toml"', ["circle", "mine.toml → back.toml → mine.toml", "out of back.toml"]),
    "no file": (
        'extends = "base.toml"',
        ["recipe mine.toml extends 'base.toml'", "no recipe file base.toml", "existing"],
    ),
    "no defense": (
        'extends = "toy/hmap"',
        ["recipe mine.toml extends 'toy/hmap'", "no defense", "did you mean 'hamp'"],
    ),
    "no data set": ('extends = "toys/hamp"', ["mine.toml extends 'toys/hamp'", "no data set 'toys'", "'toy/hamp'"]),
    "folder": ('extends = "../toy/hamp"', ["mine.toml extends '../toy/hamp'", "no data set '../toy'"]),
    "bare": ('extends = "hamp"', ["mine.toml extends 'hamp'", "mine.toml names no data set", "DATA/hamp", "[data]"]),
    "bare and unknown": ('extends = "hmap"\ndata = "toy"', ["mine.toml extends 'hmap'", "'toy/hmap'", "'hamp'"]),
    "number": ("extends = 3", ["extends=3", "recipe mine.toml", "DATA/DEFENSE", ".toml file"]),
    "list": ('extends = ["toy/hamp"]', ["extends=['toy/hamp']", "must name one recipe"]),
    "nothing": ('extends = ""', ["extends=''", "must name one recipe"]),
    "null byte": ('extends = "a\\u0000.toml"', ["mine.toml extends", "cannot read recipe", "null byte"]),
    "nobody's home": (
        'extends = "~nobody-here/a.toml"',
        ["mine.toml extends '~nobody-here/a.toml'", "give another one"],
    ),
    "a folder": ('extends = "dir.toml"', ["mine.toml extends 'dir.toml'", "dir.toml is a folder"]),
    "no TOML": ('extends = "broken.toml"', ["mine.toml extends 'broken.toml'", "recipe broken.toml is not valid TOML"]),
    "in a section": ('[train]\nextends = "toy/hamp"', ["extends in section [train] of recipe mine.toml", "above"]),
    "in a section of a section": ('[defense.distill]\nextends = "toy/dmp"', ["section [defense.distill]", "above"]),
    "misspelt": ('extend = "toy/hamp"', ["'extend' in recipe mine.toml", "did you mean 'extends'"]),
    "misspelt above": (
        'extends = "typo.toml"',
        ["mine.toml extends 'typo.toml'", "'trian' in recipe typo.toml", "'train'"],
    ),
    "section": ('extends = "toy/hamp"\ntrain = 3', ["train must be a section with keys, not 3"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_extended_is_refused_in_one_line(cli, refused, nothing_written, name):
    text, said = WRONG[name]
    file("back.toml", 'extends = "mine.toml"\n')
    file("typo.toml", "[trian]\nepochs = 3\n")
    file("broken.toml", "net =\n")
    Path("dir.toml").mkdir()
    refused(cli("run", file("mine.toml", text + "\n")), *said)
    assert not Path("runs").exists()


def test_a_shipped_recipe_extends_no_file(monkeypatch, tmp_path):
    (tmp_path / "recipes" / "toy").mkdir(parents=True)
    (tmp_path / "recipes" / "toy" / "hamp.toml").write_text('extends = "base.toml"\n')
    monkeypatch.setattr("hampkit.config.extends.resources.files", lambda package: tmp_path)
    with pytest.raises(
        UserError, match=r"recipe toy/hamp extends 'base\.toml': a recipe of the package cannot extend a file"
    ):
        load_recipe("toy/hamp")
    with pytest.raises(UserError, match=r"'digits/hamp': digits has no recipes; write a \.toml file"):
        load_recipe("digits/hamp")


def test_the_command_line_comes_last(cli):
    file("base.toml", 'extends = "toy/hamp"\n[train]\nlr = 0.3\n[defense]\ngamma = 0.3\n')
    file("mine.toml", 'extends = "base.toml"\n[defense]\nalpha = 0.2\n')
    recipe = load_recipe("mine.toml", {"gamma": "0.9", "epochs": "2", "neural.epochs": "1"})
    options = recipe.defense.options
    assert (options["gamma"], options["alpha"], recipe.train.lr, recipe.train.epochs) == (0.9, 0.2, 0.3, 2)
    code, _, err = cli("train", "mine.toml", "rows=300", "epochs=1", "--quiet")
    assert (code, err) == (0, "")
    (run,) = Path("runs").glob("toy-hamp-*")
    assert json.loads((run / "recipe.json").read_text())["defense"]["gamma"] == 0.3


def shown(out):
    """Address → (value, origin) of what ``hampkit list recipes NAME`` prints."""
    found, section = {}, ()
    for line in out.splitlines():
        if line.startswith("["):
            section = tuple(line.strip("[]").split("."))
        elif line and not line.startswith("#"):
            text, _, origin = line.rpartition("  # ")
            key, _, value = text.partition(" = ")
            found[(*section, key)] = (value.strip(), origin)
    return found


def test_list_recipes_shows_where_each_value_comes_from(cli):
    file("base.toml", 'extends = "cifar10/label-smoothing"\n[train]\nlr = 0.3\n')
    with pytest.raises(UserError, match="more than 4"):
        load_recipe(file("mine.toml", 'extends = "base.toml"\n'))
    code, out, err = cli("list", "recipes", "base.toml", "gamma=0.25", "neural.lr=0.1")
    assert (code, err) == (0, "")
    assert out.startswith(
        "# base.toml extends cifar10/label-smoothing extends cifar10/hamp extends cifar10/undefended\n"
    )
    found = shown(out)
    assert found["train", "lr"] == ("0.3", "base.toml")
    assert found["defense", "name"] == ('"label-smoothing"', "cifar10/label-smoothing")
    assert found["defense", "gamma"] == ("0.25", "command line")
    assert found["train", "milestones"] == ("[60, 90, 150]", "cifar10/hamp")
    assert found["net",] == ('"densenet"', "cifar10/undefended")
    assert found["train", "retries"] == ("3", "default")
    assert found["attacks", "neural", "lr"] == ("0.1", "command line")
    assert found["attacks", "neural", "batch_size"] == ("256", "cifar10/undefended")


def test_list_recipes_shows_of_a_student_what_is_set(cli):
    found = shown(cli("list", "recipes", "digits/selena", "distill.lr=0.3")[1])
    student = {key: value for (*section, key), value in found.items() if section == ["defense", "distill"]}
    assert student == {"epochs": ("100", "digits/selena"), "lr": ("0.3", "command line")}


@pytest.mark.parametrize("name", ["file/hamp", "file/round"])
def test_list_recipes_shows_those_for_tables(cli, name):
    found = shown(cli("list", "recipes", name)[1])
    assert found["data", "file"] == ('"FILE"', "--data")
    assert found["data", "label"] == ('"LABEL"', "--label")
    assert found["defense", "name"][1] == name
    assert found["train", "standardize"] == ("true", "file/undefended")


@pytest.mark.parametrize("data", sorted(DATASETS.classes()))
def test_what_list_recipes_prints_is_the_recipe(data):
    for defense in DEFENSES.classes():
        document = tomllib.loads("\n".join(recipe_lines(f"{data}/{defense}")))
        table = ("FILE", "LABEL") if data == "file" else ()
        recipe = load_recipe(defense, None, *table) if table else load_recipe(f"{data}/{defense}")
        assert recipe_from_dict(document) == recipe, defense


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recipes", "digits/hmap"], ["unknown recipe 'digits/hmap'", "did you mean 'hamp'"]),
        (["recipes", "hamp"], ["unknown recipe 'hamp'", "digits/hamp"]),
        (["recipes", "mine.toml"], ["no recipe file mine.toml"]),
        (["recipes", "toy/hamp", "toy/dmp"], ["takes one name", "'toy/dmp'"]),
        (["recipes", "toy/hamp", "gama=3"], ["unknown key 'gama'", "gamma"]),
        (["recipes", "gamma=3"], ["takes no option, gamma=3", "hampkit list recipes NAME"]),
        (["options", "hamp", "gamma=3"], ["takes no option, gamma=3"]),
        (["nets", "mpl"], ["hampkit list nets has no 'mpl'", "did you mean 'mlp'"]),
    ],
)
def test_list_refuses_what_it_cannot_show_in_one_line(cli, refused, words, said):
    refused(cli("list", *words), *said)
