"""What the target was asked and answered: its pool in every view, the population, and its own logits before the release."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hampkit.attacks import Population
from hampkit.content import content_hash
from hampkit.errors import UserError
from hampkit.rng import derive
from hampkit.runs.store import write_json
from hampkit.shadow_models.train import population
from hampkit.targets.augmentations import augmented
from hampkit.targets.trained import Trained
from hampkit.workflows.problem import Problem

REPEATED = 64  # examples that are asked twice


def name_of(problem: Problem, weights: str) -> str:
    """Weights that were trained again have other answers, and with shadow models the pool may be smaller."""
    views = [problem.views] if problem.views > 1 else []
    return content_hash([weights, len(problem.task.pool), *views])[:8]


def write(trained: Trained, folder: Path) -> None:
    """Ask everything that attacks and reports need, and whether asking again gives other answers."""
    problem = trained.problem
    pool, seed = problem.task.pool, derive(problem.recipe.seed, "query")
    box = trained.black_box()
    released = box.query(pool.x, seed)
    again = box.query(pool.x[:REPEATED], derive(seed, "again"))
    own = problem.trainer.predict(trained.models.stack, pool.x)[0].double()
    around = box.query(population(problem).x, derive(seed, "population"))
    more = [box.query(augmented(pool.x, v), derive(seed, "view", v)) for v in range(1, problem.views)]
    _check(problem.recipe.defense.name, [released, around, *more], released.argmax(-1) == own.argmax(-1))
    np.save(folder / "released.npy", released.numpy())
    np.save(folder / "population.npy", around.numpy())
    np.save(folder / "own.npy", own.numpy())
    if more:
        np.save(folder / "views.npy", torch.stack(more, dim=1).numpy())
    # the same rows in a batch of another size may differ in the last digits; noise differs far more
    randomised = not torch.allclose(again, released[:REPEATED], rtol=1e-3, atol=1e-3)
    modified = not torch.equal(released, own)
    write_json(folder / "result.json", {"randomised": randomised, "modified": modified, "queries": box.queries})


def _check(defense: str, answers: list[Tensor], kept: Tensor) -> None:
    """Errors: `UserError` for answers (N, C) each that no attack can use, or a label that was not kept (P,)."""
    bad = sum(int((~part.isfinite()).any(-1).sum()) for part in answers)
    if bad:
        raise UserError(
            f"{bad} of {sum(map(len, answers))} answers of defense {defense} hold NaN or infinity, and no attack can use them;"
            " mend what the defense releases, then run again"
        )
    if not kept.all():
        raise UserError(
            f"defense {defense} changed the predicted label of {int((~kept).sum())} of {len(kept)} answers: a release must keep"
            " it; mend what it releases, then run again"
        )


def read(problem: Problem, folder: Path) -> tuple[Tensor, Population]:
    """Released logits (N, V, C) float64 of the pool, and those of the population."""
    released = np.load(folder / "released.npy", allow_pickle=False)[:, None]
    if problem.views > 1:
        released = np.concatenate([released, np.load(folder / "views.npy", allow_pickle=False)], axis=1)
    around = np.load(folder / "population.npy", allow_pickle=False)[:, None]
    return torch.from_numpy(released), Population(population(problem).y, torch.from_numpy(around))
