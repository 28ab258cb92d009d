"""The command of a run: it gives the same recipe, and the same weights when it is followed."""

import hashlib
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

import hampkit
from hampkit.attacks.base import family_of
from hampkit.cli.options import split
from hampkit.config.recipe import load_recipe, with_seed
from hampkit.registry import ATTACKS
from hampkit.workflows.command import command_of

OPTIONS = {"rows": 300, "features": 16, "classes": 3, "epochs": 1, "neural.epochs": 1}


def followed(command: str):
    """The recipe that the command line would run."""
    words = shlex.split(command)
    assert words[:2] == ["hampkit", "run"]
    flags = {"--data": "", "--label": "", "--seed": "", "--shadows": ""}
    rest = iter(words[2:])
    plain = [word if word not in flags else flags.update({word: next(rest)}) for word in rest]
    (reference,), options = split([word for word in plain if word])
    options |= {"shadows.models": flags["--shadows"]} if flags["--shadows"] else {}
    recipe = load_recipe(reference, options, flags["--data"], flags["--label"])
    return with_seed(recipe, int(flags["--seed"])) if flags["--seed"] else recipe


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train.epochs": "3", "gamma": "0.7", "neural.epochs": "4", "judge.strict": "true"},
        {"shadows.models": "8", "shadows.views": "2", "train.milestones": "[1, 2]"},
        {"net": "mlp-small", "split.train_size": "100"},
    ],
)
def test_the_command_gives_the_same_recipe(changes: dict[str, str]):
    recipe = with_seed(load_recipe("digits/hamp", changes), 3)
    assert followed(command_of(recipe)) == recipe
    assert command_of(recipe).endswith("--seed 3" if "shadows.models" not in changes else "--seed 3 --shadows 8")


def test_the_command_of_a_table_names_its_file_and_quotes_what_needs_it():
    options = {"group": "patient", "drop": '["id, code", ""]'}
    recipe = load_recipe("hamp", options, "my visits.csv", "the outcome")
    command = command_of(recipe)
    assert command.startswith("hampkit run hamp --data 'my visits.csv' --label 'the outcome' data.group=patient ")
    assert followed(command) == recipe


def test_the_usual_number_of_threads_is_not_named():
    recipe = load_recipe("digits/hamp")
    recipe = replace(recipe, train=replace(recipe.train, threads=2))
    assert command_of(recipe, usual_threads=2) == "hampkit run digits/hamp"
    assert command_of(recipe, usual_threads=1) == "hampkit run digits/hamp train.threads=2"


def test_a_recipe_that_no_command_gives_has_none(monkeypatch: pytest.MonkeyPatch):
    from hampkit.workflows import command

    recipe = load_recipe("digits/hamp", {"gamma": "0.7"})
    assert command_of(recipe)
    monkeypatch.setattr(command, "written", lambda value: "0.8")  # a text from which another value is read
    assert command_of(recipe) == ""
    assert command_of(replace(recipe, data=replace(recipe.data, name="gone"))) == ""


def test_following_the_command_gives_the_weights_whose_hash_is_in_the_results(tmp_path: Path, cli):
    first = tmp_path / "first"
    (model,) = hampkit.run("toy/hamp", options=OPTIONS, seed=2, attacks=["loss"], runs_dir=first).models
    command, digest = *model.commands, *model.weights
    assert _hash(first / model.run) == digest
    words = shlex.split(command)
    code, _, err = cli("train", *words[2:], "--runs-dir", tmp_path / "second", "--quiet")
    assert code == 0, err
    assert _hash(tmp_path / "second" / model.run) == digest
    page = (first / "report.html").read_text("utf-8")
    assert f"<code>{command}</code>" in page
    assert digest in page


def _hash(run: Path) -> str:
    return hashlib.sha256((run / "models/000-000/stack.safetensors").read_bytes()).hexdigest()


def test_several_seeds_have_a_command_and_a_hash_each(tmp_path: Path):
    made = [hampkit.run("toy/undefended", options=OPTIONS, seed=s, attacks=["loss"], runs_dir=tmp_path) for s in (0, 1)]
    runs = [results.models[0].run for results in made]
    (model,) = hampkit.write_report(*(tmp_path / run for run in runs), out=tmp_path / "both").models
    assert len(set(model.weights)) == len(model.commands) == 2
    assert model.commands[1] == f"{model.commands[0]} --seed 1"


def test_the_family_of_an_attack_is_its_module_except_for_labels():
    families = {name: family_of(name) for name in ATTACKS.classes()}
    assert families["correctness"] == "label-only"
    assert families["loss"] == families["entropy-per-class"] == "threshold"
    assert families["lira-online"] == families["lira-global"] == "lira"
    assert families["rmia-offline"] == "rmia"
    assert family_of("of-another-package") == "of-another-package"
