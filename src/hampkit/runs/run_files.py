"""What a run folder says of itself beside its steps: the recipe, how it is attacked, where it is trained, who is a member."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hampkit.data.splits import SEGMENTS
from hampkit.errors import UserError
from hampkit.runs.environment import environment
from hampkit.runs.store import read_json, readable, write_file, write_json
from hampkit.workflows.problem import Problem

SPLIT, LOCAL = "split.npz", "local.json"
AGAIN = "run again the recipe of that folder: that writes the file anew and trains nothing that is there"


def write_run(problem: Problem, folder: Path) -> None:
    write_json(folder / "recipe.json", problem.recipe.training())
    complete(problem, folder)


def complete(problem: Problem, folder: Path) -> None:
    """How it is attacked, where it is trained and who is a member, where that does not stand there yet."""
    recipe = problem.recipe
    local = {
        "judge": asdict(recipe.judge),
        "attacks": {name: dict(options) for name, options in recipe.attacks.items()},
        "shadows": asdict(recipe.shadows),
        "file": str(Path(recipe.data.options["file"]).resolve()) if recipe.data.options.get("file") else "",
        "inputs": recipe.defense.options.get("file") or "",  # whole already
        "permutation": str(Path(recipe.split.permutation).resolve()) if recipe.split.permutation else "",
    }
    if _wrong(folder / LOCAL):
        write_json(folder / LOCAL, local)
    if not readable(folder / "env.json"):  # asked for only then: it starts git
        write_json(folder / "env.json", environment(problem.trainer.device))
    rows = {name: problem.table.rows(name).numpy() for name in problem.table.segments}
    # of the whole pool: an evaluation with shadow models may take a part of the non-members only
    members = np.arange(len(rows["members"]) + len(rows["nonmembers"])) < len(rows["members"])
    split = {"members": members[None], "seeds": np.array(problem.task.seeds), **_prefixed(rows)}
    found = _arrays(folder / SPLIT)
    if found.keys() == split.keys() and all(_same(found[key], split[key]) for key in split):
        return
    content = io.BytesIO()
    np.savez(content, **split)
    write_file(folder / SPLIT, content.getvalue())


def local_of(folder: Path) -> dict[str, Any]:
    """How a run is attacked and where its files lie. Errors: `UserError`."""
    if wrong := _wrong(folder / LOCAL):
        raise UserError(f"{folder / LOCAL} {wrong}; {AGAIN}")
    return read_json(folder / LOCAL)


def _wrong(path: Path) -> str:
    """What is wrong with a local.json: its sections must have keys."""
    if not readable(path):
        return "is missing or damaged"
    local = read_json(path)
    parts = {name: local.get(name) for name in ("judge", "attacks")} | {"shadows": local.get("shadows", {})}
    if isinstance(local.get("attacks"), dict):
        parts |= {f"attacks.{name}": options for name, options in local["attacks"].items()}
    bad = [f"{name} is {part!r}" for name, part in parts.items() if not isinstance(part, dict)]
    return f"was edited or damaged: {bad[0]}, not a section with keys" if bad else ""


def rows_of(folder: Path) -> dict[str, np.ndarray]:
    """The rows of the data in every segment of a run's split. Errors: `UserError`."""
    found, names = _arrays(folder / SPLIT), _prefixed(dict.fromkeys(SEGMENTS))
    if not all(key in found and found[key].dtype == np.int64 and found[key].ndim == 1 for key in names):
        raise UserError(f"{folder / SPLIT} is missing or damaged; {AGAIN}")
    return {name: found[key] for name, key in zip(SEGMENTS, names, strict=True)}


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """What an archive holds; nothing where it cannot be read to the end."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except Exception:  # a damaged file may raise anything
        return {}


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b)


def _prefixed(rows: Mapping[str, Any]) -> dict[str, Any]:
    return {f"rows_{name}": value for name, value in rows.items()}
