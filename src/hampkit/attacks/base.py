"""What an attack is: all that an adversary holds goes in, one score per candidate comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """Examples whose membership the adversary knows: half of both groups in the published evaluation."""

    x: Tensor  # (K, *shape) raw inputs
    y: Tensor  # (K,) int64
    logits: Tensor  # (K, V, C) float64, the released answers
    member: Tensor  # (K,) bool
    fit: Tensor  # (K,) bool: for fitting; the others are for choosing a checkpoint


@dataclass(frozen=True)
class Evidence:
    """All an adversary holds about the candidates; their true membership is not in here."""

    x: Tensor  # (N, *shape) raw inputs
    y: Tensor  # (N,) int64
    logits: Tensor  # (N, V, C) float64, the released answers to V views of each candidate
    seed: int = 0  # for attacks that draw random numbers
    known: Known | None = None
    shadows: Any | None = None
    oracle: Any | None = None

    def of_known(self) -> Evidence:
        """The same adversary, asked about the examples that it knows already (for choosing a threshold)."""
        assert self.known is not None
        return replace(self, x=self.known.x, y=self.known.y, logits=self.known.logits)


class Attack(ABC):
    """Subclasses are frozen dataclasses: fields are options, the docstring and `paper` the text in the report."""

    name: ClassVar[str]
    paper: ClassVar[str]
    reference: ClassVar[str]  # authors and year, for the report
    needs: ClassVar[tuple[str, ...]] = ()  # evidence that must be present: the threat model
    label_only: ClassVar[bool] = False  # uses nothing of an answer but its label
    threshold: ClassVar[float | None] = (
        None  # member where score ≥ threshold; None: the judge takes one from the known part
    )

    @final
    def __call__(self, evidence: Evidence) -> Scores:
        """Scores (N,) float64, higher means member. Errors: `ValueError` where needed evidence is missing."""
        missing = [need for need in self.needs if getattr(evidence, need) is None]
        if missing:
            raise ValueError(f"attack {self.name} needs {', '.join(missing)}, which this evidence does not hold")
        scores = np.asarray(self.score(evidence), dtype=np.float64)
        assert scores.shape == (len(evidence.y),), (
            f"{self.name}: scores {scores.shape} for {len(evidence.y)} candidates"
        )
        assert np.isfinite(scores).all(), f"{self.name}: {int((~np.isfinite(scores)).sum())} scores are not finite"
        return scores

    @abstractmethod
    def score(self, evidence: Evidence) -> Scores | Tensor:
        """Scores (N,), higher means member, always."""


def first_view(logits: Tensor) -> Tensor:
    """The answers to the examples themselves: (N, V, C) → (N, C)."""
    assert logits.dtype == torch.float64, f"answers must be float64, not {logits.dtype}"
    return logits[:, 0]
