"""`benchmarks.freeze` sees a number that changed, one that is gone, a weight and a record, and nothing that may pass."""

import itertools
import json

import numpy as np
import pytest
from benchmarks import freeze
from safetensors.numpy import save_file

CLOCK = itertools.count()  # every time is another one


@pytest.fixture
def folders(tmp_path):
    """The outputs of two equal commands, whose run folders have other hashes."""
    for code, digest in (("base", "0a1b2c3d"), ("here", "99999999")):
        run = tmp_path / code / "runs" / f"toy-hamp-{digest}"
        (run / "models" / "000-000").mkdir(parents=True)
        (tmp_path / code / "code.txt").write_text("0")
        (run / "recipe.json").write_text('{"seed": 3}')
        (run / "records.csv").write_text("row,label,separation\n5,0,1\n20,2,0.5\n")
        save_file({"layer.weight": np.ones((2, 2))}, run / "models" / "000-000" / "stack.safetensors")
        attack = {"attack": "neural", "auc": {"value": 0.5, "low": float("nan")}, "seconds": next(CLOCK)}
        results = {"models": [{"run": f"toy-hamp-{digest}", "attacks": [attack]}], "schema": 1}
        (tmp_path / code / "runs" / "results.json").write_text(json.dumps(results))
    return tmp_path / "base", tmp_path / "here"


def test_equal_outputs_have_no_difference(folders, capsys):
    assert freeze.report("toy", *folders) == 0
    assert "toy: 10 values, 0 changed, 0 gone, 0 new" in capsys.readouterr().out


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "line"),
    [
        ("results.json", '"value": 0.5', '"value": 0.6', "changed /results.json/models/toy-hamp/attacks/neural/auc/value"),
        ("results.json", '"auc"', '"area"', "gone /results.json/models/toy-hamp/attacks/neural/auc/value"),
        ("toy-hamp-99999999/records.csv", "20,2,0.5", "20,2,0.25", "changed /toy-hamp-3/records/20/separation: 0.5"),
        ("toy-hamp-99999999/records.csv", "20,2,0.5\n", "", "gone /toy-hamp-3/records/20/separation"),
    ],
)  # fmt: skip
def test_a_number_that_changed_or_is_gone_is_named(folders, capsys, file, old, new, line):
    edit(folders[1] / "runs" / file, old, new)
    assert freeze.report("toy", *folders) > 0
    assert line in capsys.readouterr().out


def test_a_weight_that_changed_is_named(folders, capsys):
    where = folders[1] / "runs" / "toy-hamp-99999999" / "models" / "000-000" / "stack.safetensors"
    save_file({"layer.weight": np.array([[1, 1], [1, 1.0000001]])}, where)
    assert freeze.report("toy", *folders) == 1
    assert "changed /toy-hamp-3/models/000-000/layer.weight" in capsys.readouterr().out


def test_a_command_that_failed_is_no_success(folders, capsys):
    for folder in folders:
        (folder / "code.txt").write_text("2")
    assert freeze.report("toy", *folders) == 1
    assert "exit codes" in capsys.readouterr().out


def test_every_defense_is_in_the_fixed_set():
    from hampkit.registry import DEFENSES

    assert set(freeze.DEFENSES) == set(DEFENSES.classes())
