"""Time to ask a shadow model about every candidate, as each probe of the default attacks does, beside the time to train it.

`python -m benchmarks.asking location30/hamp --models 4 --data-dir DIR`
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import hampkit
from hampkit.runs.store import Run
from hampkit.shadow_models.job_models import JobModels, probe_step
from hampkit.shadow_models.mode import ExecutionMode
from hampkit.training.threads import threads
from hampkit.workflows.chosen_attacks import choose, shadow_probes_of
from hampkit.workflows.prepare import prepare
from hampkit.workflows.session import Session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--data-dir", type=Path)
    given = parser.parse_args()
    recipe = hampkit.recipe(given.recipe, {"shadows.models": 16})
    problem = prepare(recipe, Session(data_dir=given.data_dir))
    task = problem.shadow_task(shadow_probes_of(choose(recipe, ())))
    mode = ExecutionMode(threads=problem.recipe.train.threads)
    with tempfile.TemporaryDirectory() as folder, threads(problem.recipe.train.threads):
        run = Run(Path(folder))
        trained, asked = 0.0, dict.fromkeys(task.probes, 0.0)
        for m in range(given.models):
            models = JobModels(task, [m], mode, run)
            models.get()
            trained += models.seconds
            for probe in task.probes:
                again = JobModels(task, [m], mode, run)  # reads the stored weights
                clock = time.perf_counter()
                probe_step(task, [m], probe, again).folder(run)
                asked[probe] += time.perf_counter() - clock
    rows = len(task.task.pool)
    print(
        f"{given.recipe}, {given.models} shadow models, {rows:,} candidates: {trained / given.models:.1f} s per model to train"
    )
    for probe, seconds in asked.items():
        each = probe.questions(task.task.pool.shape)
        print(
            f"  {probe.name}, {each} questions per candidate: {seconds / given.models:.1f} s per model from the stored weights,"
            f" {trained / seconds:.1f} times faster than training"
        )


if __name__ == "__main__":
    main()
