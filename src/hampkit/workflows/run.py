"""What ``hampkit run``, ``train`` and ``attack`` do: recipes or a run folder in, results and a report out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hampkit.config.recipe import Recipe, check_effect
from hampkit.errors import Notice, UserError
from hampkit.judging.results import Results
from hampkit.registry import check_installed
from hampkit.runs.store import Run, writable
from hampkit.shadow_models.reuse import Lender, last_used
from hampkit.workflows.attack import evaluate
from hampkit.workflows.chosen_attacks import family
from hampkit.workflows.open_run import open_run
from hampkit.workflows.prepare import prepare
from hampkit.workflows.problem import Problem
from hampkit.workflows.recipes import Given, attack_options
from hampkit.workflows.report import report_on
from hampkit.workflows.session import Session
from hampkit.workflows.shadow import plan_shadows
from hampkit.workflows.target_jobs import train_targets


@dataclass(frozen=True)
class ShadowSource:
    """Shadow models that attacks use: so many of the run's own, or those of another run."""

    models: int = 0
    run: str | Path = ""
    force: bool = False  # those of another run although its recipe differs; results are flagged `mismatched`

    def lender(self) -> Lender | None:
        """The run that lends them. Raises: `UserError` if it has none, or for ``force`` without such a run."""
        if self.force and not self.run:
            raise UserError("force only makes sense with shadows of another run: --shadows-from RUN --force")
        return Lender.of(Path(self.run).resolve(), self.models, self.force) if self.run else None


@dataclass(frozen=True)
class Request:
    """How models are attacked, and where the report goes."""

    attacks: Sequence[str] = ()  # names; default: all whose evidence a run holds
    options: Mapping[str, Any] = field(default_factory=dict)  # as they were given, to refuse those without effect
    shadows: ShadowSource = field(default_factory=ShadowSource)
    out: str | Path | None = None  # default: the runs folder of new runs, else the run


def run(references: Sequence[str | Recipe], given: Given, request: Request, session: Session) -> Results:
    """Train every recipe, attack it, judge it, and write the report.

    Raises: `UserError`; whatever a user can mend is found before anything is trained.
    """
    lender = request.shadows.lender()
    recipes = given.with_shadows(request.shadows.models, lender).recipes(references)
    for name in request.attacks:
        family(name)
    for recipe in recipes:
        check_effect(recipe, request.options)
    problems = _distinct([prepare(recipe, session) for recipe in recipes])
    folder = session.runs_dir if request.out is None else Path(request.out)
    for place in (session.runs_dir, folder):
        writable(place)
    for problem in problems:
        if lender is not None:
            lender.load_for(problem.shadow_task())  # all are checked before the first is trained
        elif problem.recipe.shadows.models:
            session.progress.say(plan_shadows(problem, session).line())
    for why in train_targets(problems, session).values():
        raise UserError(why)
    return report_on([evaluate(problem, session, request.attacks, lender) for problem in problems], folder)


def attack(folder: Path, request: Request, session: Session) -> Results:
    """Attack the model of a run folder, judge the attacks, and write the report."""
    for name in request.attacks:
        family(name)
    overrides = attack_options(request.options)
    lender, attacked, models = request.shadows.lender(), Run.at(folder), request.shadows.models
    if lender is not None:
        overrides["shadows"] = asdict(lender.config)
    else:
        overrides["shadows"] = {"models": models} if models else _last_shadows(attacked)
    check_installed(folder, attacked.recipe()["defense"]["name"])
    problem = open_run(folder, session, overrides)
    check_effect(problem.recipe, request.options)
    out = folder if request.out is None else Path(request.out)
    writable(out)
    return report_on([evaluate(problem, session, request.attacks, lender)], out)


def check(references: Sequence[str], given: Given, session: Session) -> list[Given]:
    """For each recipe what of the given options it takes. Raises: `UserError` if one of several cannot be trained."""
    if len(references) == 1:  # its own training checks it
        return [given]
    for recipe in given.recipes(references):
        prepare(recipe, session)
    return [given.only_for(reference) for reference in references]


def _last_shadows(run: Run) -> dict[str, Any]:
    """The options of the run's own shadow models that its last result used; warns if another run had lent them."""
    own, lender = last_used(run)
    if lender:
        warnings.warn(
            f"the last result of {run.folder} used shadow models of another run; its attacks with them and its leave-one-out"
            f" are no longer in the result; to keep them, add --shadows-from with the folder of {lender}",
            Notice,
            stacklevel=3,
        )
    return {} if own is None else asdict(own)


def _distinct(problems: Sequence[Problem]) -> list[Problem]:
    return list({problem.folder: problem for problem in problems}.values())
