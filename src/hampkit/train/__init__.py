"""Training stacks of networks: batches, optimisers, checkpoint choice. Knows no defense."""

from hampkit.train.objectives import MeanLoss, Objective
from hampkit.train.trainer import Diverged, Trainer

__all__ = ["Diverged", "MeanLoss", "Objective", "Trainer"]
