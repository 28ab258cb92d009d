"""Files in the place of folders, folders in the place of others, damaged results: one line that names what to do instead."""

import gzip
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import hampkit
from hampkit.config.files import is_run, writable
from hampkit.data.base import Place
from hampkit.data.location import Location30
from hampkit.data.table import File
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
        with pytest.raises(UserError, match=r"runs_dir='~nobody-of-this-name/x' begins with the name of a user who"):
            hampkit.train("toy/undefended", runs_dir=value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert os.path.expanduser("~") == str(tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path}/none is not a run folder"):
        hampkit.attack(Path("~/none"))


def loaded(path, label, **options):
    return File(str(path), label, **options).load(Place(path.parent, path.parent))


ROWS = "".join(f"{k % 7},{(3 * k) % 11},{'ab'[k % 3 == 0]}\n" for k in range(300))
ODD_FILES = {
    "a row that is neither UTF-8 nor complete": (
        ("a,b,y\n" + ROWS + "1,2,röd,yes\n").encode("latin-1"),
        "line 302 of t.csv is not in UTF-8; save the file in UTF-8",
    ),
    "gzip": (gzip.compress(("a,b,y\n" + ROWS).encode()), "t.csv is compressed by gzip, and no text; unpack it"),
    "an archive": (b"PK\x03\x04" + bytes(100), "is an archive, such as .npz, .xlsx or .zip, and no text"),
    "Parquet": (b"PAR1" + bytes(100), "is a Parquet file, and no text; rename it to .parquet"),
    "blanks": ("a b y\n" + ROWS.replace(",", " "), "are the values divided by blanks? separator=space"),
    "a comment at the end": ("a,b,y\n" + ROWS + "# made by hand\n", "delete this comment: comments are skipped above"),
}


@pytest.mark.parametrize("case", ODD_FILES)
def test_odd_files_are_named_as_what_they_are(case, cli, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, words = ODD_FILES[case]
    Path("t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(cli("train", "undefended", "--data", "t.csv", "--label", "y", "epochs=1"), words)


def test_blanks_and_marks_of_byte_order_are_read_as_advised(tmp_path):
    """``separator=space``, and a mark of byte order behind comments."""
    (tmp_path / "t.csv").write_text("a b y\n" + ROWS.replace(",", " "))
    found = [loaded(tmp_path / "t.csv", "y", separator="space")]
    (tmp_path / "u.csv").write_text("# made by hand\n\ufeffa,b,y\n" + ROWS)
    found.append(loaded(tmp_path / "u.csv", "y", drop=("a",)))
    assert [len(each.y) for each in found] == [300, 300]
    assert [each.x.shape[1] for each in found] == [2, 1]


def test_classes_that_differ_only_by_case_are_named(tmp_path):
    rows = ROWS.replace(",a\n", ",Yes\n", 20).replace(",a\n", ",yes\n")
    (tmp_path / "t.csv").write_text("a,b,y\n" + rows)
    assert any(
        "classes that differ only by case: 'Yes', 'yes'" in note for note in loaded(tmp_path / "t.csv", "y").notes
    )


@pytest.mark.parametrize("words", [["report", "RUN"], ["list", "recipes"], ["--version"]])
def test_a_closed_standard_output_is_no_fault(words, tmp_path):
    """A scheduler may close it: what is printed is dropped, and the exit code stays."""
    if "RUN" in words:
        run = hampkit.run("toy/undefended", options={"rows": 300, "epochs": 1, "neural.epochs": 1}, runs_dir=tmp_path)
        words = ["report", str(tmp_path / run.models[0].run)]
    command = shlex.join([sys.executable, "-m", "hampkit", *words])
    done = subprocess.run(["bash", "-c", f"{command} >&-"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "more", [["--model", "a:b"], ["--label", "y"], ["p.csv"], ["--weights", "w.pth"], ["--kind", "logits"]]
)
def test_the_demonstration_takes_nothing_else(more, cli, refused, nothing_written):
    refused(cli("audit", "--demo", *more), f"leave out {more[0] if more[0].startswith('-') else repr(more[0])}")


@pytest.mark.parametrize("call", ["out", "runs_dir", "data_dir"])
def test_the_home_of_a_user_who_does_not_exist_is_refused_everywhere(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="~nosuchuser/x' begins with the name of a user who does not exist"):
        hampkit.run("toy/undefended", **{call: "~nosuchuser/x"})
    assert not list(tmp_path.iterdir())


def test_an_edited_environment_does_not_cost_the_model(tmp_path):
    options = {"rows": 300, "epochs": 1, "neural.epochs": 1}
    first = hampkit.run("toy/undefended", options=options, runs_dir=tmp_path)
    (tmp_path / first.models[0].run / "env.json").write_text("{}")
    assert hampkit.run("toy/undefended", options=options, runs_dir=tmp_path).models == first.models


def test_dates_that_python_has_not_are_one_line(tmp_path):
    """Of a damaged Parquet file: 2,147,483,636 days are no date."""
    import pyarrow as pa
    import pyarrow.parquet

    days = pa.array([10, 2**31 - 12] * 60, pa.int32()).cast(pa.date32())
    table = pa.table({"a": list(range(120)), "day": days, "y": ["a", "b"] * 60})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    for options in ({}, {"categories": ("day",)}):
        with pytest.raises(UserError, match=r"column 'day' of .* has times outside the years 1 to 9999"):
            loaded(tmp_path / "t.parquet", "y", **options)
