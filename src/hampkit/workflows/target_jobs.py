"""Training of the targets of several runs at the same time: each is a job with the threads of its recipe."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hampkit.errors import Notice, RunBusy, UserError
from hampkit.launch.progress import Jobs, reported
from hampkit.runs.locks import locked
from hampkit.runs.store import Run
from hampkit.training.trainer import TRAINING
from hampkit.workflows.open_run import open_run
from hampkit.workflows.problem import Problem
from hampkit.workflows.session import Progress, Session
from hampkit.workflows.train import TARGET, create, train

WORKER = "hampkit.workflows.target_jobs:worker"
ALONE = 10.0  # seconds of training in this process before others are started, which takes some seconds


def train_targets(problems: Iterable[Problem], session: Session) -> dict[str, str]:
    """Train the missing targets of these problems; returns name of the run → message for each training that failed.

    The result is that of training one after another. The problems are taken one by one, so that a generator need not keep the
    data of all in memory. A run that another process has locked is skipped: that process trains it, and the evaluation waits for
    it. So two processes with the same problems share the work.
    """
    failed: dict[str, str] = {}
    jobs: dict[str, int] = {}  # name of the run → threads of its recipe
    spent = 0.0
    for problem in problems:
        name = problem.folder
        if Run(session.runs_dir / name).done(TARGET):
            continue
        if spent > ALONE and problem.trainer.device.type == "cpu":
            if _succeeds(failed, name, lambda p=problem: _create(p, session)):
                jobs[name] = problem.recipe.train.threads
            continue
        started = time.perf_counter()
        _succeeds(failed, name, lambda p=problem: train(p, replace(session, wait=False)))
        spent += time.perf_counter() - started
    if jobs:
        limited = replace(session, launcher=session.launcher.limited(session.launcher.at_once(max(jobs.values()))))
        failed |= _in_processes(list(jobs), limited)
    return failed


def worker(context: dict[str, Any]) -> Callable[[str, Callable[[dict[str, Any]], None]], None]:
    """The function that does one job, the name of a run, in a worker process, see `hampkit.types.Launcher`."""
    data_dir = None if context["data_dir"] is None else Path(context["data_dir"])

    def work(name: str, send: Callable[[dict[str, Any]], None]) -> None:
        epochs, failed = reported(name, 1, send), {}

        def track(what: str, done: int, total: int) -> None:
            if what == TRAINING:  # and not the reading of the data
                epochs(what, done, total)

        session = Session(Path(context["runs_dir"]), data_dir, "cpu", progress=Progress(track))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)  # the parent process has printed it
            _succeeds(failed, name, lambda: _train(name, session))
        send({"name": name, "failure": failed.get(name, "")})

    return work


def _in_processes(names: list[str], session: Session) -> dict[str, str]:
    """Train the targets of these runs by the session's launcher; returns the failures as `train_targets` does."""
    failed: dict[str, str] = {}
    jobs = Jobs(session.progress.track, "targets", len(names))
    jobs.show()

    def event(message: dict[str, Any]) -> None:
        if "name" not in message:
            jobs.move(message)
            return
        jobs.finish(message["name"])
        if message["failure"]:
            failed[message["name"]] = message["failure"]

    context = {
        "runs_dir": str(session.runs_dir.resolve()),
        "data_dir": None if session.data_dir is None else str(session.data_dir.resolve()),
    }
    session.launcher.map(WORKER, context, names, event)
    return failed


def _succeeds(failed: dict[str, str], name: str, call: Callable[[], Any]) -> bool:
    """Whether a call raises no `UserError`, whose message is added to ``failed`` so that the other trainings go on.

    The run of a `RunBusy` has not failed.
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
    train(open_run(session.runs_dir / name, session), session)
