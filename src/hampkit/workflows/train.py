"""The trained target of a run on disk: weights, states of the releases, and how they came to be."""

from __future__ import annotations

import datetime
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from hampkit.defenses import Models
from hampkit.rng import forked
from hampkit.runs.store import load_tensors, save_tensors, write_json
from hampkit.stats import grouped
from hampkit.types import Dataset, History, Stack
from hampkit.workflows.problem import Problem


def write(problem: Problem, folder: Path) -> None:
    """Train, and keep weights, releases and how they came to be; where rows are in groups also what accuracies are worth."""
    started, clock = datetime.datetime.now(datetime.timezone.utc), time.perf_counter()
    models = problem.defense.fit(problem.task, problem.trainer)
    save_tensors(folder / "stack.safetensors", models.tensors())
    parts = {"train": _members(problem), "val": problem.task.val, "test": problem.test}
    right = {name: _right(problem, models.stack, data) for name, data in parts.items() if data is not None}
    groups = {name: data.group for name, data in parts.items() if data is not None and data.group is not None}
    history = {
        "accuracy": {name: float(hits.mean()) for name, hits in right.items()},
        "sizes": {name: grouped.size_of_rate(right[name], group) for name, group in groups.items()},
        "models": [asdict(h) for h in models.stack.history],
        "facts": models.facts[0] if models.facts else {},
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - clock, 3),
    }
    write_json(folder / "history.json", history)


def read(problem: Problem, folder: Path, history: dict[str, Any]) -> Models:
    """The models that were written; history: what `history.json` holds."""
    groups: dict[str, dict[str, Tensor]] = {"params": {}, "buffers": {}, "state": {}}
    for key, tensor in load_tensors(folder / "stack.safetensors").items():
        kind, _, name = key.partition(".")
        groups[kind][name] = tensor
    with forked(0):
        net = problem.task.net()
    past = tuple(
        History(tuple(h["seeds"]), h["epoch"], tuple(h["val_accuracy"]), h["diverged"]) for h in history["models"]
    )
    return Models(Stack(net, groups["params"], groups["buffers"], past), groups["state"])


def _members(problem: Problem) -> Dataset:
    return problem.task.pool.take(problem.task.members[0].nonzero().squeeze(-1))


def _right(problem: Problem, stack: Stack, data: Dataset) -> Any:
    return (problem.trainer.predict(stack, data.x)[0].argmax(-1) == data.y).numpy()
