"""What there is: the lists of ``hampkit list`` and the descriptions of ``hampkit data``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hampkit.config import load_recipe, shipped_recipes
from hampkit.data.base import Place
from hampkit.nets import NETS
from hampkit.registry import ATTACKS, DATASETS, DEFENSES, Registry

Line = tuple[str, str]


def _datasets() -> list[Line]:
    return [(name, cls.about) for name, cls in DATASETS.classes().items()]


def _classes(registry: Registry) -> list[Line]:
    return [(name, f"{_first_sentence(cls.__doc__)} {cls.paper}") for name, cls in registry.classes().items()]


def _recipes() -> list[Line]:
    recipes = ((name, load_recipe(name)) for name in shipped_recipes())
    return [(name, f"{r.net}, {r.train.epochs} epochs of {r.train.optimizer}") for name, r in recipes]


def _first_sentence(text: str | None) -> str:
    return " ".join((text or "").split()).split(". ")[0].rstrip(".") + "."


LISTS: dict[str, Callable[[], list[Line]]] = {
    "datasets": _datasets,
    "defenses": lambda: _classes(DEFENSES),
    "attacks": lambda: _classes(ATTACKS),
    "recipes": _recipes,
    "nets": lambda: [
        *((name, net.about) for name, net in NETS.items()),
        ("package.module:factory", "a network of your own"),
    ],
}


def describe_data(name: str, data_dir: Path | None, download: bool, progress: Any = False) -> list[str]:
    """Shape, hash and class counts of a data set. Errors: `UserError` where its files are missing or wrong."""
    source = DATASETS.get(name)()
    data = source.load(Place.default(data_dir, download=download, progress=progress))
    counts = data.y.bincount(minlength=data.num_classes).tolist()
    return [
        f"{name}: {source.about}",
        f"rows {len(data)}, shape of one {data.shape}, {str(data.x.dtype).removeprefix('torch.')}",
        f"classes {data.num_classes}",
        f"sha256 {data.sha256}",
        f"rows per class {counts}",
    ]
