"""The import graph is the threat model: who may know whom, parsed from the source."""

import ast
from pathlib import Path

import pytest

import hampkit

ROOT = Path(hampkit.__file__).parent
BASE = {"errors", "rng", "types"}
LOW = BASE | {"registry", "options", "config", "source", "ranking", "signals", "metrics"}
TRAIN = LOW | {"nets", "training"}
MIDDLE = TRAIN | {"data", "store", "defenses", "blackbox", "checks", "attacks", "results", "environment", "grouped"}
ALLOWED = {
    "errors": set(),
    "cells": set(),
    "rng": set(),
    "types": set(),
    "ranking": set(),
    "registry": {"errors", "source"},
    "options": {"errors"},
    "source": set(),
    "config": {"errors", "options", "registry", "sections", "source"},
    "sections": {"errors"},
    "store": {"config", "errors", "source"},
    "locks": {"errors", "store"},
    "signals": BASE,
    "metrics": {"ranking"},
    "nets": {"errors", "registry", "types"},
    "data": {"errors", "rng", "types", "registry", "options"},
    "training": BASE | {"config", "nets", "sections"},
    "generators": BASE | {"nets"},
    "defenses": BASE | {"config", "generators", "nets", "options", "registry", "sections", "training"},
    "blackbox": BASE | {"training", "defenses"},
    "stats": set(),
    "attacks": BASE
    | {"registry", "signals", "nets", "ranking", "stats"},  # never a defense, a trainer, a split or a metric
    "checks": {"grouped", "metrics"},
    "grouped": {"metrics", "ranking"},
    "fitted": {"defenses", "grouped", "problem", "rng", "store", "types"},
    "strongest": set(),
    "results": {"metrics", "registry", "strongest"},
    "environment": set(),
    "problem": TRAIN | {"data", "defenses", "launch"},
    "views": {"sections", "training"},
    "allocator": set(),
    "launch": {"allocator", "errors", "registry"},
    "measuring": BASE | {"blackbox", "defenses", "problem", "training"},
    "planning": BASE | {"measuring", "config", "environment", "grouped", "launch", "problem", "store", "training"},
    "shadows": MIDDLE | {"launch", "locks", "planning", "problem", "views"},
    "trained": MIDDLE | {"problem"},
    "answers": MIDDLE | {"problem", "shadows", "trained", "views"},
    "clustered": {"grouped", "metrics", "ranking"},
    "judge": MIDDLE,
    "leave_one_out": MIDDLE | {"clustered"},
    "details": MIDDLE | {"judge", "trained"},
    "repeat": MIDDLE | {"cells", "judge", "leave_one_out", "problem", "strongest", "trained"},
    "borrow": MIDDLE | {"folder", "planning", "problem", "shadows", "trained"},
    "pipeline": MIDDLE
    | {
        "answers",
        "borrow",
        "fitted",
        "folder",
        "problem",
        "judge",
        "launch",
        "locks",
        "planning",
        "shadows",
        "trained",
        "details",
        "repeat",
    },
    "target_jobs": MIDDLE | {"launch", "locks", "pipeline", "problem"},
    "report": {"cells", "errors", "metrics", "strongest"},
    "reporting": MIDDLE | {"locks", "pipeline", "report", "trained"},
    "nn": BASE | {"defenses"},
    "api": MIDDLE
    | {
        "answers",
        "borrow",
        "problem",
        "judge",
        "pipeline",
        "planning",
        "report",
        "reporting",
        "target_jobs",
        "trained",
        "api",
    },
    "catalog": LOW | {"data", "nets"},
    "terminal": {"comparison", "report", "results", "strongest", "terminal_table"},
    "terminal_table": set(),
    "cli": {"allocator", "errors", "api", "catalog", "cli_options", "comparing", "report", "terminal"},
    "cli_options": {"errors", "options"},
    "folder": {"data", "environment", "errors", "problem", "store"},
    "__main__": {"cli"},
    "comparison": MIDDLE | {"clustered", "defenses", "judge", "leave_one_out", "pipeline", "problem", "trained"},
    "comparing": MIDDLE
    | {"api", "comparison", "launch", "locks", "pipeline", "problem", "report", "reporting", "target_jobs", "trained"},
}


