"""Attacks on what a probe kept of several answers: compared with shadow models that were asked alike."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hampkit.attacks.base import Evidence, Scores, Shadows, SignalAttack
from hampkit.attacks.lira import LiraOnline
from hampkit.types import Probe


class ProbeAttack(SignalAttack):
    """One probe, signals of what it kept, and an attack that compares the signals with those of shadow models.

    Unless a subclass changes it, the signals are the numbers that the probe kept, and LiRA compares them.
    """

    needs = ("shadows", "probes")
    scaled_logit_only = False
    variance: Any = "auto"  # of the shadow models' signals in LiRA

    @abstractmethod
    def probe(self) -> Probe:
        """The probe whose answers the attack uses."""

    def signal(self, kept: Any) -> Any:
        """V signals (…, V) of what the probe kept (…, k), each higher for members."""
        return kept

    def comparison(self) -> SignalAttack:
        """The attack that compares the signals."""
        return LiraOnline(self.variance)

    def probes(self) -> tuple[Probe, ...]:
        return (self.probe(),)

    def _scores(self, evidence: Evidence) -> Scores:
        assert evidence.probes is not None
        assert evidence.shadows is not None
        target = self._signals(evidence.probes[self.probe()])
        return self.score_signals(target, np.empty(0), evidence.shadows.of_probe(self.probe(), self.signal))

    score: Any = _scores

    def score_signals(self, target: Scores, background: Scores, shadows: Shadows | None) -> Scores:
        return self.comparison().score_signals(target, background, shadows)

    def repeat(self, shadows: Shadows, targets: Sequence[int]) -> Iterator[Scores]:
        return self.comparison().repeat(shadows.of_probe(self.probe(), self.signal), targets)

    def variance_used(self, inside: NDArray[np.int64], outside: NDArray[np.int64]) -> str:
        return self.comparison().variance_used(inside, outside)

    def _signals(self, kept: NDArray[np.float32]) -> Scores:
        """The signals (N, V) float64 of the target's answers, rounded to float32 as those of shadow models are."""
        return np.asarray(self.signal(kept), dtype=np.float32).astype(np.float64)
