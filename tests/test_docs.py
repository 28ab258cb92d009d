"""What the documentation shows is run."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def blocks(name):
    return BLOCK.findall((ROOT / name).read_text("utf-8"))


def block_of(cls):
    """The block of CONTRIBUTING.md with this class."""
    (text,) = (block for block in blocks("CONTRIBUTING.md") if f"class {cls}(" in block)
    return text


@pytest.mark.parametrize("k", range(2))
def test_readme_code_runs(k, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    exec(compile(blocks("README.md")[k], f"README block {k}", "exec"), {"__name__": "readme"})


def test_the_training_loop_of_the_readme_is_under_15_lines():
    assert len(blocks("README.md")[1].strip().splitlines()) < 15


def test_the_defense_and_the_attack_of_contributing_are_found_and_run(plugin, tmp_path, task, short, float64):
    """As whole files, exactly as printed, in the package."""
    import hampkit
    from hampkit.registry import ATTACKS, DEFENSES
    from hampkit.training import Trainer

    plugin("defenses", "my_confidence_penalty", block_of("ConfidencePenalty"))
    plugin("attacks", "my_hinge", block_of("Hinge"))
    defense = DEFENSES.get("my-confidence-penalty")(beta=0.2)
    stacked, alone = (defense.fit(task, Trainer(short, width=w)).stack for w in (8, 1))
    for key, value in stacked.params.items():
        assert torch.allclose(value, alone.params[key], rtol=1e-9, atol=1e-12), key
    torch.set_default_dtype(torch.float32)
    options = {"rows": 300, "features": 16, "classes": 3, "epochs": 1, "beta": 0.3}
    results = hampkit.run(
        "toy/my-confidence-penalty", options=options, attacks=["my-hinge"], runs_dir=tmp_path / "runs"
    )
    assert [a.attack for a in results.models[0].attacks] == ["my-hinge"]
    assert "my-hinge" in ATTACKS.classes()


def test_the_generator_and_the_data_set_of_contributing_are_found_and_run(plugin, tmp_path):
    import hampkit

    plugin("generators", "my_jitter", block_of("Jitter"))
    plugin("data", "my_stripes", block_of("Stripes"))
    recipe = tmp_path / "stripes.toml"
    recipe.write_text(
        'data = "my-stripes"\nnet = "mlp-small"\n[train]\nepochs = 1\n[defense]\nname = "dmp"\n'
        'generator = "my-jitter"\noptions = ["deviation=0.5"]\nsynthetic = 50\n'
    )
    trained = hampkit.train(str(recipe), runs_dir=tmp_path / "runs", options={"data.rows": 300})
    assert trained.history["facts"]["summary"] == "student of 50 inputs from my-jitter"


def test_recipes_and_version_are_described():
    import hampkit

    assert f"({hampkit.__version__})" in (ROOT / "CHANGELOG.md").read_text()
    assert "make run" in (ROOT / "README.md").read_text()


def test_the_entry_points_of_contributing_are_those_that_are_read():
    from hampkit.config.extends import tomllib
    from hampkit.registry import ATTACKS, DATASETS, DEFENSES, GENERATORS

    (snippet,) = re.findall(r"```toml\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)
    groups = tomllib.loads(snippet)["project"]["entry-points"]
    assert set(groups) == {registry.package for registry in (DEFENSES, ATTACKS, GENERATORS, DATASETS)}
    classes = {value.partition(":")[2] for points in groups.values() for value in points.values()}
    assert all(f"class {name}(" in "".join(blocks("CONTRIBUTING.md")) for name in classes)


def test_every_column_of_records_is_explained_and_the_reports_name_the_file():
    from hampkit.workflows.leave_one_out import RECORD_COLUMNS

    table = (ROOT / "docs/reading.md").read_text("utf-8").split("## records.csv")[1]
    first = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert re.findall(r"`(.*?)`", ", ".join(first)) == RECORD_COLUMNS.split(",")


def test_every_flag_is_explained_in_its_own_words():
    from hampkit.judging.flags import FLAGS

    table = (ROOT / "docs/reading.md").read_text("utf-8").split("## Flags")[1].split("\n## ")[0]
    assert dict(re.findall(r"^\| `(.*?)` \| (.*?) \|$", table, re.MULTILINE)) == FLAGS


def test_the_defaults_of_a_table_of_ones_own_are_those_of_its_recipes():
    from hampkit.config.recipe import TrainConfig, load_recipe

    rows = re.findall(
        r"^\| `(.*?)` \| (.*?) \| (.*?) \| (.*?) \|$", (ROOT / "docs/recipes.md").read_text("utf-8"), re.MULTILINE
    )
    told = {
        key: [cell.strip("`") for cell in cells] for key, *cells in rows if key == "net" or key.startswith("train.")
    }

    def values(net, train):
        return {"net": net} | {f"train.{k}": str(v).lower() for k, v in vars(train).items()}

    hamp, other = (load_recipe(name, file="x.csv", label="y") for name in ("hamp", "undefended"))
    found = [values(r.net, r.train) for r in (hamp, other)] + [values("mlp", TrainConfig())]
    differ = {key for key in found[0] if len({f[key] for f in found}) > 1}
    assert told == {key: [f[key] for f in found] for key in differ}
    assert hamp.defense.options["gamma"] == 0.5
    assert hamp.defense.options["alpha"] == 0.03


def test_the_recipe_of_ones_own_fits_a_small_table(write_table):
    """As printed: the words beside it say that train_size=0 takes the largest that fits."""
    from hampkit.config.recipe import load_recipe
    from hampkit.workflows.problem import Settings, prepare

    text, _ = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/recipes.md").read_text("utf-8"), re.DOTALL)
    Path("my.toml").write_text(text)
    columns = {"customer_id": [f"c{i}" for i in range(200)], "age": [i % 7 for i in range(200)]}
    write_table("customers.csv", 200, **columns, churned=[i % 2 for i in range(200)])
    assert prepare(load_recipe("my.toml"), Settings()).table.members_count > 50


def test_the_recipe_that_extends_another_and_what_is_shown_of_one_are_as_printed(tmp_path, monkeypatch):
    from hampkit.cli.catalog import recipe_lines
    from hampkit.config.recipe import load_recipe

    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/recipes.md").read_text("utf-8").split("## Recipes that extend others")[1].split("\n## ")[0]
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    Path("my.toml").write_text(text)
    assert load_recipe("my.toml") == load_recipe("location30/hamp", {"train.epochs": "200", "gamma": "0.7"})
    (shown,) = re.findall(r"```\n(#.*?)```", page, re.DOTALL)
    assert set(shown.splitlines()) <= set(recipe_lines("cifar10/label-smoothing", {"gamma": "0.3"}))
