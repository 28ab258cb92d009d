"""The rank attack: the rank of the true label on noisy copies, which a release of the classes' order gives away exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hampkit.attacks.base import Tier
from hampkit.attacks.label_only import logit_of_count
from hampkit.attacks.lira import Variance
from hampkit.attacks.probe_attack import ProbeAttack
from hampkit.attacks.probes import NoisyCopies
from hampkit.types import Probe


@dataclass(frozen=True)
class Rank(ProbeAttack):
    """The true label stands higher among the classes for members, on R noisy copies of each example. HAMP hides confidence, but
    keeps the order of all classes, so that the rank r of the true label (0 for the predicted one) is exact in every answer.

    The signal is the logit ln((R m + 1/2) / (R − R m + 1/2)) of the mean reciprocal rank m = mean 1 / (1 + r). LiRA compares it
    with that of shadow models which were asked about the same copies.
    """

    name: ClassVar[str] = "rank"
    paper: ClassVar[str] = "https://arxiv.org/abs/2404.17399"
    reference: ClassVar[str] = "hampkit; the label-only attack of Aerni et al. 2024, with the ranks of all classes"
    tier: ClassVar[Tier] = "ranks"

    copies: int = 32  # R, half with weak and half with strong noise; images: mirror images and shifts, at most 18
    variance: Variance = "auto"  # of the shadow models' signals, see lira-online

    def probe(self) -> Probe:
        return NoisyCopies(self.copies)

    def signal(self, kept: Any) -> Any:
        reciprocal = (1 / (1 + np.asarray(kept, dtype=np.float64))).sum(-1, keepdims=True)
        return logit_of_count(reciprocal, np.shape(kept)[-1])
