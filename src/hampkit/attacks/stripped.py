"""Attacks on the network behind the release: what training leaks by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hampkit.attacks.base import SignalAttack, Tier
from hampkit.attacks.lira import Variance
from hampkit.attacks.probe_attack import ProbeAttack
from hampkit.attacks.probes import OwnAnswers
from hampkit.attacks.rmia import Rmia
from hampkit.types import Probe


class _Stripped(ProbeAttack):
    """An attack on the scaled logit before the release."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2404.17399"
    tier: ClassVar[Tier] = "weights"

    def probe(self) -> Probe:
        return OwnAnswers()


@dataclass(frozen=True)
class StrippedLira(_Stripped):
    """LiRA on the network behind the release, for an adversary who holds the weights. What it finds is what training leaks; a
    release only hides it.
    """

    name: ClassVar[str] = "stripped-lira"
    reference: ClassVar[str] = "Aerni et al. 2024; LiRA of Carlini et al. 2022"

    variance: Variance = "auto"  # of the shadow models' signals, see lira-online


@dataclass(frozen=True)
class StrippedRmia(_Stripped):
    """RMIA on the network behind the release, for an adversary who holds the weights."""

    name: ClassVar[str] = "stripped-rmia"
    reference: ClassVar[str] = "Aerni et al. 2024; RMIA of Zarifzadeh et al. 2024"

    def comparison(self) -> SignalAttack:
        return Rmia()
