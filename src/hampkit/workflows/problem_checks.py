"""What a user can get wrong between recipe and data, found before anything is trained."""

from __future__ import annotations

import warnings

import numpy as np

from hampkit.config.recipe import Recipe
from hampkit.data.splits import SplitTable, known_split, shadow_members
from hampkit.errors import Notice, UserError
from hampkit.launch.local import cores
from hampkit.types import Dataset
from hampkit.workflows.problem import COPIED, Problem


def check(problem: Problem) -> None:
    """Raises: `UserError` if no halves can be drawn or nobody is left to judge; warns of copies."""
    if problem.recipe.shadows.models:
        _check_units(problem)
    _check_candidates(problem)


def check_images(recipe: Recipe, dataset: Dataset) -> None:
    asked = {
        f"shadows.views={recipe.shadows.views}": recipe.shadows.views > 1,
        f"train.augment=[{','.join(recipe.train.augment)}]": bool(recipe.train.augment),
    }
    for key, wanted in asked.items():
        if wanted and len(dataset.shape) != 3:
            raise UserError(
                f"{key} mirrors and shifts images of shape (channels, height, width); examples of"
                f" {dataset.name} have shape {dataset.shape}: leave it out"
            )


def check_known(table: SplitTable, recipe: Recipe) -> None:
    """Every part of the known and of the unknown half must hold members and non-members."""
    judge = recipe.judge
    for name in ("members", "nonmembers"):
        count = len(table.rows(name))
        if recipe.shadows.models:
            count = min(count, table.n_members)
        a, b = known_split(count, judge.known_train, judge.known_val)
        if not 0 < a < b < count:
            raise UserError(
                f"judge.known_train={judge.known_train} and judge.known_val={judge.known_val} of {count} {name} leave {a} known"
                f" for fitting, {b - a} for choosing and {count - b} to judge on; each needs at least 1"
            )


def _check_candidates(problem: Problem) -> None:
    """Warns of copies on both sides of the split. Errors: `UserError` where too few other rows are left."""
    found, name = problem.copies(), problem.data()["name"]
    parts = problem.candidates()
    for sided in (parts.judged, parts.known[parts.fit], parts.known[~parts.fit]):
        members = int((sided < problem.table.n_members).sum())
        if not 0 < members < len(sided) and not found["left_out"]:
            raise UserError(
                f"the groups of {name} (data.group) are too few to know some and judge others; give more rows, or smaller groups"
            )
        if not 0 < members < len(sided):
            raise UserError(
                f"{found['left_out']:,} rows of {name} have the same features as another one, and the few others leave nobody to"
                " judge; remove the copies, or judge every row: judge.copies=keep"
            )
    if not problem.duplicated:
        return
    kept = "every set of features is judged once (judge.copies=keep judges every row)"
    if problem.recipe.judge.copies == "keep":
        kept = "these non-members are judged all the same"
    sizes = {part: len(places) for part, places in problem.alike.items()}
    sizes["nonmembers"] = sizes["pool"] - problem.table.n_members
    if found["nonmembers"] == sizes["nonmembers"]:
        kept = "no attack can tell such non-members from members"
    counted = [f"{found[part]:,} of {sizes[part]:,} {word}" for part, word in COPIED.items() if found[part]]
    warnings.warn(
        f"{', '.join(counted[:-1])}{' and ' if counted[1:] else ''}{counted[-1]} of {name} have the same features as a member:"
        f" accuracies on such rows are too high, and {kept}; remove copies that are there by mistake",
        Notice,
        stacklevel=3,
    )


def _check_units(problem: Problem) -> None:
    """Errors: `UserError` where no halves of the pool can be drawn, because too much of it stays together."""
    units, drawn = problem.units(), problem.recipe.shadows
    largest, pool = int(np.unique(units, return_counts=True)[1].max()), len(units)
    if 2 * largest > pool:
        raise UserError(
            f"{largest:,} of the {pool:,} rows that shadow models are trained on stay together, because they share features or a"
            " group with one another, in chains: no half of the rows can be drawn; remove copies, group by another column"
            " (data.group), or leave --shadows out"
        )
    if largest > 1 and drawn.scheme == "published":  # refused here, before anything is trained
        shadow_members(drawn.models, pool, drawn.seed, drawn.scheme, units)


def warn_of_threads(count: int) -> None:
    """More threads than cores wait for one another, and a training may take a hundred times as long."""
    if count > cores():
        warnings.warn(
            f"train.threads={count} is more than the {cores()} cores that this process may use, and training may take many times"
            f" as long; take train.threads={cores()} or fewer (another number is another run)",
            Notice,
            stacklevel=3,
        )
