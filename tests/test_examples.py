"""The examples run, where the packages that they show are installed."""

import ast
import importlib
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from hampkit.judging.policy import read_policy

EXAMPLES = Path(__file__).parents[1] / "examples"
DOCS = {"docs/serving.md": ("lightning_loop", "text_classifier", "onnx_service")}
DOCS["docs/auditing.md"] = ("audit_forest", "audit_module", "audit_predictions", "audit_onnx")
LEAST = {"lightning_loop": 0.7, "text_classifier": 0.7, "onnx_service": 1.0}  # accuracy, or share of equal labels
LEAST |= {"audit_forest": 0.7, "audit_module": 0.55, "audit_predictions": 0.51, "audit_onnx": 0.55}  # AUC
ONNX = ("onnx", "onnxruntime", "onnxscript")


def needs(name):
    """The packages that an example imports."""
    tree = ast.parse((EXAMPLES / f"{name}.py").read_text())
    names = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    names += [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    return sorted({name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"hampkit", *LEAST})


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAST)
def test_an_example_runs(name, monkeypatch, tmp_path):
    for package in [*needs(name), *(ONNX if "onnx" in name else ())]:
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    assert importlib.import_module(name).main() >= LEAST[name]


@pytest.mark.parametrize(
    ("name", "package", "command"),
    [
        ("lightning_loop", "lightning", "pip install lightning"),
        ("text_classifier", "transformers", "pip install transformers"),
        ("onnx_service", "onnxruntime", 'pip install "hampkit[onnx]"'),
    ],
)
def test_an_example_without_its_package_names_the_command_that_installs_it(name, package, command, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match=f"^this example needs {package}: {re.escape(command)}$"):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def test_every_example_is_run_and_named_in_the_docs():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(LEAST)
    named = [name for names in DOCS.values() for name in names]
    assert sorted(named) == sorted(LEAST)
    for page, names in DOCS.items():
        text = (EXAMPLES.parent / page).read_text("utf-8")
        for name in names:
            assert f"examples/{name}.py" in text


def test_the_policy_is_read():
    limits = read_policy(EXAMPLES / "policy.toml")
    assert [limit.what for limit in limits] == ["auc.low", "tpr_at_fpr.0.1.high", "accuracy.test", "records_exposed"]


@pytest.mark.slow
@pytest.mark.parametrize(("most", "code"), [(0.6, 0), (0.4, 3)])
def test_the_command_of_the_gate_passes_and_fails(most, code, monkeypatch, tmp_path, cli):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    importlib.import_module("audit_predictions").write_predictions(tmp_path / "predictions.csv")
    policy = (EXAMPLES / "policy.toml").read_text("utf-8").replace("at_most = 0.6", f"at_most = {most}")
    (tmp_path / "policy.toml").write_text(policy, "utf-8")
    lines = re.search(r"run: >-\n((?: {10}\S.*\n)+)", (EXAMPLES / "audit_gate.yml").read_text("utf-8"))
    assert lines is not None
    words = shlex.split(lines[1])
    assert words[:2] == ["hampkit", "audit"]
    found, out, err = cli(*words[1:], "--attacks", "correctness")
    assert found == code, out + err
    assert (tmp_path / "audit.xml").exists()
    assert (tmp_path / "audit" / "report.html").exists()
