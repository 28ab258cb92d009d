"""Python files in the current folder: found for net=module:factory, and never in the place of a module of Python."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NET = "from torch import nn\ndef make(shape, classes):\n    import helper\n    return nn.Linear(shape[0], classes)\n"
SHADOW = "raise SystemExit('a file beside the data was run')\n"
STANDARD = (
    "random",
    "json",
    "queue",
    "typing_extensions",
    "token",
    "signal",
    "rich",
    "torch",
    "pooch",
    "stats",
    "types",
)


def call(code: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command line in a process of its own, as the installed script starts it: without the current folder on the path."""
    path = [p for p in sys.path if p and Path(p) != cwd]
    start = f"import sys; sys.path[:] = {path!r}; sys.argv[1:] = {list(words)!r}; {code}"
    env = {**os.environ, "HAMPKIT_DATA": "", "PYTHONPATH": ""}
    return subprocess.run([sys.executable, "-c", start], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


MAIN = "from hampkit.__main__ import main; main()"


@pytest.fixture
def folder(tmp_path):
    for name in STANDARD:
        (tmp_path / f"{name}.py").write_text(SHADOW)
    (tmp_path / "mine.py").write_text(NET)
    (tmp_path / "helper.py").write_text("")
    return tmp_path


@pytest.mark.parametrize("safe", ["", "1"])
def test_the_module_runs_no_files_of_the_current_folder(tmp_path, safe):
    """`python -m` puts the current folder first, unless PYTHONSAFEPATH is set."""
    # what Python itself imports before hampkit, such as types, cannot be helped
    for name in ("typing", "re", "json", "random", "torch", "rich"):
        (tmp_path / f"{name}.py").write_text(SHADOW)
    env = {**os.environ, "PYTHONSAFEPATH": safe, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    words = [sys.executable, "-m", "hampkit", "list", "defenses"]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "hamp " in done.stdout


@pytest.mark.slow
def test_files_in_the_current_folder_are_not_run(folder):
    words = ("run", "toy/undefended", "toy/hamp", "rows=300", "epochs=2", "--shadows", "4", "--workers", "2", "--quiet")
    done = call(MAIN, *words, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_network_in_the_current_folder_is_found_here_and_in_worker_processes(folder):
    words = (
        "run",
        "toy/undefended",
        "net=mine:make",
        "rows=300",
        "epochs=2",
        "--shadows",
        "4",
        "--workers",
        "2",
        "--quiet",
    )
    done = call(MAIN, *words, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_module_with_the_name_of_one_of_pythons_is_named_by_its_place(folder):
    done = call(MAIN, "train", "toy/undefended", "net=random:make", cwd=folder)
    assert done.returncode == 2
    assert "module 'random' (" in done.stderr
    assert "random.py) has no 'make'" in done.stderr


def test_a_deleted_folder_is_one_line(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    for words in (["train", "toy/undefended"], ["train", "undefended", "--data", "t.csv", "--label", "y"],
                  ["train", "toy/undefended", "net=mine:make"], ["report", "runs/x"], ["list", "attacks"]):  # fmt: skip
        code = f"import os; os.rmdir({str(gone)!r}); {MAIN}"
        gone.mkdir(exist_ok=True)
        done = call(code, *words, cwd=gone)
        assert done.returncode == 2, (words, done.stderr)
        assert done.stderr == "hampkit: error: the current folder was deleted; change to another one\n"
