"""The attack on MemGuard: the answer before the noise is estimated from shadow models, whose noise the adversary made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hampkit.attacks.base import Scores, Shadows
from hampkit.attacks.lira import Variance
from hampkit.attacks.probe_attack import ProbeAttack
from hampkit.attacks.probes import AnswerShape, OwnAnswers
from hampkit.rng import derive, numpy_rng
from hampkit.types import Probe

MOST_ROWS = 100_000  # answers on which a regression is fitted


@dataclass(frozen=True)
class Reference(ProbeAttack):
    """The adversary retrains MemGuard: shadow models with surrogates of their own. Of them the answer before the noise is known.
    So a regression can be fitted from the shape of a released answer (the rank of the true class, the largest answers, the
    entropy) to the scaled logit before the noise. It undoes the noise of the target's answers.

    LiRA compares the restored scaled logits with those of the shadow models, each restored by the regression of the other half.
    Membership is not used in the regression.
    """

    name: ClassVar[str] = "reference"
    paper: ClassVar[str] = "https://arxiv.org/abs/2404.17399"
    reference: ClassVar[str] = "hampkit; an adaptive attack in the sense of Aerni et al. 2024"

    variance: Variance = "auto"  # of the shadow models' signals, see lira-online

    def probe(self) -> Probe:
        return AnswerShape()

    def shadow_probes(self) -> tuple[Probe, ...]:
        return (AnswerShape(), OwnAnswers())

    def score_signals(self, target: Scores, background: Scores, shadows: Shadows | None) -> Scores:
        assert shadows is not None
        restored, fits = _restored(shadows)
        own = np.mean([fit.predict(target) for fit in fits], axis=0)
        return self.comparison().score_signals(own[:, None], background, restored)

    def repeat(self, shadows: Shadows, targets: Sequence[int]) -> Iterator[Scores]:
        restored, _ = _restored(shadows.of_probe(self.probe(), self.signal))
        return self.comparison().repeat(restored, targets)


def _restored(shadows: Shadows) -> tuple[Shadows, list[Any]]:
    """The shadow models with restored scaled logits in place of the shapes of their answers, and the regressions of both halves.

    Pairs of models stay in one half: the second model of a pair was trained on the examples that the first was not.
    """
    shapes = np.concatenate(shadows.parts)[:, shadows.rows]  # (M', N, k)
    own = np.concatenate(shadows.probes[OwnAnswers()])[:, shadows.rows, 0]
    half = (np.arange(len(shapes)) // 2) % 2 == 0
    fits = [_fit(shapes[side], own[side]) for side in (half, ~half)]
    restored = np.zeros((len(shapes), shadows.members.shape[1], 1), np.float32)
    for fit, side in zip(fits, (~half, half), strict=True):  # each by the regression of the others
        flat = fit.predict(shapes[side].reshape(-1, shapes.shape[2])).reshape(int(side.sum()), -1)
        restored[np.ix_(side, shadows.rows)] = flat[..., None]
    return replace(shadows, parts=(restored,)), fits


def _fit(shapes: NDArray[np.float32], own: NDArray[np.float32]) -> Any:
    """A regression from shapes (m, N, k) to scaled logits (m, N)."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    x, y = shapes.reshape(-1, shapes.shape[2]), own.ravel()
    chosen = np.sort(numpy_rng(derive(0, "restored")).permutation(len(y))[:MOST_ROWS])
    return HistGradientBoostingRegressor(random_state=0, max_iter=100).fit(x[chosen], y[chosen])
