"""How shadow models are trained: together, in processes, in jobs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hampkit.launch.local import at_once
from hampkit.training import Trainer
from hampkit.training.cuda_graphs import cuda_graph


@dataclass(frozen=True)
class ExecutionMode:
    """How shadow models are trained: together, in processes, in jobs."""

    width: int = 1  # models of a stack, which are trained together
    workers: int = 1  # processes
    threads: int = 1  # of each process, from the recipe
    job: int = 1  # models whose results are written together
    cuda_graphs: bool = False  # whether training steps are CUDA graphs

    def of(self, trainer: Trainer) -> Trainer:
        """A copy of the trainer that runs in this mode."""
        return replace(trainer, width=self.width, cuda_graphs=cuda_graph if self.cuda_graphs else None)

    def processes(self, models: int) -> int:
        """Number of processes that get a job."""
        return min(self.workers, -(-models // self.job))

    def seconds(self, each: float, models: int) -> float:
        """Expected seconds for all models if one process needs ``each`` seconds per model."""
        jobs, processes = -(-models // self.job), self.processes(models)
        largest = min(-(-jobs // processes) * self.job, models)  # models of the process that ends last
        return each * max(largest, models / at_once(self.threads))  # additional processes share the cores
