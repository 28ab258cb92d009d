"""The targets of several runs, trained at the same time: a job each, with the threads of its recipe."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hampkit.errors import Notice, RunBusy, UserError
from hampkit.runs.locks import locked
from hampkit.runs.store import Run
from hampkit.workflows.open_run import open_run
from hampkit.workflows.problem import Problem
from hampkit.workflows.session import Session
from hampkit.workflows.train import TARGET, create, train

WORKER = "hampkit.workflows.target_jobs:worker"
ALONE = 10.0  # seconds of training here before processes are started, which take some seconds themselves


def train_targets(problems: Iterable[Problem], session: Session) -> dict[str, str]:
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
        if Run(session.runs_dir / name).done(TARGET):
            continue
        if spent > ALONE and problem.trainer.device.type == "cpu":
            if _noting(failed, name, lambda p=problem: _create(p, session)):
                jobs[name] = problem.recipe.train.threads
            continue
        clock = time.perf_counter()
        _noting(failed, name, lambda p=problem: train(p, session, wait=False))
        spent += time.perf_counter() - clock
    if jobs:
        _in_processes(list(jobs), session.launcher.at_once(max(jobs.values())), session, failed)
    return failed


def worker(context: dict[str, Any]) -> Callable[[str, Callable[[dict[str, Any]], None]], None]:
    """What a worker process does with its jobs, names of run folders: see `hampkit.types.Launcher`."""
    data_dir = None if context["data_dir"] is None else Path(context["data_dir"])
    session = Session(Path(context["runs_dir"]), data_dir, "cpu")

    def work(name: str, tell: Callable[[dict[str, Any]], None]) -> None:
        failed: dict[str, str] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)  # the process that started this one has shown it
            _noting(failed, name, lambda: _train(name, session))
        tell({"name": name, "why": failed.get(name, "")})

    return work


def _in_processes(names: list[str], workers: int, session: Session, failed: dict[str, str]) -> None:
    done = 0
    session.progress.track("targets", done, len(names))

    def event(message: dict[str, Any]) -> None:
        nonlocal done
        done += 1
        session.progress.track("targets", done, len(names))
        if message["why"]:
            failed[message["name"]] = message["why"]

    context = {
        "runs_dir": str(session.runs_dir.resolve()),
        "data_dir": None if session.data_dir is None else str(session.data_dir.resolve()),
    }
    session.launcher.limited(workers).map(WORKER, context, names, event)


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


def _create(problem: Problem, session: Session) -> None:
    with locked(session.runs_dir, problem.folder, wait=False):
        create(problem, session)


def _train(name: str, session: Session) -> None:
    train(open_run(session.runs_dir / name, session), session, wait=False)
