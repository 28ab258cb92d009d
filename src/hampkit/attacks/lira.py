"""LiRA (Carlini et al. 2022): a likelihood ratio of the target's answer under IN models against OUT models.

The scores of shadow models on one example are modelled as normal, separately for the models that were trained on it (IN) and
those that were not (OUT). This differs from the published evaluation (protocol Q13, Q14) in three ways: the fixed variance of
OUT is that of OUT models within examples, the offline test is one-sided, and the center is the mean, not the median.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hampkit.attacks.base import Scores, Shadows, ShadowScores, SignalAttack
from hampkit.attacks.held_out import HeldOut, blocks, sides
from hampkit.errors import UserError, did_you_mean
from hampkit.stats import moderated

Variant = Literal["online", "online-fixed", "offline", "offline-fixed", "global"]
Variance = Literal["auto", "per-example", "pooled", "global", "moderated"]
Center = Literal["mean", "median"]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

VARIANTS = ("online", "online-fixed", "offline", "offline-fixed", "global")
VARIANCES = ("auto", "per-example", "pooled", "global", "moderated")
CENTERS = ("mean", "median")
PER_EXAMPLE = (
    32  # models on a side from which each example gets a variance of its own (Carlini et al.: 64 shadow models)
)
FLOOR = 1e-6  # lowest standard deviation: equal scores of all models are a coincidence


def lira_scores(shadows: ShadowScores, target_scores: Any, options: LiraOptions | None = None) -> Scores:
    """Scores (N,) from the scaled logits φ of M shadow models (M, N) and of a target (N,), higher means member.

    options: default `LiraOptions()`.
    Raises: `UserError` for too few models on a side.

    >>> shadows = ShadowScores([[0.0], [4.0], [1.0], [5.0]], [[False], [True], [False], [True]])
    >>> lira_scores(shadows, [4.5]).item() > 0
    True
    """
    options = options or LiraOptions()
    s, inside, outside, t = _checked(shadows, target_scores)
    if options.variant == "global":
        return t
    fitted = []
    for chosen, name in ((outside, "OUT"), (inside, "IN"))[: 1 if options.offline else 2]:
        counts = chosen.sum(0)
        used = options.variance_of(counts, name, len(s))
        fitted.append(_distribution(_side(s, chosen, counts, options), used, options))
    return _compared(t, *fitted)


@dataclass(frozen=True)
class LiraOptions:
    """A variant of LiRA and its options.

    variant:
    online    ln N(φ; center_in, sd_in) − ln N(φ; center_out, sd_out)
    offline   logit of Φ((φ − center_out) / sd_out): one-sided, with OUT models only
    …-fixed   the same with one standard deviation for all examples
    global    φ
    variance: ``per-example``, of an example's own scores (divided by their number); ``pooled``, one from the deviations within
    examples; ``global``, one of all scores, differences between examples included (published for …-fixed); ``moderated``, per
    example but shrunk towards a common value, with Student's distribution; ``auto``, pooled for …-fixed, else per-example from
    32 models on each side, pooled below, and global if each example has one score.
    center: ``mean``, or ``median`` as published, which finds less with few models (docs/shadow-attacks.md).
    Raises: `UserError` for unknown options and for options that exclude each other.
    """

    variant: Variant = "online"
    variance: Variance = "auto"
    center: Center = "mean"

    def __post_init__(self) -> None:
        for word, value, choices in (
            ("LiRA variant", self.variant, VARIANTS),
            ("variance", self.variance, VARIANCES),
            ("center", self.center, CENTERS),
        ):
            if value not in choices:
                raise UserError(f"unknown {word} {value!r}; {did_you_mean(str(value), choices)}")
        if self.fixed and self.variance in ("per-example", "moderated"):
            raise UserError(
                f"LiRA variant {self.variant} has one variance for all examples; take variance=pooled or global, or the"
                f" variant {self.variant.removesuffix('-fixed')} for variance={self.variance}"
            )

    @property
    def fixed(self) -> bool:
        return self.variant.endswith("-fixed")

    @property
    def offline(self) -> bool:
        return self.variant.startswith("offline")

    @property
    def by_mean(self) -> bool:
        return self.center == "mean"

    def variance_of(self, counts: Ints, name: str, n_models: int | None = None) -> str:
        """The variance for a side with these numbers of models per example (N,).

        name (IN or OUT) and n_models (of both sides) are for the message.
        Raises: `UserError` for too few models.
        """
        few, many = int(counts.min(initial=2**31)), int(counts.max(initial=0))
        if few < 1:
            raise UserError(
                f"{int((counts < 1).sum())} of {len(counts)} examples have no {name} model among {n_models or 'the'} shadow"
                " models; take more (--shadows), or a variant that does not need them"
            )
        if self.variance == "auto":
            return "per-example" if few >= PER_EXAMPLE and not self.fixed else "pooled" if many > 1 else "global"
        if self.variance != "global" and (few if self.variance == "per-example" else many) < 2:
            raise UserError(
                f"lira-{self.variant}.variance={self.variance} needs at least 2 {name} models per example; take more"
                f" shadow models (--shadows 6 or more), or lira-{self.variant}.variance=global"
            )
        return self.variance


@dataclass(frozen=True)
class _Side:
    """Statistics of the scores of one side: per example (N,), or per left-out model and example (M, N)."""

    counts: Ints  # models
    mean: Scores
    squares: Scores  # summed squared deviations from the mean
    median: Scores | None = None  # only if it is the center

    def of(self, rows: Ints, counts: Ints, whole: _Side) -> _Side:
        """From (M, N): for each example the side (N,) without the model in rows (N,), and ``whole`` if that is −1."""
        columns = np.arange(len(rows))
        pairs = zip(self.statistics(), whole.statistics(), strict=True)
        return _Side(counts, *(np.where(rows < 0, all_, each[rows, columns]) for each, all_ in pairs))

    def part(self, rows: slice) -> _Side:
        return _Side(self.counts[rows], *(all_[rows] for all_ in self.statistics()))

    def statistics(self) -> tuple[Scores, ...]:
        return (self.mean, self.squares) if self.median is None else (self.mean, self.squares, self.median)


@dataclass(frozen=True)
class _Distribution:
    """The distribution of the scores of one side, per example: normal or Student's."""

    center: Scores  # (N,)
    scale: Any  # a number or (N,)
    freedom: Any = np.inf  # of Student's distribution, a number or (N,); ∞: normal

    def log_density(self, t: Scores) -> Scores:
        """The logarithm of the density at t (N,)."""
        return moderated.log_density((t - self.center) / self.scale, self.freedom) - np.log(self.scale)

    def logit(self, t: Scores) -> Scores:
        """ln F(t) − ln(1 − F(t)) for t (N,), which does not saturate as the p-value does."""
        return moderated.logit_cdf((t - self.center) / self.scale, self.freedom)


