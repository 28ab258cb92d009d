"""Signals of one answer: pure functions of logits (…, C) and labels (…) in [0, C) → (…), in float64.

Every signal is computed from logits, with log-probabilities in a form that does not cancel or underflow. Float32 probabilities
saturate at 1 for confident models: thousands of examples would tie at the high scores, which decide low false-positive rates.
NumPy arrays give NumPy arrays, torch tensors give torch tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Signal = Callable[[Any, Any], Any]


def correct(logits: Any, y: Any) -> Any:
    """1 if the predicted label is y, else 0: (…, C), (…) → (…). The first class wins a tie, as in argmax.

    >>> correct(np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([0, 0])).tolist()
    [1.0, 0.0]
    """
    return _apply(lambda z, y: (z.argmax(-1) == y).double(), logits, y)


def confidence(logits: Any, y: Any) -> Any:
    """The probability of the true label, p_y = softmax(z)_y: (…, C), (…) → (…).

    >>> confidence(np.array([0.0, 0.0]), np.array(1)).item()
    0.5
    """
    return _apply(lambda z, y: torch.sigmoid(_margin(z, y)), logits, y)


def scaled_logit(logits: Any, y: Any) -> Any:
    """ln p_y − ln(1 − p_y) = z_y − ln Σ_{j≠y} exp z_j: (…, C), (…) → (…).

    Source: Carlini et al. 2022, arXiv 2112.03570, the signal of LiRA.
    """
    return _apply(_margin, logits, y)


def loss(logits: Any, y: Any) -> Any:
    """The cross-entropy −ln p_y in nats: (…, C), (…) → (…).

    >>> round(loss(np.array([0.0, 0.0]), np.array(1)).item(), 6)
    0.693147
    """
    return _apply(
        lambda z, y: torch.logaddexp(torch.zeros((), dtype=z.dtype, device=z.device), -_margin(z, y)), logits, y
    )


def entropy(logits: Any, y: Any = None) -> Any:
    """The entropy −Σ_j p_j ln p_j in nats: (…, C) → (…). The label is not used and may be left out."""
    return _apply(lambda z, y: _entropy(z), logits, np.zeros(np.shape(logits)[:-1], dtype=np.int64) if y is None else y)


def modified_entropy(logits: Any, y: Any) -> Any:
    """−(1 − p_y) ln p_y − Σ_{j≠y} p_j ln(1 − p_j) in nats: (…, C), (…) → (…). It is low for members.

    Source: Song & Mittal 2021, arXiv 2003.10595.
    """
    return _apply(_modified_entropy, logits, y)


def hinge(logits: Any, y: Any) -> Any:
    """The margin of the true label, z_y − max_{j≠y} z_j: (…, C), (…) → (…)."""
    return _apply(lambda z, y: _pick(z, y) - _others(z, y).amax(-1), logits, y)


SIGNALS: dict[str, Signal] = {
    f.__name__: f for f in (correct, confidence, loss, entropy, modified_entropy, scaled_logit, hinge)
}


def _apply(signal: Callable[[Tensor, Tensor], Tensor], logits: Any, y: Any) -> Any:
    tensors = isinstance(logits, Tensor)
    z = logits.double() if tensors else torch.from_numpy(np.asarray(logits, dtype=np.float64))
    labels = torch.as_tensor(y, device=z.device).long()
    assert z.ndim, "logits need an axis of classes"
    assert z.shape[-1] >= 2, f"logits need at least two classes in the last axis, not shape {tuple(z.shape)}"
    assert labels.shape == z.shape[:-1], f"labels {tuple(labels.shape)} do not fit logits {tuple(z.shape)}"
    out = signal(z, labels)
    return out if tensors else out.numpy()


def _pick(values: Tensor, y: Tensor) -> Tensor:
    return values.gather(-1, y.unsqueeze(-1)).squeeze(-1)


def _others(z: Tensor, y: Tensor) -> Tensor:
    return z.scatter(-1, y.unsqueeze(-1), -torch.inf)


def _margin(z: Tensor, y: Tensor) -> Tensor:
    return _pick(z, y) - torch.logsumexp(_others(z, y), -1)


def _log_probabilities(z: Tensor) -> tuple[Tensor, Tensor]:
    """ln p and ln(1 − p) for every class (..., C), both with full relative precision."""
    top = z.argmax(-1, keepdim=True)
    shifted = z - z.gather(-1, top)
    log_rest = torch.logsumexp(shifted.scatter(-1, top, -torch.inf), -1, keepdim=True)  # ln Σ_{j≠top} exp(z_j − z_top)
    log_total = torch.log1p(log_rest.exp())
    log_p = shifted - log_total
    # 1 − p does not cancel for p below one half; for the top class it is the sum of the others
    p = log_p.exp()
    log_not = torch.log1p(-p.clamp_max(0.5)).where(p <= 0.5, torch.zeros_like(p))
    return log_p, log_not.scatter(-1, top, log_rest - log_total)


# Not `training.soft_labels.entropy`: a network trains on log_softmax in its own dtype. There ln p of the top class cancels where
# an answer is confident, and scores of confident answers must not tie. Where it does not cancel both are equal, by
# `test_the_entropy_in_training_is_that_of_the_signals_and_that_of_soft_labels`.
def _entropy(z: Tensor) -> Tensor:
    log_p, _ = _log_probabilities(z)
    return -(log_p.exp() * log_p).sum(-1)


def _modified_entropy(z: Tensor, y: Tensor) -> Tensor:
    log_p, log_not = _log_probabilities(z)
    wrong = -(log_p.exp() * log_not).scatter(-1, y.unsqueeze(-1), 0.0).sum(-1)
    return wrong - _pick(log_not, y).exp() * _pick(log_p, y)
