"""LiRA (Carlini et al. 2022): is the target's answer more like that of models that saw the example, or of those that did not?

Scores of shadow models on one example are taken as normal, with the median as centre, separately for the models that were
trained on it (IN) and those that were not (OUT). Differs from the published evaluation (protocol Q13, Q14): the fixed
variance of OUT comes from OUT models and is that within examples, not between them; the offline test is one-sided.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hampkit.attacks.base import Scores, Shadows, SignalAttack, blocks, sides
from hampkit.errors import UserError, did_you_mean

Variant = Literal["online", "online-fixed", "offline", "offline-fixed", "global"]
Variance = Literal["auto", "per-example", "pooled", "global"]
Bools = NDArray[np.bool_]

VARIANTS = ("online", "online-fixed", "offline", "offline-fixed", "global")
VARIANCES = ("auto", "per-example", "pooled", "global")
ENOUGH = 32  # models on a side from which on each example gets a variance of its own (Carlini et al.: 64 shadow models)
FLOOR = 1e-6  # of a standard deviation: equal scores of all models are a coincidence, not certainty


def lira_scores(
    shadow_scores: Any,
    shadow_members: Any,
    target_scores: Any,
    variant: Variant = "online",
    variance: Variance = "auto",
    shadow_counts: Any = None,
) -> Scores:
    """Membership scores from the scaled logits φ of M shadow models: (M, N), (M, N) bool, (N,) → (N,), higher means member.

    online          ln N(φ; median_in, sd_in) − ln N(φ; median_out, sd_out)
    offline         logit of Φ((φ − median_out) / sd_out): one-sided, only models that did not see the example
    …-fixed         the same with one standard deviation for all examples
    global          φ itself
    variance: ``per-example`` (population deviation of an example's own scores), ``pooled`` (one, from the deviations within
    examples), ``global`` (published for …-fixed: one, of all scores, so that differences between examples count), ``auto``
    (pooled for …-fixed; else per example from 32 models a side on, pooled below, global where each example has one score).
    shadow_counts: (M, N) bool, whose answer to which example counts; default all.
    Medians and deviations as published. Errors: `UserError` where a side has too few models.

    >>> lira_scores([[0.0], [4.0], [1.0], [5.0]], [[False], [True], [False], [True]], [4.5]).item() > 0
    True
    """
    s, inside, outside, t = _checked(shadow_scores, shadow_members, target_scores, shadow_counts)
    if variant not in VARIANTS:
        raise UserError(f"unknown LiRA variant {variant!r}; {did_you_mean(str(variant), VARIANTS)}")
    if variance not in VARIANCES:
        raise UserError(f"unknown variance {variance!r}; {did_you_mean(str(variance), VARIANCES)}")
    if variant == "global":
        return t
    fixed = variant.endswith("-fixed")
    if fixed and variance == "per-example":
        raise UserError(f"LiRA variant {variant} has one variance for all examples; take variance=pooled or global")
    out = _Side.of(s, outside, variance, fixed, "OUT")
    in_ = None if variant.startswith("offline") else _Side.of(s, inside, variance, fixed, "IN")
    scores = np.empty_like(t)
    for rows in blocks(len(t)):
        part = np.asarray(s[:, rows], dtype=np.float64)
        if in_ is None:
            z = (t[rows] - out.center(part, rows)) / out.deviation(part, rows)
            scores[rows] = _log_cdf(z) - _log_cdf(-z)  # a monotone form of the p-value that never saturates
        else:
            scores[rows] = in_.log_density(t[rows], part, rows) - out.log_density(t[rows], part, rows)
    return scores


@dataclass(frozen=True)
class _Side:
    """The normal distributions of one side: whose scores count, and the one deviation where all examples share it."""

    chosen: Bools  # (M, N)
    counts: NDArray[np.int64]  # (N,) models on this side
    shared: float | None  # None: each example has its own deviation

    @staticmethod
    def of(s: Any, chosen: Bools, variance: str, fixed: bool, name: str) -> _Side:
        counts = chosen.sum(0)
        few, many = int(counts.min(initial=len(s))), int(counts.max(initial=0))
        if few < 1:
            raise UserError(
                f"{int((counts < 1).sum())} of {len(counts)} examples have no {name} model among {len(s)} shadow models;"
                " train more, or take a variant that does not need them"
            )
        if variance == "auto":
            variance = "per-example" if few >= ENOUGH and not fixed else "pooled" if many > 1 else "global"
        if variance != "global" and (few if variance == "per-example" else many) < 2:
            raise UserError(
                f"variance={variance} needs at least 2 {name} models per example; train more, or take variance=global"
            )
        shared = {"per-example": lambda *_: None, "pooled": _within, "global": _overall}[variance](s, chosen, counts)
        return _Side(chosen, counts, shared)

    def center(self, part: Scores, rows: slice) -> Scores:
        """The median of each column; a sort with the others at the end is far quicker than nanmedian."""
        ordered = np.sort(np.where(self.chosen[:, rows], part, np.inf), axis=0)
        counts = self.counts[rows]
        low, high = (np.take_along_axis(ordered, k[None], 0)[0] for k in ((counts - 1) // 2, counts // 2))
        return (low + high) / 2

    def deviation(self, part: Scores, rows: slice) -> Scores:
        if self.shared is not None:
            return np.full(part.shape[1], max(self.shared, FLOOR))
        squares = _squares(part, self.chosen[:, rows], self.counts[rows])
        return np.maximum(np.sqrt(squares / self.counts[rows]), FLOOR)

    def log_density(self, t: Scores, part: Scores, rows: slice) -> Scores:
        deviation = self.deviation(part, rows)
        z = (t - self.center(part, rows)) / deviation
        return -(z**2) / 2 - np.log(deviation) - np.log(2 * np.pi) / 2


def _within(s: Any, chosen: Bools, counts: NDArray[np.int64]) -> float:
    """The pooled standard deviation within examples."""
    squares = sum(
        float(_squares(np.asarray(s[:, rows], dtype=np.float64), chosen[:, rows], counts[rows]).sum())
        for rows in blocks(len(counts))
    )
    return float(np.sqrt(squares / (counts - 1).sum()))


def _overall(s: Any, chosen: Bools, counts: NDArray[np.int64]) -> float:
    """The standard deviation of all chosen scores about their common mean."""
    parts = [(rows, np.asarray(s[:, rows], dtype=np.float64)[chosen[:, rows]]) for rows in blocks(len(counts))]
    mean = sum(float(p.sum()) for _, p in parts) / counts.sum()
    return float(np.sqrt(sum(float(((p - mean) ** 2).sum()) for _, p in parts) / counts.sum()))


def _squares(part: Scores, chosen: Bools, counts: NDArray[np.int64]) -> Scores:
    """The summed squared deviations from the mean of each column."""
    mean = np.where(chosen, part, 0).sum(0) / counts
    return (np.where(chosen, part - mean, 0) ** 2).sum(0)


def _log_cdf(z: Scores) -> Scores:
    from scipy.special import log_ndtr  # SciPy takes a second to import

    return log_ndtr(z)


def _checked(
    shadow_scores: Any, shadow_members: Any, target_scores: Any, shadow_counts: Any
) -> tuple[Any, Bools, Bools, Scores]:
    s, m, t = np.asarray(shadow_scores), np.asarray(shadow_members), np.asarray(target_scores, dtype=np.float64)
    if s.ndim != 2 or m.shape != s.shape or t.shape != s.shape[1:]:
        raise ValueError(f"shadow scores {s.shape}, members {m.shape}, target {t.shape} must be (M, N), (M, N), (N,)")
    if m.dtype != np.bool_:
        raise ValueError(f"shadow members must be bool, not {m.dtype}")
    if not (np.isfinite(t).all() and all(np.isfinite(s[:, rows]).all() for rows in blocks(len(t)))):
        raise ValueError("shadow and target scores must be finite")
    return s, *sides(m, shadow_counts), t


class _Lira(SignalAttack):
    """One variant; several views of an example count as independent, as in the paper's code: their mean score is taken."""

    paper = "https://arxiv.org/abs/2112.03570"
    reference = "Carlini et al. 2022"
    variant: ClassVar[Variant]
    variance: Any  # a field where the variant has a variance

    def compare(self, target: Scores, background: Scores, shadows: Shadows | None) -> Scores:
        assert shadows is not None
        views = [
            lira_scores(
                shadows.signals(v), shadows.membership(), target[:, v], self.variant, self.variance, shadows.counted()
            )
            for v in range(target.shape[1])
        ]
        return np.mean(views, axis=0)


