"""Killed at any moment and started again, a run ends as if nothing had happened."""

import json
import random
import signal
import subprocess
import sys

import numpy as np
import pytest

import hampkit
from hampkit.runs.store import Run

ARGS = [
    "run", "toy/undefended", "toy/hamp", "rows=1200", "features=32", "classes=4", "epochs=12", "neural.epochs=12", "--quiet",
]  # fmt: skip


# the command, which kills itself just before the n-th time that it opens a file to write, renames or removes one
DYING = """
import os, signal, sys

def watch(event, args):
    global left
    writes = event == "open" and isinstance(args[0], str) and "runs" in args[0] and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR)
    if writes or event in ("os.rename", "os.remove"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

left = int(sys.argv.pop(1))
sys.addaudithook(watch)
from hampkit.__main__ import main
try:
    main()
finally:
    print(-left)
"""


def start(folder, at=0):
    """The command, killed at its ``at``-th change on disk: its exit code, and how many changes there were after that."""
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(at), *ARGS],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, int(done.stdout.split()[-1]) if done.stdout.strip() else 0


def outcome(folder):
    """results.json and every score, byte for byte."""
    runs = folder / "runs"
    scores = sorted(p.relative_to(runs) for p in runs.rglob("scores.npz"))
    values = {str(p): np.load(runs / p, allow_pickle=False)["scores"].tobytes() for p in scores}
    stacks = {str(p.relative_to(runs)): p.read_bytes() for p in sorted(runs.rglob("stack.safetensors"))}
    return (runs / "results.json").read_bytes(), values, stacks


@pytest.mark.slow
def test_killed_at_ten_moments_a_run_ends_with_the_same_bytes(tmp_path):
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    undisturbed.mkdir()
    disturbed.mkdir()
    code, changes = start(undisturbed)
    assert code == 0
    assert changes > 100
    rng = random.Random(0)
    killed = [start(disturbed, rng.randint(1, changes // 6))[0] for _ in range(10)].count(-signal.SIGKILL)
    assert killed >= 5, "the moments must fall into the run"
    assert start(disturbed)[0] == 0
    assert outcome(disturbed) == outcome(undisturbed)
    assert not list((disturbed / "runs").rglob("*.partial"))


@pytest.fixture
def run(tmp_path):
    options = {"rows": 300, "features": 8, "classes": 3, "epochs": 1, "neural.epochs": 1}
    results = hampkit.run("toy/hamp", options=options, runs_dir=tmp_path / "runs")

    def again():
        return hampkit.run("toy/hamp", options=options, runs_dir=tmp_path / "runs")

    return tmp_path / "runs" / results.models[0].run, results, again


def test_a_second_run_computes_nothing(run):
    folder, results, again = run
    times = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.parent != folder}
    assert again().models == results.models
    assert {p: p.stat().st_mtime_ns for p in times} == times


@pytest.mark.parametrize(
    "name", ["models/000-000/stack.safetensors", "answers/*/released.npy", "models/000-000/manifest.json"]
)
def test_a_damaged_file_is_noticed_and_made_again(run, name):
    folder, results, again = run
    (path,) = folder.glob(name)
    good = path.read_bytes()
    middle = len(good) // 2
    path.write_bytes(good[:middle] + bytes([good[middle] ^ 0xFF]) + good[middle + 1 :])
    assert again().models == results.models
    if not name.endswith("manifest.json"):  # a history within the step holds its own times
        assert path.read_bytes() == good


def test_a_damaged_model_does_not_leave_old_answers_behind(run):
    """Another network under the same name would make old answers wrong; here the bytes are the same again."""
    folder, _, again = run
    before = json.loads((folder / "result.json").read_text())
    (folder / "models/000-000/history.json").unlink()
    again()
    assert json.loads((folder / "result.json").read_text()) == before


@pytest.mark.parametrize(
    "key", ["gamma=0.3", "lr=0.01", "rows=320", "net=mlp", "seed=9", "split.seed=3", "train_size=120"]
)
def test_any_change_of_the_recipe_is_another_run(run, key):
    folder, _, _ = run
    name, value = key.split("=")
    base = {"rows": 300, "features": 8, "classes": 3, "epochs": 1, "neural.epochs": 1}
    trained = hampkit.train("toy/hamp", options={**base, name: value}, runs_dir=folder.parent)
    assert trained.folder != folder
    assert folder.exists()


def test_a_step_that_fails_leaves_nothing(tmp_path):
    run = Run(tmp_path / "x-00000000")

    def half(folder):
        (folder / "half").write_text("written")
        raise RuntimeError("killed here")

    with pytest.raises(RuntimeError):
        run.step("models/000-000", half)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    assert not run.done("models/000-000")
