"""Files in the place of folders, folders in the place of others, damaged results: one line that names what to do instead."""

import os
import shlex
from pathlib import Path

import pytest

import hampkit
from hampkit.config.files import is_run, writable
from hampkit.data.base import Place
from hampkit.data.location import Location30
from hampkit.errors import UserError
from hampkit.runs.store import Run
from hampkit.workflows.gate import check_junit

SMALL = ["rows=300", "features=16", "classes=3", "epochs=1", "neural.epochs=1"]


TABLE = ["run", "hamp", "--data", "people.csv", "--label", "risk"]
ANSWERS = {
    "no value": (["run", "toy/hamp", "epochs="], "nothing stands after the =: write train.epochs=VALUE without blanks"),
    "no word": (["run", "toy/hamp", "optimizer=", "adam"], "write train.optimizer=VALUE without blanks"),
    "whole in another notation": (["run", "toy/hamp", "epochs=1e3"], "not a fraction; write train.epochs=1000"),
    "thousands": (["run", "toy/hamp", "epochs=1,000"], "must be a whole number, not a text; write train.epochs=1000"),
    "comma and blank": (["compare", "toy", "--defenses", "hamp,", "round"], "write --defenses hamp,round"),
    "table to compare, no suffix": (["compare", "people"], "a table is given by --data people.csv --label COLUMN"),
    "table to run": (["run", "people.csv"], "a table is given by --data people.csv --label COLUMN"),
    "table to run, no suffix": (["run", "people"], "a table is given by --data people.csv --label COLUMN"),
    "table beside a defense": (["run", "people.csv", "hamp", "--label", "risk"], "is given by --data people.csv --label"),
    "table twice": ([*TABLE, "people.csv"], "'people.csv' is no recipe"),
    "label without a table": (["run", "hamp", "--label", "risk"], "add --data FILE, or leave it out"),
    "folder as a table": (["run", "hamp", "--data", "folder", "--label", "y"], "name one of 'one.tsv'"),
    "empty folder as a table": (["run", "hamp", "--data", "empty", "--label", "y"], "is a folder; name a file '.csv', "),
    "no suffix": (["run", "hamp", "--data", "people", "--label", "risk"], "people lacks its suffix; write people.csv"),
    "another suffix": (["run", "hamp", "--data", "people.xlsx", "--label", "risk"], "has the suffix '.xlsx'; save it as"),
}  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS)
def test_the_answer_names_what_to_write(case, cli, refused, write_table, nothing_written):
    words, said = ANSWERS[case]
    write_table()
    Path("folder").mkdir()
    Path("empty").mkdir()
    Path("folder/one.tsv").write_text("a\tb\n")
    refused(cli(*words), said)
    Path("folder/one.tsv").unlink()
    nothing_written()


def test_a_defense_stays_one_beside_a_table_of_its_name(cli, write_table):
    write_table("hamp.csv")
    assert hampkit.recipe("hamp", data="hamp.csv", label="risk").defense.name == "hamp"


@pytest.fixture
def run(cli):
    """A small run folder that was attacked."""
    assert cli("run", "toy/undefended", *SMALL, "--quiet")[0] == 0
    (found,) = Path("runs").glob("toy-undefended-*")
    return found


def test_folders_that_are_taken_for_others_are_named(cli, refused, run):
    refused(cli("compare", run), f"it is a run folder: hampkit report {run} OTHER-RUN writes one report")
    refused(cli("run", run), f"'{run}' is a run folder, no recipe; hampkit attack {run} attacks its model")
    refused(cli("report", "runs"), "is not a run folder", f"give one of the runs in it: {run.resolve()}")
    refused(cli("attack", "runs"), f"give one of the runs in it: {run.resolve()}")
    refused(cli("report", run, "nowhere"), "nowhere is not a run folder", "give a folder that hampkit train")


def test_of_many_runs_in_a_folder_some_are_named():
    for k in range(5):
        Path(f"runs/r{k}").mkdir(parents=True)
        Path(f"runs/r{k}/recipe.json").write_text("{}")
    with pytest.raises(UserError, match=r"runs in it: runs/r0, runs/r1, runs/r2, … \(5 in all\)"):
        Run.at(Path("runs"))


