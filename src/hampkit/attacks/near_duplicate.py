"""The near-duplicate attack: the neighbours of an example are asked about, of which the answers carry its label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hampkit.attacks.lira import Variance
from hampkit.attacks.probe_attack import ProbeAttack
from hampkit.attacks.probes import Neighbours
from hampkit.types import Probe


@dataclass(frozen=True)
class NearDuplicate(ProbeAttack):
    """Each example and its nearest other candidates are asked about, and the confidence in the example's own label is compared.
    SELENA's student never learns a record's own label, but the sub-models that label its neighbours were trained on it: what they
    remember of it shows in the answers about the neighbours.

    The signals are the scaled logits of the example's label, one for each question. LiRA compares each with those of shadow
    models that were asked alike; the score is the mean.
    """

    name: ClassVar[str] = "near-duplicate"
    paper: ClassVar[str] = "https://arxiv.org/abs/2404.17399"
    reference: ClassVar[str] = "Aerni et al. 2024, with neighbours among the candidates"

    neighbours: int = 4  # other candidates that are asked about for each example
    variance: Variance = "auto"  # of the shadow models' signals, see lira-online

    def probe(self) -> Probe:
        return Neighbours(self.neighbours)
