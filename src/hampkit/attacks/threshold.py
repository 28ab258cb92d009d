"""Threshold attacks: one signal of one answer is compared with one threshold, or with one per class."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from hampkit import signals
from hampkit.attacks.base import Attack, Evidence, Scores, Tier, first_view
from hampkit.stats.roc import best_threshold

SONG = "https://arxiv.org/abs/2003.10595"
YEOM = "https://arxiv.org/abs/1709.01604"


class _Threshold(Attack):
    """One signal that is higher for members."""

    @abstractmethod
    def signal(self, logits: Tensor, y: Tensor) -> Tensor:
        """The signal of logits (N, C) and labels (N,): (N,), higher means member."""

    def score(self, evidence: Evidence) -> Scores:
        """The signal (N,) of the first view."""
        return self.signal(first_view(evidence.logits), evidence.y).cpu().numpy()


class _PerClass(_Threshold):
    """One signal with a threshold per class, fitted on the known examples: the score is the signal minus the threshold."""

    needs = ("known",)
    threshold = 0.0

    def score(self, evidence: Evidence) -> Scores:
        """The signal (N,) of the first view minus the threshold of the example's class."""
        known = evidence.known
        assert known is not None
        values = self.signal(first_view(known.logits), known.y).cpu().numpy()
        thresholds = class_thresholds(
            values, known.member.cpu().numpy(), known.y.cpu().numpy(), int(evidence.logits.shape[-1])
        )
        return super().score(evidence) - thresholds[evidence.y.cpu().numpy()]


def class_thresholds(scores: Scores, member: np.ndarray, y: np.ndarray, n_classes: int) -> Scores:
    """For each class the threshold with the best balanced accuracy, from K known examples: (K,), (K,), (K,) → (C,).

    A class without known members or non-members, or in which no threshold beats chance, gets the threshold of all classes
    together. Raises: `ValueError` if the known examples are all members or all non-members.
    """
    overall = best_threshold(scores, member)
    overall = overall if np.isfinite(overall) else float(scores.max())
    found = np.full(n_classes, overall)
    for c in range(n_classes):
        mine = y == c
        if member[mine].any() and not member[mine].all():
            threshold = best_threshold(scores[mine], member[mine])
            found[c] = threshold if np.isfinite(threshold) else overall
    return found


@dataclass(frozen=True)
class Correctness(_Threshold):
    """Predicts membership where the predicted label is right. It uses only the label, so hiding the confidence does not help."""

    name: ClassVar[str] = "correctness"
    paper: ClassVar[str] = YEOM
    reference: ClassVar[str] = "Yeom et al. 2018"
    tier: ClassVar[Tier] = "label"
    threshold: ClassVar[float | None] = 0.5

    def signal(self, logits: Tensor, y: Tensor) -> Tensor:
        return signals.correct(logits, y)


@dataclass(frozen=True)
class Confidence(_Threshold):
    """Predicts membership where the confidence in the true label is high; by ln p_y − ln(1 − p_y), which has no ties at 1."""

    name: ClassVar[str] = "confidence"
    paper: ClassVar[str] = SONG
    reference: ClassVar[str] = "Song & Mittal 2021"
    scaled_logit_only: ClassVar[bool] = True

    def signal(self, logits: Tensor, y: Tensor) -> Tensor:
        return signals.scaled_logit(logits, y)


@dataclass(frozen=True)
class Loss(_Threshold):
    """Predicts membership where the cross-entropy is low. Its order is that of confidence, except for rounding."""

    name: ClassVar[str] = "loss"
    paper: ClassVar[str] = YEOM
    reference: ClassVar[str] = "Yeom et al. 2018"
    scaled_logit_only: ClassVar[bool] = True

    def signal(self, logits: Tensor, y: Tensor) -> Tensor:
        return -signals.loss(logits, y)


@dataclass(frozen=True)
class Entropy(_Threshold):
    """Predicts membership where the answer is concentrated on few classes, whichever they are."""

    name: ClassVar[str] = "entropy"
    paper: ClassVar[str] = SONG
    reference: ClassVar[str] = "Shokri et al. 2017; Song & Mittal 2021"

    def signal(self, logits: Tensor, y: Tensor) -> Tensor:
        return -signals.entropy(logits, y)


@dataclass(frozen=True)
class ModifiedEntropy(_Threshold):
    """Entropy that takes the true label into account: a confident wrong answer counts as uncertain."""

    name: ClassVar[str] = "modified-entropy"
    paper: ClassVar[str] = SONG
    reference: ClassVar[str] = "Song & Mittal 2021"

    def signal(self, logits: Tensor, y: Tensor) -> Tensor:
        return -signals.modified_entropy(logits, y)


@dataclass(frozen=True)
class ConfidencePerClass(_PerClass, Confidence):
    """Confidence, with a threshold per class fitted on the known examples."""

    name: ClassVar[str] = "confidence-per-class"


@dataclass(frozen=True)
class LossPerClass(_PerClass, Loss):
    """Loss, with a threshold per class fitted on the known examples."""

    name: ClassVar[str] = "loss-per-class"


@dataclass(frozen=True)
class EntropyPerClass(_PerClass, Entropy):
    """Entropy, with a threshold per class fitted on the known examples."""

    name: ClassVar[str] = "entropy-per-class"


@dataclass(frozen=True)
class ModifiedEntropyPerClass(_PerClass, ModifiedEntropy):
    """Modified entropy, with a threshold per class fitted on the known examples."""

    name: ClassVar[str] = "modified-entropy-per-class"
