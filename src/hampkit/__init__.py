"""Train classifiers that do not betray their training data, and measure how much a model does.

>>> import hampkit
>>> results = hampkit.run("digits/undefended", "digits/hamp")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hampkit.errors import Notice, UserError

if TYPE_CHECKING:
    from hampkit import attacks, blackbox, defenses, metrics, nn, signals, stats
    from hampkit.api import attack, plan, run, shadow, train, write_report
    from hampkit.judging.results import AttackResult, ModelResult, Results
    from hampkit.judging.strongest import Comparison
    from hampkit.targets.trained import Trained
    from hampkit.workflows.compare import compare

__version__ = "0.1.0"
__all__ = [
    "AttackResult", "Comparison", "ModelResult", "Notice", "Results", "Trained", "UserError", "__version__",
    "attack", "attacks", "blackbox", "compare", "defenses", "metrics", "nn", "plan", "run",
    "shadow", "signals", "stats", "train", "write_report",
]  # fmt: skip

_HOME = {
    **dict.fromkeys(("attack", "plan", "run", "shadow", "train", "write_report"), "hampkit.api"),
    **dict.fromkeys(("AttackResult", "ModelResult", "Results"), "hampkit.judging.results"),
    "Trained": "hampkit.targets.trained",
    "compare": "hampkit.workflows.compare",
    "Comparison": "hampkit.judging.strongest",
}
_MODULES = ("attacks", "blackbox", "defenses", "metrics", "nn", "signals", "stats")


def __getattr__(name: str) -> Any:
    """Load on first use: importing torch takes seconds, and `hampkit --help` needs none of it."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"hampkit.{name}")
    raise AttributeError(f"module 'hampkit' has no attribute {name!r}")
