"""The workflows of ``hampkit run`` and ``attack``: from recipes or a run folder to results and a report."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hampkit.config.files import check_spared, writable
from hampkit.config.recipe import Recipe, check_effect
from hampkit.config.schema import once
from hampkit.config.sections import CanaryConfig, ShadowConfig
from hampkit.errors import Notice, UserError
from hampkit.judging.results import Results
from hampkit.registry import check_installed
from hampkit.runs.store import Run
from hampkit.shadow_models.reuse import Lender, last_used
from hampkit.workflows.attack import evaluate
from hampkit.workflows.chosen_attacks import family
from hampkit.workflows.gate import Gate
from hampkit.workflows.open_run import open_run
from hampkit.workflows.prepare import prepare
from hampkit.workflows.problem import Problem
from hampkit.workflows.recipes import RecipeOptions, Reference, attack_options
from hampkit.workflows.reference_model import check_named
from hampkit.workflows.report import REPORT_FILES, report_on
from hampkit.workflows.session import Session
from hampkit.workflows.shadow import plan_shadows
from hampkit.workflows.target_jobs import train_targets


@dataclass(frozen=True)
class ShadowSource:
    """The shadow models that attacks use: the run's own, or those of another run."""

    models: int = 0  # number of shadow models; 0: none, or all of another run
    run: str | Path = ""  # the folder of another run
    force: bool = False  # use those of another run even if its recipe differs; results get the flag `mismatched`

    def lender(self) -> Lender | None:
        """The shadow models of the other run, if one is given.

        Raises: `UserError` if that run has none, or for ``force`` without another run.
        """
        if self.force and not self.run:
            raise UserError("force needs the shadow models of another run: --shadows-from RUN --force")
        return Lender.of(Path(self.run).resolve(), self.models, self.force) if self.run else None


@dataclass(frozen=True)
class Request:
    """The attacks on models, and the folder of the report."""

    attacks: Sequence[str] = ()  # names; default: all whose evidence the run contains
    options: Mapping[str, Any] = field(default_factory=dict)  # as given by the user; those without effect are refused
    shadows: ShadowSource = field(default_factory=ShadowSource)
    out: str | Path | None = None  # default: the runs folder for `run`, the run folder for `attack`
    gate: Gate = field(default_factory=Gate)  # limits of a release
    canaries: CanaryConfig = field(default_factory=CanaryConfig)  # a second model of each recipe is judged on them


def run(references: Sequence[Reference], recipe_options: RecipeOptions, request: Request, session: Session) -> Results:
    """Train every recipe, attack and judge the models, and write the report.

    Raises: `UserError`; every mistake of the user is found before anything is trained.
    """
    lender = request.shadows.lender()
    recipes = recipe_options.with_shadows(request.shadows.models, lender).recipes(references)
    for name in request.attacks:
        family(name)
    for recipe in recipes:
        check_effect(recipe, request.options)
    problems = _distinct([prepare(recipe, session) for recipe in _beside_canaries(recipes, request)])
    folder = session.runs_dir if request.out is None else Path(request.out)
    for place in (session.runs_dir, folder):
        writable(place)
    check_spared(folder, REPORT_FILES, (recipe.data.options.get("file") for recipe in recipes))
    for problem in problems:
        check_named(problem, request.attacks)
        if lender is not None:
            lender.load_for(problem.shadow_task())  # raises if they do not fit
        elif problem.recipe.shadows.models:
            session.progress.say(plan_shadows(problem, session, attacks=request.attacks).line())
    for message in train_targets(problems, session).values():
        raise UserError(message)
    return report_on(
        [evaluate(problem, session, request.attacks, lender) for problem in problems], folder, request.gate
    )


def attack(folder: Path, request: Request, session: Session) -> Results:
    """Attack the model of a run folder, judge the attacks, and write the report.

    Raises: `UserError`.
    """
    for name in request.attacks:
        family(name)
    overrides = attack_options(request.options)
    lender, attacked, models = request.shadows.lender(), Run.at(folder), request.shadows.models
    if lender is not None:
        overrides["shadows"] = _which(lender.config)
    else:
        overrides["shadows"] = {"models": models} if models else _last_shadows(attacked)
    check_installed(folder, attacked.recipe()["defense"]["name"])
    problem = open_run(folder, session, overrides)
    check_effect(problem.recipe, request.options)
    out = folder if request.out is None else Path(request.out)
    writable(out)
    return report_on([evaluate(problem, session, request.attacks, lender)], out)


def check(references: Sequence[str | Path], recipe_options: RecipeOptions, session: Session) -> list[RecipeOptions]:
    """For each recipe the options that it has; several recipes are prepared, to find mistakes before the first training.

    Raises: `UserError`.
    """
    if len(references) == 1:  # its training prepares it first
        return [recipe_options]
    for recipe in recipe_options.recipes(references):
        prepare(recipe, session)
    return [recipe_options.only_for(reference) for reference in references]


def _last_shadows(run: Run) -> dict[str, Any]:
    """The options of the run's own shadow models that its last result used; warns if they were those of another run."""
    own, lender = last_used(run)
    if lender:
        warnings.warn(
            f"the last result of {run.folder} used shadow models of another run; its attacks with them and its leave-one-out"
            f" are no longer in the result; to keep them, add --shadows-from with the folder of {lender}",
            Notice,
            stacklevel=3,
        )
    return {} if own is None else _which(own)


def _beside_canaries(recipes: Sequence[Recipe], request: Request) -> list[Recipe]:
    """The recipes, and behind each the same with canaries if they are asked for.

    Raises: `UserError` if a recipe has canaries already, or with shadow models of another run.
    """
    config = request.canaries
    if not config.count:
        return list(recipes)
    for recipe in recipes:
        once(f"--canaries {config.count}", {"canaries.count": recipe.canaries.count} if recipe.canaries.count else {},
             "canaries.count")  # fmt: skip
    if request.shadows.run:
        raise UserError("--canaries needs shadow models of its own: give --shadows M in place of --shadows-from")
    return [each for recipe in recipes for each in (recipe, replace(recipe, canaries=config))]


def _which(config: ShadowConfig) -> dict[str, Any]:
    """The options that decide which shadow models these are, without those of what is kept of them."""
    return {name: getattr(config, name) for name in ("models", "scheme", "seed", "views")}


def _distinct(problems: Sequence[Problem]) -> list[Problem]:
    """The problems without repetitions."""
    return list({problem.folder: problem for problem in problems}.values())
