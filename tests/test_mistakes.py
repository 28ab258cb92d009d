"""Every mistake a user can make is one clear line, with exit code 2, and leaves nothing half-written."""

import json
import signal
import subprocess
import sys
import time
import typing
from pathlib import Path

import pytest

import hampkit
from hampkit.cli.options import split

QUICK = ["toy/hamp", "rows=300", "features=48", "classes=3", "epochs=2", "neural.epochs=2"]


MISTAKES = {
    "unknown recipe": (["run", "digits/hmap"], ["'digits/hmap'", "did you mean 'hamp' or 'dmp'?"]),
    "unknown data set": (["run", "digit/hamp"], ["'digit/hamp'", "did you mean 'digits/hamp'"]),
    "bare defense": (["run", "hamp"], ["'hamp'", "hamp is a defense: digits/hamp"]),
    "option of another defense": (
        ["run", "digits/undefended", "gamma=0.4"],
        [
            "'gamma' in gamma=0.4",
            "it is an option of hamp, label-smoothing, and no given recipe takes it",
            "rmia.gamma",
        ],
    ),
    "group without a table": (
        ["run", "digits/undefended", "--group", "x"],
        ["data.group=x", "--group names a column of a table of one's own", "add --data FILE"],
    ),
    "column of a table without one": (["run", "digits/undefended", "group=x"], ["a table of one's own (--data FILE)"]),
    "seed twice": (["run", "toy/hamp", "--seed", "3", "seed=4"], ["--seed 3 and seed=4 are the same option"]),
    "seed twice in train": (["train", "toy/hamp", "--seed", "3", "seed=4"], ["--seed 3 and seed=4 are the same"]),
    "seed twice in compare": (["compare", "toy", "--seed", "3", "seed=4"], ["--seed 3 and seed=4 are the same"]),
    "shadow models twice": (
        ["run", "toy/hamp", "--shadows", "8", "shadows.models=4"],
        ["--shadows 8 and shadows.models=4 are the same option; leave one out"],
    ),
    "shadow models twice in compare": (["compare", "toy", "--shadows", "8", "models=4"], ["--shadows 8 and models=4"]),
    "shadow models twice in plan": (["plan", "toy/hamp", "--shadows", "8", "models=4"], ["--shadows 8 and models=4"]),
    "shadow models twice in shadow": (
        ["shadow", "toy/hamp", "--models", "8", "shadows.models=4"],
        ["--models 8 and shadows.models=4 are the same"],
    ),
    "kept models twice": (
        ["shadow", "toy/hamp", "--models", "4", "--keep-models", "shadows.keep_models=false"],
        ["--keep-models and shadows.keep_models=false are the same"],
    ),
    "group twice": (["run", "toy/hamp", "--group", "a", "group=b"], ["--group a and group=b are the same option"]),
    "table twice": (
        ["run", "undefended", "--data", "x.csv", "--label", "a", "data.file=y.csv"],
        ["--data x.csv and data.file=y.csv are the same option"],
    ),
    "label twice": (
        ["run", "undefended", "--data", "x.csv", "--label", "a", "label=b"],
        ["--label a and label=b are the same option"],
    ),
    "option of an attack without its name": (["run", "toy/hamp", "variance=global"], ["lira-online.variance"]),
    "option of an attack that does not run": (
        ["run", "toy/hamp", "lira-online.variance=global"],
        ["lira-online.variance has no effect", "needs shadow models", "--shadows M"],
    ),
    "bare word": (["run", "digits"], ["'digits'", "DATA/DEFENSE"]),
    "unknown key": (["run", "toy/hamp", "gama=0.5"], ["'gama'", "did you mean 'gamma'?"]),
    "wrong type": (["run", "toy/hamp", "epochs=many"], ["train.epochs='many'", "whole number"]),
    "fraction for a whole number": (["run", "toy/hamp", "epochs=1.5"], ["train.epochs=1.5", "whole number"]),
    "wrong choice": (["run", "toy/hamp", "optimizer=adan"], ["train.optimizer='adan'", "did you mean 'adam'?"]),
    "gamma too high": (["run", "toy/hamp", "gamma=1"], ["gamma=1.0", "[0, 1)"]),
    "gamma negative": (["run", "toy/hamp", "gamma=-0.1"], ["gamma=-0.1", "[0, 1)"]),
    "train_size too large": (["run", "digits/hamp", "train_size=100000"], ["100000", "1797"]),
    "unknown network": (["run", "toy/hamp", "net=mpl"], ["'mpl'", "did you mean 'mlp'"]),
    "unknown device": (["run", "toy/hamp", "--device", "gpu"], ["gpu", "auto, cpu, cuda or cuda:N"]),
    "missing toml": (["run", "no.toml"], ["no.toml"]),
    "unknown list": (["list", "atacks"], ["'atacks'", "did you mean 'attacks'"]),
    "unknown data set to check": (["data", "check", "digts"], ["did you mean 'digits'?"]),
    "no such run": (["attack", "runs/nothing"], ["nothing", "is not a run folder"]),
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
    "huge learning rate": (["run", "toy/hamp", "lr=1" + "0" * 400], ["train.lr=1000", "… must be finite"]),
    "label without a table": (["run", "digits/hamp", "--label", "churned"], ["label=churned", "add --data FILE"]),
    "recipe to compare": (
        ["compare", "digits/hamp"],
        ["takes a data set, not 'digits/hamp'", "did you mean 'digits'?", "--defenses"],
    ),
    "unknown data set to compare": (["compare", "digit"], ["'digit'", "did you mean 'digits'?"]),
    "epoch": (["run", "digits/early-stopping", "epoch=-1"], ["defense.epoch=-1 must be at least 0"]),
    "patience": (
        ["run", "digits/early-stopping", "defense.patience=0"],
        ["error: defense.patience=0 must be at least 1"],
    ),
    "comma in a number": (
        ["run", "toy/hamp", "gamma=0,7"],
        ["gamma='0,7' must be a number, not a text", "write defense.gamma=0.7"],
    ),
    "comma in a whole number": (
        ["run", "toy/hamp", "epochs=1,000"],
        ["'1,000' must be a whole number", "train.epochs=1000"],
    ),
    "percent": (["run", "toy/hamp", "gamma=70%"], ["gamma='70%'", "write defense.gamma=0.7"]),
    "list without brackets": (["run", "toy/hamp", "milestones=3,7"], ["milestones='3,7' must be a list", "=[3,7]"]),
    "blanks around =": (["run", "toy/hamp", "gamma", "=", "0.7"], ["no blanks belong around =; write gamma=0.7"]),
    "blank before =": (["run", "toy/hamp", "gamma", "=0.7"], ["no blanks belong around =; write gamma=0.7"]),
    "blank after =": (["run", "toy/hamp", "gamma=", "0.7"], ["no blanks belong around =; write gamma=0.7"]),
    "blanks around = of attack": (["attack", "runs/x", "known_train", "=", "0.7"], ["write known_train=0.7"]),
    "list that the shell divided": (
        ["run", "hamp", "drop=[id,", "admitted]"],
        ["drop=[id, admitted] was divided", "quote it: 'drop=[id, admitted]'"],
    ),
    "key with dashes": (["run", "toy/hamp", "--drop", "id"], ["no such option --drop", "without dashes: drop=id "]),
    "key with dashes and =": (["run", "toy/hamp", "--train-size=50"], ["without dashes: train_size=50 "]),
    "defenses with blanks": (
        ["compare", "digits", "--defenses", "hamp", "dpsgd"],
        ["'dpsgd' is taken for a data set", "write --defenses hamp,dpsgd"],
    ),
    "defenses with blanks and a table": (
        ["compare", "--data", "x.csv", "--label", "y", "--defenses", "hamp", "round"],
        ["'round' is taken for a data set", "write --defenses hamp,round"],
    ),
    "defense to compare": (["compare", "digits", "hamp"], ["write --defenses hamp"]),
    "table for a recipe": (
        ["run", "a/visits.csv"],
        ["'a/visits.csv' is no recipe", "--data a/visits.csv --label COLUMN"],
    ),
    "table for the recipe of a plan": (["plan", "visits.TSV", "--shadows", "4"], ["--data visits.TSV --label COLUMN"]),
    "table for a data set": (["compare", "visits.csv"], ["--data visits.csv --label COLUMN"]),
    "table for a run": (["attack", "visits.csv"], ["is not a run folder", "visits.csv --label COLUMN"]),
    "table to check": (["data", "check", "visits.csv"], ["--data visits.csv --label COLUMN"]),
    "text for a whole number": (["run", "--seed", "x"], ["error: --seed='x' must be a whole number"]),
    "text for a whole number, by =": (
        ["plan", "toy/hamp", "--shadows=x"],
        ["error: --shadows='x' must be a whole number"],
    ),
    "data given twice": (["run", "digits/hamp", "--data", "x.csv"], ["'digits/hamp'", "x.csv"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_line_and_nothing_is_written(cli, name, refused, nothing_written):
    argv, said = MISTAKES[name]
    refused(cli(*argv), *said)
    nothing_written()


def test_an_empty_option_may_stand_before_a_recipe(cli):
    """Only what is no recipe is taken for the value of ``group=``."""
    assert split(["digits/hamp", "title=", "digits/round"]) == (["digits/hamp", "digits/round"], {"title": ""})
    assert split(["drop=[id]", "na=[a", "net=b]"])[1] == {"drop": "[id]", "na": "[a", "net": "b]"}


def test_unknown_attack(cli, refused):
    cli("train", *QUICK, "--quiet")
    (run,) = Path("runs").glob("toy-hamp-*")
    refused(cli("attack", run, "nural"), "'nural'", "did you mean 'neural'?")
    refused(cli("attack", run, "epochs=3"), "'epochs'", "judge and attack options")
    refused(cli("attack", run, "neural.epoks=3"), "epoks", "did you mean 'epochs'?")


def test_an_option_of_an_attack_that_cannot_run_has_no_effect(cli, refused):
    cli("train", *QUICK, "--quiet")
    (run,) = Path("runs").glob("toy-hamp-*")
    refused(cli("attack", run, "lira-online.variance=global"), "lira-online.variance has no effect", "--shadows M")
    assert cli("attack", run, "lira-online", "lira-online.variance=global", "--shadows", "4", "--quiet")[0] == 0


@pytest.mark.parametrize("argv", [[], ["data"]])
def test_a_command_without_anything_shows_its_help(cli, argv):
    code, out, err = cli(*argv)
    assert code in (0, 2)
    shown = out + err
    assert "error" not in shown
    assert shown.count("\n") > 5
    assert ("fetch" if argv else "report") in shown


ATTACK = """
from dataclasses import dataclass
from hampkit import signals
from hampkit.attacks.base import Attack

@dataclass(frozen=True)
class Mine(Attack):
    "Loss."
    name = "gone-for-test"
    paper = "https://example.org"
    reference = "Nobody"
    k: int = 1
    def score(self, evidence):
        return self.k * signals.scaled_logit(evidence.logits[:, 0], evidence.y)
"""
DEFENSE_CLASS = """
from dataclasses import dataclass
from hampkit.defenses.undefended import Undefended

@dataclass(frozen=True)
class Mine(Undefended):
    "Cross-entropy."
    name = "gone-for-test"
"""


def test_a_run_made_with_what_is_not_installed_any_more(cli, plugin, monkeypatch, refused):
    from hampkit import attacks, defenses, registry

    paths = {package: list(package.__path__) for package in (attacks, defenses)}
    plugin("attacks", "gone_for_test", ATTACK)
    plugin("defenses", "gone_for_test", DEFENSE_CLASS)
    options = ["rows=300", "features=48", "classes=3", "epochs=2", "neural.epochs=2", "gone-for-test.k=2"]
    assert cli("run", "toy/hamp", "toy/gone-for-test", *options, "--quiet")[0] == 0
    for package, path in paths.items():
        monkeypatch.setattr(package, "__path__", path)
    registry._scan.cache_clear()
    (kept,), (lost,) = Path("runs").glob("toy-hamp-*"), Path("runs").glob("toy-gone-for-test-*")
    refused(cli("report", kept), kept.name, "attacked with 'gone-for-test'", f"hampkit attack {kept.resolve()}")
    refused(cli("report", lost), lost.name, "trained with the defense 'gone-for-test'", "install")
    refused(cli("attack", lost), lost.name, "trained with the defense 'gone-for-test'", "install")
    assert cli("attack", kept, "loss", "--quiet") == (0, "", "")
    assert cli("report", kept, "--quiet") == (0, "", "")


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_a_table_with_another_separator_is_the_same_table(cli, write_table, separator):
    path = Path(write_table())
    command = ("train", "undefended", "--data", path, "--label", "risk", "epochs=1", "--quiet")
    first = cli(*command)
    path.write_text(path.read_text().replace(",", separator))
    assert cli(*command) == first
    assert first[0] == 0


def test_a_table_whose_names_hold_a_semicolon_is_read(cli, write_table):
    path = Path(write_table())
    path.write_text(path.read_text().replace("income", "income;gross", 1))
    assert cli("train", "undefended", "--data", path, "--label", "risk", "epochs=1", "--quiet")[0] == 0


def test_cuda_absent(cli, refused, nothing_written):
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
    "more classes than members": (
        {"risk": [f"r{i % 90}" for i in range(200)]},
        "risk",
        ["82 members", "merge the class"],
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_bad_table_is_one_clear_line(cli, write_table, name, refused, nothing_written):
    columns, label, said = TABLES[name]
    file = write_table(**columns)
    refused(cli("run", "hamp", "--data", file, "--label", label), *said)
    nothing_written()


def test_an_empty_table(cli, refused, nothing_written):
    Path("empty.csv").write_text("")
    refused(cli("run", "hamp", "--data", "empty.csv", "--label", "y"), "empty.csv")
    nothing_written()


def test_unwritable_runs_folder(cli, refused):
    Path("file").write_text("")
    refused(cli("run", *QUICK, "--runs-dir", "file/runs"), "file/runs", "another folder")
    refused(cli("run", *QUICK, "--out", "file/out"), "file/out")
    assert not Path("runs").exists() or not any(p.is_file() for p in Path("runs").rglob("*"))


def test_an_edited_recipe_is_noticed(cli, refused):
    cli("train", *QUICK, "--quiet")
    (run,) = Path("runs").glob("toy-hamp-*")
    recipe = run / "recipe.json"
    recipe.write_text(recipe.read_text().replace('"epochs": 2', '"epochs": 3'))
    refused(cli("attack", run), "edited, or its folder renamed")
    refused(cli("run", *QUICK), "edited, or its folder renamed")
    recipe.write_text("{")
    refused(cli("attack", run), "recipe.json")


@pytest.mark.parametrize("name", ["local.json", "result.json", "details.json"])
def test_a_damaged_run_folder_is_one_clear_line(cli, name, refused):
    cli("run", *QUICK, "--quiet")
    (run,) = Path("runs").glob("toy-hamp-*")
    command = ("attack", run) if name == "local.json" else ("report", run, "--out", "o")
    for content in ("{}", "[1]", "{"):
        (run / name).write_text(content)
        refused(cli(*command), name, "run again" if name == "local.json" else "attack again")
    (run / name).unlink()
    refused(cli(*command), "hampkit")


def test_changed_data_are_noticed(cli, write_table, refused):
    cli("train", "hamp", "--data", write_table(), "--label", "risk", "epochs=1", "--quiet")
    (run,) = Path("runs").glob("people-hamp-*")
    write_table(age=[row % 90 for row in range(200)])
    refused(cli("attack", run), "the data differ from those")


def test_a_full_disk_is_one_clear_line(cli, monkeypatch, refused):
    import hampkit.runs.store

    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(hampkit.runs.store, "write_file", full)
    refused(cli("run", *QUICK), "No space left on device")
    assert not list(Path("runs").rglob("*.partial"))


DEFENSE = '[defense]\nname = "hamp"\n'
DATA = '[data]\nname = "toy"\n'
SHAPES = {
    "attacks=3": ("attacks = 3\n" + DATA + DEFENSE, [], ["attacks must be a section", "3"]),
    "[attacks] neural=3": (DATA + DEFENSE + "[attacks]\nneural = 3\n", [], ["attacks.neural must be a section"]),
    "neural=[x]": ('attacks = {neural = ["x"]}\n' + DATA + DEFENSE, [], ["attacks.neural must be a section", "['x']"]),
    "train=5": ("train = 5\n" + DATA + DEFENSE, ["lr=0.1"], ["train must be a section", "5"]),
    "attacks=3 and an option": ("attacks = 3\n" + DATA + DEFENSE, ["neural.epochs=1"], ["attacks must be a section"]),
    "data=3": ("data = 3\n" + DEFENSE, ["lr=0.1"], ["must name its data"]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_recipe_of_another_shape(cli, refused, nothing_written, name):
    text, options, said = SHAPES[name]
    Path("mine.toml").write_text(text)
    refused(cli("run", "mine.toml", *options), *said)
    nothing_written()


WORDS = {
    "split seed": (["split.seed=-2"], ["split.seed=-2", "-1"]),
    "key twice": (["gamma=0.1", "gamma=0.2"], ["gamma is given twice", "gamma=0.1", "gamma=0.2"]),
    "key twice by two names": (["gamma=0.1", "defense.gamma=0.2"], ["gamma=0.1 and defense.gamma=0.2", "same key"]),
    "no such key": (["zzzz=x"], ["'zzzz'", "hampkit list options"]),
    "leading zero": (["epochs=010"], ["train.epochs='010'", "whole number"]),
    "rows": (["rows=1000000000000"], ["data.rows=1000000000000", "fewer rows"]),
    "batch size": (["batch_size=1000000000000"], ["train.batch_size=1000000000000", "at most"]),
    "bank": (["bank=100000000000"], ["defense.bank=100000000000", "at most"]),
    "alpha": (["alpha=1e300", "rows=300", "epochs=1", "retries=0"], ["diverged", "defense's options", "features"]),
}


@pytest.mark.parametrize("name", WORDS)
def test_a_word_that_cannot_be_meant(cli, refused, nothing_written, name):
    words, said = WORDS[name]
    result = cli("run", "toy/hamp", *words)
    refused(result, *said)
    assert len(result[2]) < 400
    if name != "alpha":  # its run folder holds the recipe, and no model
        nothing_written()


def test_a_recipe_whose_path_holds_an_equals_sign(cli):
    Path("lr=0.1.toml").write_text(DATA + "rows = 300\n" + DEFENSE + "[train]\nepochs = 1\n")
    assert cli("train", "lr=0.1.toml", "--quiet")[0] == 0


def test_a_column_whose_name_looks_like_a_number(cli, write_table):
    table = write_table(**{"01": range(200)})
    args = ["--data", table, "--label", "risk", "epochs=1", "neural.epochs=1", "data.drop=[01]", "--json"]
    code, out, _ = cli("run", "undefended", *args)
    assert code == 0
    assert json.loads(out)["models"][0]["data"]["features"] == 5


def test_lists_of_texts_are_given_in_the_library_too(write_table):
    table = {"data": write_table(), "label": "risk", "runs_dir": "runs"}
    options = {"epochs": 1, "neural.epochs": 1, "data.drop": ["town", "age"]}
    fewer = hampkit.train("undefended", options=options, **table)
    assert fewer.pool.x.shape[1] < hampkit.train("undefended", options={"epochs": 1}, **table).pool.x.shape[1]
    with pytest.raises(hampkit.UserError, match=r"no column 'a, b' \(data.drop\)"):
        hampkit.train("undefended", options={"data.drop": ["a, b"]}, **table)


def test_labels_beyond_64_bits_stay_apart(cli, write_table):
    labels = [10**30 + k % 3 for k in range(200)]
    args = ["--data", write_table(risk=labels), "--label", "risk", "epochs=1", "neural.epochs=1", "--json"]
    assert json.loads(cli("run", "undefended", *args)[1])["models"][0]["data"]["classes"] == 3


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_too_little_memory_names_the_likely_cause(cli, refused, monkeypatch, error):
    import hampkit.api

    def full(*a, **k):
        raise error

    monkeypatch.setattr(hampkit.api, "run", full)
    refused(cli("run", "toy/hamp", "features=48", "rows=5000000"), "not enough memory for rows=5000000")
    refused(cli("run"), "not enough memory", "train.batch_size")


# a network that leaves a file behind once it has taken a few steps
SLOW = """
from pathlib import Path
from torch import nn

class Counted(nn.Linear):
    steps = 0

    def forward(self, x):
        self.steps += self.training
        if self.steps == 50:
            Path("trains").touch()
        return super().forward(x)

def net(shape, classes):
    return Counted(*shape, classes)
"""


def test_ctrl_c_is_no_error_and_names_how_to_go_on(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    options = ["net=slow:net", "rows=3000", "flip=0.3", "epochs=100000"]
    command = [sys.executable, "-m", "hampkit", "run", "toy/hamp", *options]
    # a job in a shell's background inherits that SIGINT is ignored; the command is tried as in the foreground
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "trains").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 130
    assert said.strip() == "hampkit: stopped; the same command goes on where it stopped"
    assert not list(tmp_path.rglob("*.partial"))


def test_help_says_what_the_command_does(cli, refused):
    refused(cli("bogus"), "hampkit --help")
    assert "bogus --help" not in cli("bogus")[2]
    refused(cli("run", "--bogus"), "hampkit run --help")
    assert "the run folder itself" in " ".join(cli("attack", "--help")[1].split())
    assert "download" not in cli("data", "check", "--help")[1].split("--data-dir")[1]
    code, out, _ = cli("list")
    assert code == 0
    assert all(f"hampkit list {what}" in out for what in ("datasets", "attacks", "options"))


def test_every_option_is_listed_with_its_default_and_meaning(cli):
    from hampkit.config.recipe import keys
    from hampkit.data.splits import LAYOUTS

    code, out, _ = cli("list", "options")
    lines = dict(line.split("=", 1) for line in out.splitlines())
    assert code == 0
    for key in keys("toy/hamp"):
        assert key.removeprefix("attacks.") in lines
    assert lines["train.batch_size"].split() == ["64", "rows"]
    assert lines["defense.noise"].startswith("fresh ")
    assert "keyed: the random input is a keyed hash" in lines["defense.noise"]
    assert lines["defense.distill.lr"].endswith("none: as train.lr")
    assert "constant | steps | cosine; none: as train.schedule" in lines["defense.distill.schedule"]
    assert all(name in lines["split.layout"] for name in LAYOUTS)
    ours = [line for line in out.splitlines() if line.split(".")[0] in ("split", "train", "judge", "data", "defense")]
    assert [line for line in ours if not line.partition("  ")[2].strip().rpartition(": ")[2]] == []


def test_options_of_one_thing_are_listed_alone(cli, refused):
    def keys(*words):
        code, out, err = cli("list", "options", *words)
        assert code == 0, err
        return [line.split("=")[0].split()[0] for line in out.splitlines()]

    assert keys("lira-online") == ["lira-online.variance", "lira-online.center"]
    assert {key.split(".")[0] for key in keys("lira")} >= {"lira-online", "lira-offline-fixed"}
    assert keys("hamp")[0].startswith("defense.")
    assert set(keys("toy")) == {f"data.{name}" for name in ("rows", "features", "classes", "flip", "seed")}
    assert "train.threads" in keys("train")
    assert set(keys("data")) >= set(keys("toy")) | set(keys("file"))
    assert set(keys("defense")) > set(keys("hamp")) | set(keys("memguard"))
    assert set(keys("generator")) == {"defense.options"}
    assert len(keys("generator")) == sum(len(keys(name)) for name in ("bernoulli-mixture", "ctgan", "dcgan"))
    for name in ("correctness", "confidence"):  # not those of the defense confidence-penalty
        assert keys(name) == [name], "a line says that there are none"
    refused(cli("list", "options", "hmap"), "'hmap'", "did you mean 'hamp'")
    refused(
        cli("list", "options", "zzzz"), "'zzzz'", "split, train, judge, shadows, canaries, data, defense, generator"
    )
    assert "rmia" not in cli("list", "options", "zzzz")[2]
    refused(
        cli("list", "nets", "hamp"), "hampkit list nets has no 'hamp'", "did you mean 'hampkit list defenses hamp'?"
    )


def test_a_list_is_printed_without_markup_as_a_whole_or_for_one_name(cli):
    for what in ("datasets", "defenses", "attacks", "generators", "recipes", "nets", "options"):
        assert "``" not in cli("list", what)[1], what
    code, out, _ = cli("list", "defenses", "hamp")
    assert (code, len(out.splitlines())) == (0, 1)
    assert out.startswith("hamp ")
    assert "gamma" in out


def test_options_list_the_words_that_they_take(cli):
    """Every word of every choice, of attacks, defenses, generators, data sets and sections."""
    from hampkit.config.sections import SECTIONS
    from hampkit.registry import ATTACKS, DATASETS, DEFENSES, GENERATORS

    lines, out = cli("list", "options")[1].splitlines(), 0
    classes = [("data", DATASETS), ("defense", DEFENSES), ("generator", GENERATORS), ("", ATTACKS)]
    owners = [(section, cls) for section, registry in classes for cls in registry.classes().values()]
    for section, cls in [*SECTIONS.items(), *owners]:
        for name, hint in typing.get_type_hints(cls).items():
            if not (words := literals(hint)) or typing.get_origin(hint) is typing.ClassVar:
                continue
            out += 1
            start = f"{section or cls.name}.{name}="
            shown = [line for line in lines if line.startswith(start) and " | ".join(words) in line]
            assert shown, f"{start} does not list {words}"
    assert out > 20
    text = {line.split("=")[0]: line.partition("  ")[2] for line in lines}
    variants = [text[f"lira-{name}.variance"] for name in ("online", "online-fixed", "offline", "offline-fixed")]
    assert len({line.strip() for line in variants}) == 1
    assert "auto: per-example from 32 models a side on" in variants[0]


def literals(hint):
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return list(inner)
    return [word for part in inner for word in literals(part)]


def test_the_list_of_attacks_names_their_options(cli):
    lines = {line.split()[0]: line for line in cli("list", "attacks")[1].splitlines()}
    assert lines["lira-online"].endswith("Options: variance, center")
    assert "Options" not in lines["correctness"]


def test_an_option_of_attacks_without_a_name_is_answered_with_the_names(cli, refused):
    code, out, _ = cli("train", "toy/undefended", "rows=300", "epochs=1")
    assert code == 0
    run = out.split()[0]
    for start in (["attack", run], ["run", "toy/undefended"]):
        for option in ("variance=pooled", "attacks.variance=pooled"):
            refused(cli(*start, option), "needs its name", "lira-online.variance=…")
            assert "rmia" not in cli(*start, option)[2]
