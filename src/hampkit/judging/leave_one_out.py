"""Leave-one-out: every shadow model is the target once, and the others are its shadow models."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hampkit.attacks import Shadows, SignalAttack
from hampkit.errors import UserError
from hampkit.judging.results import FPRS
from hampkit.stats import clustered
from hampkit.stats.metrics import Interval, clopper_pearson
from hampkit.stats.roc import best_threshold

Scores = NDArray[np.float64]
Bools = NDArray[np.bool_]


def repeated_scores(
    attack: SignalAttack,
    shadows: Shadows,
    targets: Sequence[int] | None = None,
    step: Callable[[], None] = lambda: None,
) -> Scores:
    """The scores (T, N) of an attack on T shadow models, each attacked with the others, see `HeldOut`.

    targets: the numbers of the T models; default: all. step is called after each of them.
    Raises: `UserError` if the others are too few for the attack.
    """
    chosen = range(len(shadows)) if targets is None else targets
    scores = np.empty((len(chosen), len(shadows.rows)))
    with _named(attack, shadows):
        for row, found in enumerate(attack.repeat(shadows, chosen)):
            scores[row] = found
            step()
    return scores


def variance_used(attack: SignalAttack, shadows: Shadows, targets: Sequence[int]) -> str:
    """The variance of the scores that the attack used, several if it differs between targets; empty if it needs none."""
    with _named(attack, shadows):
        used = {attack.variance_used(*shadows.held_out.without(t).sizes) for t in targets}
    return ", ".join(sorted(used))


def scores_of(t: int, attack: SignalAttack, shadows: Shadows) -> Scores:
    """The scores (N,) of the attack on model t alone, computed from the start: the reference for tests of `repeated_scores`."""
    with _named(attack, shadows):
        (scores,) = SignalAttack.repeat(attack, shadows, [t])
    return scores


@contextlib.contextmanager
def _named(attack: SignalAttack, shadows: Shadows) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"leave-one-out of {len(shadows)} shadow models, attack {attack.name}: {error}") from None


@dataclass(frozen=True)
class Record:
    """The exposure of one example, from the models that were trained on it (IN) and those that were not (OUT)."""

    row: int  # in the data set
    separation: float  # (mean score of IN − mean of OUT) / their pooled standard deviation
    advantage: Interval  # TPR − FPR of one threshold for all examples
    found: int  # IN models with a score above the threshold of 0.1 % FPR over all pairs
    inside: int
    outside: int


def records(scores: Scores, members: Bools, rows: list[int]) -> list[Record]:
    """A record for each of N examples, most exposed first: by the lower bound of the advantage, then by separation.

    scores, members: (T, N). rows: of the N examples. Examples without an IN or without an OUT model have no record.
    All examples have one threshold, that with the highest balanced accuracy over all pairs: a threshold per example would be
    fitted to its noise. The interval of the advantage is Newcombe's for a difference of two rates, from the exact intervals of
    both. It holds for an example that was chosen beforehand, not for the first of many, which are first partly by chance.
    """
    threshold = best_threshold(scores.ravel(), members.ravel())
    low_rate = clustered.tpr_point(scores, members, FPRS[0]).threshold
    above, far_above = scores >= threshold, scores >= low_rate
    found = []
    for i, row in enumerate(rows):
        m, s = members[:, i], scores[:, i]
        inside, outside = int(m.sum()), int((~m).sum())
        if not inside or not outside:  # few targets, some left out: nothing to compare
            continue
        advantage = _advantage(int(above[m, i].sum()), inside, int(above[~m, i].sum()), outside)
        found.append(Record(row, _separation(s[m], s[~m]), advantage, int(far_above[m, i].sum()), inside, outside))
    return sorted(found, key=lambda r: (-r.advantage.low, -r.separation, r.row))


def _advantage(tp: int, n1: int, fp: int, n0: int) -> Interval:
    p, q = tp / n1, fp / n0
    (p_low, p_high), (q_low, q_high) = clopper_pearson(tp, n1), clopper_pearson(fp, n0)
    below, above = np.hypot(p - p_low, q_high - q), np.hypot(p_high - p, q - q_low)
    return Interval(p - q, float(p - q - below), float(p - q + above))


def _separation(inside: Scores, outside: Scores) -> float:
    freedom = max(len(inside) + len(outside) - 2, 1)
    squares = ((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum()
    return float((inside.mean() - outside.mean()) / max(np.sqrt(squares / freedom), 1e-12))
