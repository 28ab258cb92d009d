"""The attack by the uncertain last layer of one reference model (BMIA, Liu et al. 2025). It needs no shadow models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hampkit import signals
from hampkit.attacks.base import Attack, Evidence, Reference, Scores, first_view
from hampkit.errors import UserError
from hampkit.rng import derive, numpy_rng

FLOOR = 1e-3  # of the standard deviation of the samples, in logits


@dataclass(frozen=True)
class LastLayer(Attack):
    """One model is trained like the target on a population that the target was not trained on. The Laplace posterior of its last
    layer gives a distribution of the scaled logit of each example for models that were not trained on it. An example whose
    scaled logit is high in that distribution is taken for a member.

    The score is the t statistic (φ − mean) / (sd · √(1 + 1/M)), with the target's scaled logit φ, and mean and sd of M samples.
    Samples are the reference model's own answers: of a release they contain nothing.

    The posterior precision of the weights is (√n · A + √τ · I) ⊗ (√n · G + √τ · I), with n training rows, the prior precision τ
    and the factors A of features and G of classes (Ritter et al. 2018). Other implementations add τ to the product of
    the factors.
    """

    name: ClassVar[str] = "last-layer"
    paper: ClassVar[str] = "https://arxiv.org/abs/2503.07482"
    reference: ClassVar[str] = "Liu et al. 2025"
    needs: ClassVar[tuple[str, ...]] = ("reference",)
    scaled_logit_only: ClassVar[bool] = True

    samples: int = 64  # of the weights of the last layer
    prior_precision: float = 1.0  # of each weight: 1 / variance

    def __post_init__(self) -> None:
        if not 2 <= self.samples <= 10_000:
            raise UserError(f"attacks.last-layer.samples={self.samples} must lie between 2 and 10000")
        if not 0 < self.prior_precision < np.inf:
            raise UserError(f"attacks.last-layer.prior_precision={self.prior_precision} must be a number above 0")

    def score(self, evidence: Evidence) -> Scores:
        """Scores (N,), from the first view."""
        assert evidence.reference is not None
        mine = signals.scaled_logit(first_view(evidence.logits), evidence.y).cpu().numpy()
        # One noise for all candidates: for each of them the samples have the distribution of sampled weights, and a score depends
        # neither on the other candidates nor on their order.
        rng = numpy_rng(derive(evidence.seed, self.name))
        noise = rng.standard_normal((self.samples, len(evidence.reference.class_curvature)))
        sampled = self._sampled(evidence.reference, evidence.y.cpu().numpy(), noise)
        deviation = np.maximum(sampled.std(0, ddof=1), FLOOR)
        return (mine - sampled.mean(0)) / (deviation * np.sqrt(1 + 1 / self.samples))

    def _sampled(self, reference: Reference, y: NDArray[np.int64], noise: Scores) -> Scores:
        """Scaled logits (M, N) of the labels y (N,) from samples of the posterior of the logits; noise: (M, C) standard normal.

        The logits of an example are normal, with the covariance l · (√n · G + √τ · I)⁻¹ and the leverage
        l = φᵀ (√n · A + √τ · I)⁻¹ φ.
        """
        n, prior = np.sqrt(reference.trained_on), np.sqrt(self.prior_precision)
        logits = reference.logits[reference.rows]
        leverage = (reference.squares[reference.rows] / (n * reference.feature_curvature + prior)).sum(1)
        scales = reference.class_directions / np.sqrt(n * reference.class_curvature + prior)  # (C, C)
        found = np.empty((len(noise), len(y)))
        for m, drawn in enumerate(noise):
            shift = (scales * drawn).sum(1)
            found[m] = signals.scaled_logit(logits + np.sqrt(leverage)[:, None] * shift, y)
        return found
