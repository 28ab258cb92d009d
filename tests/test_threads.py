"""One name, the same bytes: whatever number of threads torch would take by itself, and however many processes work."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

import hampkit
from hampkit.attacks.neural import Neural
from hampkit.config.recipe import load_recipe
from hampkit.errors import Notice, UserError
from hampkit.launch import local
from hampkit.launch.local import LocalProcesses
from hampkit.training import trainer
from hampkit.training.threads import threads
from hampkit.workflows import target_jobs
from hampkit.workflows.prepare import prepare
from hampkit.workflows.session import Session

QUICK = ["epochs=2", "neural.epochs=2"]


@pytest.mark.parametrize(("given", "said"), [(4, False), (5, True), (0, False)])
def test_more_threads_than_cores_are_warned_of(monkeypatch, given, said):
    """More threads than cores wait for one another. The number that follows from the data is nobody's choice."""
    monkeypatch.setattr("hampkit.workflows.problem_checks.cores", lambda: 4)
    monkeypatch.setattr("hampkit.workflows.prepare.usual_threads", lambda dataset: 8)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        prepare(load_recipe("toy/undefended", {"rows": "300", "train.threads": str(given)}), Session())
    texts = [str(w.message) for w in found if issubclass(w.category, Notice)]
    assert any("train.threads=5 is more than the 4 cores" in t and "take train.threads=4" in t for t in texts) == said


def run(folder, count, *words):
    """The command in a folder of its own, with so many threads in the environment: the bytes of all results."""
    folder.mkdir()
    env = {**os.environ, "OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}
    command = [sys.executable, "-m", "hampkit", "run", "--quiet", *words]
    subprocess.run(command, cwd=folder, env=env, check=True)
    kinds = ("results.json", "stack.safetensors", "scores.npz", "released.npy", "records.csv")
    kinds += ("scaled_logit.npy", "population.npy")  # of shadow models, cut into the same jobs
    found = {str(p.relative_to(folder)): content(p) for kind in kinds for p in (folder / "runs").rglob(kind)}
    assert len(found) > 10
    return found


def content(path):
    """What a file holds; an archive of numpy has the time in it."""
    if path.suffix != ".npz":
        return path.read_bytes()
    return {name: array.tobytes() for name, array in np.load(path, allow_pickle=False).items()}


@pytest.mark.slow
def test_a_table_gives_the_same_bytes_with_other_threads(tmp_path):
    words = ["digits/undefended", "digits/hamp", *QUICK]
    assert run(tmp_path / "one", 1, *words) == run(tmp_path / "two", 2, *words)


@pytest.mark.slow
def test_a_release_with_threads_of_its_own_gives_the_same_bytes_with_others(tmp_path):
    words = ["digits/memguard", "surrogate_epochs=20", *QUICK]
    assert run(tmp_path / "one", 1, *words) == run(tmp_path / "two", 2, *words)


@pytest.mark.slow
def test_images_give_the_same_bytes_with_other_threads(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (400, 1, 16, 16), dtype=np.uint8), rng.integers(0, 3, 400)
    np.savez(tmp_path / "images.npz", x=x, y=y)
    words = ["undefended", "--data", str(tmp_path / "images.npz"), "net=convnet-gn", *QUICK]
    assert run(tmp_path / "one", 1, *words) == run(tmp_path / "two", 2, *words)


@pytest.mark.slow
def test_shadow_models_are_the_same_bytes_in_any_number_of_processes(tmp_path):
    words = ["digits/undefended", "--shadows", "8", *QUICK]
    one = run(tmp_path / "one", 2, *words, "--workers", "1")
    assert one == run(tmp_path / "three", 1, *words, "--workers", "3")


def test_the_number_of_threads_is_put_back_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), threads(before + 2):
        _fail(torch.get_num_threads() - before - 2)
    assert torch.get_num_threads() == before
    with threads(0):
        assert torch.get_num_threads() == before


def _fail(zero):
    assert zero == 0
    return 1 / zero


def test_the_usual_number_is_that_of_the_data_and_another_one_is_another_run(tmp_path):
    settings = Session(runs_dir=tmp_path, device="cpu")
    usual, one, three = (
        prepare(load_recipe("toy/undefended", options), settings)
        for options in ({}, {"threads": "1"}, {"threads": "3"})
    )
    assert (usual.recipe.train.threads, three.recipe.train.threads) == (1, 3)
    assert usual.folder == one.folder != three.folder
    assert usual.recipe.training()["train"]["threads"] == 1


def test_training_answers_and_attacks_have_the_threads_of_the_recipe(monkeypatch):
    seen = {}

    def watched(cls, name):
        real = getattr(cls, name)

        def method(self, *args):
            seen.setdefault(name, set()).add(torch.get_num_threads())
            return real(self, *args)

        monkeypatch.setattr(cls, name, method)

    watched(trainer._Run, "_step")
    watched(trainer.Trainer, "_predict_job")
    watched(Neural, "score")
    before = torch.get_num_threads()
    hampkit.run("toy/undefended", options={"rows": 300, "epochs": 1, "threads": 3, "neural.epochs": 1})
    assert seen == {"_step": {3}, "_predict_job": {3}, "score": {3}}
    assert torch.get_num_threads() == before


# --- targets as jobs ------------------------------------------------------------------------------------------------

OPTIONS = {"rows": "300", "features": "8", "classes": "3", "epochs": "2"}


def problems(folder, *recipes):
    settings = Session(runs_dir=folder, device="cpu", launcher=LocalProcesses(2))
    return [prepare(load_recipe(recipe, OPTIONS | more), settings) for recipe, more in recipes], settings


def test_targets_that_are_jobs_are_the_same_bytes(tmp_path, monkeypatch):
    recipes = [("toy/undefended", {}), ("toy/hamp", {}), ("toy/mixup", {})]
    here, settings = problems(tmp_path / "here", *recipes)
    assert target_jobs.train_targets(here, settings) == {}
    monkeypatch.setattr(target_jobs, "ALONE", -1.0)
    there, settings = problems(tmp_path / "there", *recipes)
    told = []
    monkeypatch.setattr(local, "run_jobs", noted(told, local.run_jobs))
    assert target_jobs.train_targets(iter(there), settings) == {}
    assert told == [sorted(p.folder for p in there)]
    stack = "models/000-000/stack.safetensors"
    for problem in here:
        a, b = ((tmp_path / place / problem.folder / stack).read_bytes() for place in ("here", "there"))
        assert a == b
    told.clear()
    assert target_jobs.train_targets(there, settings) == {}
    assert not told, "what is there is not trained again"


def noted(told, real):
    def run_jobs(function, context, jobs, workers, event):
        told.append(sorted(jobs))
        real(function, context, jobs, workers, event)

    return run_jobs


@pytest.mark.parametrize("alone", [-1.0, 10.0])
def test_a_target_that_cannot_be_trained_does_not_end_the_others(tmp_path, monkeypatch, alone):
    monkeypatch.setattr(target_jobs, "ALONE", alone)
    bad = {"optimizer": "sgd", "lr": "1e38", "retries": "0"}
    both, settings = problems(tmp_path, ("toy/undefended", bad), ("toy/hamp", {}))
    failed = target_jobs.train_targets(both, settings)
    assert list(failed) == [both[0].folder]
    assert "diverged" in failed[both[0].folder]
    assert (tmp_path / both[1].folder / "models/000-000/stack.safetensors").is_file()
    with pytest.raises(UserError, match="diverged"):
        hampkit.run("toy/undefended", options={**OPTIONS, **bad}, runs_dir=tmp_path)
