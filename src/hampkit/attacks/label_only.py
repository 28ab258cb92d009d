"""The label-only attack: how often the predicted label of noisy copies is right, compared with shadow models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hampkit.attacks.base import Scores, Shadows, SignalAttack, Tier
from hampkit.attacks.bits import bit_scores
from hampkit.attacks.lira import Variance
from hampkit.attacks.probe_attack import ProbeAttack
from hampkit.attacks.probes import NoisyCopies
from hampkit.types import Probe


@dataclass(frozen=True)
class LabelOnly(ProbeAttack):
    """The predicted label of R noisy copies of each example is right more often for members. It needs labels alone, so that no
    release which keeps the predicted label protects against it.

    The signal is the logit ln((c + 1/2) / (R − c + 1/2)) of the number c of right labels. LiRA compares it with that of shadow
    models which were asked about the same copies. ``by=logistic``: a logistic regression for each example, from the R bits to
    membership, fitted on the shadow models.
    """

    name: ClassVar[str] = "label-only"
    paper: ClassVar[str] = "https://arxiv.org/abs/2007.14321"
    reference: ClassVar[str] = "Choquette-Choo et al. 2021, with shadow models"
    tier: ClassVar[Tier] = "label"

    copies: int = 32  # R, half with weak and half with strong noise; images: mirror images and shifts, at most 18
    by: Literal["lira", "logistic"] = "lira"  # how the labels are compared with those of shadow models
    variance: Variance = "auto"  # of the shadow models' signals, see lira-online

    def probe(self) -> Probe:
        return NoisyCopies(self.copies)

    def signal(self, kept: Any) -> Any:
        right = np.asarray(kept) < 0.5
        if self.by == "logistic":
            return right.astype(np.float32)
        return logit_of_count(right.sum(-1, keepdims=True), right.shape[-1])

    def score_signals(self, target: Scores, background: Scores, shadows: Shadows | None) -> Scores:
        if self.by == "lira":
            return super().score_signals(target, background, shadows)
        assert shadows is not None
        bits = np.concatenate(shadows.parts)[np.ix_(shadows.models, shadows.rows)]
        return bit_scores(bits, shadows.membership(), shadows.counted(), target)

    def repeat(self, shadows: Shadows, targets: Sequence[int]) -> Iterator[Scores]:
        if self.by == "lira":
            yield from super().repeat(shadows, targets)
            return
        yield from SignalAttack.repeat(self, shadows.of_probe(self.probe(), self.signal), targets)

    def variance_used(self, inside: NDArray[np.int64], outside: NDArray[np.int64]) -> str:
        return super().variance_used(inside, outside) if self.by == "lira" else ""


def logit_of_count(right: Any, n: float) -> Any:
    """ln((c + 1/2) / (n − c + 1/2)) for c of n, which is finite at 0 and at n.

    >>> float(logit_of_count(16, 32))
    0.0
    """
    c = np.asarray(right, dtype=np.float64)
    return np.log((c + 0.5) / (n - c + 0.5))
