"""The public calls: thin functions over `hampkit.workflows`; the command line adds only printing.

Every call takes the fields of a `Session` as keyword arguments (``runs_dir``, ``data_dir``, ``device``, ``launcher``,
``progress``), ``workers`` for so many local processes, or a ``session`` that holds them. None of these changes a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hampkit.workflows import compare as comparing
from hampkit.workflows import run as running
from hampkit.workflows import shadow as shadowing
from hampkit.workflows.compare import Comparison
from hampkit.workflows.prepare import prepare
from hampkit.workflows.recipes import Given, Recipe, recipe
from hampkit.workflows.report import AttackResult, ModelResult, Rate, Results, write_report
from hampkit.workflows.run import Request, ShadowSource
from hampkit.workflows.session import Progress, Session, Where, session_of
from hampkit.workflows.shadow import Plan
from hampkit.workflows.train import Trained
from hampkit.workflows.train import train as train_problem

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "AttackResult", "Comparison", "ModelResult", "Plan", "Progress", "Rate", "Recipe", "Results", "Session",
    "Trained", "attack", "compare", "plan", "recipe", "run", "shadow",
    "train", "write_report",
]  # fmt: skip

DEFAULT_RECIPES = ("digits/undefended", "digits/hamp")


def run(
    *recipes: str | Recipe,
    options: Mapping[str, Any] | None = None,
    attacks: Sequence[str] = (),
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    out: str | Path | None = None,
    shadows: int = 0,
    shadows_from: str | Path = "",
    force: bool = False,
    **where: Unpack[Where],
) -> Results:
    """Train every recipe, attack it, judge it, and write the report into ``out`` (default: ``runs_dir``).

    recipes: ``DATA/DEFENSE``, ``.toml`` files, or bare defenses together with ``data`` (a table) and ``label`` (its column); or
    recipes that `hampkit.recipe` made. options: ``{"train.lr": 0.1, "gamma": 0.9}``, as ``key=value`` on the command line.
    shadows: train so many shadow models too, and attack with them (LiRA, RMIA); ``progress.say`` gets the plan before anything
    long starts. shadows_from: take those of another run folder, which must be of the same recipe, data and split; ``force``: also
    if the recipe differs, with the flag `mismatched`. where: see `hampkit.api`.
    What was done before with the same recipe, data and seed is found again.

    Raises: `UserError`; whatever the user can get wrong is found before anything is trained or written.

    >>> results = run("digits/undefended", options={"epochs": 1})  # doctest: +SKIP
    """
    wanted = recipes or (("undefended", "hamp") if data else DEFAULT_RECIPES)
    request = Request(attacks, options or {}, ShadowSource(shadows, shadows_from, force), out)
    return running.run(wanted, Given(options, seed, data, label), request, session_of(where))


def train(
    recipe: str | Recipe,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    **where: Unpack[Where],
) -> Trained:
    """Train one recipe, or find the run that did: its folder, models, accuracies and black box. Arguments: see `run`."""
    session = session_of(where)
    return train_problem(prepare(Given(options, seed, data, label).recipe(recipe), session), session)


def shadow(
    recipe: str | Recipe,
    models: int,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    **where: Unpack[Where],
) -> Path:
    """Train shadow models of a recipe, or find those that were trained before: the run folder that holds them.

    models: an even number of at least 4. Other arguments: see `run`. Raises: `UserError`.
    """
    session = session_of(where)
    wanted = Given(options, seed, data, label).shadowed("--models", recipe, models)
    return shadowing.shadow(prepare(wanted, session), session).folder


def plan(
    recipe: str | Recipe,
    shadows: int,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    **where: Unpack[Where],
) -> Plan:
    """The cost of so many shadow models and the rates that they resolve, from a few steps that are measured now.

    Nothing is written but these measurements, into a cache. Arguments: see `run`.
    """
    session = session_of(where)
    wanted = Given(options, seed, data, label).shadowed("--shadows", recipe, shadows)
    return shadowing.plan_shadows(prepare(wanted, session), session, anew=True)


def attack(
    run: str | Path | Trained,
    *attacks: str,
    options: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    shadows: int = 0,
    shadows_from: str | Path = "",
    force: bool = False,
    **where: Unpack[Where],
) -> Results:
    """Attack the model of a run folder, by default with every attack, and write the report into ``out`` (default: the run).

    options: only those of the judge and of attacks, e.g. ``{"neural.epochs": 50, "judge.strict": True}``.
    shadows: with so many shadow models, which are trained if they are missing; by default those of the run's last result, so
    that what it shows besides stays. shadows_from, force, where: see `run`. Raises: `UserError`.
    """
    folder = Path(run.folder if isinstance(run, Trained) else run).resolve()
    request = Request(attacks, options or {}, ShadowSource(shadows, shadows_from, force), out)
    return running.attack(folder, request, session_of({**where, "runs_dir": folder.parent}))


def compare(
    dataset: str = "digits",
    *,
    defenses: Sequence[str] = (),
    shadows: int = 0,
    seeds: int = 1,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    out: str | Path | None = None,
    **where: Unpack[Where],
) -> Comparison:
    """Train and attack every defense on one split, and write one page: accuracy against leakage, table, cost.

    defenses: names; default all there are; one that cannot train here is left out, and the page states why. shadows: so many
    shadow models per defense and seed. seeds: how many, from ``seed`` on, which by default is the recipe's. data, label: a table
    of one's own instead of a data set. where: see `hampkit.api`.
    Writes compare.json, compare.html, compare.md and the full report into ``out`` (default: ``runs_dir``). Raises: `UserError`.
    """
    compared = comparing.Compared(dataset, defenses, Given(options, seed, data, label), shadows, seeds)
    return comparing.compare(compared, None if out is None else Path(out), session_of(where))
