"""HAMP for training loops and services of one's own: a loss, and a wrapper that releases only the ranking of the classes.

loss_fn = hampkit.nn.HampLoss(num_classes=10, gamma=0.5, alpha=0.003)
...                                             # in any training loop: loss_fn(model(x), y).backward()
released = hampkit.nn.HampModel(model, noise="uniform")
released(x)                                     # the same predicted labels, the confidences of random inputs
"""

from __future__ import annotations

from hampkit.nn.loss import HampLoss
from hampkit.nn.model import Exportable, HampModel

__all__ = ["Exportable", "HampLoss", "HampModel"]
