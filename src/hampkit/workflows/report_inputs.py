"""What a report shows beside the results: curves, histograms, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hampkit import signals
from hampkit.judging.evaluate import Case
from hampkit.runs.store import read_json
from hampkit.stats import metrics
from hampkit.targets.trained import ShadowSet, Trained


def describe(
    trained: Trained, case: Case, scores: Mapping[str, Any], answers: Path, shadowed: ShadowSet | None = None
) -> dict[str, Any]:
    problem = trained.problem
    member, y = problem.task.members[0].numpy(), problem.task.pool.y.numpy()
    losses = {
        part: signals.loss(np.load(answers / f"{part}.npy", allow_pickle=False), y) for part in ("own", "released")
    }
    top = float(np.quantile(np.concatenate(list(losses.values())), 0.99)) or 1.0
    edges = np.linspace(0, top, 31)
    env = read_json(trained.run.folder / "env.json", "python", "versions", "device", "git")
    return {
        "curves": {name: _curve(s, case.member) for name, s in scores.items()},
        "histogram": {
            "signal": "loss",
            "unit": "nats",
            "before": _histogram(losses["own"], member, edges),
            "after": _histogram(losses["released"], member, edges),
        },
        "release": problem.defense.release(trained.models.state_of(0), problem.dataset.domain).about,
        "provenance": {
            "recipe": {
                **problem.recipe.training(),
                "judge": asdict(problem.recipe.judge),
                "attacks": {name: dict(options) for name, options in problem.recipe.attacks.items()},
            },
            "versions": {"python": env["python"], **env["versions"]},
            "device": env["device"],
            "git": env["git"],
            "seeds": [s for h in trained.models.stack.history for s in h.seeds],
            "started": trained.history["started"],
            "seconds": trained.history["seconds"],
            "shadows": None if shadowed is None else {"name": shadowed.name, "differences": list(shadowed.differences)},
        },
    }


def _curve(scores: Any, member: Any, most: int = 500) -> dict[str, list[float]]:
    """The corners of a ROC, thinned to a number that a page can hold: evenly in both rates and in their logarithms."""
    fpr, tpr = metrics.roc(scores, member)
    turn = np.r_[True, (np.diff(fpr)[1:] * np.diff(tpr)[:-1] != np.diff(fpr)[:-1] * np.diff(tpr)[1:]), True]
    fpr, tpr = fpr[turn], tpr[turn]
    if len(fpr) > most:
        floor = np.log(np.clip(fpr, 1e-6, 1)) - np.log(1e-6)
        travelled = np.cumsum(
            np.r_[0, np.abs(np.diff(fpr)) + np.abs(np.diff(tpr)) + np.abs(np.diff(floor)) / floor[-1]]
        )
        keep = np.unique(np.searchsorted(travelled, np.linspace(0, travelled[-1], most)).clip(0, len(fpr) - 1))
        fpr, tpr = fpr[keep], tpr[keep]
    return {"fpr": np.round(fpr, 6).tolist(), "tpr": np.round(tpr, 6).tolist()}


def _histogram(values: Any, member: Any, edges: Any) -> dict[str, list[float]]:
    """Counts per bin; what lies beyond the last edge is counted in the last bin."""
    inside = np.clip(values, edges[0], edges[-1])
    counts = {
        name: np.histogram(inside[rows], edges)[0].tolist()
        for name, rows in (("members", member), ("nonmembers", ~member))
    }
    return {"edges": np.round(edges, 6).tolist(), **counts}
