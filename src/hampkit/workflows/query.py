"""The queries to a target that attacks and reports need: its pool in every view, its population, and some rows twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hampkit.attacks import Population
from hampkit.errors import UserError
from hampkit.judging import flags
from hampkit.rng import derive
from hampkit.runs.step import Step
from hampkit.runs.store import read_json, write_json
from hampkit.targets.blackbox import view
from hampkit.targets.probing import ask, check_kept, input_space
from hampkit.targets.trained import Trained
from hampkit.types import Probe
from hampkit.workflows.problem import Problem

REPEATED = 64  # rows that are queried twice


@dataclass(frozen=True)
class Answers:
    """The answers of a target for V views of each of P rows of the pool and for Z rows of the population."""

    folder: Path
    released: Tensor  # (P, V, C) float64
    population: Population
    randomised: bool  # whether a second query gives other answers
    modified: bool  # whether the release changes answers
    constant: bool  # whether the network, before the release, answers all of the pool alike


def query_step(trained: Trained, problem: Problem) -> Step[Answers]:
    """The answers of a target as a step of its run; they depend on the weights and on the pool, which shadow models reduce."""
    views = [problem.views] if problem.views > 1 else []
    return Step(
        "answers",
        [trained.fingerprint, len(trained.pool), *views],
        lambda folder: _write(trained, problem, folder),
        lambda folder: _read(trained, problem, folder),
    )


def probe_step(trained: Trained, problem: Problem, probe: Probe) -> Step[NDArray[np.float32]]:
    """What a probe keeps of a target's answers about its pool, (P, k), as a step of its run."""

    def write(folder: Path) -> None:
        assert trained.population is not None
        box = trained.black_box(probe)
        space = input_space(trained.domain, trained.population.x, trained.pool.x)
        (kept,) = ask([box], probe, trained.pool, space, [derive(problem.recipe.seed, "probe", probe.name)])
        check_kept(kept, probe, problem.recipe.defense.name)
        np.save(folder / "kept.npy", kept)

    key = [trained.fingerprint, len(trained.pool), *probe.key()]
    return Step(f"probes/{probe.name}", key, write, lambda folder: _load(folder, "kept"))


def _write(trained: Trained, problem: Problem, folder: Path) -> None:
    pool, seed = trained.pool, derive(problem.recipe.seed, "query")
    assert trained.population is not None
    box = trained.black_box()
    released = box.query(pool.x, seed)
    again = box.query(pool.x[:REPEATED], derive(seed, "again"))
    own = trained.own_logits
    population = box.query(trained.population.x, derive(seed, "population"))
    views = [box.query(view(pool.x, v), derive(seed, "view", v)) for v in range(1, problem.views)]
    _check(problem.recipe.defense.name, [released, population, *views], released.argmax(-1) == own.argmax(-1))
    np.save(folder / "released.npy", released.numpy())
    np.save(folder / "population.npy", population.numpy())
    np.save(folder / "own.npy", own.numpy())
    if views:
        np.save(folder / "views.npy", torch.stack(views, dim=1).numpy())
    # the last digits may depend on the size of the batch; the difference between two draws of noise is much larger
    randomised = not torch.allclose(again, released[:REPEATED], rtol=1e-3, atol=1e-3)
    modified = not torch.equal(released, own)
    write_json(folder / "result.json", {"randomised": randomised, "modified": modified, "queries": box.queries})


def _check(defense: str, answers: list[Tensor], kept: Tensor) -> None:
    """Check the answers, each (N, C), and that the release kept the predicted label: kept (P,) bool.

    Raises: `UserError`.
    """
    bad = sum(int((~part.isfinite()).any(-1).sum()) for part in answers)
    if bad:
        raise UserError(
            f"{bad} of {sum(map(len, answers))} answers of defense {defense} hold NaN or infinity, and no attack can use them;"
            " correct the release of the defense, then run again"
        )
    if not kept.all():
        raise UserError(
            f"defense {defense} changed the predicted label of {int((~kept).sum())} of {len(kept)} answers: a release must keep"
            " it; correct the release, then run again"
        )


def _read(trained: Trained, problem: Problem, folder: Path) -> Answers:
    released = _load(folder, "released")[:, None]
    if problem.views > 1:
        released = np.concatenate([released, _load(folder, "views")], axis=1)
    others = _load(folder, "population")[:, None]
    assert trained.population is not None
    found = read_json(folder / "result.json", "randomised", "modified")
    population = Population(trained.population.y, torch.from_numpy(others), trained.population.x)
    constant = flags.constant(_load(folder, "own"))
    return Answers(folder, torch.from_numpy(released), population, found["randomised"], found["modified"], constant)


def _load(folder: Path, name: str) -> Any:
    return np.load(folder / f"{name}.npy", allow_pickle=False)
