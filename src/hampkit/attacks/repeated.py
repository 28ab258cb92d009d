"""The repeated question: the noise of a randomised release is averaged out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hampkit.attacks.lira import Variance
from hampkit.attacks.probe_attack import ProbeAttack
from hampkit.attacks.probes import Repeats
from hampkit.types import Probe


@dataclass(frozen=True)
class Repeated(ProbeAttack):
    """Each example is asked about R times, and the scaled logits of the answers are averaged. HAMP draws new noise for every
    question, so that the mean shows what one answer hides; with ``noise=keyed`` all answers are equal.

    LiRA compares the mean with that of shadow models which were asked as often.
    """

    name: ClassVar[str] = "repeated"
    paper: ClassVar[str] = "https://arxiv.org/abs/2404.17399"
    reference: ClassVar[str] = "hampkit; an adaptive attack in the sense of Aerni et al. 2024"

    copies: int = 16  # R, questions about each example
    variance: Variance = "auto"  # of the shadow models' signals, see lira-online

    def probe(self) -> Probe:
        return Repeats(self.copies)
