"""Training of stacks of networks: batches, objectives, optimisers, choice of the checkpoint."""

from hampkit.training.objectives import CROSS_ENTROPY, Gradient, MeanLoss, Objective
from hampkit.training.trainer import Diverged, Trainer

__all__ = ["CROSS_ENTROPY", "Diverged", "Gradient", "MeanLoss", "Objective", "Trainer"]
