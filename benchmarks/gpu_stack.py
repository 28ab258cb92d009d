"""Several DenseNets on one device: one by one, stacked, and stacked with recorded steps; seconds per step and model, a line each.

python -m benchmarks.gpu_stack [--device cuda] [--models 16] [--rows 640] [--side 32]
"""

from __future__ import annotations

import argparse
import time

import torch

from benchmarks import machine
from hampkit.config.recipe import TrainConfig
from hampkit.nets import net_factory
from hampkit.training import CROSS_ENTROPY, Trainer
from hampkit.training.cuda_graphs import cuda_graph
from hampkit.types import Dataset, Domain, Task

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", type=int, default=16)
    parser.add_argument("--rows", type=int, default=640)
    parser.add_argument("--side", type=int, default=32)
    asked = parser.parse_args()
    task, device = problem(asked.models, asked.rows, asked.side), torch.device(asked.device)
    for precision in ("float32", "bfloat16"):
        for width in dict.fromkeys((1, asked.models)):
            for recorded in (False, True) if device.type == "cuda" and width > 1 else (False,):
                each = seconds(task, device, width, recorded, precision)
                how = "recorded steps" if recorded else "plain steps"
                print(f"{precision}, {width} together, {how}: {1000 * each:.2f} ms per step and model", flush=True)
    if device.type == "cuda":
        print(f"memory at the peak: {torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB")


def problem(models: int, rows: int, side: int) -> Task:
    rng, shape = torch.Generator().manual_seed(0), (3, side, side)
    x = torch.randint(0, 256, (rows, *shape), generator=rng, dtype=torch.uint8)
    data = Dataset("images", x, torch.arange(rows) % 10, 10, Domain.grid(shape, 0, 255, 1))
    members = torch.ones(models, rows, dtype=torch.bool)
    return Task(data, members, tuple(range(models)), net_factory("densenet-small", shape, 10))


def seconds(task: Task, device: torch.device, width: int, recorded: bool, precision: str) -> float:
    """Per step and model, from two trainings of one and of three epochs, after one that warms up."""
    times = []
    steps = -(-len(task.pool) // BATCH)
    for epochs in (1, 1, 3):
        config = TrainConfig(epochs=epochs, batch_size=BATCH, optimizer="sgd", lr=1e-3, momentum=0.9, select="last",
                          retries=0, precision=precision)  # fmt: skip  # pyright: ignore[reportArgumentType]
        machine.synchronize(device)
        clock = time.perf_counter()
        Trainer(config, device, width, cuda_graphs=cuda_graph if recorded else None).fit(task, CROSS_ENTROPY)
        machine.synchronize(device)
        times.append(time.perf_counter() - clock)
    return (times[2] - times[1]) / 2 / steps / len(task)


if __name__ == "__main__":
    main()
