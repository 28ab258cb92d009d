"""Ask a trained target all that attacks and reports need: its pool in every view, its population, and some rows twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hampkit.attacks import Population
from hampkit.errors import UserError
from hampkit.rng import derive
from hampkit.runs.step import Step
from hampkit.runs.store import read_json, write_json
from hampkit.targets.augmentations import augmented
from hampkit.targets.trained import Trained
from hampkit.workflows.problem import Problem

ASKED_TWICE = 64  # examples


@dataclass(frozen=True)
class Answers:
    """What a target answered. V views of each of P rows of the pool; Z rows of the population."""

    folder: Path
    released: Tensor  # (P, V, C) float64
    population: Population
    randomised: bool  # asking again gives other answers
    modified: bool  # the release changes answers


def query_step(trained: Trained, problem: Problem) -> Step[Answers]:
    """The key: weights that were trained again give other answers, and with shadow models the pool may be smaller."""
    views = [problem.views] if problem.views > 1 else []
    return Step(
        "answers",
        [trained.fingerprint, len(trained.pool), *views],
        lambda folder: _write(trained, problem, folder),
        lambda folder: _read(trained, problem, folder),
    )


def _write(trained: Trained, problem: Problem, folder: Path) -> None:
    pool, seed = trained.pool, derive(problem.recipe.seed, "query")
    assert trained.population is not None
    box = trained.black_box()
    released = box.query(pool.x, seed)
    again = box.query(pool.x[:ASKED_TWICE], derive(seed, "again"))
    own = trained.own_logits
    around = box.query(trained.population.x, derive(seed, "population"))
    more = [box.query(augmented(pool.x, v), derive(seed, "view", v)) for v in range(1, problem.views)]
    _check(problem.recipe.defense.name, [released, around, *more], released.argmax(-1) == own.argmax(-1))
    np.save(folder / "released.npy", released.numpy())
    np.save(folder / "population.npy", around.numpy())
    np.save(folder / "own.npy", own.numpy())
    if more:
        np.save(folder / "views.npy", torch.stack(more, dim=1).numpy())
    # the same rows in a batch of another size may differ in the last digits; noise differs far more
    randomised = not torch.allclose(again, released[:ASKED_TWICE], rtol=1e-3, atol=1e-3)
    modified = not torch.equal(released, own)
    write_json(folder / "result.json", {"randomised": randomised, "modified": modified, "queries": box.queries})


def _check(defense: str, answers: list[Tensor], kept: Tensor) -> None:
    """Raises: `UserError` for answers (N, C) each that no attack can use, or a label that was not kept (P,)."""
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


def _read(trained: Trained, problem: Problem, folder: Path) -> Answers:
    released = _load(folder, "released")[:, None]
    if problem.views > 1:
        released = np.concatenate([released, _load(folder, "views")], axis=1)
    around = _load(folder, "population")[:, None]
    assert trained.population is not None
    found = read_json(folder / "result.json", "randomised", "modified")
    population = Population(trained.population.y, torch.from_numpy(around))
    return Answers(folder, torch.from_numpy(released), population, found["randomised"], found["modified"])


def _load(folder: Path, name: str) -> Any:
    return np.load(folder / f"{name}.npy", allow_pickle=False)
