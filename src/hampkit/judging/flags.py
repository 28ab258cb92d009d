"""Flags of numbers that need caution: what each one means, and when it is raised."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hampkit.stats import grouped, metrics
from hampkit.stats.metrics import Interval

FLAGS: dict[str, str] = {
    "few": "At the target rate of 0.1 % fewer than five false positives (or false negatives) are allowed. So few examples "
    "(groups, if rows are in groups) show no rate: the count stands in its place.",
    "unresolved": "At the target rate of 0.1 % only five to nine false positives (or false negatives) are allowed. With so few "
    "examples (groups, if rows are in groups) the rate means little.",
    "tied": "The threshold for the target FPR or FNR of 0.1 % falls into a group of equal scores. The rate shown is that of the "
    "next stricter threshold.",
    "randomised": "The released answers are random: another query gives other numbers, and an attacker may average the answers "
    "to many queries.",
    "masked": "The release changes the answers, and a label-only attack has a higher AUC than this attack: the release hides "
    "what training leaks. Judge the model by the label-only attack.",
    "mismatched": "The shadow models were not trained as the target was: the attack is weaker than it could be.",
    "pooled": "In leave-one-out, the mean AUC within single models is above the 95 % interval of the AUC over all pairs: the "
    "scores of different targets are not on one scale. The rates over all pairs understate what an attacker of one model finds.",
    "inverted": "The AUC is below 0.5, and so is its 99.9 % interval: the attack takes members for non-members. Turned around, "
    "with the AUC 1 − AUC, it finds members.",
    "shifted": "A classifier that never queries the model distinguishes members from non-members: the two groups differ by "
    "themselves, and an attack may measure that difference instead of a leak. Several rows of one person can cause this too: "
    "name their column by --group.",
    "duplicated": "Rows of other parts of the split have the same features as members: accuracies on these parts are too high. "
    "If several rows have the same features, only one of them is judged: a member, if there is one. If a reference row has these "
    "features too, none of them is judged. judge.copies=keep judges all rows. Near copies are not searched for.",
    "overlapping": "The candidates include examples that the attack was fitted on (judge.candidates=all, as in parts of the "
    "published evaluation): the numbers are too high.",
    "untrained": "The model learnt next to nothing with every seed tried. A model that fits its data would leak more.",
    "constant": "The network gives the same answer to every input, whatever was released: it learnt the share of each class at "
    "most. Look for a layer that erases its input, or for a training that collapsed.",
    "null": "On shuffled membership the AUC differs from 0.5 beyond its 99.9 % interval: the evaluation itself leaks. Do not use "
    "these numbers.",
}
LEAST_SHOWN = 5  # a rate is shown if it allows so many false positives (false negatives); below, the count is
LEAST_ERRORS = 10  # and it is resolved if it allows so many
SAMPLING = ("few", "unresolved")  # the flags of too few examples
ROUNDING = (
    1e-5  # of equal answers, relative to the largest logit: several layers round, and batches of other sizes otherwise
)
STRICT_LEVEL = 0.999  # at 95 %, every twentieth sound run would have a flag


def resolved(rate: float, n: float) -> bool:
    """Whether at least ten errors among n independent examples or groups are within the error rate.

    >>> resolved(0.001, 10_000), resolved(0.001, 9_999)
    (True, False)
    """
    return metrics.allowed(rate, n) >= LEAST_ERRORS


def too_few(rate: float, n: float, who: str) -> str:
    """Why a rate at a target FPR or FNR is not shown: fewer than five errors among n independent examples are within it.

    who: the examples, in words. Empty if the rate is shown.

    >>> too_few(0.001, 648, "non-members"), too_few(0.001, 5_000, "non-members")
    ('648 non-members, 5,000 needed', '')
    """
    if metrics.allowed(rate, n) >= LEAST_SHOWN:
        return ""
    return f"{math.floor(n):,} {who}, {math.ceil(LEAST_SHOWN / rate):,} needed"


def constant(logits: Any) -> bool:
    """Whether the answers (N, C) are the same for all inputs, up to rounding of float32.

    Logits are compared less their mean over the classes, because a number that is added to all logits of an answer changes no
    probability.

    >>> constant([[1.0, 2.0], [5.0, 6.0]]), constant([[1.0, 2.0], [1.0, 2.1]])
    (True, False)
    """
    values = np.asarray(logits, dtype=np.float64)
    centred = values - values.mean(axis=1, keepdims=True)
    rounding = ROUNDING * max(1.0, float(np.abs(centred).max())) + 2**-21 * float(np.abs(values).max())
    return bool(np.ptp(centred, axis=0).max() <= rounding)


def masked(scores: Any, label_scores: Any, member: Any, group: Any = None) -> bool:
    """Whether a label-only attack beats this one, beyond the 99.9 % interval of the paired difference of their AUCs."""
    return grouped.auc_difference(label_scores, scores, member, group, STRICT_LEVEL).low > 0


def off_null(scores: Any, member: Any, group: Any = None) -> bool:
    """Whether the 99.9 % interval of the AUC excludes 0.5, given scores on shuffled membership."""
    interval = grouped.auc_interval(scores, member, group, STRICT_LEVEL)
    return not interval.low <= 0.5 <= interval.high


def shift(
    x: Any,
    y: Any,
    member: Any,
    x_new: Any,
    y_new: Any,
    member_new: Any,
    seed: int,
    most: int = 5000,
    group_new: Any = None,
) -> tuple[Interval, bool]:
    """The AUC of a classifier of membership from input and label alone, and whether its 99.9 % interval lies above 0.5.

    x: (K, *shape), y: (K,), member: (K,) of known examples; x_new, y_new, member_new, group_new: (N, …) of the candidates.
    Extremely randomised trees, fitted on at most ``most`` known examples; without inputs (features of size 0) the share of
    members of each class. The target is not queried.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(x))[:most] if np.size(x) else np.arange(len(x))
    known = np.asarray(x)[rows], np.asarray(y)[rows], np.asarray(member)[rows]
    if known[2].all() or not known[2].any():
        return Interval(0.5, 0.0, 1.0), False
    scores = _by_tree(known, x_new, y_new, int(rng.integers(2**31))) if np.size(x) else _by_class(*known[1:], y_new)
    surely = grouped.auc_interval(scores, member_new, group_new, STRICT_LEVEL).low > 0.5
    return grouped.auc_interval(scores, member_new, group_new), surely


