"""The targets of several runs, trained at the same time: a job each, with the threads of its recipe."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hampkit.errors import Notice, RunBusy, UserError
from hampkit.launch.local import at_once, run_jobs
from hampkit.runs.locks import locked
from hampkit.runs.store import Run
from hampkit.workflows import attack as pipeline
from hampkit.workflows.problem import Problem, Settings

WORK = "hampkit.workflows.target_jobs:worker"
ALONE = 10.0  # seconds of training here before processes are started, which take some seconds themselves


def train_targets(problems: Iterable[Problem], settings: Settings) -> dict[str, str]:
    """Train the targets of these problems that are missing, several at once; the result is that of one after another.

    The problems are taken one by one, so that a generator need not hold the data of all. A run that another process holds is
    passed over: that process trains it, and whoever evaluates it waits. So two processes with the same problems share the
    work. Returns the name of each run whose training failed, and why.
    """
    failed: dict[str, str] = {}
    jobs: dict[str, int] = {}  # names of runs and threads of their recipes
    spent = 0.0
    for problem in problems:
        name = problem.folder
        if Run(settings.runs_dir / name).done(pipeline.JOB):
            continue
        if spent > ALONE and problem.trainer.device.type == "cpu":
            if _noting(failed, name, lambda p=problem: _create(p, settings)):
                jobs[name] = problem.recipe.train.threads
            continue
        clock = time.perf_counter()
        _noting(failed, name, lambda p=problem: pipeline.train_problem(p, settings, wait=False))
        spent += time.perf_counter() - clock
    if jobs:
        _in_processes(list(jobs), settings.workers or at_once(max(jobs.values())), settings, failed)
    return failed


def worker(context: dict[str, Any]) -> Callable[[str, Callable[[dict[str, Any]], None]], None]:
    """What a worker process does with its jobs, names of run folders: see `hampkit.launch.local.run_jobs`."""
    data_dir = None if context["data_dir"] is None else Path(context["data_dir"])
    settings = Settings(data_dir, Path(context["runs_dir"]), "cpu")

    def work(name: str, tell: Callable[[dict[str, Any]], None]) -> None:
        failed: dict[str, str] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)  # the process that started this one has shown it
            _noting(failed, name, lambda: _train(name, settings))
        tell({"name": name, "why": failed.get(name, "")})

    return work


def _in_processes(names: list[str], workers: int, settings: Settings, failed: dict[str, str]) -> None:
    done = 0
    settings.track("targets", done, len(names))

    def event(message: dict[str, Any]) -> None:
        nonlocal done
        done += 1
        settings.track("targets", done, len(names))
        if message["why"]:
            failed[message["name"]] = message["why"]

    context = {
        "runs_dir": str(settings.runs_dir.resolve()),
        "data_dir": None if settings.data_dir is None else str(settings.data_dir.resolve()),
    }
    run_jobs(WORK, context, names, workers, event)


def _noting(failed: dict[str, str], name: str, call: Callable[[], Any]) -> bool:
    """Call, and return whether it succeeded. What the user can mend is noted, so that one failure does not end the others.

    A run that another process holds has not failed.
    """
    try:
        call()
    except RunBusy:
        return False
    except UserError as error:
        failed[name] = str(error)
        return False
    return True


def _create(problem: Problem, settings: Settings) -> None:
    with locked(settings.runs_dir, problem.folder, wait=False):
        pipeline.create(problem, settings)


def _train(name: str, settings: Settings) -> None:
    pipeline.train_problem(pipeline.open_run(settings.runs_dir / name, settings), settings, wait=False)
