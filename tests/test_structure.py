"""The import graph is the threat model: which package may import which, parsed from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hampkit

ROOT = Path(hampkit.__file__).parent
# Whom a part may import beside itself: `docs/architecture.md`. Everything may import these four.
EVERYBODY = {"errors", "rng", "text", "types"}
WORKFLOWS = {
    "api", "attacks", "catalog", "code_hash", "config", "data", "defenses", "generators", "judging", "launch", "nets",
    "registry", "report", "runs", "shadow_models", "signals", "stats", "targets", "training",
}  # fmt: skip
ALLOWED = {
    "errors": set(),
    "rng": set(),
    "text": set(),
    "types": set(),
    "signals": set(),
    "stats": set(),
    "code_hash": set(),
    "catalog": set(),
    "registry": {"catalog", "code_hash"},
    "config": {"registry", "code_hash"},
    "nets": {"config", "registry"},
    "data": {"config", "registry"},
    "launch": {"config", "registry"},
    "attacks": {
        "registry",
        "signals",
        "nets",
        "stats.roc",
        "stats.moderated",
    },  # never a defense, a trainer or a metric
    "training": {"config", "nets"},
    "generators": {"nets", "registry"},
    "defenses": {"training", "generators", "config", "registry", "signals", "nets"},
    "targets": {"data", "registry", "nets", "signals"},
    "targets.trained": {"data", "registry", "nets", "signals", "defenses", "training", "runs"},
    "targets.blackbox": {"data", "registry", "nets", "signals", "defenses", "training", "runs"},
    "judging": {"attacks", "stats", "config", "data"},  # never a defense, a target or a run
    "runs": {"config", "code_hash"},
    "report": {"judging.results"},  # it computes no statistics
    "shadow_models": {"targets", "launch", "runs", "defenses", "training", "data", "config"},
    "workflows": WORKFLOWS - {"api"},
    "nn": {"defenses"},
    "api": {"workflows"},
    "cli": {"api", "workflows", "report", "registry", "config", "catalog"},
    "__main__": {"cli", "launch"},
    # names of before, for one release
    "metrics": {"stats"},
    "blackbox": {"targets"},
}


def imports(path):
    """Every hampkit module that a file imports, anywhere in it, as ``part.module``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hampkit":
            inner = node.module.split(".")[1:]
            if len(inner) < 2:  # from hampkit.stats import metrics, from hampkit import signals
                yield from (".".join([*inner, a.name]) for a in node.names if not a.name.startswith("__"))
            else:
                yield ".".join(inner)
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("hampkit."))


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def part(path):
    return module_of(path).split(".")[0]


def forbidden(path):
    """What a file imports though the table does not allow it."""
    mine = module_of(path)
    allowed = ALLOWED.get(mine, ALLOWED.get(part(path), set())) | EVERYBODY | {part(path)}
    for found in imports(path):
        names = found.split(".")
        if not allowed & {".".join(names[: k + 1]) for k in range(len(names))}:
            yield mine, ".".join(names[:2] if (ROOT / names[0]).is_dir() else names[:1])


