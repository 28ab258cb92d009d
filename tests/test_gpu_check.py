"""The check for a GPU: every part is written as it ends, and a part that takes too long does not take the others with it."""

import json
import sys

import pytest
from benchmarks import gpu_check


@pytest.fixture
def parts(monkeypatch):
    def of(*codes):
        commands = {
            name: [sys.executable, "-u", "-c", code] for name, code in zip(gpu_check.SHARES, codes, strict=False)
        }
        monkeypatch.setattr(gpu_check, "parts", lambda device: commands)

    return of


def test_all_parts_are_written_as_they_end(parts, tmp_path, capsys):
    parts("print('fine')", "raise SystemExit(1)", "print('last')")
    assert gpu_check.check(tmp_path, "cpu", 60.0) == 1
    found = json.loads((tmp_path / "check.json").read_text())
    assert [part["exit code"] for part in found["parts"].values()] == [0, 1, 0]
    assert (tmp_path / "densenets.txt").read_text() == "last\n"
    text = (tmp_path / "check.txt").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert "fine" in text
    assert "missing packages: " in text


def test_a_part_that_is_cut_off_keeps_what_it_printed(parts, tmp_path):
    parts("import time; print('begun'); time.sleep(600)")
    assert gpu_check.check(tmp_path, "cpu", 4.0) == 1
    part = json.loads((tmp_path / "check.json").read_text())["parts"]["tests"]
    assert (part["exit code"], part["output"]) == ("cut off", "begun\n")


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(gpu_check, "NEEDED", ("torch", "no_such_package"))
    assert gpu_check.missing() == ["no_such_package"]


def test_the_commands_are_there():
    from importlib.util import find_spec

    for device in ("cpu", "cuda"):
        for command in gpu_check.parts(device).values():
            assert find_spec(command[3]), command