@dataclass(frozen=True)
class LiraOnline(_Lira):
    """Likelihood ratio of the shadow models that saw the example against those that did not."""

    name: ClassVar[str] = "lira-online"
    variant: ClassVar[Variant] = "online"
    variance: Variance = "auto"  # auto: of each example from 32 models a side on, below that pooled over the examples


@dataclass(frozen=True)
class LiraOnlineFixed(_Lira):
    """Likelihood ratio with one variance for all examples: steadier where there are few shadow models."""

    name: ClassVar[str] = "lira-online-fixed"
    variant: ClassVar[Variant] = "online-fixed"
    variance: Variance = "auto"  # pooled: the mean variance within examples; global: of all scores, as published


@dataclass(frozen=True)
class LiraOffline(_Lira):
    """How surprising the answer would be for models that did not see the example: one-sided, no model saw a candidate."""

    name: ClassVar[str] = "lira-offline"
    variant: ClassVar[Variant] = "offline"
    variance: Variance = "auto"


@dataclass(frozen=True)
class LiraOfflineFixed(_Lira):
    """The one-sided test with one variance for all examples."""

    name: ClassVar[str] = "lira-offline-fixed"
    variant: ClassVar[Variant] = "offline-fixed"
    variance: Variance = "auto"


@dataclass(frozen=True)
class LiraGlobal(_Lira):
    """The scaled logit against one threshold for all examples: what the other variants find beyond it, shadow models add."""

    name: ClassVar[str] = "lira-global"
    variant: ClassVar[Variant] = "global"
    variance: ClassVar[Any] = "auto"
