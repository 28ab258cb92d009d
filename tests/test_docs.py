"""What the documentation shows is run."""

import importlib.util
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.score_files import write_artifact
from sklearn.datasets import load_digits

from hampkit.data.splits import shadow_members

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def blocks(name):
    return BLOCK.findall((ROOT / name).read_text("utf-8"))


def of_class(name):
    """The example of CONTRIBUTING that defines a class."""
    (text,) = (block for block in blocks("CONTRIBUTING.md") if f"class {name}(" in block)
    return text


def entry_points():
    from hampkit.config.extends import tomllib

    (snippet,) = re.findall(r"```toml\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)
    return tomllib.loads(snippet)["project"]["entry-points"]


@pytest.mark.parametrize("k", range(2))
def test_readme_code_runs(k, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    exec(compile(blocks("README.md")[k], f"README block {k}", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("k", range(3))
def test_code_for_services_runs(k, tmp_path, monkeypatch):
    assert len(blocks("docs/serving.md")) == 3
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks("docs/serving.md")[k], f"serving block {k}", "exec"), {"__name__": "serving"})


def test_the_training_loop_of_the_readme_is_under_15_lines():
    assert len(blocks("README.md")[1].strip().splitlines()) < 15


def test_the_defense_and_the_attack_of_contributing_are_found_and_run(plugin, tmp_path, task, short, float64):
    """As whole files, exactly as printed, in the package."""
    import hampkit
    from hampkit.registry import ATTACKS, DEFENSES
    from hampkit.training import Trainer

    plugin("defenses", "my_confidence_penalty", of_class("ConfidencePenalty"))
    plugin("attacks", "my_hinge", of_class("Hinge"))
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


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package as its owner installs it: the classes of CONTRIBUTING as printed, named by the entry points as printed."""
    from hampkit import registry

    folder, points = tmp_path / "site", []
    about = folder / "mypackage-1.0.dist-info"
    for path in (folder / "mypackage", about):
        path.mkdir(parents=True)
    for group, named in entry_points().items():
        points += [f"[{group}]", *(f"{key} = {value}" for key, value in named.items())]
        for module, name in (value.split(":") for value in named.values()):
            (folder / f"{module.replace('.', '/')}.py").write_text(of_class(name))
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mypackage\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("\n".join(points) + "\n")
    monkeypatch.syspath_prepend(str(folder))
    registry._scan.cache_clear()
    yield
    registry._scan.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "mypackage"]:
        del sys.modules[name]


def test_a_package_of_ones_own_brings_attacks_with_shadow_models_data_defenses_and_generators(installed, tmp_path, cli):
    """With every group of entry points; leave-one-out needs what the attack with shadow models is given."""
    import hampkit

    words = {"rows": 300, "train.epochs": 1, "shadows.models": 4}
    Path("my.toml").write_text('data = "my-halves"\ndefense = "my-confidence-penalty"\nnet = "mlp-small"\n')
    results = hampkit.run("my.toml", options=words, attacks=["my-calibrated", "my-hinge"], runs_dir=tmp_path / "runs")
    (model,) = results.models
    assert [a.attack for a in model.of("target")] == ["my-calibrated", "my-hinge"]
    assert list(Path("runs").glob("*/leave-one-out/*/my-calibrated-*")), "every shadow model is attacked by the others"
    Path("dmp.toml").write_text('data = "my-halves"\nnet = "mlp-small"\n[defense]\nname = "dmp"\n')
    quick = ["train.epochs=1", "defense.generator=my-independent", "synthetic=100", "distill.epochs=1"]
    code, _, err = cli("train", "dmp.toml", *quick, "--quiet")
    assert code == 0, err


def test_an_attack_and_a_defense_have_twelve_lines():
    for name in ("Calibrated", "Hinge", "ConfidencePenalty"):
        body = of_class(name).split("@dataclass")[1].split('"""\n', 1)[1]
        assert len([line for line in body.splitlines() if line.strip()]) <= 12, name


def test_every_field_of_the_evidence_is_explained():
    from dataclasses import fields

    from hampkit.attacks import Evidence

    table = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("| field | type | content |")[1].split("\n\n")[0]
    named = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    assert re.findall(r"`(\w+)`", ", ".join(named)) == [f.name for f in fields(Evidence)]


def test_recipes_and_version_are_described():
    import hampkit

    assert f"({hampkit.__version__})" in (ROOT / "CHANGELOG.md").read_text()
    assert "make run" in (ROOT / "README.md").read_text()


def test_the_entry_points_of_contributing_are_all_that_are_read():
    from hampkit import registry

    groups = entry_points()
    assert set(groups) == {r.package for r in vars(registry).values() if isinstance(r, registry.Registry)}
    classes = {value.partition(":")[2] for points in groups.values() for value in points.values()}
    assert all(of_class(name) for name in classes)


def test_every_column_of_records_is_explained_and_the_reports_name_the_file():
    from hampkit.workflows.run_records import RUN_COLUMNS

    table = (ROOT / "docs/reading.md").read_text("utf-8").split("## records.csv")[1]
    first = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert re.findall(r"`(.*?)`", ", ".join(first)) == list(RUN_COLUMNS)


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
    from hampkit.workflows.prepare import prepare
    from hampkit.workflows.session import Session

    text, _ = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/recipes.md").read_text("utf-8"), re.DOTALL)
    Path("my.toml").write_text(text)
    columns = {"customer_id": [f"c{i}" for i in range(200)], "age": [i % 7 for i in range(200)]}
    write_table("customers.csv", 200, **columns, churned=[i % 2 for i in range(200)])
    assert prepare(load_recipe("my.toml"), Session()).table.n_members > 50


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


def test_the_diagram_of_the_layers_is_drawn_from_the_imports():
    spec = importlib.util.spec_from_file_location("layers", ROOT / "docs/layers.py")
    assert spec is not None
    assert spec.loader is not None
    layers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(layers)
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    assert layers.written(page) == page, "python docs/layers.py --write"
    assert "    api --> workflows\n" in page
    chain = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert layers.reduced(chain) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_every_number_of_a_policy_and_every_column_of_exposure_is_explained():
    from hampkit.judging.exposed import COLUMNS
    from hampkit.judging.policy import WHAT

    page = (ROOT / "docs/auditing.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page.split("`records.csv` has one row")[1].split("\n## ")[0], re.MULTILINE)
    assert re.findall(r"`(.*?)`", ", ".join(rows)) == [*COLUMNS, "person"]
    rows = re.findall(r"^\| (`.*?) \|", page.split("## Policies")[1].split("\n## ")[0], re.MULTILINE)
    assert set(re.findall(r"`(.*?)`", ", ".join(rows))) - {"what"} == set(WHAT)


TRAINING = """
from sklearn.tree import DecisionTreeClassifier


def fit(x, y, seed):
    return DecisionTreeClassifier(random_state=seed).fit(x, y)
"""


@pytest.mark.slow
def test_the_audits_of_the_docs_are_run(tmp_path, monkeypatch, cli):
    """The three Python blocks, and each command as printed, with one attack; not those that need weights that others publish."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    page = (ROOT / "docs/auditing.md").read_text("utf-8")
    model, network, arrays = BLOCK.findall(page)
    Path("my_digits.py").write_text(network, "utf-8")
    x, y = load_digits(return_X_y=True)
    np.savez("digits.npz", x=x, y=y)
    Path("digits_model.py").write_text(model, "utf-8")
    shutil.copytree(ROOT / "examples", "examples")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "examples")])
    importlib.import_module("audit_predictions").write_predictions(Path("predictions.csv"))
    exec(compile(model, "digits_model.py", "exec"), {"__name__": "__main__"})
    exec(compile(arrays, "arrays", "exec"), {"__name__": "arrays"})
    shown = [*re.findall(r"```sh\n(.*?)```", page, re.DOTALL), *re.findall(r"```sh\n(.*?)```", readme(), re.DOTALL)]
    lines = [line for block in shown for line in block.splitlines() if line.startswith("hampkit audit ")]
    lines = [line for line in lines if "--weights" not in line and "hf:" not in line]
    assert len(lines) == 11
    for name in re.findall(r"scores (\S+)", " ".join(lines)):
        masks = shadow_members(4, 400, 0, "paired").numpy()[: 1 if "target" in name or "defense" in name else 4]
        write_artifact(Path(name), np.random.default_rng(0).normal(size=masks.shape), masks)
    Path("my_training.py").write_text(TRAINING, "utf-8")
    rows = np.random.default_rng(0).normal(size=(400, 3))
    rows[:, 2] = rows[:, 0] > 0
    np.savetxt("all.csv", rows, delimiter=",", header="a,b,y", comments="")
    for line in lines:
        words = shlex.split(line, comments=True)
        code, out, err = cli(*words[1:], "--attacks", "loss" if "--scores" in words else "correctness")
        assert code == (3 if "auc.low>0.5" in words else 0), line + out + err


def readme():
    """The section of the README on audits."""
    return (ROOT / "README.md").read_text("utf-8").split("## Audit your own model")[1].split("\n## ")[0]


@pytest.mark.slow
def test_the_demonstration_finds_the_model_that_memorises_and_not_the_other(tmp_path, monkeypatch, cli):
    """With the second seed of the table in the docs."""
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("audit", "--demo", "--seed", "1")
    assert code == 0, err
    memorises, other = " ".join(out.split()).split("demo-other-records seed 1")
    assert "demo-memorises (test accuracy" in memorises
    assert "membership can be inferred" in memorises
    assert "no attack is shown to distinguish" in other
