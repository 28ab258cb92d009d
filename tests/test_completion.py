"""What the shells are offered, asked as they ask: by environment variables of a process that must not import torch."""

import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hampkit.cli import completion, completion_shell, values
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
    monkeypatch.setenv("COMP_WORDS", "\n".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    monkeypatch.setenv("_HAMPKIT_COMPLETE", "complete_bash")
    completion_shell.prepare()
    with pytest.raises(SystemExit):
        app(args=[], prog_name="hampkit")
    return set(capsys.readouterr().out.split("\n")) - {""}


LINES = {
    "hampkit ": {
        "run",
        "shadow",
        "plan",
        "train",
        "attack",
        "audit",
        "bound",
        "compare",
        "report",
        "list",
        "data",
        "reproduce",
    },
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
    "hampkit list nets mlp-": {"mlp-small"},
    "hampkit list nets mlp ": set(),
    "hampkit list recipes toy/hamp schedule=c": {"schedule=constant", "schedule=cosine"},
    "hampkit list options hamp gamma=": set(),
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
    "hampkit compare --data t.csv --group ": {"age", "id", "admitted", "two\\ words"},
    "hampkit run hamp --data t.csv drop=i": {"drop=id"},
    "hampkit run hamp --data t.csv drop = i": {"id"},  # as bash divides it
    "hampkit run hamp --data t.csv data.drop =": {"age", "id", "admitted", "two\\ words"},
    "hampkit run hamp --data = t.csv --label = t": {"two\\ words"},
    "hampkit run hamp --data t.csv gamma = 0.5 drop=i": {"drop=id"},
    'hampkit run hamp --data t.csv --label "tw': {"two words"},
    "hampkit run hamp --data t.csv drop=[id,a": {"drop=[id,age", "drop=[id,admitted"},
    "hampkit run hamp --data t.csv drop=[id,i": set(),
    "hampkit run hamp --data excel.csv --label a": {"age", "admitted"},
    "hampkit run hamp --data comments.csv --label a": {"age"},
    "hampkit run hamp --data names.csv --label ": {"\\#age", "b"},
    "hampkit run hamp --data t.csv header=false --label c": {"c1", "c2", "c3", "c4"},
    "hampkit run hamp --data t.csv separator=; --label age": {"age,id,admitted,two\\ words"},
    "hampkit run hamp --data arrays.npz --label ": {"x", "y"},
    "hampkit run hamp --data some.parquet --label ": {"a", "b\\ c"},
    "hampkit run hamp --data empty.csv --label ": set(),
    "hampkit run hamp --data broken.parquet --label ": set(),
    "hampkit run hamp --data broken.npz --label ": set(),
    "hampkit run hamp --data none.csv --label ": set(),
    "hampkit run hamp --data . --label ": set(),
    "hampkit run hamp --data ~nobody-of-this-name/x.csv --label ": set(),
    "hampkit run hamp --label ": set(),
    "hampkit run hamp --data t.csv missing=": {f"missing={word}" for word in ("error", "drop", "category", "median")},
    "hampkit plan toy/hamp train.optimizer=": {"train.optimizer=adam", "train.optimizer=sgd"},
    "hampkit compare digits net=mlp-": {"net=mlp-small"},
    "hampkit run digits/dmp generator=c": {"generator=ctgan"},
    "hampkit run toy/hamp modify=": {"modify=true", "modify=false"},
    "hampkit attack runs/x lira-online.center=m": {"lira-online.center=mean", "lira-online.center=median"},
    "hampkit run toy/hamp epochs=": set(),
}


@pytest.fixture
def tables():
    """Files that are tables, and some that are none."""
    import pyarrow as pa
    import pyarrow.parquet

    Path("t.csv").write_text("age,id,admitted,two words\n" + "1,2,3,4\n" * 9)
    Path("excel.csv").write_text("sep=;\nage;b,c;admitted\n")
    Path("comments.csv").write_text("# made, by\n# hand\n\nage,b\n1,2\n3,4\n")
    Path("names.csv").write_text("# made by hand\n#age,b\n1,2\n3,4\n")
    np.savez("arrays.npz", x=np.zeros((2, 2)), y=np.zeros(2))
    pyarrow.parquet.write_table(pa.table({"a": [1], "b c": [2]}), "some.parquet")
    for name, content in {"empty.csv": b"", "broken.parquet": b"PAR1", "broken.npz": b"PK"}.items():
        Path(name).write_bytes(content)


@pytest.mark.parametrize("line", VALUES)
def test_columns_and_words_of_options_are_offered(line, tables, monkeypatch, capsys):
    assert offered(line, monkeypatch, capsys) == VALUES[line]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_offered_names_that_need_no_quotes(shell, tables, tmp_path):
    answer = {"_TYPER_COMPLETE_FISH_ACTION": "get-args", "_HAMPKIT_COMPLETE": f"complete_{shell}"}
    wanted = {
        "hampkit run hamp --data t.csv --label ": ["age", "id", "admitted"],
        "hampkit run hamp --data t.csv missing=dr": ["missing=drop"],
        "hampkit run toy/hamp batch_s": ["batch_size="],
    }
    for line, words in wanted.items():
        found = asked(tmp_path, _TYPER_COMPLETE_ARGS=line, **answer)
        quoted = "\n".join(f'"{word}"' for word in words)
        assert found == (f"_arguments '*: :(({quoted}))'\n" if shell == "zsh" else "\n".join(words) + "\n")


@pytest.mark.parametrize("shell", ["zsh", "fish", "powershell"])
def test_the_scripts_of_other_shells_are_those_of_typer(shell, monkeypatch):
    from typer import _completion_shared as shared

    before = shared.get_completion_script(prog_name="hampkit", complete_var="_HAMPKIT_COMPLETE", shell=shell)
    monkeypatch.setitem(shared._completion_scripts, "bash", shared.COMPLETION_SCRIPT_BASH)
    assert completion_shell.prepare()
    after = shared.get_completion_script(prog_name="hampkit", complete_var="_HAMPKIT_COMPLETE", shell=shell)
    assert before == after


def test_the_script_that_is_installed_is_the_corrected_one(tmp_path):
    completion_shell.prepare()
    completion_shell.prepare()  # a second time changes nothing
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name="hampkit", complete_var="_HAMPKIT_COMPLETE", shell="bash")
    assert script.count("compopt -o nospace") == 1
    assert asked(tmp_path, _HAMPKIT_COMPLETE="source_bash").strip() == script


