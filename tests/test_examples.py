"""The examples run, where the packages that they show are installed."""

import ast
import importlib
import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
LEAST = {"lightning_loop": 0.7, "text_classifier": 0.7, "onnx_service": 1.0}  # accuracy, or share of equal labels


def needs(name):
    """The packages that an example imports."""
    tree = ast.parse((EXAMPLES / f"{name}.py").read_text())
    names = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    names += [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    return sorted({name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"hampkit"})


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAST)
def test_an_example_runs(name, monkeypatch):
    for package in [*needs(name), *(["onnxscript"] if name == "onnx_service" else [])]:
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(EXAMPLES)
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
    text = (EXAMPLES.parent / "docs" / "serving.md").read_text()
    for name in LEAST:
        assert f"examples/{name}.py" in text
