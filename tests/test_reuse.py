"""Shadow models of another run: taken where recipe, data and split are the target's, else refused or flagged."""

import errno
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import hampkit
from hampkit import UserError
from hampkit.config.recipe import load_recipe
from hampkit.launch.local import run_jobs
from hampkit.rng import derive
from hampkit.runs.run_files import write_run
from hampkit.runs.store import Run, write_json
from hampkit.shadow_models import plan as planning
from hampkit.shadow_models import train as shadows
from hampkit.shadow_models.reuse import Lender
from hampkit.workflows.prepare import prepare
from hampkit.workflows.session import Session
from hampkit.workflows.train import content_of

QUICK = {
    "rows": 600, "features": 24, "classes": 4, "flip": 0.35, "epochs": 6, "neural.epochs": 2, "net": "mlp-small",
    "split.seed": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def lender(tmp_path_factory):
    runs = tmp_path_factory.mktemp("borrow") / "runs"
    return hampkit.shadow("toy/undefended", 8, options=QUICK, workers=1, runs_dir=runs)


def flags(results, attack):
    (found,) = [a for a in results.models[0].of("target") if a.attack == attack]
    return found.flags


def test_another_model_of_the_same_recipe_and_split_takes_them(lender, tmp_path):
    found = hampkit.run("toy/undefended", options=QUICK, seed=3, shadows_from=lender, runs_dir=tmp_path)
    own = hampkit.run("toy/undefended", options=QUICK, seed=0, shadows=8, workers=1, runs_dir=lender.parent)
    assert not list(Path(tmp_path).rglob("scaled_logit.npy")), "none is trained"
    assert "mismatched" not in flags(found, "lira-online")
    lent, trained = (results.models[0].of("leave-one-out") for results in (found, own))
    assert lent == trained, "leave-one-out is about the shadow models alone"
    assert found.models[0].attacks != own.models[0].attacks


def test_shadows_of_another_recipe_are_refused_or_flagged(lender, tmp_path):
    with pytest.raises(UserError, match=r"trained differently.*defense.name is undefended, here hamp.*--force"):
        hampkit.run("toy/hamp", options=QUICK, shadows_from=lender, runs_dir=tmp_path / "runs")
    assert not list(tmp_path.rglob("*.safetensors")), "nothing is trained before the mistake is found"
    found = hampkit.run("toy/hamp", options=QUICK, shadows_from=lender, force=True, runs_dir=tmp_path)
    assert "mismatched" in flags(found, "lira-online")
    assert "mismatched" not in flags(found, "loss"), "it asks no shadow model"
    assert not found.models[0].of("leave-one-out"), "it would judge the other recipe"
    page = (tmp_path / "report.html").read_text()
    assert "defense.name is undefended, here hamp" in page
    again = hampkit.attack(tmp_path / found.models[0].run, "rmia", shadows_from=lender, force=True)
    assert "mismatched" in flags(again, "rmia")
    with pytest.warns(hampkit.Notice, match=f"to keep them, add --shadows-from with the folder of {lender.name}"):
        hampkit.attack(tmp_path / found.models[0].run, "loss")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data.seed": 1}, "are of other data"),
        (
            {"split.seed": 6},
            r"are of another split of the data \(split.seed is 5 there and 6 here; use the same for both\)",
        ),
        ({"split.seed": -1}, "split.seed is 5 there and 0 here"),
        ({"train_size": 200}, "split.train_size is 0 there and 200 here"),
    ],
)
def test_shadows_of_other_rows_are_refused_even_by_force(lender, tmp_path, change, reason):
    with pytest.raises(UserError, match=reason):
        hampkit.run("toy/undefended", options={**QUICK, **change}, shadows_from=lender, force=True, runs_dir=tmp_path)


def order_of(seed):
    return np.random.default_rng(derive(seed, "split")).permutation(QUICK["rows"])


@pytest.mark.parametrize("how", ["its own seed", "a file"])
def test_the_same_rows_drawn_in_another_way_are_the_same_rows(lender, tmp_path, how):
    if how == "a file":
        np.save(tmp_path / "order.npy", order_of(5))
        change, seed = {"split.seed": 7, "split.permutation": str(tmp_path / "order.npy")}, 3
    else:
        change, seed = {"split.seed": -1}, 5
    found = hampkit.run(
        "toy/undefended",
        options={**QUICK, **change},
        seed=seed,
        attacks=["rmia"],
        shadows_from=lender,
        runs_dir=tmp_path / "o",
    )
    assert "mismatched" not in flags(found, "rmia")
    if how == "a file":  # and back
        lent = hampkit.shadow("toy/undefended", 4, options={**QUICK, **change}, workers=1, runs_dir=tmp_path / "o")
        again = hampkit.run(
            "toy/undefended", options=QUICK, attacks=["rmia"], shadows_from=lent, runs_dir=tmp_path / "p", shadows=4
        )
        assert "mismatched" not in flags(again, "rmia")


