"""The reference model of an attack: the target's recipe on the population, and the posterior of its last layer.

It is a step of the run, and trained only if an attack needs it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from hampkit.attacks import Attack, Reference
from hampkit.defenses import Models
from hampkit.errors import UserError
from hampkit.rng import derive, forked
from hampkit.runs.step import Step
from hampkit.runs.store import Run, read_json, save_tensors, write_json
from hampkit.targets.last_layer import LastLayer, Posterior
from hampkit.targets.trained import Trained, network_of, read_models
from hampkit.training import Trainer
from hampkit.training.layout import rows_at_once
from hampkit.types import Task
from hampkit.workflows.chosen_attacks import choose
from hampkit.workflows.problem import Problem

FEWEST = 20  # rows, as in a split: with fewer there is nothing to learn
PLACE = "reference-model"


def needed(attacks: Sequence[Attack]) -> list[str]:
    """The names of those attacks that need a reference model."""
    return [attack.name for attack in attacks if "reference" in attack.needs]


def check_named(problem: Problem, names: Sequence[str]) -> None:
    """Check, before anything is trained, that there will be the evidence that named attacks need, reference models included.

    Raises: `UserError`.
    """
    named = needed(choose(problem.recipe, names)) if names else []
    if named and (why := obstacle(problem)):
        raise UserError(_refusal(named[0], why))


def with_reference(
    problem: Problem, run: Run, attacks: tuple[list[Attack], list[Attack]], named: bool
) -> tuple[list[Attack], list[Attack], dict[str, str]]:
    """The attacks, chosen ones and those of an earlier result, that have the reference model they need; it is trained if missing.

    Returned last: name → reason for the chosen ones that are left out.
    Raises: `UserError` for an attack that the user named. The lock of the run must be held.
    """
    chosen, others = attacks
    without = needed([*chosen, *others])
    if not without or not (why := _failure(problem, run)):
        return chosen, others, {}
    left_out = needed(chosen)
    if named and left_out:
        raise UserError(_refusal(left_out[0], why))
    kept, stay = ([attack for attack in part if attack.name not in without] for part in attacks)
    return kept, stay, dict.fromkeys(left_out, why)


def obstacle(problem: Problem) -> str:
    """Why no reference model of this problem can be trained; empty if nothing is known to be in the way."""
    task = reference_task(problem)
    if len(task.pool) < FEWEST or len(task.pool.y.unique()) < 2:
        return (
            f"its reference model needs at least {FEWEST} rows of two classes that are in nobody's training and not judged, and"
            f" there are {len(task.pool)}"
        )
    try:
        problem.defense.check(task, problem.trainer)
        with forked(0):
            net = task.net().eval()
        LastLayer.of(net, task.pool.x[:2].to(torch.float32))
    except UserError as error:
        return f"its reference model cannot be trained on {len(task.pool)} rows: {error}"
    return ""


def missing_share(problem: Problem, run: Run, attacks: Sequence[Attack]) -> float:
    """The rows of the reference model as a share of those of the target, or 0 if none will be trained for these attacks."""
    if not needed(attacks) or obstacle(problem) or reference_step(problem).done(run):
        return 0.0
    return len(reference_task(problem).pool) / problem.table.n_members


def reference_task(problem: Problem) -> Task:
    """The training task of the reference model: as many rows of the population as the target has members, or all."""
    pool = problem.test.take(_rows(problem))
    members, seeds = torch.ones(1, len(pool), dtype=torch.bool), (derive(problem.recipe.seed, PLACE),)
    return replace(problem.task, pool=pool, members=members, seeds=seeds, val=problem.shadow_val)


def reference_step(problem: Problem) -> Step[Models]:
    """The reference model as a step of the run, named by its rows."""
    task = reference_task(problem)

    def write(folder: Path) -> None:
        start, trainer = time.perf_counter(), _named(problem)
        models = problem.defense.fit(task, trainer)
        save_tensors(folder / "stack.safetensors", models.tensors())
        history = {"models": [asdict(h) for h in models.stack.history], "rows": len(task.pool)}
        write_json(folder / "history.json", {**history, "seconds": round(time.perf_counter() - start, 3)})

    def read(folder: Path) -> Models:
        return read_models(task, folder, read_json(folder / "history.json", "models"))

    return Step(PLACE, _rows(problem).tolist(), write, read)


def reference_of(problem: Problem, target: Trained) -> Reference:
    """The reference model of a run with its answers to all P rows of the pool, and the posterior of its last layer.

    Every row of the pool is a candidate.
    """
    task, pool = reference_task(problem), target.pool.x
    models = reference_step(problem).of(target.run)
    net = network_of(models.stack).to(problem.trainer.device)
    size = rows_at_once(net, task.pool.shape, models.stack.dtype)

    def inputs(x: torch.Tensor) -> list[torch.Tensor]:
        return [part.to(problem.trainer.device, models.stack.dtype) for part in x.split(size)]

    layer = LastLayer.of(net, inputs(task.pool.x[:2])[0])
    known = torch.cat([layer.features(part) for part in inputs(task.pool.x)])
    posterior = Posterior.of(known, layer.logits(known))
    features = [layer.features(part) for part in inputs(pool)]
    return Reference(
        logits=torch.cat([layer.logits(part) for part in features]).numpy(),
        squares=torch.cat([posterior.squares(part) for part in features]).numpy(),
        feature_curvature=posterior.feature_curvature.numpy(),
        class_curvature=posterior.class_curvature.numpy(),
        class_directions=posterior.class_directions.numpy(),
        trained_on=posterior.rows,
        rows=np.arange(len(pool)),
    )


def _rows(problem: Problem) -> torch.Tensor:
    """The rows (n,) of the test segment that the reference model is trained on, without copies of the candidates."""
    rows = problem.population_rows
    unseen = problem.alike["test"][rows.numpy()] >= len(problem.task.pool)
    return rows[torch.from_numpy(unseen)][: problem.table.n_members]


def _failure(problem: Problem, run: Run) -> str:
    """Why there is no reference model; empty if there is one, which is trained if it is missing."""
    if why := obstacle(problem):
        return why
    try:
        (history,) = reference_step(problem).of(run).stack.history
    except UserError as error:
        return f"its reference model cannot be trained: {error}"
    return f"its reference model is of no use: {history.diverged}" if history.diverged else ""


def _refusal(name: str, why: str) -> str:
    return f"attack {name} is not possible: {why}; leave it out"


def _named(problem: Problem) -> Trainer:
    """The trainer of the target, which reports its epochs as those of the reference model."""
    track, title = problem.trainer.track, f"reference model of {problem.recipe.title}"
    return replace(problem.trainer, track=lambda _, done, total: track(title, done, total))
