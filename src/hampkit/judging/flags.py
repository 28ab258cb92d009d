"""When a number cannot be trusted: every flag with its test and its text."""

from __future__ import annotations

from typing import Any

import numpy as np

from hampkit.stats import grouped, metrics
from hampkit.stats.metrics import Interval

FLAGS: dict[str, str] = {
    "unresolved": "Fewer than ten false positives (or negatives) are allowed at the target rate of 0.1 %: with so few "
    "examples, or so few groups where rows are in groups, the number at that rate means little.",
    "tied": "The threshold that would meet the target FPR or FNR of 0.1 % falls inside a group of equal scores: the rate shown "
    "is that of a stricter threshold.",
    "randomised": "The released answers are random: asking again gives other numbers, and an attacker may ask many "
    "times and average.",
    "masked": "The release changes the answers, and an attack that sees nothing but the predicted label beats this one: the "
    "release hides what training still leaks. Judge the model by the label-only attack.",
    "mismatched": "The shadow models were trained in another way than the target: the attack is weaker than it could be.",
    "pooled": "Leave-one-out: the AUCs within single models are higher than that of all pairs pooled, beyond its 95 % interval. "
    "The scores of different targets are not on one scale: pooled rates understate what an attacker of one model finds.",
    "inverted": "The AUC lies below 0.5 beyond a 99.9 % interval: the score points the wrong way for this model, and turned "
    "around it finds what its AUC hides.",
    "shifted": "A classifier that never sees the model tells members from non-members: the two groups differ by "
    "themselves, and an attack may measure that instead of the model.",
    "duplicated": "Rows of other parts of the split have the same features as members: accuracies on them are too high. Every "
    "set of features is judged once, as a member's where a member has it, and never where a reference row has it, unless "
    "judge.copies=keep asks for all rows. Rows that are only nearly the same are not looked for.",
    "overlapping": "The candidates include examples that the attack was fitted on (candidates=all, as in parts of the "
    "published evaluation): the numbers flatter the attack.",
    "untrained": "The model learnt next to nothing, with every seed tried: its numbers mean little for a model that fits "
    "its data, which would give away more.",
    "null": "On shuffled membership this run finds an AUC that differs from 0.5 beyond a 99.9 % interval: something in "
    "the evaluation leaks.",
}
ENOUGH = 10  # false positives (negatives) that a resolved rate allows
STRICT_LEVEL = 0.999  # at 95 %, every twentieth sound run would carry a flag


def resolved(rate: float, n: float) -> bool:
    """Whether an error rate allows at least ten errors among n independent examples or groups.

    >>> resolved(0.001, 10_000), resolved(0.001, 9_999)
    (True, False)
    """
    return metrics.allowed(rate, n) >= ENOUGH


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
    Extremely randomised trees, fitted on at most ``most`` known examples. The target is not queried.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(x))[:most]
    classes = int(max(np.asarray(y).max(), np.asarray(y_new).max())) + 1
    known, labels = _table(x[rows], y[rows], classes), np.asarray(member)[rows]
    if labels.all() or not labels.any():
        return Interval(0.5, 0.0, 1.0), False
    trees = ExtraTreesClassifier(200, min_samples_leaf=5, max_features="sqrt", random_state=int(rng.integers(2**31)))
    scores = trees.fit(known, labels).predict_proba(_table(x_new, y_new, classes))[:, 1]
    surely = grouped.auc_interval(scores, member_new, group_new, STRICT_LEVEL).low > 0.5
    return grouped.auc_interval(scores, member_new, group_new), surely


def _table(x: Any, y: Any, classes: int) -> np.ndarray:
    """(N, features + classes): inputs and labels, a column per class, as classes have no order."""
    return np.c_[np.asarray(x, dtype=np.float32).reshape(len(x), -1), np.eye(classes, dtype=np.float32)[np.asarray(y)]]
