"""A session and recipes that are built once: the same runs as by keyword arguments; mistakes are one line."""

from pathlib import Path

import numpy as np
import pytest

import hampkit
from hampkit import UserError
from hampkit.launch.local import LocalProcesses
from hampkit.runs.step import Step
from hampkit.runs.store import Run, read_json, write_json
from hampkit.types import Target
from hampkit.workflows.recipes import RecipeOptions
from hampkit.workflows.session import session_of

QUICK = {"rows": 300, "features": 12, "classes": 3, "epochs": 1}


def test_a_session_and_keyword_arguments_give_the_same_run(tmp_path):
    session = hampkit.Session(runs_dir=tmp_path / "a", device="cpu")
    by_session = hampkit.train("toy/hamp", options=QUICK, session=session)
    by_words = hampkit.train("toy/hamp", options=QUICK, runs_dir=tmp_path / "b", device="cpu")
    assert by_session.folder.parent == tmp_path / "a"
    assert by_session.folder.name == by_words.folder.name
    assert by_session.fingerprint == by_words.fingerprint


def test_a_keyword_argument_beside_a_session_changes_that_field_alone(tmp_path):
    session = hampkit.Session(runs_dir=tmp_path, data_dir=tmp_path / "data", device="cpu")
    found = session_of({"session": session, "runs_dir": tmp_path / "other", "workers": 3})
    assert found == hampkit.Session(tmp_path / "other", tmp_path / "data", "cpu", LocalProcesses(3))


def test_an_unknown_keyword_is_named():
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'run_dir'; did you mean 'runs_dir'"):
        hampkit.train("toy/hamp", run_dir="runs")  # pyright: ignore[reportCallIssue]


def test_a_recipe_is_built_once_and_is_the_same_run(tmp_path):
    recipe = hampkit.recipe("toy/hamp", {"train.epochs": 1}, gamma=0.9, rows=300, features=12, classes=3)
    assert recipe.defense.options["gamma"] == 0.9
    ready = hampkit.train(recipe, runs_dir=tmp_path)
    named = hampkit.train("toy/hamp", options={**QUICK, "gamma": 0.9}, runs_dir=tmp_path)
    assert ready.folder == named.folder
    results = hampkit.run(recipe, attacks=["loss"], shadows=4, workers=1, runs_dir=tmp_path)
    assert results.models[0].run == ready.folder.name


@pytest.mark.parametrize(
    "call",
    [
        lambda path, **where: hampkit.train(path, **where).folder.name,
        lambda path, **where: hampkit.run(path, attacks=["loss"], **where).models[0].run,
        lambda path, **where: hampkit.recipe(path) and hampkit.shadow(path, 4, workers=1, **where).name,
        lambda path, **where: hampkit.train(hampkit.recipe(path), **where).folder.name,
    ],
    ids=["train", "run", "shadow", "recipe"],
)
def test_a_recipe_file_may_be_a_path_object(tmp_path, call):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "toy/undefended"\n[data]\nrows = 300\nfeatures = 12\nclasses = 3\n[train]\nepochs = 1\n')
    assert call(path, runs_dir=tmp_path / "runs") == call(str(path), runs_dir=tmp_path / "runs")


@pytest.mark.parametrize("reference", ["toy/hamp", Path("toy/hamp")])
def test_the_options_of_one_recipe_are_chosen_by_a_name_or_a_path(reference):
    given = RecipeOptions({"gamma": 0.9, "defense.strength": 2.0})
    assert given.only_for(reference).options == {"gamma": 0.9}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda r: hampkit.run(r, options={"gamma": 0.5}), "'gamma' stands beside one"),
        (lambda r: hampkit.train(r, seed=3), "'seed' stands beside one"),
        (lambda r: hampkit.run(r, "toy/undefended"), "'toy/undefended' stands beside one"),
        (
            lambda r: hampkit.recipe("toy/hamp", {"gamma": 0.5}, gamma=0.9),
            "gamma=0.9 and gamma=0.5 are the same option",
        ),
        (lambda r: hampkit.recipe("toy/hamp", gama=0.9), "unknown key 'gama'"),
    ],
)
def test_what_a_recipe_that_is_built_would_ignore_is_refused(call, words):
    with pytest.raises(UserError, match=words):
        call(hampkit.recipe("toy/hamp", **QUICK))


def test_a_trained_model_is_a_target(tmp_path):
    trained = hampkit.train("toy/hamp", options=QUICK, runs_dir=tmp_path)
    target: Target = trained
    assert target.title == "toy/hamp"
    assert len(target.pool) == len(target.membership)
    assert 0 < int(target.membership.sum()) < len(target.pool)
    answers = target.query(target.pool.x, seed=3)
    assert answers.shape == (len(target.pool), 3)
    assert np.array_equal(answers, trained.black_box().query(target.pool.x, seed=3))
    assert target.own_logits is not None
    assert np.array_equal(answers.argmax(-1), target.own_logits.argmax(-1)), "a release keeps the label"


def test_a_step_is_made_once_and_named_by_its_key(tmp_path):
    made, run = [], Run(tmp_path / "toy-hamp-00000000")

    def step(key, name="answers"):
        def write(folder):
            made.append(key)
            write_json(folder / "result.json", {"key": key})

        return Step(name, key, write, lambda folder: read_json(folder / "result.json")["key"])

    assert [step(key).of(run) for key in (1, 2, 1)] == [1, 2, 1]
    assert made == [1, 2]
    assert step(1).place != step(2).place
    assert step(None, "models/000-000").place == "models/000-000"
    (run.folder / step(1).place / "result.json").write_text("{}")
    assert not step(1).done(run)
    assert step(1).of(run) == 1, "a damaged step is made again"
    assert made == [1, 2, 1]