def _distribution(side: _Side, variance: str, options: LiraOptions) -> _Distribution:
    center = side.mean if side.median is None else side.median
    if variance == "moderated":
        prior = moderated.fit(side.squares, side.counts - 1)
        variances = prior.variances(side.squares, side.counts - 1)
        wider = 1 + (1 if options.by_mean else np.pi / 2) / side.counts  # the center is uncertain too
        scale = np.sqrt(variances * wider)
        return _Distribution(center, np.maximum(scale, FLOOR), prior.freedom + side.counts - 1)
    if variance == "per-example":
        scale = np.sqrt(side.squares / side.counts)
    elif variance == "pooled":
        scale = np.sqrt(side.squares.sum() / (side.counts - 1).sum())
    else:
        of = side.counts.sum()
        between = side.mean - (side.counts * side.mean).sum() / of
        scale = np.sqrt((side.squares.sum() + (side.counts * between**2).sum()) / of)
    return _Distribution(center, np.maximum(scale, FLOOR))


def _compared(t: Scores, out: _Distribution, in_: _Distribution | None = None) -> Scores:
    return out.logit(t) if in_ is None else in_.log_density(t) - out.log_density(t)


def _side(s: Any, chosen: Bools, counts: Ints, options: LiraOptions) -> _Side:
    """The statistics (N,) of the chosen scores of each example: (M, N), (M, N) bool, (N,) → (N,) each."""
    found = np.empty((2 if options.by_mean else 3, len(counts)))
    for rows in blocks(len(counts)):
        part, those, n = np.asarray(s[:, rows], dtype=np.float64), chosen[:, rows], np.maximum(counts[rows], 1)
        mean = np.where(those, part, 0).sum(0) / n
        found[:2, rows] = mean, (np.where(those, part - mean, 0) ** 2).sum(0)
        if not options.by_mean:
            found[2, rows] = _median(_sorted(part, those), n)
    return _Side(counts, *found)