@pytest.mark.parametrize("file", ["result.json", "details.json"])
@pytest.mark.parametrize("damage", ["{", "{}", None], ids=str)
def test_a_damaged_result_is_written_anew_by_the_command_that_is_named(file, damage, cli, refused, run):
    if damage is None:
        (run / file).unlink()
    else:
        (run / file).write_text(damage)
    trained = {path: path.read_bytes() for path in run.rglob("*.safetensors")}
    assert trained
    result = cli("report", run)
    refused(result, "hampkit attack", "" if damage is None else file)
    words = shlex.split(result[2].rpartition("hampkit ")[2])
    assert cli(*words, "--quiet")[0] == 0
    assert cli("report", run, "--quiet")[0] == 0
    assert trained == {path: path.read_bytes() for path in run.rglob("*.safetensors")}


FOLDERS = {
    "runs": ["--runs-dir", "file"],
    "runs below": ["--runs-dir", "file/runs"],
    "out": ["--out", "file"],
    "out below": ["--out", "file/a/b"],
}


@pytest.mark.parametrize("case", FOLDERS)
@pytest.mark.parametrize("command", [["run", "toy/undefended"], ["compare", "toy"]], ids=lambda words: words[0])
def test_a_file_in_the_place_of_a_folder_is_named(command, case, cli, refused):
    Path("file").write_text("")
    code, out, err = cli(*command, *FOLDERS[case])
    last = err.splitlines(keepends=True)[-1]  # below the notes about the data
    refused(
        (code, out, last), f"cannot write to {FOLDERS[case][1]}: file is a file, not a folder; choose another folder"
    )


def test_a_file_in_the_place_of_the_cache_is_named_before_anything_is_downloaded():
    Path("file").write_text("")
    said = r"no place for a download: file is a file, not a folder; put .* into any folder named by --data-dir or \$HAMPKIT_DATA$"
    with pytest.raises(UserError, match=said):
        Location30().load(Place(None, Path("file/hampkit"), download=True))


@pytest.mark.parametrize(
    ("junit", "said"),
    [
        ("folder", "--junit folder is a folder; name a file in it, such as folder/junit.xml"),
        ("file/x.xml", "cannot write to file: file is a file, not a folder; name a file in another folder by --junit"),
    ],
)
def test_a_place_for_outcomes_that_cannot_be_written_is_refused_before_the_training(junit, said, cli, refused):
    Path("file").write_text("")
    Path("folder").mkdir()
    refused(cli("run", "toy/undefended", *SMALL, "--fail-if", "auc.low>0.9", "--junit", junit), said)
    refused(cli("audit", "none.csv", "--fail-if", "auc.low>0.9", "--junit", junit), said)
    assert not Path("runs").exists()
    check_junit("folder/j.xml")


WORDS = {"long": "9" * 400, "null": "a\0b", "home": "~nobody-of-this-name/x", "deep": "x/" * 3000}


@pytest.mark.parametrize("case", WORDS)
def test_names_that_no_file_can_have_are_one_line(case, cli, refused):
    word = WORDS[case]
    refused(cli("run", word))
    refused(cli("compare", word))
    refused(cli("list", "recipes", word))
    refused(cli("attack", word))
    refused(cli("run", "hamp", "--data", word, "--label", "y"))
    assert not is_run(word)
    if case != "home":
        with pytest.raises(UserError, match=r"cannot write to .*; choose another folder"):
            writable(Path(word))
        with pytest.raises(UserError):
            hampkit.train("toy/undefended", runs_dir=word)


def test_a_path_of_an_unknown_user_is_one_line_whatever_its_type(tmp_path, monkeypatch):
    for value in ("~nobody-of-this-name/x", Path("~nobody-of-this-name/x")):
        with pytest.raises(UserError, match=r"runs_dir='~nobody-of-this-name/x' names no file .*give the path"):
            hampkit.train("toy/undefended", runs_dir=value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert os.path.expanduser("~") == str(tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path}/none is not a run folder"):
        hampkit.attack(Path("~/none"))