def test_other_rows_of_a_file_are_named_and_other_rows_for_validation_are_another_training(lender, tmp_path):
    order = order_of(5)
    np.save(tmp_path / "reversed.npy", order[::-1])
    options = {**QUICK, "split.permutation": str(tmp_path / "reversed.npy")}
    with pytest.raises(UserError, match=r"split.seed is 5 there and replaced by a split.permutation here"):
        hampkit.run("toy/undefended", options=options, shadows_from=lender, force=True, runs_dir=tmp_path / "o")
    table = prepare(load_recipe("toy/undefended", {k: str(v) for k, v in QUICK.items()}), Session()).table
    start, stop = table.segments["validation"]
    order[start:stop] = order[start:stop][::-1]
    np.save(tmp_path / "swapped.npy", order)
    options["split.permutation"] = str(tmp_path / "swapped.npy")
    with pytest.raises(UserError, match="differently from this target: the split's segment validation has"):
        hampkit.run("toy/undefended", options=options, shadows_from=lender, runs_dir=tmp_path / "o")


@pytest.mark.parametrize("damage", [Path.unlink, lambda p: p.write_bytes(p.read_bytes()[:200])])
def test_a_lender_without_its_split_is_one_line_and_its_recipe_writes_it_anew(lender, tmp_path, damage):
    run = tmp_path / lender.name
    shutil.copytree(lender, run)
    damage(run / "split.npz")
    with pytest.raises(UserError, match=r"split.npz is missing or damaged; run again with the recipe of that folder"):
        hampkit.run("toy/undefended", options=QUICK, seed=3, shadows_from=run, runs_dir=tmp_path)
    hampkit.shadow("toy/undefended", 8, options=QUICK, workers=1, runs_dir=tmp_path)
    assert (run / "split.npz").read_bytes() == (lender / "split.npz").read_bytes()


def test_what_is_not_there_cannot_be_lent(lender, tmp_path):
    with pytest.raises(UserError, match="has 4, 6, 8 finished shadow models, not 16"):
        hampkit.run("toy/undefended", options=QUICK, shadows_from=lender, shadows=16, runs_dir=tmp_path)
    with pytest.raises(UserError, match=f"--shadows-from .*{lender.name} and shadows.seed=0 are the same option"):
        hampkit.run("toy/undefended", options={**QUICK, "shadows.seed": 0}, shadows_from=lender, runs_dir=tmp_path)
    with pytest.raises(UserError, match="is not a run folder"):
        hampkit.run("toy/undefended", options=QUICK, shadows_from=tmp_path, runs_dir=tmp_path)
    trained = hampkit.train("toy/undefended", options=QUICK, seed=9, runs_dir=tmp_path)
    with pytest.raises(UserError, match="no finished shadow models; train them"):
        hampkit.run("toy/undefended", options=QUICK, shadows_from=trained.folder, runs_dir=tmp_path)
    with pytest.raises(UserError, match="--shadows-from RUN --force"):
        hampkit.run("toy/undefended", options=QUICK, force=True, runs_dir=tmp_path)


def test_a_lender_with_a_damaged_job_lends_nothing(lender, tmp_path):
    copy = tmp_path / lender.name
    shutil.copytree(lender, copy)
    victim = min(copy.rglob("scaled_logit.npy"))  # that of the first models, which are part of every set
    victim.write_bytes(victim.read_bytes()[:-4] + b"spam")
    with pytest.raises(UserError, match="no finished shadow models"):
        Lender.of(copy)
    assert Lender.of(lender).config.models == 8


def cut(runs, job, *counts):
    """A run whose jobs hold so many models, grown from one count to the next: its folder."""
    problem = prepare(load_recipe("toy/undefended", {k: str(v) for k, v in QUICK.items()}), Session())
    run = Run.create(runs, problem.folder, lambda folder: write_run(content_of(problem), folder))
    mode = asdict(planning.ExecutionMode(threads=1, job=job))
    run.step("shadows/paired-0/launch", lambda folder: write_json(folder / "mode.json", mode))
    for models in counts:
        hampkit.shadow("toy/undefended", models, options=QUICK, runs_dir=runs)
    return run.folder


def lent(folder):
    """Which numbers of shadow models can be had."""
    with pytest.raises(UserError) as error:
        Lender.of(folder, 5000)
    numbers = str(error.value).partition(" has ")[2].partition(" finished")[0]
    return [] if numbers == "no" else [int(n) for n in numbers.split(", ") if n != "…"]


