"""Training stacks of networks: batches, optimisers, checkpoint choice. Knows no defense."""

from hampkit.training.objectives import CROSS_ENTROPY, Gradient, MeanLoss, Objective
from hampkit.training.trainer import Diverged, Trainer

__all__ = ["CROSS_ENTROPY", "Diverged", "Gradient", "MeanLoss", "Objective", "Trainer"]
