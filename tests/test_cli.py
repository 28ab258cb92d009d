"""The command line: the main job, its outputs, exit codes, and every mistake a user can make."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import hampkit
from hampkit.cli import _guarded
from hampkit.report import load_schema

QUICK = ["toy/hamp", "rows=300", "features=16", "classes=3", "epochs=2", "neural.epochs=2"]


@pytest.fixture
def cli(capsys, tmp_path, monkeypatch):
    """Run the command inside an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HAMPKIT_DATA", raising=False)

    def call(*argv):
        code = _guarded([str(a) for a in argv])
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def refused(result, *said):
    """Exit code 2, one line, every one of these words in it, and no traceback."""
    code, _, err = result
    assert code == 2, err
    assert err.startswith("hampkit: error: "), err
    assert err.count("\n") == 1, err
    for word in said:
        assert word in err, err


def nothing_written(folder="."):
    left = [
        p
        for p in Path(folder).rglob("*")
        if p.is_file() and p.suffix not in (".csv", ".npz", ".npy", ".toml", ".tgz", ".py")
    ]
    assert not left, left


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run of two models, for tests that only read."""
    folder = tmp_path_factory.mktemp("finished")
    options = dict(word.split("=") for word in QUICK[1:])
    results = hampkit.run("toy/undefended", "toy/hamp", options=options, runs_dir=folder / "runs")
    return folder, results


def test_results_validate_against_the_schema_in_the_package(finished):
    _, results = finished
    document = json.loads(results.files["json"].read_text())
    jsonschema.validate(document, load_schema(), cls=jsonschema.Draft202012Validator)
    assert document == results.to_json()
    assert [m["recipe"] for m in document["models"]] == ["toy/undefended", "toy/hamp"]
    for model in document["models"]:
        for attack in model["attacks"]:
            members, others = attack["members"], attack["nonmembers"]
            for point in attack["tpr_at_fpr"]:
                assert point["value"] == point["tp"] / members
                assert point["fp"] <= point["fpr"] * others
                assert point["low"] <= point["value"] <= point["high"]
            for point in attack["tnr_at_fnr"]:
                assert point["value"] == point["tn"] / others


def test_typed_results_survive_json(finished):
    _, results = finished
    for model in results.models:
        assert hampkit.ModelResult.from_json(json.loads(json.dumps(model.to_json()))) == model


def test_run_folder_has_the_documented_layout(finished):
    folder, results = finished
    for model in results.models:
        run = folder / "runs" / model.run
        for name in (
            "recipe.json",
            "env.json",
            "split.npz",
            "models/000-000/stack.safetensors",
            "models/000-000/history.json",
        ):
            assert (run / name).is_file(), name
        assert model.run.startswith(f"toy-{model.defense}-")
        assert not list(run.rglob("*.partial"))
        split = np.load(run / "split.npz", allow_pickle=False)
        assert split["members"].shape[0] == len(split["seeds"]) == 1


def test_hamp_is_flagged_as_random_and_small_samples_as_unresolved(finished):
    _, results = finished
    undefended, hamp = results.models
    loss = {m.defense: next(a for a in m.attacks if a.attack == "loss") for m in (undefended, hamp)}
    assert "randomised" in loss["hamp"].flags
    assert "randomised" not in loss["undefended"].flags
    assert all("unresolved" in a.flags for m in results.models for a in m.attacks)
    correctness = next(a for a in hamp.attacks if a.attack == "correctness")
    assert "tied" in correctness.flags
    assert "randomised" not in correctness.flags


def test_run_prints_a_table_a_verdict_and_the_report(cli):
    code, out, err = cli("run", *QUICK)
    assert (code, err) == (0, "")
    for word in (
        "toy/hamp",
        "TPR@0.1%FPR",
        "TNR@0.1%FNR",
        "AUC",
        "confidence",
        "neural",
        "unresolved",
        "test accuracy",
    ):
        assert word in out, word
    report = out.strip().splitlines()[-1].removeprefix("report: ")
    assert Path(report).read_text().startswith("<!DOCTYPE html>") or "<html" in Path(report).read_text()[:200]
    assert Path("runs/report.md").exists()
    assert Path("runs/results.csv").exists()


def test_json_quiet_and_out(cli):
    code, out, _ = cli("run", *QUICK, "--json", "--out", "elsewhere", "--seed", "4")
    assert code == 0
    assert json.loads(out)["models"][0]["seed"] == 4
    assert Path("elsewhere/report.html").exists()
    assert not Path("runs/report.html").exists()
    assert cli("run", *QUICK, "--quiet", "--seed", "4") == (0, "", "")


def test_train_attack_report_and_lists(cli):
    code, out, _ = cli("train", *QUICK)
    assert code == 0
    run = out.split()[0]
    refused(cli("report", run), "never attacked", "hampkit attack")
    code, out, _ = cli("attack", run, "loss", "neural", "neural.epochs=1", "strict=true", "--json")
    assert code == 0
    assert [a["attack"] for a in json.loads(out)["models"][0]["attacks"]] == ["loss", "neural"]
    code, out, _ = cli("report", run, "--out", "all", "--json")
    assert code == 0
    assert Path("all/report.html").exists()
    for what, word in [
        ("datasets", "location30"),
        ("defenses", "hamp"),
        ("attacks", "neural"),
        ("recipes", "digits/hamp"),
        ("nets", "mlp"),
    ]:
        code, out, _ = cli("list", what)
        assert code == 0
        assert word in out
    code, out, _ = cli("data", "check", "digits")
    assert code == 0
    assert "rows 1797" in out
    assert cli("--version")[1] == f"hampkit {hampkit.__version__}\n"


def test_attack_options_change_only_the_attack(cli):
    cli("run", *QUICK, "--quiet")
    (run,) = Path("runs").glob("toy-hamp-*")
    stack = (run / "models/000-000/stack.safetensors").stat().st_mtime_ns
    neural = set((run / "attacks").glob("neural-*"))
    cli("run", *QUICK[:-1], "neural.epochs=3", "--quiet")
    assert (run / "models/000-000/stack.safetensors").stat().st_mtime_ns == stack
    assert len(set((run / "attacks").glob("neural-*")) - neural) == 1
    assert len(list(Path("runs").glob("toy-hamp-*"))) == 1


def test_a_toml_file_is_a_recipe(cli):
    Path("mine.toml").write_text(
        'net = "mlp-small"\n[data]\nname = "toy"\nrows = 300\nclasses = 3\n[train]\nepochs = 1\n'
        '[defense]\nname = "hamp"\ngamma = 0.2\n'
        "[attacks.neural]\nepochs = 1\n"
    )
    code, _, err = cli("run", "mine.toml", "--json")
    assert (code, err) == (0, "")
    (run,) = Path("runs").glob("toy-hamp-*")
    assert json.loads((run / "recipe.json").read_text())["defense"]["gamma"] == 0.2


def write_table(name="people.csv", rows=200, **columns):
    rng = np.random.default_rng(0)
    data = {
        "age": rng.integers(18, 90, rows),
        "income": rng.normal(3e4, 1e4, rows).round(2),
        "town": rng.choice(["Ulm", "Bonn", "Köln"], rows),
        "risk": rng.choice(["low", "mid", "high"], rows),
    } | columns
    lines = [",".join(data)] + [",".join(map(str, row)) for row in zip(*data.values(), strict=True)]
    Path(name).write_text("\n".join(lines) + "\n")
    return name


def test_a_table_of_ones_own(cli):
    code, out, err = cli(
        "run", "undefended", "hamp", "--data", write_table(), "--label", "risk", "epochs=2", "neural.epochs=2", "--json"
    )
    assert (code, err) == (0, "")
    model = json.loads(out)["models"][1]
    assert model["recipe"] == "people/hamp"
    assert model["data"]["classes"] == 3
    assert model["data"]["features"] == 5


def test_a_table_without_recipes_runs_both(cli):
    code, out, _ = cli("run", "--data", write_table(), "--label", "risk", "epochs=1", "neural.epochs=1", "--json")
    assert code == 0
    assert [m["defense"] for m in json.loads(out)["models"]] == ["undefended", "hamp"]


def test_a_network_of_ones_own(cli, monkeypatch):
    Path("mynets_for_test.py").write_text(
        "from torch import nn\n"
        "def tiny(shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear(shape[0], classes))\n"
        "def fixed(): return nn.Linear(16, 3)\n"
        "def wrong(): return nn.Linear(16, 4)\n"
        "def broken(): return nn.Linear(5, 3)\n"
        "number = 3\n"
        "def lazy(): return nn.LazyLinear(3)\n"
    )
    monkeypatch.syspath_prepend(".")
    for name in ("tiny", "fixed"):
        code, _, err = cli("run", *QUICK, f"net=mynets_for_test:{name}", "--quiet")
        assert (code, err) == (0, "")
    refused(cli("run", *QUICK, "net=mynets_for_test:wrong"), "(2, 4)", "(2, 3)")
    refused(cli("run", *QUICK, "net=mynets_for_test:broken"), "fails on inputs of shape (16,)")
    refused(cli("run", *QUICK, "net=mynets_for_test:tinny"), "did you mean 'tiny'")
    refused(cli("run", *QUICK, "net=mynets_for_test:lazy"), "lazy layers")
    refused(cli("run", *QUICK, "net=mynets_for_test:number"), "must be a function or class")
    refused(cli("run", *QUICK, "net=no_such_module:x"), "cannot import 'no_such_module'")


MISTAKES = {
    "unknown recipe": (["run", "digits/hmap"], ["'digits/hmap'", "did you mean 'hamp'?"]),
    "unknown data set": (["run", "digit/hamp"], ["'digit/hamp'", "did you mean 'digits/hamp'"]),
    "bare word": (["run", "digits"], ["'digits'", "DATA/DEFENSE"]),
    "unknown key": (["run", "toy/hamp", "gama=0.5"], ["'gama'", "did you mean 'gamma'?"]),
    "wrong type": (["run", "toy/hamp", "epochs=many"], ["train.epochs='many'", "whole number"]),
    "fraction for a whole number": (["run", "toy/hamp", "epochs=1.5"], ["train.epochs=1.5", "whole number"]),
    "wrong choice": (["run", "toy/hamp", "optimizer=adan"], ["train.optimizer='adan'", "did you mean 'adam'?"]),
    "gamma too high": (["run", "toy/hamp", "gamma=1"], ["gamma=1.0", "[0, 1)"]),
    "gamma negative": (["run", "toy/hamp", "gamma=-0.1"], ["gamma=-0.1", "[0, 1)"]),
    "train_size too large": (["run", "digits/hamp", "train_size=100000"], ["100000", "1797"]),
    "unknown network": (["run", "toy/hamp", "net=mpl"], ["'mpl'", "did you mean 'mlp'"]),
    "unknown device": (["run", "toy/hamp", "--device", "gpu"], ["gpu", "auto, cpu or cuda"]),
    "missing toml": (["run", "no.toml"], ["no.toml"]),
    "unknown list": (["list", "atacks"], ["'atacks'", "did you mean 'attacks'"]),
    "unknown data set to check": (["data", "check", "digts"], ["did you mean 'digits'?"]),
    "no such run": (["attack", "runs/nothing"], ["nothing", "no run folder"]),
    "unknown option": (["run", "--seeed", "3"], ["--seeed"]),
    "negative seed": (["run", "--seed", "-1"], ["-1"]),
    "missing table": (["run", "hamp", "--data", "no.csv", "--label", "y"], ["no.csv"]),
    "unknown command": (["ran"], ["ran"]),
    "missing data folder": (["run", "location30/hamp", "--data-dir", "nowhere"], ["nowhere"]),
    "milestones without steps": (["run", "toy/hamp", "milestones=[3]"], ["train.milestones=[3]", "schedule=steps"]),
    "known shares": (["run", "toy/hamp", "known_train=0.99"], ["known_train=0.99"]),
    "nothing known": (["run", "toy/hamp", "rows=100", "known_train=0.001"], ["known_train=0.001", "0 known"]),
    "learning rate": (["run", "toy/hamp", "lr=0"], ["train.lr=0"]),
    "infinite learning rate": (["run", "toy/hamp", "lr=inf"], ["train.lr=inf", "finite"]),
    "data given twice": (["run", "digits/hamp", "--data", "x.csv"], ["'digits/hamp'", "x.csv"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_line_and_nothing_is_written(cli, name):
    argv, said = MISTAKES[name]
    refused(cli(*argv), *said)
    nothing_written()


def test_unknown_attack(cli):
    cli("train", *QUICK, "--quiet")
    (run,) = Path("runs").glob("toy-hamp-*")
    refused(cli("attack", run, "nural"), "'nural'", "did you mean 'neural'?")
    refused(cli("attack", run, "epochs=3"), "'epochs'", "judge and attack options")
    refused(cli("attack", run, "neural.epoks=3"), "epoks", "did you mean 'epochs'?")


def test_cuda_absent(cli):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    refused(cli("run", "toy/hamp", "--device", "cuda"), "--device cuda", "--device cpu")
    nothing_written()


TABLES = {
    "missing label column": ({}, "rsik", ["rsik", "did you mean 'risk'?"]),
    "one class": ({"risk": ["low"] * 200}, "risk", ["low", "class"]),
    "nan": ({"income": ["nan"] + ["1.5"] * 199}, "risk", ["income"]),
    "infinite": ({"income": ["inf"] + ["1.5"] * 199}, "risk", ["income"]),
    "free text": ({"town": [f"house {i}" for i in range(200)]}, "risk", ["town", "drop"]),
    "class without members": ({"risk": ["low"] * 100 + ["mid"] * 99 + ["rare"]}, "risk", ["rare"]),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_bad_table_is_one_clear_line(cli, name):
    columns, label, said = TABLES[name]
    file = write_table(**columns)
    # whether the one rare row is a member depends on the seed; with seed 1 it is not
    refused(cli("run", "hamp", "--data", file, "--label", label, "--seed", "1"), *said)
    nothing_written()


def test_an_empty_table(cli):
    Path("empty.csv").write_text("")
    refused(cli("run", "hamp", "--data", "empty.csv", "--label", "y"), "empty.csv")
    nothing_written()


def test_unwritable_runs_folder(cli):
    Path("file").write_text("")
    refused(cli("run", *QUICK, "--runs-dir", "file/runs"), "file/runs", "another folder")
    refused(cli("run", *QUICK, "--out", "file/out"), "file/out")
    assert not Path("runs").exists() or not any(p.is_file() for p in Path("runs").rglob("*"))


def test_an_edited_recipe_is_noticed(cli):
    cli("train", *QUICK, "--quiet")
    (run,) = Path("runs").glob("toy-hamp-*")
    recipe = run / "recipe.json"
    recipe.write_text(recipe.read_text().replace('"epochs": 2', '"epochs": 3'))
    refused(cli("attack", run), "edited, or its folder renamed")
    refused(cli("run", *QUICK), "edited, or its folder renamed")
    recipe.write_text("{")
    refused(cli("attack", run), "recipe.json")


@pytest.mark.parametrize("name", ["local.json", "result.json", "details.json"])
def test_a_damaged_run_folder_is_one_clear_line(cli, name):
    cli("run", *QUICK, "--quiet")
    (run,) = Path("runs").glob("toy-hamp-*")
    command = ("attack", run) if name == "local.json" else ("report", run, "--out", "o")
    for content in ("{}", "[1]", "{"):
        (run / name).write_text(content)
        refused(cli(*command), name, "run again")
    (run / name).unlink()
    refused(cli(*command), "hampkit")


def test_changed_data_are_noticed(cli):
    cli("train", "hamp", "--data", write_table(), "--label", "risk", "epochs=1", "--quiet")
    (run,) = Path("runs").glob("people-hamp-*")
    write_table(age=range(200))
    refused(cli("attack", run), "not those it was trained on")


def test_two_processes_on_one_run(cli):
    from hampkit.config import load_recipe
    from hampkit.problem import Settings, prepare
    from hampkit.store import locked

    folder = prepare(load_recipe(QUICK[0], dict(w.split("=") for w in QUICK[1:])), Settings()).folder
    held, done = threading.Event(), threading.Event()

    def hold():
        with locked(Path("runs"), folder):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    try:
        refused(cli("run", *QUICK), "another process", folder)
    finally:
        done.set()
        thread.join()
    assert cli("run", *QUICK, "--quiet")[0] == 0


def test_a_bug_is_exit_code_one_and_debug_shows_it(cli, monkeypatch):
    import hampkit.api

    monkeypatch.setattr(hampkit.api, "run", lambda *a, **k: 1 / 0)
    code, _, err = cli("run")
    assert code == 1
    assert "ZeroDivisionError" in err
    with pytest.raises(ZeroDivisionError):
        cli("run", "--debug")


def test_a_full_disk_is_one_clear_line(cli, monkeypatch):
    import hampkit.store

    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(hampkit.store, "write_file", full)
    refused(cli("run", *QUICK), "No space left on device")
    assert not list(Path("runs").rglob("*.partial"))


def test_help_is_quick_and_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; sys.argv = ['hampkit', '--help']\n"
        "from hampkit.cli import main\n"
        "try: main()\nexcept SystemExit as e: assert e.code == 0\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'plotly', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)


def test_the_installed_command_reports_mistakes_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "hampkit.cli", "run", "toy/hamp", "gamma=2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 2
    assert done.stderr == "hampkit: error: gamma=2.0 must lie in [0, 1): 0 is a hard label, near 1 a uniform one\n"
    assert done.stdout == ""


def test_a_pipe_that_closes_early_is_no_error(tmp_path):
    command = f"{sys.executable} -m hampkit.cli list attacks | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
