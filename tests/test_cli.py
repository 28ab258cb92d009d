"""The command line: the main job, its outputs and exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import hampkit
from hampkit.report import load_schema

QUICK = ["toy/hamp", "rows=300", "features=48", "classes=3", "epochs=2", "neural.epochs=2"]


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


def test_hamp_is_flagged_as_random_and_small_samples_are_few(finished):
    _, results = finished
    undefended, hamp = results.models
    loss = {m.defense: next(a for a in m.attacks if a.attack == "loss") for m in (undefended, hamp)}
    assert "randomised" in loss["hamp"].flags
    assert "randomised" not in loss["undefended"].flags
    assert all("few" in a.flags for m in results.models for a in m.attacks)
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
        "few",
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
    code, _, err = cli("report", run)
    assert (code, "was never attacked" in err) == (2, True)
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
        ("nets", "timm:NAME"),
        ("generators", "bernoulli-mixture"),
    ]:
        code, out, _ = cli("list", what)
        assert code == 0
        assert word in out
    code, out, _ = cli("data", "check", "digits")
    assert code == 0
    assert "rows 1797" in out
    assert cli("--version")[1] == f"hampkit {hampkit.__version__}\n"


@pytest.mark.parametrize("command", ["train", "run"])
def test_all_recipes_are_checked_before_the_first_is_trained(cli, refused, nothing_written, command):
    small = ["rows=300", "epochs=1"]
    refused(cli(command, "toy/undefended", "toy/advreg", *small), "advreg", "at least 2")
    nothing_written()


def test_each_of_several_recipes_to_train_takes_the_options_that_it_knows(cli, refused, tmp_path):
    both, small = ["toy/undefended", "toy/memguard"], ["rows=300", "epochs=1", "--quiet"]
    code, _, err = cli("train", *both, *small, "surrogate_epochs=2")
    assert code == 0, err
    (run,) = (tmp_path / "runs").glob("toy-memguard-*")
    assert json.loads((run / "recipe.json").read_text())["defense"]["surrogate_epochs"] == 2
    refused(cli("train", *both, *small, "strength=0.5"), "strength", "no given recipe takes it")


def test_attack_options_change_only_the_attack(cli):
    cli("run", *QUICK, "--quiet")
    (run,) = Path("runs").glob("toy-hamp-*")
    stack = (run / "models/000-000/stack.safetensors").stat().st_mtime_ns
    neural = set((run / "attacks").glob("neural-*"))
    cli("run", *QUICK[:-1], "neural.epochs=3", "--quiet")
    assert (run / "models/000-000/stack.safetensors").stat().st_mtime_ns == stack
    assert len(set((run / "attacks").glob("neural-*")) - neural) == 1
    assert len(list(Path("runs").glob("toy-hamp-*"))) == 1


def test_an_option_that_is_given_to_attack_leaves_the_recipes_others(cli):
    cli("run", *QUICK[:-1], "neural.epochs=1", "neural.batch_size=32", "--quiet")
    (run,) = Path("runs").glob("toy-hamp-*")
    code, out, _ = cli("attack", run, "neural", "neural.epochs=2", "--json")
    assert code == 0
    (found,) = [a for a in json.loads(out)["models"][0]["attacks"] if a["attack"] == "neural"]
    assert (found["options"]["epochs"], found["options"]["batch_size"]) == (2, 32)


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


def test_a_table_of_ones_own(cli, write_table):
    code, out, err = cli(
        "run", "undefended", "hamp", "--data", write_table(), "--label", "risk", "epochs=2", "neural.epochs=2", "--json"
    )
    assert (code, err) == (0, "")
    model = json.loads(out)["models"][1]
    assert model["recipe"] == "people/hamp"
    assert model["data"]["classes"] == 3
    assert model["data"]["features"] == 5


def test_a_table_without_recipes_runs_both(cli, write_table):
    code, out, _ = cli("run", "--data", write_table(), "--label", "risk", "epochs=1", "neural.epochs=1", "--json")
    assert code == 0
    assert [m["defense"] for m in json.loads(out)["models"]] == ["undefended", "hamp"]


def test_a_bug_is_exit_code_one_and_debug_shows_it(cli, monkeypatch):
    import hampkit.api

    monkeypatch.setattr(hampkit.api, "run", lambda *a, **k: 1 / 0)
    code, _, err = cli("run")
    assert code == 1
    assert "ZeroDivisionError" in err
    with pytest.raises(ZeroDivisionError):
        cli("run", "--debug")


def test_help_is_quick_and_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; sys.argv = ['hampkit', '--help']\n"
        "from hampkit.__main__ import main\n"
        "try: main()\nexcept SystemExit as e: assert e.code == 0\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'plotly', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)


def test_the_installed_command_reports_mistakes_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "hampkit", "run", "toy/hamp", "gamma=2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 2
    assert done.stderr == "hampkit: error: gamma=2.0 must lie in [0, 1): 0 is a hard label, near 1 a uniform one\n"
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("name", "key"), [("distill", "defense.distill.lr"), ("lr", "train.lr"), ("gamma", "defense.gamma")]
)
def test_options_are_listed_by_their_own_name_and_by_that_of_a_nested_section(cli, name, key):
    code, out, _ = cli("list", "options", name)
    keys = [line.partition("=")[0] for line in out.splitlines()]
    assert code == 0
    assert key in keys
    assert all(name in found.split(".") for found in keys)


def test_a_pipe_that_closes_early_is_no_error(tmp_path):
    for words in ("list attacks", "list options"):
        command = f"{sys.executable} -m hampkit {words} | head -1"
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["id", "customer_id", "CustomerID", "row"])
def test_a_column_that_looks_like_an_identifier_is_warned_of_once(cli, write_table, name):
    numbers = range(1000, 1200) if name == "row" else np.random.default_rng(0).permutation(5000)[:200]
    file, options = write_table(**{name: numbers}), ["--label", "risk", "epochs=1", "neural.epochs=1"]
    code, _, err = cli("run", "--data", file, *options)
    assert code == 0
    assert err.startswith(
        f"hampkit: warning: column '{name}' of people.csv looks like an identifier: 200 whole numbers"
    )
    assert err.endswith(f"drop={name}\n")
    assert err.count("\n") == 1, "two recipes, one warning"
    assert cli("run", "--data", file, *options, f"drop={name}")[::2] == (0, "")
    assert cli("run", "--data", file, *options, "--quiet") == (0, "", "")


@pytest.mark.parametrize("numbers", [[7 * k % 200 for k in range(200)], [k // 2 for k in range(200)]])
def test_whole_numbers_that_are_no_identifier_are_not_warned_of(cli, write_table, numbers):
    file = write_table(visits=numbers)
    assert cli("train", "undefended", "--data", file, "--label", "risk", "epochs=1")[2] == ""


def test_the_library_warns_of_identifiers_too(tmp_path, monkeypatch, write_table):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(hampkit.Notice, match="looks like an identifier"):
        hampkit.train("undefended", data=write_table(id=range(200)), label="risk", options={"epochs": 1})
