"""An audit of score files against the published way of judging them: one record and one threshold after the other.

    python -m benchmarks.score_files [--data-dir DIR] [--out DIR]

Trains a model of Location30 without defense and 16 shadow models, writes their scores in the layout of HAMP's artifact, audits
the files with ``hampkit audit --scores``, and prints the numbers of both. Takes two to four minutes on one core.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

import hampkit
from hampkit import signals
from hampkit.workflows.prepare import prepare
from hampkit.workflows.session import Session
from hampkit.workflows.shadow import shadow, train_shadow_models
from hampkit.workflows.train import train

MODELS = 16
OPTIONS = {  # the audit as published: every record is judged, rates stay below their targets, medians
    "judge.candidates": "all",
    "judge.strict": True,
    "lira-online.variance": "per-example",
    "lira-online.center": "median",
}
Numbers = tuple[float, float, float]  # TPR at 0.1 % FPR, TNR at 0.1 % FNR, AUC


def write_artifact(folder: Path, scores: Any, keep: Any, labels: Any = None) -> Path:
    """The scores (M, N) and masks (M, N) of models as HAMP's artifact writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for m, (each, kept) in enumerate(zip(scores, keep, strict=True)):
        np.save(folder / f"{m}_score.npy", each)
        np.save(folder / f"{m}_keep.npy", kept)
    if labels is not None:
        np.save(folder / "shadow_label.npy", labels)
    return folder


def published_online(scores: Any, keep: Any, target: Any, center: Any = np.median) -> NDArray[np.float64]:
    """The online likelihood ratio (N,) by the published rule, a record at a time; higher means member.

    ln N(φ; c_in, s_in) − ln N(φ; c_out, s_out), c the median (``center``) and s the standard deviation of a record's own scores,
    divided by their number. Where records have more models of one kind than others, only the first ones count, as published.
    """
    inside, outside = keep.sum(0).min(), (~keep).sum(0).min()
    found = np.empty(len(target))
    for i, value in enumerate(target):
        in_, out = scores[keep[:, i], i][:inside], scores[~keep[:, i], i][:outside]
        found[i] = norm.logpdf(value, center(in_), np.std(in_) + 1e-30)
        found[i] -= norm.logpdf(value, center(out), np.std(out) + 1e-30)
    return found


def published_sweep(scores: Any, member: Any, rate: float = 0.001) -> Numbers:
    """TPR at the last threshold with an FPR below the rate, TNR at the first with an FNR below it, and the AUC by trapezoids."""
    fpr, tpr = [0.0], [0.0]
    for threshold in np.unique(scores)[::-1]:
        above = scores >= threshold
        fpr.append((above & ~member).sum() / (~member).sum())
        tpr.append((above & member).sum() / member.sum())
    x, y = np.array(fpr), np.array(tpr)
    auc = float(((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum())
    return float(y[np.flatnonzero(x < rate)[-1]]), float(1 - x[np.flatnonzero(1 - y < rate)[0]]), auc


def audited(shadows: Path, target: Path, out: Path) -> Numbers:
    """The same numbers by an audit of the files."""
    found = hampkit.audit(
        scores=shadows, target_scores=target, attacks=["lira-online"], options=OPTIONS, out=out, allow_equal=True
    )
    (attack,) = found.models[0].of("target")
    return attack.tpr_at_fpr[0].value, attack.tnr_at_fnr[0].value, attack.auc.value


def location30(session: Session) -> tuple[Any, Any, Any, Any, Any]:
    """Scores (M, N) and masks (M, N) of shadow models, scores (N,) and membership (N,) of the target, and labels (N,)."""
    problem = prepare(hampkit.recipe("location30/undefended", {"shadows.models": MODELS}), session)
    found = train_shadow_models(problem, shadow(problem, session), session)
    trained = train(problem, session)
    y = trained.pool.y.numpy()
    target = signals.scaled_logit(trained.query(trained.pool.x, 0).numpy(), y)
    return np.concatenate([part[:, :, 0] for part in found.parts]), found.members, target, trained.membership, y


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = given.out or Path(scratch)
        scores, keep, target, member, y = location30(Session(out / "runs", given.data_dir))
        shadows = write_artifact(out / "shadows", scores, keep, y)
        aim = write_artifact(out / "target", target[None], member[None])
        both = {
            "published rule": published_sweep(published_online(scores, keep, target), member),
            "hampkit audit": audited(shadows, aim, out / "audit"),
        }
    print(f"{MODELS} shadow models of location30/undefended, {len(y):,} records, {member.sum():,} of them members")
    for name, (tpr, tnr, auc) in both.items():
        print(f"{name}: TPR {tpr:.4%} at 0.1% FPR, TNR {tnr:.4%} at 0.1% FNR, AUC {auc:.6f}")


if __name__ == "__main__":
    main()
