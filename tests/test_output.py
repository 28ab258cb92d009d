"""What reaches a terminal: no control characters, and no crash where its encoding is small."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = ("run", "toy/undefended", "rows=200", "epochs=1", "neural.epochs=1")
HOSTILE = "\x1b[31mred\x1b]0;title\x07\u202eexe"


def hampkit_in(folder: Path, *words: str, encoding: str = "utf-8") -> tuple[int, str, str]:
    env = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict", "PYTHONUTF8": "0", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-m", "hampkit", *words], cwd=folder, env=env, capture_output=True, timeout=300
    )
    return done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "utf-8"])
def test_every_encoding_of_a_terminal_is_large_enough(tmp_path, encoding):
    for words in (
        RUN,
        ("list", "recipes"),
        ("list", "options", "hamp"),
        ("--help",),
        ("run", "toy/été"),
        (*RUN, "--json"),
    ):
        code, out, err = hampkit_in(tmp_path, *words, encoding=encoding)
        assert code == (2 if "toy/été" in words else 0), err
        assert "Traceback" not in err
        assert out or err


def test_a_small_encoding_replaces_characters(tmp_path):
    code, out, err = hampkit_in(tmp_path, "list", "options", "été…", encoding="ascii")
    assert (code, out) == (2, "")
    assert "?t?" in err


@pytest.mark.parametrize(
    "words",
    [
        ("run", f"toy/{HOSTILE}"),
        ("run", "toy/undefended", f"{HOSTILE}=1"),
        ("run", "toy/undefended", f"net={HOSTILE}"),
        ("train", "undefended", "--data", f"{HOSTILE}.csv", "--label", "y"),
        ("train", "toy/undefended", f"--{HOSTILE}"),
        (HOSTILE,),
        ("list", HOSTILE),
        ("list", "options", HOSTILE),
        ("report", HOSTILE),
        ("train", "toy/undefended", "rows=200", "epochs=1", "--runs-dir", HOSTILE),
        ("train", "toy/undefended", "--device", HOSTILE),
    ],
)
def test_control_characters_of_arguments_never_reach_the_terminal(cli, words):
    code, out, err = cli(*words)
    assert code in (0, 2)
    for line in (out + err).splitlines():
        assert line.isprintable(), ascii(line)


def test_control_characters_of_results_of_others_never_reach_the_terminal(cli, tmp_path):
    """A run folder may come from somebody else: its names, notes and summaries are texts of a stranger."""
    from hampkit.config.content import content_hash

    assert cli(*RUN, "--quiet")[0] == 0
    (folder,) = (path for path in Path("runs").iterdir() if path.name.startswith("toy-"))
    result, details = (json.loads((folder / f"{name}.json").read_text()) for name in ("result", "details"))
    result["data"] |= {"name": HOSTILE, "notes": [HOSTILE]}
    result["facts"] = {"summary": HOSTILE}
    details["result"] = content_hash(result)
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "details.json").write_text(json.dumps(details))
    for words in (["report", str(folder), "--out", "out"], ["report", str(folder), "--out", "out", "--json"]):
        code, out, err = cli(*words)
        for line in (out + err).splitlines():
            assert line.isprintable(), ascii(line)
        if code == 0 and "--json" in words:
            assert json.loads(out)["models"][0]["data"]["name"] == HOSTILE
