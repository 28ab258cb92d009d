"""What a run folder says of itself beside its steps: the recipe, how it is attacked, where it is trained, who is a member."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hampkit.environment import environment
from hampkit.problem import Problem
from hampkit.store import readable, write_file, write_json


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
        "permutation": str(Path(recipe.split.permutation).resolve()) if recipe.split.permutation else "",
    }
    if not readable(folder / "local.json"):
        write_json(folder / "local.json", local)
    if not readable(folder / "env.json"):  # asked for only then: it starts git
        write_json(folder / "env.json", environment(problem.trainer.device))
    if (folder / "split.npz").is_file():
        return
    rows = {name: problem.table.rows(name).numpy() for name in problem.table.segments}
    # of the whole pool: an evaluation with shadow models may take a part of the non-members only
    members = np.arange(len(rows["members"]) + len(rows["nonmembers"])) < len(rows["members"])
    content = io.BytesIO()
    np.savez(content, members=members[None], seeds=np.array(problem.task.seeds), **_prefixed(rows))
    write_file(folder / "split.npz", content.getvalue())


def _prefixed(rows: Mapping[str, Any]) -> dict[str, Any]:
    return {f"rows_{name}": value for name, value in rows.items()}