def _by_tree(known: tuple[np.ndarray, np.ndarray, np.ndarray], x: Any, y: Any, seed: int) -> np.ndarray:
    """The probability of membership (N,) by extremely randomised trees, fitted on inputs, labels and membership."""
    from sklearn.ensemble import ExtraTreesClassifier

    inputs, labels, member = known
    classes = int(max(labels.max(), np.asarray(y).max())) + 1
    trees = ExtraTreesClassifier(200, min_samples_leaf=5, max_features="sqrt", random_state=seed)
    return trees.fit(_table(inputs, labels, classes), member).predict_proba(_table(x, y, classes))[:, 1]


def _by_class(labels: np.ndarray, member: np.ndarray, y: Any) -> np.ndarray:
    """The share of members (N,) among the known examples of each one's class, with one of each kind added."""
    classes = int(max(labels.max(), np.asarray(y).max())) + 1
    of_class, inside = (np.bincount(each, minlength=classes) for each in (labels, labels[member.astype(bool)]))
    return ((inside + 1) / (of_class + 2))[np.asarray(y)]


def _table(x: Any, y: Any, classes: int) -> np.ndarray:
    """(N, features + classes): inputs and labels, a column per class, as classes have no order."""
    return np.c_[np.asarray(x, dtype=np.float32).reshape(len(x), -1), np.eye(classes, dtype=np.float32)[np.asarray(y)]]