FILES = [p for p in sorted(ROOT.rglob("*.py")) if p != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_obey_the_design(path):
    assert part(path) in ALLOWED, f"{path.name} is new: write into docs/architecture.md and here whom it may import"
    assert not set(forbidden(path))


def test_imports_have_one_form_which_the_table_sees():
    """No relative import, and no attribute of the whole package."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
            if isinstance(node, ast.Import):
                assert "hampkit" not in {alias.name.partition(".")[0] for alias in node.names}, (
                    f"{path}: import hampkit"
                )
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
                assert part(path) in ("registry", "nets", "launch", "config"), f"{path}: an import by name"


# what attacks share; those on several answers wrap an attack that compares signals
SHARED = {"attacks": {"held_out", "probes", "probe_attack", "bits", "lira", "rmia", "label_only"}, "defenses": set()}


def test_defenses_and_attacks_do_not_import_each_other():
    for package, shared in SHARED.items():
        for path in (ROOT / package).glob("*.py"):
            if path.name in ("__init__.py", "base.py"):
                continue
            found = {
                n.module for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) and n.module
            }
            inside = {m for m in found if m.startswith(f"hampkit.{package}.")}
            assert inside <= {f"hampkit.{package}.{name}" for name in ("base", *shared)}, path


def test_every_file_is_under_400_lines():
    assert not [p for p in FILES if len(p.read_text().splitlines()) >= 400]


def test_only_the_command_line_prints_and_nothing_unpickles():
    for path in FILES:
        calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        names = {f.id for f in calls if isinstance(f, ast.Name)} | {
            f.attr for f in calls if isinstance(f, ast.Attribute)
        }
        text = path.read_text()
        if part(path) != "cli":
            assert "print" not in names, path
            assert not {"sys.stdout.write", "sys.stderr.write"} & {ast.unparse(f) for f in calls}, path
            assert "sys.argv" not in text or part(path) == "__main__", path
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


NAMES = [
    "AttackResult",
    "Comparison",
    "ModelResult",
    "Notice",
    "Plan",
    "Progress",
    "Recipe",
    "Results",
    "Session",
    "Trained",
    "UserError",
    "__version__",
    "attack",
    "attacks",
    "audit",
    "blackbox",
    "compare",
    "defenses",
    "metrics",
    "nn",
    "plan",
    "recipe",
    "run",
    "shadow",
    "signals",
    "stats",
    "train",
    "write_report",
]


def test_the_exported_names():
    """A name that is gone breaks somebody's program: this list changes together with CHANGELOG.md."""
    assert sorted(hampkit.__all__) == sorted(NAMES)
    assert all(getattr(hampkit, name) is not None for name in NAMES)


def test_a_function_keeps_its_name_whatever_was_imported_before():
    """A subpackage of the same name would take a function's place as soon as it is imported."""
    functions = ("run", "train", "attack", "audit", "compare", "shadow", "plan", "recipe", "write_report")
    code = "import importlib, hampkit\n"
    code += "".join(
        f"importlib.import_module('hampkit.{module_of(path)}')\n" for path in FILES if part(path) != "__main__"
    )
    code += "".join(f"assert callable(hampkit.{name}), {name!r}\n" for name in functions)
    subprocess.run([sys.executable, "-c", code.replace(".__init__'", "'")], check=True)
    assert not {p.name.removesuffix(".py") for p in ROOT.iterdir()} & set(functions)


def test_no_two_modules_import_each_other():
    """Also in circles of several, and whether they do so inside a function or not."""
    modules = {module_of(path).removesuffix(".__init__"): path for path in FILES}
    graph = {name: {found for found in _modules(path, modules) if found != name} for name, path in modules.items()}
    while leaves := [name for name, found in graph.items() if not found & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, "in a circle, or behind one"


def _modules(path, modules):
    for found in imports(path):
        yield found if found in modules else found.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hampkit."):
            inside = (f"{node.module.partition('.')[2]}.{alias.name}" for alias in node.names)
            yield from (name for name in inside if name in modules)


def test_functions_are_short():
    """Lines with the docstring: median at most 8, nine of ten at most 20, none above 40."""
    lengths = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                lengths[f"{module_of(path)}.{node.name}:{node.lineno}"] = (node.end_lineno or 0) - node.lineno + 1
    found = sorted(lengths.values())
    assert not [name for name, lines in lengths.items() if lines > 40]
    assert found[len(found) // 2] <= 8
    assert found[len(found) * 9 // 10] <= 20


STATISTICS = [
    *sorted((ROOT / "stats").rglob("*.py")),
    *sorted((ROOT / "judging").rglob("*.py")),
    *sorted((ROOT / "attacks").rglob("*.py")),
]


@pytest.mark.parametrize("path", STATISTICS, ids=lambda p: str(p.relative_to(ROOT)))
def test_statistics_use_no_product_whose_last_digits_depend_on_threads(path):
    """NumPy's products of long arrays are those of BLAS, which shares them between threads; its sums are not."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.MatMult), f"{path.name} has a product by @; sum the elements' products"
        assert not (
            isinstance(node, ast.Attribute)
            and node.attr in {"dot", "vdot", "inner", "einsum", "linalg", "matmul", "tensordot"}
        )