def imports(path):
    """Every hampkit module that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hampkit":
            inner = node.module.split(".")[1:]
            yield from [inner[0]] if inner else [alias.name for alias in node.names if not alias.name.startswith("__")]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("hampkit."))


def part(path):
    inner = path.relative_to(ROOT).parts
    return inner[0].removesuffix(".py")


FILES = [p for p in sorted(ROOT.rglob("*.py")) if p != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_obey_the_design(path):
    me = part(path)
    assert me in ALLOWED, f"{me} is new: say in docs/architecture.md and here whom it may import"
    assert set(imports(path)) <= ALLOWED[me] | {me}


def test_defenses_and_attacks_do_not_import_each_other():
    for package in ("defenses", "attacks"):
        for path in (ROOT / package).glob("*.py"):
            if path.name in ("__init__.py", "base.py"):
                continue
            found = {
                n.module for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) and n.module
            }
            inside = {m for m in found if m.startswith(f"hampkit.{package}.")}
            assert inside <= {f"hampkit.{package}.base"}, path


def test_every_file_is_under_400_lines():
    assert not [p for p in FILES if len(p.read_text().splitlines()) >= 400]


def test_only_the_command_line_prints_and_nothing_unpickles():
    for path in FILES:
        calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        names = {f.id for f in calls if isinstance(f, ast.Name)} | {
            f.attr for f in calls if isinstance(f, ast.Attribute)
        }
        if part(path) not in ("cli", "terminal", "terminal_table"):
            assert "print" not in names, path
        text = path.read_text()
        tree = list(ast.walk(ast.parse(text)))
        modules = {a.name for n in tree if isinstance(n, ast.Import) for a in n.names}
        modules |= {n.module for n in tree if isinstance(n, ast.ImportFrom)}
        # CIFAR is published as pickles: one file reads them, with an Unpickler that runs nothing of what it reads.
        allowed = {"pickle"} if path == ROOT / "data" / "safe_pickle.py" else set()
        assert modules & {"pickle", "_pickle", "marshal", "shelve", "joblib", "dill", "cloudpickle"} <= allowed, path
        used = {n.attr for n in tree if isinstance(n, ast.Attribute) and getattr(n.value, "id", "") == "pickle"}
        assert used <= {"Unpickler"}, path  # never pickle.load or pickle.loads
        loads = [
            n
            for n in ast.walk(ast.parse(text))
            if isinstance(n, ast.keyword) and n.arg in ("allow_pickle", "weights_only")
        ]
        assert all(isinstance(n.value, ast.Constant) and n.value.value is (n.arg == "weights_only") for n in loads), (
            path
        )
        assert "torch.manual_seed" not in text or part(path) == "rng", path


def test_public_names_are_what_they_say_whatever_was_imported_before():
    """A subpackage of the same name would take a function's place as soon as it is imported."""
    import hampkit.api
    import hampkit.training.trainer

    for name in ("run", "train", "attack", "write_report"):
        assert callable(getattr(hampkit, name)), name
    assert set(hampkit.__all__) <= {n for n in hampkit.__all__ if getattr(hampkit, n) is not None}
    assert not {p.name.removesuffix(".py") for p in ROOT.iterdir()} & {"run", "train", "attack", "write_report"}


STATISTICS = [
    *(
        ROOT / f"{name}.py"
        for name in ("ranking", "metrics", "grouped", "clustered", "leave_one_out", "checks", "comparison")
    ),
    *sorted((ROOT / "stats").glob("*.py")),
    *sorted((ROOT / "attacks").glob("*.py")),
]


@pytest.mark.parametrize("path", STATISTICS, ids=lambda p: str(p.relative_to(ROOT)))
def test_statistics_use_no_product_whose_last_digits_depend_on_threads(path):
    """NumPy's products of long arrays are those of BLAS, which shares them between threads; its sums are not."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.MatMult), f"{path.name} has a product by @; sum the elements' products"
        assert not (isinstance(node, ast.Attribute) and node.attr in {"dot", "vdot", "inner", "einsum", "linalg"})
