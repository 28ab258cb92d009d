"""What the shells are offered, asked as they ask: by environment variables of a process that must not import torch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hampkit.cli import completion
from hampkit.cli.app import app
from hampkit.registry import ATTACKS, DATASETS, DEFENSES

ENTRY = (
    "import sys, atexit\n"
    "atexit.register(lambda: sys.stderr.write('torch' if 'torch' in sys.modules else ''))\n"
    "sys.argv = ['hampkit']\n"
    "from hampkit.__main__ import main\nmain()\n"
)


def asked(tmp_path, **variables):
    """The answer of the command to these variables."""
    env = {**os.environ, **variables}
    done = subprocess.run([sys.executable, "-c", ENTRY], cwd=tmp_path, capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_bash_and_zsh_complete_a_recipe_without_torch(tmp_path):
    words = {"COMP_WORDS": "hampkit run digits/h", "COMP_CWORD": "2"}
    assert asked(tmp_path, _HAMPKIT_COMPLETE="complete_bash", **words).split() == ["digits/hamp"]
    found = asked(tmp_path, _HAMPKIT_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="hampkit attack runs/x lira-of")
    assert "lira-offline-fixed" in found


def test_the_script_for_a_shell_is_shown(tmp_path):
    assert "_HAMPKIT_COMPLETE=complete_bash" in asked(tmp_path, _HAMPKIT_COMPLETE="source_bash")


def offered(line, monkeypatch, capsys):
    """What bash is offered for the last word of a line, as a set."""
    words = line.split(" ")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    monkeypatch.setenv("_HAMPKIT_COMPLETE", "complete_bash")
    with pytest.raises(SystemExit):
        app(args=[], prog_name="hampkit")
    return set(capsys.readouterr().out.split("\n")) - {""}


LINES = {
    "hampkit ": {"run", "shadow", "plan", "train", "attack", "audit", "bound", "compare", "report", "list", "data"},
    "hampkit run --sh": {"--shadows", "--shadows-from"},
    "hampkit run toy/h": {"toy/hamp"},
    "hampkit run digits/hamp gam": {"gamma="},
    "hampkit run digits/round gam": set(),  # an option of another defense
    "hampkit run digits/hamp gamma=0.5 gam": set(),  # given already
    "hampkit run digits/hamp train.ep": {"train.epochs="},
    "hampkit run digits/hamp ep": {"epochs="},
    "hampkit run digits/hamp neural.ep": {"neural.epochs="},
    "hampkit run toy/hamp ro": {"rows="},
    "hampkit run digits/hamp digits/hamp": set(),  # given already
    "hampkit run --data x.csv ham": {"hamp"},
    "hampkit run digits/hamp distill.ep": set(),
    "hampkit run digits/selena distill.ep": {"distill.epochs="},
    "hampkit plan toy/ham": {"toy/hamp"},
    "hampkit plan toy/hamp gam": {"gamma="},
    "hampkit shadow toy/hamp --device c": {"cpu", "cuda"},
    "hampkit attack runs/x los": {"loss", "loss-per-class"},
    "hampkit attack runs/x judge.str": {"judge.strict="},
    "hampkit attack runs/x train.ep": set(),
    "hampkit compare loc": {"location30"},
    "hampkit compare digits epochs": {"epochs="},
    "hampkit compare --defenses ham": {"hamp"},
    "hampkit compare --defenses hamp,memg": {"hamp,memguard"},
    "hampkit compare --defenses hamp,ham": set(),
    "hampkit list rec": {"recipes"},
    "hampkit list recipes toy/ham": {"toy/hamp"},
    "hampkit list options memg": {"memguard"},
    "hampkit list nets ml": set(),
    "hampkit data check loc": {"location30"},
    "hampkit data fetch loc": {"location30"},
}


@pytest.mark.parametrize("line", LINES)
def test_what_is_offered(line, monkeypatch, capsys):
    assert offered(line, monkeypatch, capsys) == LINES[line]


def test_all_that_is_registered_is_offered(monkeypatch, capsys):
    defenses = set(DEFENSES.classes())
    assert offered("hampkit run digits/", monkeypatch, capsys) == {f"digits/{name}" for name in defenses}
    assert offered("hampkit compare --defenses ", monkeypatch, capsys) == defenses
    assert offered("hampkit attack runs/x ", monkeypatch, capsys) == set(ATTACKS.classes())
    assert offered("hampkit compare ", monkeypatch, capsys) == set(DATASETS.classes()) - {"file"}


def test_recipe_files_are_offered_with_their_folder(monkeypatch, capsys):
    Path("mine").mkdir()
    for name in ("mine/one.toml", "mine/two.csv", "four.toml"):
        Path(name).write_text("")
    assert offered("hampkit run mine/", monkeypatch, capsys) == {"mine/one.toml"}
    assert offered("hampkit run fou", monkeypatch, capsys) == {"four.toml"}
    assert completion._toml_files("nowhere/x") == []


VALUES = {
    "hampkit run hamp --data t.csv --label a": {"age", "admitted"},
    "hampkit compare --data t.csv --group ": {"age", "id", "admitted"},
    "hampkit run hamp --data t.csv drop=i": {"drop=id"},
    "hampkit run hamp --data t.csv drop = i": {"id"},  # as bash divides it
    "hampkit run hamp --data t.csv data.drop =": {"age", "id", "admitted"},
    "hampkit run hamp --data t.csv drop=[id,a": {"drop=[id,age", "drop=[id,admitted"},
    "hampkit run hamp --data t.csv drop=[id,i": set(),
    "hampkit run hamp --data excel.csv --label a": {"age", "admitted"},
    "hampkit run hamp --data arrays.npz --label ": {"x", "y"},
    "hampkit run hamp --data none.csv --label ": set(),
    "hampkit run hamp --data . --label ": set(),
    "hampkit run hamp --label ": set(),
    "hampkit run hamp --data t.csv missing=": {f"missing={word}" for word in ("error", "drop", "category", "median")},
    "hampkit plan toy/hamp train.optimizer=": {"train.optimizer=adam", "train.optimizer=sgd"},
    "hampkit compare digits net=mlp-": {"net=mlp-small"},
    "hampkit run toy/hamp modify=": {"modify=true", "modify=false"},
    "hampkit run toy/hamp epochs=": set(),
}


@pytest.mark.parametrize("line", VALUES)
def test_columns_and_words_of_options_are_offered(line, monkeypatch, capsys):
    Path("t.csv").write_text("age,id,admitted,two words\n" + "1,2,3,4\n" * 9)
    Path("excel.csv").write_text("sep=;\nage;b,c;admitted\n")
    np.savez("arrays.npz", x=np.zeros((2, 2)), y=np.zeros(2))
    assert offered(line, monkeypatch, capsys) == VALUES[line]


def test_columns_are_offered_without_torch_and_the_rest_of_the_table_is_not_read(tmp_path):
    """The second line is no text, and no reader of tables would accept it."""
    (tmp_path / "t.csv").write_bytes(b"age,admitted\n" + b"\xff\x00" * 1000)
    words = {"COMP_WORDS": "hampkit run hamp --data t.csv --label ad", "COMP_CWORD": "6"}
    assert asked(tmp_path, _HAMPKIT_COMPLETE="complete_bash", **words).split() == ["admitted"]