def test_only_the_beginning_of_a_table_is_read():
    """A file of 1 TB without blocks on the disk, and a pipe that nobody writes into."""
    with Path("huge.csv").open("wb") as file:
        file.write(b"id,age\n")
        file.truncate(1 << 40)
    os.mkfifo("pipe.csv")
    assert values.columns("huge.csv") == ["id", "age"]
    assert values.columns("pipe.csv") == []


TYPED = {  # what is typed, with \t for the key → the arguments of the command; x is typed behind the completed word
    "run toy/hamp batch_s\tx": ["run", "toy/hamp", "batch_size=x"],
    "run toy/hamp optimizer=ad\tx": ["run", "toy/hamp", "optimizer=adam", "x"],
    "run hamp --data t.csv drop=[i\tx": ["run", "hamp", "--data", "t.csv", "drop=[idx"],
    "run hamp --data t.csv drop=tw\tx": ["run", "hamp", "--data", "t.csv", "drop=two words", "x"],
    "run hamp --data t.csv --label=ad\tx": ["run", "hamp", "--data", "t.csv", "--label=admitted", "x"],
    'run hamp --data t.csv --label "tw\tx': ["run", "hamp", "--data", "t.csv", "--label", "two words", "x"],
    "run toy/ham\tx": ["run", "toy/hamp", "x"],
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_bash_completes_what_is_typed(tables, tmp_path):
    """An interactive bash in a terminal, with the script that is installed; the command prints its arguments, one a line."""
    command = tmp_path / "bin" / "hampkit"
    command.parent.mkdir()
    answer = 'if [ -z "$_HAMPKIT_COMPLETE" ]; then printf "<%s>" "$@"; echo "<end>"; exit; fi'
    command.write_text(f"#!/bin/sh\n{answer}\nexec {shlex.quote(sys.executable)} -m hampkit\n")
    command.chmod(0o755)
    (tmp_path / "script").write_text(asked(tmp_path, _HAMPKIT_COMPLETE="source_bash"))
    with Terminal(tmp_path) as terminal:
        for line, words in TYPED.items():
            found = terminal.answer(f"hampkit {line}\n")
            assert found == "".join(f"<{word}>" for word in words), line


class Terminal:
    """A bash that reads keys from a terminal, in which `hampkit` is completed."""

    def __init__(self, folder):
        self.main, end = pty.openpty()
        env = {
            **os.environ,
            "TERM": "dumb",
            "PS1": "$ ",
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "INPUTRC": "/dev/null",
        }
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"], stdin=end, stdout=end, stderr=end, env=env, start_new_session=True
        )
        os.close(end)
        os.write(self.main, b"bind 'set enable-bracketed-paste off'; source ./script\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.main)

    def answer(self, keys):
        """What the command prints for these keys, up to its last argument."""
        os.write(self.main, keys.encode())
        text = ""
        while "<end>" not in text:
            assert select.select([self.main], [], [], 60)[0], f"bash does not answer: {text}"
            text += os.read(self.main, 4096).decode()
        return text.rpartition("<end>")[0].rpartition("\n")[2]


def test_columns_are_offered_without_torch_and_the_rest_of_the_table_is_not_read(tmp_path):
    """The second line is no text, and no reader of tables would accept it."""
    (tmp_path / "t.csv").write_bytes(b"age,admitted\n" + b"\xff\x00" * 1000)
    words = {"COMP_WORDS": "hampkit run hamp --data t.csv --label ad", "COMP_CWORD": "6"}
    assert asked(tmp_path, _HAMPKIT_COMPLETE="complete_bash", **words).split() == ["admitted"]