def _sorted(part: Scores, chosen: Bools) -> Scores:
    """The chosen scores of each column in order, then ∞: (M, b) → (M, b). Much faster than `numpy.nanmedian`."""
    return np.sort(np.where(chosen, part, np.inf), axis=0)


def _median(ordered: Scores, counts: Ints) -> Scores:
    low, high = (_at(ordered, k) for k in ((counts - 1) // 2, counts // 2))
    return (low + high) / 2


def _at(ordered: Scores, place: Ints) -> Scores:
    """The entry of each column (M, b) at a place (b,): (b,)."""
    return ordered[np.clip(place, 0, len(ordered) - 1), np.arange(len(place))]


def _each_left_out(s: Any, held_out: HeldOut, options: LiraOptions) -> tuple[_Side, _Side, _Side]:
    """The side that each model is on, without that model (M, N), and both whole sides (N,), IN and OUT.

    If the answer of a model is not used, its side is the whole one.
    """
    members, both = held_out.members, sides(held_out.members, held_out.counted)
    inside, outside = (_side(s, chosen, counts, options) for chosen, counts in zip(both, held_out.sizes, strict=True))
    each = [np.empty(members.shape) for _ in inside.statistics()]
    for rows in blocks(members.shape[1], 512):
        part, member = np.asarray(s[:, rows], dtype=np.float64), members[:, rows]
        found = [_without_each(part, both[k][:, rows], side.part(rows)) for k, side in enumerate((inside, outside))]
        for k, (in_, out) in enumerate(zip(*found, strict=True)):
            each[k][:, rows] = np.where(member, in_, out)
    return _Side(np.empty(0, dtype=np.int64), *each), inside, outside


def _without_each(part: Scores, chosen: Bools, whole: _Side) -> list[Scores]:
    """The statistics of each column without each of its chosen scores: (M, b), (M, b) bool, (b,) → (M, b) each.

    The squares become squares − n / (n − 1) · (x − mean)². For the score farthest from the mean this would cancel, because that
    score may make up nearly all of the sum: there the statistics are computed anew.
    """
    counts, columns = whole.counts, np.arange(part.shape[1])
    left = np.maximum(counts - 1, 1)
    deviation = np.where(chosen, part - whole.mean, 0)
    mean, squares = whole.mean - deviation / left, whole.squares - deviation**2 * (counts / left)
    far = np.abs(deviation).argmax(0)
    rest = chosen.copy()
    rest[far, columns] = False
    far_mean = np.where(rest, part, 0).sum(0) / left
    far_squares = (np.where(rest, part - far_mean, 0) ** 2).sum(0)
    there = chosen[far, columns]
    mean[far[there], columns[there]], squares[far[there], columns[there]] = far_mean[there], far_squares[there]
    if whole.median is None:
        return [mean, squares]
    return [mean, squares, np.where(chosen, _median_without_each(part, chosen, counts), whole.median)]


def _median_without_each(part: Scores, chosen: Bools, counts: Ints) -> Scores:
    """The medians of each column without each of its scores, from one sort: (M, b). All scores above it move down by one."""
    ordered = _sorted(part, chosen)
    low, high = (
        np.where(part <= _at(ordered, k), _at(ordered, k + 1), _at(ordered, k))
        for k in ((counts - 2) // 2, (counts - 1) // 2)
    )
    return (low + high) / 2


def _repeated(s: Any, held_out: HeldOut, targets: Sequence[int], options: LiraOptions) -> Iterator[Scores]:
    """For each target its scores (N,), attacked by the other models, from statistics that are computed once."""
    if options.variant == "global":
        yield from (np.asarray(s[t], dtype=np.float64) for t in targets)
        return
    each, *whole = _each_left_out(s, held_out, options)
    for t in targets:
        fitted, left = [], held_out.without(t)
        for name, k in (("OUT", 1), ("IN", 0))[: 1 if options.offline else 2]:
            used = options.variance_of(left.sizes[k], name, int(left.used.sum()))
            fitted.append(_distribution(each.of(left.rows[k], left.sizes[k], whole[k]), used, options))
        yield _compared(np.asarray(s[t], dtype=np.float64), *fitted)


def _checked(shadows: ShadowScores, target_scores: Any) -> tuple[Any, Bools, Bools, Scores]:
    """The scores (M, N), the used IN and OUT models (M, N) bool each, and the target's scores (N,)."""
    s, m, t = np.asarray(shadows.scores), np.asarray(shadows.members), np.asarray(target_scores, dtype=np.float64)
    if s.ndim != 2 or m.shape != s.shape or t.shape != s.shape[1:]:
        raise ValueError(f"shadow scores {s.shape}, members {m.shape}, target {t.shape} must be (M, N), (M, N), (N,)")
    if m.dtype != np.bool_:
        raise ValueError(f"shadow members must be bool, not {m.dtype}")
    if not (np.isfinite(t).all() and all(np.isfinite(s[:, rows]).all() for rows in blocks(len(t)))):
        raise ValueError("shadow and target scores must be finite")
    return s, *sides(m, shadows.counts), t


class _Lira(SignalAttack):
    """One variant. Several views of an example count as independent, as in the paper's code: the score is their mean."""

    paper = "https://arxiv.org/abs/2112.03570"
    reference = "Carlini et al. 2022"
    variant: ClassVar[Variant]
    variance: Any  # pooled: one, the mean of the variances within examples; global: one, of all scores, published for …-fixed;
    # moderated: per example, shrunk (not …-fixed); auto: per-example from 32 models a side on (not …-fixed), else pooled, or
    # global where a side has one model
    center: Any  # of the scores of each side; median: as published

    def __post_init__(self) -> None:
        _ = self._options()

    def score_signals(self, target: Scores, background: Scores, shadows: Shadows | None) -> Scores:
        assert shadows is not None
        options = self._options()
        views = [lira_scores(shadows.scores(v), target[:, v], options) for v in range(target.shape[1])]
        return np.mean(views, axis=0)

    def repeat(self, shadows: Shadows, targets: Sequence[int]) -> Iterator[Scores]:
        views = [
            _repeated(shadows.signals(v), shadows.held_out, targets, self._options()) for v in range(shadows.views())
        ]
        for scores in zip(*views, strict=True):
            yield np.mean(scores, axis=0)

    def variance_used(self, inside: Ints, outside: Ints) -> str:
        options, of = self._options(), (("OUT", outside), ("IN", inside))
        used = [options.variance_of(counts, name) for name, counts in of[: 1 if options.offline else 2]]
        return "" if options.variant == "global" else " and ".join(sorted(set(used)))

    def _options(self) -> LiraOptions:
        return LiraOptions(self.variant, self.variance, self.center)


@dataclass(frozen=True)
class LiraOnline(_Lira):
    """Likelihood ratio of the answer under IN models, trained on the example, against OUT models."""

    name: ClassVar[str] = "lira-online"
    variant: ClassVar[Variant] = "online"
    variance: Variance = "auto"
    center: Center = "mean"


@dataclass(frozen=True)
class LiraOnlineFixed(_Lira):
    """Likelihood ratio with one variance for all examples, which is more stable with few shadow models."""

    name: ClassVar[str] = "lira-online-fixed"
    variant: ClassVar[Variant] = "online-fixed"
    variance: Variance = "auto"
    center: Center = "mean"


@dataclass(frozen=True)
class LiraOffline(_Lira):
    """One-sided test of the answer under OUT models, for an adversary without models trained on a candidate."""

    name: ClassVar[str] = "lira-offline"
    variant: ClassVar[Variant] = "offline"
    variance: Variance = "auto"
    center: Center = "mean"


@dataclass(frozen=True)
class LiraOfflineFixed(_Lira):
    """The one-sided test with one variance for all examples."""

    name: ClassVar[str] = "lira-offline-fixed"
    variant: ClassVar[Variant] = "offline-fixed"
    variance: Variance = "auto"
    center: Center = "mean"


@dataclass(frozen=True)
class LiraGlobal(_Lira):
    """The scaled logit with one threshold for all examples: the baseline that shows what shadow models add."""

    name: ClassVar[str] = "lira-global"
    variant: ClassVar[Variant] = "global"
    variance: ClassVar[Any] = "auto"
    center: ClassVar[Any] = "mean"