@pytest.mark.parametrize(
    ("job", "counts", "sets", "damaged", "left"),
    [
        (4, (4, 8), [4, 8], "004-007", [4]),
        (8, (4, 8), [4, 8], "000-007", [4]),  # the first four were trained again, in a job of eight
        (2, (8,), [4, 6, 8], "006-007", [4, 6]),
        (3, (4, 8), [4, 6, 8], "003-003", [6, 8]),  # a job of the four is none of the eight
        (1, (14,), [4, 6, 8, 14], "004-004", [4]),  # in between: …
        (3, (6,), [6], "000-002", []),
    ],
)
def test_every_number_whose_jobs_are_whole_is_lent(tmp_path, job, counts, sets, damaged, left):
    folder = cut(tmp_path, job, *counts)
    assert lent(folder) == sets
    assert Lender.of(folder).config.models == max(sets)
    assert Lender.of(folder, sets[0]).config.models == sets[0]
    (victim,) = folder.glob(f"shadows/*/{damaged}/population.npy")
    victim.write_bytes(b"spam")
    (folder / "shadows" / "paired-0" / "notes-of-mine").mkdir()
    assert lent(folder) == left


def test_a_number_that_is_there_twice_is_named_once(tmp_path):
    folder = cut(tmp_path, 4, 4)
    hampkit.shadow("toy/undefended", 4, options={**QUICK, "shadows.seed": 1}, workers=1, runs_dir=tmp_path)
    assert lent(folder) == [4]


def test_the_smaller_set_of_a_run_that_grew_is_the_one_that_was_there(tmp_path):
    small, grown = cut(tmp_path / "small", 4, 4), cut(tmp_path / "grown", 4, 4, 8)
    found = [
        hampkit.run(
            "toy/undefended", options=QUICK, seed=3, shadows_from=f, shadows=4, runs_dir=tmp_path / f.parent.name / "o"
        )
        for f in (small, grown)
    ]
    assert found[0].models == found[1].models


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "scaled_logit.npy")


def full(context):
    return full_disk


def test_a_full_disk_is_one_clear_line_and_costs_only_the_job_in_flight(monkeypatch, tmp_path, capsys):
    from hampkit.cli.app import guarded

    words = ["toy/undefended", *(f"{k}={v}" for k, v in QUICK.items()), "--models", "8", "--workers", "1"]
    command = ["shadow", *words, "--runs-dir", str(tmp_path), "--quiet"]
    real, calls = np.save, []

    def save(path, array):
        calls.append(path)
        return full_disk() if len(calls) == 3 else real(path, array)

    monkeypatch.setattr(planning, "STACKS", {"cpu": ()})
    monkeypatch.setattr(shadows.np, "save", save)
    assert guarded(command) == 2
    said = capsys.readouterr().err
    assert said.startswith("hampkit: error: No space left on device: scaled_logit.npy; check space")
    assert said.count("\n") == 1
    assert not list(tmp_path.rglob("*.partial"))
    (done,) = tmp_path.rglob("scaled_logit.npy")
    before = done.stat().st_mtime_ns
    monkeypatch.setattr(shadows.np, "save", real)
    assert guarded(command) == 0
    assert done.stat().st_mtime_ns == before
    assert len(list(tmp_path.rglob("scaled_logit.npy"))) == 8


def test_a_full_disk_in_a_worker_is_a_users_mistake_too(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with pytest.raises(UserError, match="No space left on device"):
        run_jobs("test_reuse:full", {}, [1], 1, lambda m: None)


def test_the_command_line_lends_and_refuses(lender, tmp_path, capsys):
    from hampkit.cli.app import guarded

    words = ["run", "toy/hamp", *(f"{k}={v}" for k, v in QUICK.items()), "--runs-dir", str(tmp_path), "--quiet"]
    assert guarded([*words, "--shadows-from", str(lender)]) == 2
    assert "trained differently" in capsys.readouterr().err
    assert guarded([*words, "--shadows-from", str(lender), "--force"]) == 0
    document = json.loads((tmp_path / "results.json").read_text())
    assert any("mismatched" in a["flags"] for a in document["models"][0]["attacks"])


def test_an_edited_note_of_how_they_run_is_noticed(lender, tmp_path):
    """It says how jobs are cut: taken at its word, it would send the run to folders that are not there."""
    runs = tmp_path / "runs"
    shutil.copytree(lender.parent, runs)
    run = runs / lender.name
    (note,) = run.glob("shadows/*/launch/mode.json")
    before = {p: p.read_bytes() for p in run.rglob("scaled_logit.npy")}
    note.write_text('{"width": -1}')
    with pytest.raises(UserError, match="no finished shadow models"):
        hampkit.run("toy/undefended", options=QUICK, seed=3, shadows_from=run, runs_dir=tmp_path / "other")
    hampkit.run("toy/undefended", options=QUICK, shadows=8, workers=1, attacks=["rmia"], runs_dir=runs)
    assert "-1" not in note.read_text()
    assert all(p.read_bytes() == content for p, content in before.items())
