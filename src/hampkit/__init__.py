"""Train classifiers with defenses against membership inference, attack them, and measure how much they leak.

>>> import hampkit
>>> results = hampkit.run("digits/undefended", "digits/hamp")  # doctest: +SKIP
"""

from __future__ import annotations

import sys

if sys.argv[:1] == ["-m"] and not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
    # `python -m hampkit` puts the current folder first, where its files take the place of Python's modules
    _here = sys.path.pop(0)
    if __file__.startswith(_here):  # hampkit itself is there
        sys.path.append(_here)

import importlib
from typing import TYPE_CHECKING, Any

from hampkit.errors import Notice, UserError

if TYPE_CHECKING:
    from hampkit import attacks, blackbox, defenses, metrics, nn, signals, stats
    from hampkit.api import (
        AttackResult,
        Comparison,
        ModelResult,
        Plan,
        Progress,
        Recipe,
        Results,
        Session,
        Trained,
        attack,
        audit,
        compare,
        plan,
        recipe,
        run,
        shadow,
        train,
        write_report,
    )

__version__ = "0.1.0"
__all__ = [
    "AttackResult", "Comparison", "ModelResult", "Notice", "Plan", "Progress", "Recipe", "Results", "Session", "Trained",
    "UserError", "__version__", "attack", "attacks", "audit", "blackbox", "compare", "defenses", "metrics", "nn", "plan",
    "recipe", "run", "shadow", "signals", "stats", "train", "write_report",
]  # fmt: skip

_MODULES = ("attacks", "blackbox", "defenses", "metrics", "nn", "signals", "stats")


def __getattr__(name: str) -> Any:
    """Load on first use: importing torch takes seconds, and `hampkit --help` needs none of it."""
    if name in _MODULES:
        return importlib.import_module(f"hampkit.{name}")
    if name in __all__:
        return getattr(importlib.import_module("hampkit.api"), name)
    raise AttributeError(f"module 'hampkit' has no attribute {name!r}")
