"""The quantile attack: a threshold for each example from a regression on non-members. It needs no shadow models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from hampkit import signals
from hampkit.attacks.base import Attack, Evidence, Scores, first_view
from hampkit.errors import UserError

FLOOR = 1e-3  # of the distance of both quantiles, in logits
COMPONENTS = 64  # principal components that stand for inputs with more features than 8 times as many


@dataclass(frozen=True)
class Quantile(Attack):
    """A regression from the input and the label to quantiles of the scaled logit is fitted on a population that the model was not
    trained on. An example whose scaled logit is high for such an input is taken for a member.

    The score is (φ − q_0.5) / (q_level − q_0.5), with the scaled logit φ and the quantiles that gradient-boosted trees predict
    for the example. One training of trees stands in place of many shadow models.

    Differs from the paper, which fits a quantile for each false-positive rate, or a normal distribution, with a network.
    """

    name: ClassVar[str] = "quantile"
    paper: ClassVar[str] = "https://arxiv.org/abs/2307.03694"
    reference: ClassVar[str] = "Bertran et al. 2023"
    needs: ClassVar[tuple[str, ...]] = ("population",)

    level: float = 0.9  # of the upper quantile; the distance to the median is the scale of the score
    trees: int = 100  # of each regression

    def __post_init__(self) -> None:
        if not 0.5 < self.level < 1:
            raise UserError(f"attacks.quantile.level={self.level} must lie between 0.5 and 1")
        if not 1 <= self.trees <= 10_000:
            raise UserError(f"attacks.quantile.trees={self.trees} must lie between 1 and 10000")

    def score(self, evidence: Evidence) -> Scores:
        """Scores (N,), from the first view."""
        others = evidence.population
        assert others is not None
        if others.x is None:
            raise ValueError("attack quantile needs the inputs of the population, which this evidence lacks")
        classes = int(evidence.logits.shape[-1])
        known = signals.scaled_logit(first_view(others.logits), others.y).cpu().numpy()
        mine = signals.scaled_logit(first_view(evidence.logits), evidence.y).cpu().numpy()
        fitted, asked = _features(others.x, others.y, evidence.x, evidence.y, classes)
        middle, high = (self._fit(fitted, known, q).predict(asked) for q in (0.5, self.level))
        return (mine - middle) / np.maximum(high - middle, FLOOR)

    def _fit(self, features: Any, values: Scores, quantile: float) -> Any:
        from sklearn.ensemble import HistGradientBoostingRegressor

        trees = HistGradientBoostingRegressor(
            loss="quantile", quantile=quantile, max_iter=self.trees, learning_rate=0.05, random_state=0
        )
        return trees.fit(features, values)


def _features(x: Tensor, y: Tensor, x_new: Tensor, y_new: Tensor, classes: int) -> tuple[Any, Any]:
    """Inputs and one-hot labels of both sides; long inputs by their principal components on the first side."""
    both = [part.flatten(1).cpu().numpy().astype(np.float64) for part in (x, x_new)]
    if both[0].shape[1] > 8 * COMPONENTS:
        from sklearn.decomposition import PCA

        kept = PCA(min(COMPONENTS, len(both[0])), svd_solver="randomized", random_state=0).fit(both[0])
        both = [kept.transform(part) for part in both]
    labels = [np.eye(classes)[part.cpu().numpy()] for part in (y, y_new)]
    fitted, asked = (np.hstack(pair) for pair in zip(both, labels, strict=True))
    return fitted, asked
