"""How numbers and models of a results document are written: percentages, operating points, titles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]


def sentences(parts: Sequence[str]) -> str:
    """Sentences in one line, each with its full stop."""
    return ". ".join(parts) + "." if parts else ""


def verdict_lines(results: Json) -> list[str]:
    """The verdict, the caveats and the limits of a results document, a line each; those that are empty are left out."""
    verdict = results.get("verdict") or {}
    caveats = sentences([caveat["text"] for caveat in results.get("caveats") or []])
    return [line for line in (verdict.get("text", ""), caveats, verdict.get("limits", "")) if line]


def percent(rate: float, digits: int = 1) -> str:
    """A fraction as a percentage; a rate that is not 0 or 1 is never rounded to 0 or 100.

    >>> percent(0.1234), percent(0.00001, 2), percent(0.99999), percent(0, 2)
    ('12.3%', '<0.01%', '>99.9%', '0.00%')
    """
    step = 10.0**-digits
    text = f"{100 * rate:.{digits}f}%"
    if rate > 0 and float(text[:-1]) == 0:
        return f"<{step:.{digits}f}%"
    if rate < 1 and float(text[:-1]) == 100:
        return f">{100 - step:.{digits}f}%"
    return text


def level_label(rate: float) -> str:
    """An operating point in words of a table head.

    >>> level_label(0.001)
    '0.1%'
    """
    return f"{100 * rate:g}%"


def sampling(point: Json) -> str:
    """The flag of a rate at one operating point: ``few`` if its count is shown in its place, ``unresolved``, or none.

    >>> sampling({"resolved": False, "reason": "648 non-members, 5,000 needed"}), sampling({"resolved": True})
    ('few', '')
    """
    if point.get("reason"):
        return "few"
    return "" if point["resolved"] else "unresolved"


def at_least(value: float, digits: int = 2) -> str:
    """A lower bound with some digits, rounded down.

    >>> at_least(1.6461), at_least(2.9999, 3), at_least(0.57)
    ('1.64', '2.999', '0.57')
    """
    return f"{math.floor(value * 10**digits * (1 + 1e-12)) / 10**digits:.{digits}f}"


def model_titles(results: Json) -> list[str]:
    """A name for every model that no other has: the recipe, the number of several seeds, and seed and run where that is needed.

    >>> model = {"recipe": "digits/hamp", "run": "a"}
    >>> model_titles({"models": [model | {"seed": 0}, model | {"seed": 1}]})
    ['digits/hamp · seed 0', 'digits/hamp · seed 1']
    >>> model_titles({"models": [model | {"seed": 0, "seeds": [0, 1]}]})
    ['digits/hamp · 2 seeds']
    """
    models = results["models"]
    plain = [named(model) + (f" · {n_seeds(model)} seeds" if n_seeds(model) > 1 else "") for model in models]
    seeded = [
        f"{name} · seed {', '.join(map(str, seeds_of(model)))}" for name, model in zip(plain, models, strict=True)
    ]
    full = [f"{name} · {model['run']}" for name, model in zip(seeded, models, strict=True)]
    counts, seeded_counts = Counter(plain), Counter(seeded)
    return [
        plain[i] if counts[plain[i]] == 1 else seeded[i] if seeded_counts[seeded[i]] == 1 else full[i]
        for i in range(len(models))
    ]


def named(model: Json) -> str:
    """The recipe of a model, and its canaries.

    >>> named({"recipe": "digits/hamp", "canaries": {"count": 500, "kind": "mislabelled"}})
    'digits/hamp · 500 mislabelled canaries'
    """
    found = model.get("canaries")
    return model["recipe"] + (f" · {found['count']:,} {found['kind']} canaries" if found else "")


def seeds_of(model: Json) -> list[int]:
    """The seeds that the recipe was trained with."""
    return list(model.get("seeds") or [model["seed"]])


def runs_of(model: Json) -> list[str]:
    """The run folders, one for each seed."""
    return list(model.get("runs") or [model["run"]])


def n_seeds(model: Json) -> int:
    """Number of seeds that the recipe was trained with."""
    return len(seeds_of(model))


def off_null(model: Json) -> bool:
    """Whether the null differs from 0.5 beyond its 99.9 % interval."""
    return bool((model.get("null") or {}).get("off")) or any("null" in attack["flags"] for attack in model["attacks"])
