"""Training of a run's target: weights, state of the release, accuracies, history."""

from __future__ import annotations

import datetime
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hampkit.config.content import file_hash
from hampkit.runs.locks import locked
from hampkit.runs.run_files import RunContent, complete, write_run
from hampkit.runs.step import Step
from hampkit.runs.store import Run, read_json, save_tensors, write_json
from hampkit.stats import grouped
from hampkit.targets.trained import Trained, read_models
from hampkit.training.threads import threads
from hampkit.types import Dataset, Stack
from hampkit.workflows.problem import Problem
from hampkit.workflows.session import Session

TARGET = "models/000-000"


def train(problem: Problem, session: Session) -> Trained:
    """The target of a problem, which is trained if it is missing."""
    with locked(session.runs_dir, problem.folder, session.wait), threads(problem.recipe.train.threads):
        return train_locked(problem, create(problem, session))


def train_locked(problem: Problem, run: Run) -> Trained:
    """The target of a run, which is trained if it is missing. The lock of the run must be held.

    A training that fails leaves no folder behind in which nothing was finished.
    """
    try:
        return target_step(problem, run).of(run)
    except Exception:
        run.remove_without_steps()
        raise


def create(problem: Problem, session: Session) -> Run:
    """The run of a problem, which is made if it does not exist. Its lock must be held."""
    content = content_of(problem)
    run = Run.create(session.runs_dir, problem.folder, lambda folder: write_run(content, folder))
    complete(content, run.folder)  # files that were deleted or damaged since; they follow from the recipe
    return run


def content_of(problem: Problem) -> RunContent:
    """The content of the files of a problem's run folder."""
    rows = {name: problem.table.rows(name).numpy() for name in problem.table.segments}
    return RunContent(problem.recipe, rows, problem.task.seeds, problem.trainer.device)


def target_step(problem: Problem, run: Run) -> Step[Trained]:
    """The trained target as a step of its run."""
    return Step(TARGET, None, lambda folder: _write(problem, folder), lambda folder: _read(problem, run, folder))


def _write(problem: Problem, folder: Path) -> None:
    """Train the target and write its weights and history; "sizes": effective numbers of rows of accuracies with groups."""
    started, start = datetime.datetime.now(datetime.timezone.utc), time.perf_counter()
    pool = problem.task.pool
    models = problem.defense.fit(problem.task, problem.trainer)
    save_tensors(folder / "stack.safetensors", models.tensors())
    parts = {"train": pool.take(problem.task.rows(0)), "val": problem.task.val, "test": problem.test}
    right = {name: _right(problem, models.stack, data) for name, data in parts.items() if data is not None}
    groups = {name: data.group for name, data in parts.items() if data is not None and data.group is not None}
    history = {
        "accuracy": {name: float(hits.mean()) for name, hits in right.items()},
        "sizes": {name: grouped.size_of_rate(right[name], group) for name, group in groups.items()},
        "models": [asdict(h) for h in models.stack.history],
        "facts": models.facts[0] if models.facts else {},
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - start, 3),
    }
    write_json(folder / "history.json", history)


def _read(problem: Problem, run: Run, folder: Path) -> Trained:
    history = read_json(folder / "history.json")
    return Trained(
        run=run,
        title=problem.recipe.title,
        fingerprint=file_hash(folder / "stack.safetensors"),
        models=read_models(problem.task, folder, history),
        defense=problem.defense,
        trainer=problem.trainer,
        domain=problem.dataset.domain,
        pool=problem.task.pool,
        membership=problem.task.members[0].numpy(),
        population=problem.population(),
        test=problem.test,
        accuracy={name: history["accuracy"][name] for name in ("train", "val", "test")},
        history=history,
    )


def _right(problem: Problem, stack: Stack, data: Dataset) -> NDArray[np.bool_]:
    """(n,) whether the network, without the release, predicts the label."""
    return (problem.trainer.predict(stack, data.x)[0].argmax(-1) == data.y).numpy()
