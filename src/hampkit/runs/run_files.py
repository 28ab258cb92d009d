"""The files of a run folder outside its steps: recipe.json, local.json, env.json and split.npz."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hampkit.config.recipe import Recipe
from hampkit.errors import UserError
from hampkit.runs.environment import ENVIRONMENT, environment
from hampkit.runs.store import read_json, readable, write_file, write_json

SPLIT, LOCAL = "split.npz", "local.json"
REMEDY = "run again with the recipe of that folder, which writes the file and repeats no training that is done"


@dataclass(frozen=True)
class RunContent:
    """The content of these files."""

    recipe: Recipe
    rows: Mapping[str, NDArray[np.int64]]  # segment of the split → rows of the data set
    seeds: tuple[int, ...]  # of the target's training
    device: torch.device


def write_run(content: RunContent, folder: Path) -> None:
    """Write all files of a new run folder."""
    write_json(folder / "recipe.json", content.recipe.training())
    complete(content, folder)


def complete(content: RunContent, folder: Path) -> None:
    """Write local.json, env.json and split.npz if they are missing or damaged."""
    if _damage(folder / LOCAL):
        write_json(folder / LOCAL, _local(content.recipe))
    if not readable(folder / "env.json", *ENVIRONMENT):  # computed only if needed, because it starts git
        write_json(folder / "env.json", environment(content.device))
    split, found = _split(content), _arrays(folder / SPLIT)
    if found.keys() == split.keys() and all(_same(found[key], split[key]) for key in split):
        return
    file = io.BytesIO()
    np.savez(file, **split)
    write_file(folder / SPLIT, file.getvalue())


def _split(content: RunContent) -> dict[str, Any]:
    """The arrays of split.npz. ``members`` (1, P) covers all non-members, also those that shadow models leave out."""
    rows = content.rows
    members = np.arange(len(rows["members"]) + len(rows["nonmembers"])) < len(rows["members"])
    return {"members": members[None], "seeds": np.array(content.seeds), **_prefixed(rows)}


def _local(recipe: Recipe) -> dict[str, Any]:
    """The content of local.json: the options of attacks, judge and shadow models, and the paths of the user's files."""
    return {
        "judge": asdict(recipe.judge),
        "attacks": {name: dict(options) for name, options in recipe.attacks.items()},
        "shadows": asdict(recipe.shadows),
        "file": str(Path(recipe.data.options["file"]).resolve()) if recipe.data.options.get("file") else "",
        "inputs": recipe.defense.options.get("file") or "",  # already an absolute path
        "permutation": str(Path(recipe.split.permutation).resolve()) if recipe.split.permutation else "",
    }


def local_of(folder: Path) -> dict[str, Any]:
    """The content of local.json.

    Raises: `UserError` if the file is missing or damaged.
    """
    if damage := _damage(folder / LOCAL):
        raise UserError(f"{folder / LOCAL} {damage}; {REMEDY}")
    return read_json(folder / LOCAL)


def _damage(path: Path) -> str:
    """The damage of a local.json in words; empty if each of its sections is a mapping."""
    if not readable(path):
        return "is missing or damaged"
    local = read_json(path)
    parts = {name: local.get(name) for name in ("judge", "attacks")} | {"shadows": local.get("shadows", {})}
    if isinstance(local.get("attacks"), dict):
        parts |= {f"attacks.{name}": options for name, options in local["attacks"].items()}
    bad = [f"{name} is {part!r}" for name, part in parts.items() if not isinstance(part, dict)]
    return f"was edited or damaged: {bad[0]}, not a section with keys" if bad else ""


def rows_of(folder: Path, segments: Sequence[str]) -> dict[str, np.ndarray]:
    """The rows (n,) int64 of the data set in each of these segments of a run's split.

    Raises: `UserError` if the file is missing or damaged.
    """
    found, names = _arrays(folder / SPLIT), _prefixed(dict.fromkeys(segments))
    if not all(key in found and found[key].dtype == np.int64 and found[key].ndim == 1 for key in names):
        raise UserError(f"{folder / SPLIT} is missing or damaged; {REMEDY}")
    return {name: found[key] for name, key in zip(segments, names, strict=True)}


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an archive; empty if it cannot be read completely."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except Exception:  # a damaged file may raise anything
        return {}


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b)


def _prefixed(rows: Mapping[str, Any]) -> dict[str, Any]:
    return {f"rows_{name}": value for name, value in rows.items()}
