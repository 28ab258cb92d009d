"""Train the shadow models of a problem, read their signals, and plan their cost."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hampkit.attacks import Attack, Shadows
from hampkit.config.sections import ShadowConfig
from hampkit.errors import Notice, UserError
from hampkit.launch.progress import Jobs
from hampkit.runs.locks import locked
from hampkit.runs.store import Run, read_json
from hampkit.shadow_models import train as shadow_training
from hampkit.shadow_models.base import ShadowSet
from hampkit.shadow_models.mode import ExecutionMode
from hampkit.shadow_models.plan import Judged, Measuring, Plan, plan
from hampkit.shadow_models.timing import MEASURING
from hampkit.stats import grouped
from hampkit.training.threads import threads
from hampkit.workflows.chosen_attacks import attacks_from_json, attacks_to_json, choose, shadow_probes_of
from hampkit.workflows.open_run import recipe_of_run
from hampkit.workflows.prepare import prepare
from hampkit.workflows.problem import Problem
from hampkit.workflows.reference_model import missing_share
from hampkit.workflows.session import Session
from hampkit.workflows.train import create

WORKER = "hampkit.workflows.shadow:worker"


def shadow(problem: Problem, session: Session) -> Run:
    """The run of a problem with all shadow models of its recipe; the missing ones are trained."""
    with locked(session.runs_dir, problem.folder, session.wait), threads(problem.recipe.train.threads):
        run = create(problem, session)
        train_shadow_models(problem, run, session, choose(problem.recipe, ()))
    return run


def train_shadow_models(problem: Problem, run: Run, session: Session, attacks: Sequence[Attack] = ()) -> ShadowSet:
    """The shadow models of a run; the missing ones are trained. The lock of the run must be held.

    attacks: whose probes the models are asked.
    """
    task = problem.shadow_task(shadow_probes_of(attacks))
    step = shadow_training.launch_step(task.config, lambda: plan_shadows(problem, session).mode)
    mode = _resized(step.of(run), session)
    missing = shadow_training.missing_jobs(task, run, mode)
    trained = task.config.models - sum(map(len, missing))
    if again := shadow_training.trained_again(task, run, missing):
        session.progress.say(
            f"{again} shadow models of {problem.recipe.title} are trained again, because their weights were not kept and attacks"
            " ask them more; naming attacks with one question (such as lira) avoids that"
        )
    jobs = Jobs(session.progress.track, f"shadow models of {problem.recipe.title}", task.config.models, trained)
    jobs.show()

    def event(message: dict[str, Any]) -> None:
        if "trained" in message:
            jobs.finish(message["job"], message["trained"])
        else:
            jobs.move(message)

    if mode.workers > 1 and len(missing) > 1:
        session.launcher.limited(mode.workers).map(
            WORKER, _context(problem, run, mode, session, attacks), missing, event
        )
    else:
        work = shadow_training.worker(task, run, mode)
        for job in missing:
            work(job, event)
    return shadow_training.read(task, run, mode)


def worker(context: dict[str, Any]) -> Callable[..., None]:
    """The function that does one job in a worker process, see `hampkit.types.Launcher`.

    Raises: `UserError` if the data or the code have changed since the run was made.
    """
    run, mode = Run(Path(context["run"])), ExecutionMode(**context["mode"])
    data_dir = None if context["data_dir"] is None else Path(context["data_dir"])
    session = Session(run.folder.parent, data_dir, context["device"])
    recipe = recipe_of_run(run.recipe(), read_json(run.folder / "local.json", "judge", "attacks"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # the parent process has printed it
        problem = prepare(replace(recipe, shadows=ShadowConfig(**context["shadows"])), session)
    if problem.folder != run.name:
        raise UserError(f"the data or the code of {run.name} changed during training; run the same command again")
    probes = shadow_probes_of(attacks_from_json(context["attacks"]))
    return shadow_training.worker(problem.shadow_task(probes), run, mode)


def plan_shadows(problem: Problem, session: Session, anew: bool = False, attacks: Sequence[str] = ()) -> Plan:
    """The expected cost of the shadow models, and of a reference model if attacks need one that is missing.

    If training has started already, it is in its execution mode.
    anew: measure even if the cache contains a measurement for this device and network. attacks: the names; default: all.
    """
    run, config = Run(session.runs_dir / problem.folder), problem.recipe.shadows
    session.progress.track(MEASURING, 0, 1)
    begun = shadow_training.mode_of(config, run)
    mode = begun and _resized(begun, session)
    measuring = Measuring(session.launcher.workers, session.cache, anew)
    probes = shadow_probes_of(choose(problem.recipe, ()))
    planned = plan(problem.shadow_task(probes), judged_of(problem), mode, measuring)
    session.progress.track(MEASURING, 1, 1)
    planned = replace(planned, reference=planned.each * missing_share(problem, run, choose(problem.recipe, attacks)))
    return planned if mode is not None else replace(planned, note=shadow_training.left_aside(config, run))


def judged_of(problem: Problem) -> Judged:
    """Numbers of judged examples, and of independent ones among them, see `hampkit.stats.grouped.number`."""
    members, nonmembers = problem.judged()
    judged, units, once = problem.candidates().judged, problem.units(), problem.once
    others = judged[judged >= problem.table.n_members]
    alone = grouped.number(units[others], len(others))
    return Judged(members, nonmembers, problem.left_out(), alone, grouped.number(units[once], int(once.sum())))


def for_target(found: ShadowSet) -> Shadows:
    """The shadow models as evidence about the target, see `ShadowSet.for_target`."""
    return _evidence(found, found.for_target())


def for_each_other(found: ShadowSet, rows: NDArray[np.int64] | None = None) -> Shadows:
    """The shadow models as evidence about one another, see `ShadowSet.counts`; rows: of the pool, default all."""
    shadows = _evidence(found, range(len(found)), found.counts())
    return shadows if rows is None else replace(shadows, rows=rows)


def _evidence(found: ShadowSet, models: Sequence[int], counts: NDArray[np.bool_] | None = None) -> Shadows:
    """These models as evidence about all rows of the pool. counts: (M, P), see `Shadows.counts`."""
    rows = np.arange(found.members.shape[1])
    return Shadows(found.parts, found.members, found.population, rows, np.array(models), counts, found.probes)


def _context(
    problem: Problem, run: Run, mode: ExecutionMode, session: Session, attacks: Sequence[Attack]
) -> dict[str, Any]:
    """The argument of `worker` as JSON values."""
    return {
        "run": str(run.folder.resolve()),
        "data_dir": None if session.data_dir is None else str(session.data_dir),
        "device": str(problem.trainer.device),
        "shadows": asdict(problem.recipe.shadows),
        "mode": asdict(mode),
        "attacks": attacks_to_json(attacks),
    }


def _resized(mode: ExecutionMode, session: Session) -> ExecutionMode:
    """The mode in which training has started, with the number of processes of this session."""
    workers = session.launcher.workers
    return replace(mode, workers=workers) if mode.workers > 1 and workers else mode
