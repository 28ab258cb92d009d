"""Image networks on a CPU, one thread: a training step and answers, ours beside channels first and beside a plain loop.

    python -m benchmarks.images [--rounds 3] [--steps 6] [--rows 2048] [--no-save]

Every number comes from a process of its own, so that its peak of memory is its own; ways take turns within a round.
``before``: channels first, 4,096 rows answered at once, freed memory goes back to the system. ``published way``: a plain loop
with torch.optim, channels first.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks import machine
from benchmarks.shadows import made_up
from hampkit.config.recipe import TrainConfig
from hampkit.launch import allocator
from hampkit.nets import net_factory
from hampkit.training import CROSS_ENTROPY, Trainer, layout, trainer
from hampkit.training.threads import threads
from hampkit.types import Dataset, Task

NETS, WAYS = ("resnet9", "densenet"), ("before", "ours", "ours in bfloat16", "published way")
SHAPE, BATCH, CLASSES = (3, 32, 32), 64, 10


def data(rows: int) -> Dataset:
    return made_up(rows, SHAPE, CLASSES)


def step_seconds(net: str, way: str, steps: int) -> float:
    """Seconds of one training step, from two trainings of unlike length."""
    train = _plain if way == "published way" else _ours
    precision = "bfloat16" if way == "ours in bfloat16" else "float32"
    train(net, 1, precision)
    times = []
    for count in (1, 1 + steps):
        clock = time.perf_counter()
        train(net, count, precision)
        times.append(time.perf_counter() - clock)
    return (times[1] - times[0]) / steps


def answer_seconds(net: str, rows: int) -> float:
    """Seconds of the answers to so many images."""
    pool = data(rows)
    task = Task(pool, torch.ones(1, rows, dtype=torch.bool), (0,), net_factory(net, SHAPE, CLASSES))
    stack, x = trainer.initial(task, [torch.arange(rows)], torch.device("cpu")), pool.x
    clock = time.perf_counter()
    Trainer(TrainConfig()).predict(stack, x)
    return time.perf_counter() - clock


def _ours(net: str, steps: int, precision: Any) -> Any:
    config = TrainConfig(
        epochs=1,
        batch_size=BATCH,
        optimizer="sgd",
        lr=1e-3,
        momentum=0.9,
        select="last",
        retries=0,
        precision=precision,
    )
    pool = data(BATCH * steps)
    task = Task(pool, torch.ones(1, len(pool), dtype=torch.bool), (0,), net_factory(net, SHAPE, CLASSES))
    with_steps = replace(Trainer(config), most_steps=steps)
    trainer._Run._failure = lambda run, stack, m: ""  # type: ignore[method-assign]  # whether it learnt: not timed
    return with_steps.fit(task, CROSS_ENTROPY)


def _plain(net: str, steps: int, precision: str) -> None:
    pool, model = data(BATCH * steps), net_factory(net, SHAPE, CLASSES)().train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    for x, y in zip(pool.x.split(BATCH), pool.y.split(BATCH), strict=True):
        optimizer.zero_grad()
        cross_entropy(model(x.float()), y).backward()
        optimizer.step()


def one(net: str, way: str, what: str, size: int) -> dict[str, float]:
    """A measurement, in this process."""
    if way == "before":
        never: Callable[..., bool] = lambda *args: False  # noqa: E731
        layout.prefers_channels_last = trainer.prefers_channels_last = never
        trainer.rows_at_once = lambda *args: layout.MOST_ROWS
    elif way != "published way":
        allocator.keep_freed_memory()  # as the command and its workers do
    with threads(1):
        seconds = step_seconds(net, way, size) if what == "step" else answer_seconds(net, size)
    return {"seconds": seconds, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--nets", nargs="*", default=list(NETS))
    parser.add_argument("--no-save", action="store_true", help="print only")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(*json.loads(asked.one))))
        return
    rows = [row for net in asked.nets for row in measure(net, asked.rounds, asked.steps, asked.rows)]
    for row in rows:
        print(" | ".join(row.values()))
    if not asked.no_save:
        words = f"--rounds {asked.rounds} --steps {asked.steps} --rows {asked.rows} --nets {' '.join(asked.nets)}"
        document = {"command": f"python -m benchmarks.images {words}", "rows": rows, "notes": [], "numbers": rows}
        print(machine.save("image networks", document, "cpu"))


def measure(net: str, rounds: int, steps: int, rows: int) -> list[dict[str, str]]:
    """A row per way; ratios are to ``before``, of medians over the rounds."""
    seen: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for way in WAYS:
            seen.setdefault((way, "step"), []).append(_apart(net, way, "step", steps))
        for way in ("before", "ours"):
            seen.setdefault((way, "answer"), []).append(_apart(net, way, "answer", rows))
    found = {key: {k: float(np.median([v[k] for v in values])) for k in values[0]} for key, values in seen.items()}
    return [_row(net, way, found) for way in WAYS]


def _row(net: str, way: str, found: dict[tuple[str, str], dict[str, float]]) -> dict[str, str]:
    step, base = found[way, "step"], found["before", "step"]
    row = {
        "network": net,
        "way": way,
        "ms per step": f"{1000 * step['seconds']:.0f}",
        "times as fast": f"{base['seconds'] / step['seconds']:.2f}",
        "GB in training": f"{step['memory'] / 1e9:.2f}",
    }
    answer = found.get((way, "answer"))
    return row | {
        "s for the answers": f"{answer['seconds']:.1f}" if answer else "–",
        "GB in answering": f"{answer['memory'] / 1e9:.2f}" if answer else "–",
    }


def _apart(*what: Any) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.images", "--one", json.dumps(what)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
