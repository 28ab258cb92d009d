"""Training stacks of networks: batches, optimisers, checkpoint choice. Knows no defense."""

from hampkit.training.objectives import MeanLoss, Objective
from hampkit.training.trainer import Diverged, Trainer

__all__ = ["Diverged", "MeanLoss", "Objective", "Trainer"]
