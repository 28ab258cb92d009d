"""What a report shows beside the results: curves, histograms, provenance, and the difference of two models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hampkit import signals
from hampkit.config.content import content_hash
from hampkit.config.recipe import Recipe
from hampkit.errors import UserError
from hampkit.judging.results import ModelResult
from hampkit.runs.environment import ENVIRONMENT
from hampkit.runs.store import Run, read_json
from hampkit.shadow_models.base import ShadowSet
from hampkit.stats import grouped, metrics
from hampkit.stats.metrics import Interval
from hampkit.targets.trained import Trained
from hampkit.workflows.scores import read_scores


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found, as it was while the run's lock was held: another process may replace the files later."""

    run: Run
    result: ModelResult
    details: dict[str, Any]  # what a report shows beside the result: curves, histograms, provenance


def describe(target: Trained, recipe: Recipe, answers: Path, shadow_set: ShadowSet | None) -> dict[str, Any]:
    """The losses before and after the release, and where the model comes from."""
    env = read_json(target.folder / "env.json", *ENVIRONMENT)
    return {
        "histogram": _losses(target, answers),
        "release": target.black_box().about,
        "provenance": {
            "recipe": {
                **recipe.training(),
                "judge": asdict(recipe.judge),
                "attacks": {name: dict(options) for name, options in recipe.attacks.items()},
            },
            "versions": {"python": env["python"], **env["versions"]},
            "device": env["device"],
            "git": env["git"],
            "seeds": [s for h in target.models.stack.history for s in h.seeds],
            "started": target.history["started"],
            "seconds": target.history["seconds"],
            "file": str(recipe.data.options.get("file") or ""),
            "shadows": shadow_set and {"name": shadow_set.name, "differences": list(shadow_set.differences)},
        },
    }


def _losses(target: Trained, answers: Path) -> dict[str, Any]:
    """Histograms of the loss −ln p_y of members and non-members, before and after the release.

    The bins have equal widths in ln p_y − ln(1 − p_y), so that losses near 0 differ visibly: members and non-members often
    differ in the tenth digit of p_y. Edges are in this scaled logit.
    """
    y = target.pool.y.numpy()
    losses = {
        part: signals.scaled_logit(np.load(answers / f"{part}.npy", allow_pickle=False), y)
        for part in ("own", "released")
    }
    edges = _edges(np.concatenate(list(losses.values())))
    return {
        "signal": "loss",
        "scale": "logit",
        "before": _histogram(losses["own"], target.membership, edges),
        "after": _histogram(losses["released"], target.membership, edges),
    }


def answer_histogram(logits: Any, y: Any, member: Any) -> dict[str, Any]:
    """A histogram of the loss of a model's answers (P, C) as they are, as `_losses` has one before and one after a release."""
    values = signals.scaled_logit(logits, y)
    return {"signal": "loss", "scale": "logit", "before": _histogram(values, member, _edges(values))}


def curve(scores: Any, member: Any, most: int = 500) -> dict[str, list[float]]:
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


def _edges(values: Any) -> Any:
    """The edges of 40 bins that hold all but the outermost hundredth."""
    low, high = np.quantile(values, (0.005, 0.995))
    return np.linspace(low, high, 41) if high > low else np.linspace(low - 1, low + 1, 3)


def _histogram(values: Any, member: Any, edges: Any) -> dict[str, list[float]]:
    """Counts per bin; what lies beyond the first or last edge is counted in the first or last bin."""
    inside = np.clip(values, edges[0], edges[-1])
    counts = {
        name: np.histogram(inside[rows], edges)[0].tolist()
        for name, rows in (("members", member), ("nonmembers", ~member))
    }
    return {"edges": np.round(edges, 6).tolist(), **counts}


def paired_difference(
    a: Evaluated, b: Evaluated, attack_a: str, attack_b: str, levels: Sequence[float] = (0.95,)
) -> list[Interval]:
    """AUC of one attack on one model minus that of another on a second model, paired, with an interval for each level.

    Empty where the candidates differ.
    """
    files = [read_scores(model.run, model.details["scores"][name]) for model, name in ((a, attack_a), (b, attack_b))]
    (first, second), members = ([f["scores"] for f in files], [f["member"] for f in files])
    if not np.array_equal(*members) or len({_same_split(model) for model in (a, b)}) > 1:
        return []
    return [grouped.auc_difference(first, second, members[0], group_of(files[0]), level) for level in levels]


def group_of(scores: Any) -> Any:
    """The groups of an attack's scores.npz, None where its rows are in none."""
    return scores.get("group")


def _same_split(model: Evaluated) -> str:
    recipe, judged = model.run.recipe(), model.details["provenance"]["recipe"]["judge"]
    return content_hash([recipe["data"], recipe["split"], recipe["seed"], judged])


def with_checksum(details: dict[str, Any]) -> dict[str, Any]:
    """The content of details.json: the details, and their hash, by which a change is noticed."""
    return {**details, "checksum": content_hash(details)}


def details(run: Run) -> dict[str, Any]:
    """What a report shows beside the result: curves, histograms, provenance.

    Raises: `UserError` for a file that was changed after it was written.
    """
    found = read_json(run.folder / "details.json", "curves", "scores", "provenance")
    kept = {key: value for key, value in found.items() if key != "checksum"}
    if found.get("checksum") != content_hash(kept) or "result" not in kept:
        raise UserError(
            f"{run.folder / 'details.json'} was edited, or written by an earlier version: its content has another checksum;"
            f" attack again: hampkit attack {run.folder}"
        )
    return found


def details_of(run: Run, document: Any) -> dict[str, Any]:
    """The details of the run's result, given as its file holds it.

    Raises: `UserError` if they are of another result: details.json has the checksum of result.json.
    """
    found = details(run)
    if found["result"] != content_hash(document):
        raise UserError(
            f"result.json of {run.folder} was edited, or belongs to another attack than details.json, as the last one was"
            f" interrupted or is still running; attack again: hampkit attack {run.folder}"
        )
    return found
