"""Checks that a recipe fits its data, before anything is trained."""

from __future__ import annotations

import warnings

import numpy as np

from hampkit.config.command_line import option
from hampkit.config.recipe import Recipe
from hampkit.data.splits import SplitTable, known_split, shadow_members
from hampkit.errors import Notice, UserError
from hampkit.launch.local import cores
from hampkit.types import Dataset
from hampkit.workflows.problem import COPIED, Problem


def check(problem: Problem) -> None:
    """Check that halves of the pool can be drawn and examples judged; warn of copies.

    Raises: `UserError`.
    """
    if problem.recipe.shadows.models:
        _check_units(problem)
    _check_candidates(problem)


def check_images(recipe: Recipe, dataset: Dataset) -> None:
    """Check that options for images are only used with images.

    Raises: `UserError`.
    """
    used = {
        f"shadows.views={recipe.shadows.views}": recipe.shadows.views > 1,
        option("train.augment", *recipe.train.augment): bool(recipe.train.augment),
    }
    for key, is_used in used.items():
        if is_used and len(dataset.shape) != 3:
            raise UserError(
                f"{key} mirrors and shifts images of shape (channels, height, width); examples of"
                f" {dataset.name} have shape {dataset.shape}: leave it out"
            )
        if is_used and dataset.shape[-1] < min(dataset.shape[:-1]):
            raise UserError(
                f"{key} takes the first axis for the channels, and examples of {dataset.name} have shape {dataset.shape}, with"
                " the channels last; save them as (rows, channels, height, width)"
            )


def check_known(table: SplitTable, recipe: Recipe) -> None:
    """Check that members and non-members remain for fitting, for choosing and for judging.

    Raises: `UserError`.
    """
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
    """Check that members and non-members are left to know and to judge; warn of copies on both sides of the split.

    Raises: `UserError`.
    """
    found, name = problem.copies(), problem.data()["name"]
    parts = problem.candidates()
    for rows in (parts.judged, parts.known[parts.fit], parts.known[~parts.fit]):
        members = int((rows < problem.table.n_members).sum())
        if not 0 < members < len(rows) and not found["left_out"]:
            raise UserError(
                f"the groups of {name} (data.group) are too few to know some and judge others; give more rows, or smaller groups"
            )
        if not 0 < members < len(rows):
            raise UserError(
                f"{found['left_out']:,} rows of {name} have the same features as another row, and too few others remain: there is"
                " nobody to judge; remove the copies, or judge every row: judge.copies=keep"
            )
    if problem.duplicated:
        _warn_of_copies(problem, found)


def _warn_of_copies(problem: Problem, found: dict[str, int]) -> None:
    """found: numbers of copies, see `Problem.copies`."""
    sizes = {part: len(places) for part, places in problem.alike.items()}
    sizes["nonmembers"] = sizes["pool"] - problem.table.n_members
    if found["nonmembers"] == sizes["nonmembers"]:
        effect = "no attack can distinguish such non-members from members"
    elif problem.recipe.judge.copies == "keep":
        effect = "these non-members are judged all the same"
    else:
        effect = "every set of features is judged once (judge.copies=keep judges every row)"
    counts = [f"{found[part]:,} of {sizes[part]:,} {word}" for part, word in COPIED.items() if found[part]]
    warnings.warn(
        f"{', '.join(counts[:-1])}{' and ' if counts[1:] else ''}{counts[-1]} of {problem.data()['name']} have the same features"
        f" as a member: accuracies on such rows are too high, and {effect}; remove copies that are there by mistake",
        Notice,
        stacklevel=4,
    )


def _check_units(problem: Problem) -> None:
    """Check that halves of the pool can be drawn although the rows of a unit stay together.

    Raises: `UserError`.
    """
    units, drawn = problem.units(), problem.recipe.shadows
    largest, pool = int(np.unique(units, return_counts=True)[1].max()), len(units)
    if 2 * largest > pool:
        raise UserError(
            f"{largest:,} of the {pool:,} rows that shadow models are trained on stay together, because they share features or a"
            " group, directly or through other rows: no half of the rows can be drawn; remove copies, group by another column"
            " (data.group), or leave --shadows out"
        )
    if largest > 1 and drawn.scheme == "published":  # raises if they cannot be drawn
        shadow_members(drawn.models, pool, drawn.seed, drawn.scheme, units)


def warn_of_threads(count: int) -> None:
    """Warn of more threads than cores: they wait for each other, and training may take a hundred times as long."""
    if count > cores():
        warnings.warn(
            f"train.threads={count} is more than the {cores()} cores that this process may use, and training may take many times"
            f" as long; take train.threads={cores()} or fewer (another number is another run)",
            Notice,
            stacklevel=3,
        )
