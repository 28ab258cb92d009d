"""The progress of jobs: each sends an event per epoch, and their positions are added up.

Nothing here changes what a job computes. Events are at least `INTERVAL` apart, so that short epochs cost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

INTERVAL = 0.2  # seconds between two events of a job
PARTS = 100  # units of progress per model

Track = Callable[[str, int, int], None]  # description of the work, units done, units in all


def reported(job: str, models: int, send: Callable[[dict[str, Any]], None], interval: float = INTERVAL) -> Track:
    """The `track` of a trainer in a job: it sends the epoch as an event, unless it has sent one just before.

    job: a name of the job, which no other has. models: how many the job trains.
    """
    last = -interval

    def track(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= interval or done == total:
            last = now
            send({"job": job, "models": models, "epoch": done, "epochs": total})

    return track


@dataclass
class _Trainings:
    """The trainings of one job so far, such as those of a teacher and of its student, in epochs."""

    models: int = 1  # of the job
    finished: int = 0  # epochs of the trainings before this one
    epoch: int = 0  # of this training
    epochs: int = 0  # of this training in all
    share: float = 0.0  # of the job that is done; it never falls

    def move(self, epoch: int, epochs: int, usual: int) -> None:
        """usual: epochs of all trainings of a finished job; 0: none is finished yet."""
        if epoch <= self.epoch:  # another training has begun
            self.finished += self.epochs
        self.epoch, self.epochs = epoch, epochs
        done = self.finished + epoch
        self.share = max(self.share, min(done / max(usual, self.finished + epochs), 1.0))


@dataclass
class Jobs:
    """The position of several jobs, which may run at the same time, reported as one."""

    track: Track
    title: str
    total: int  # models
    done: int = 0  # models whose jobs are finished
    running: dict[str, _Trainings] = field(default_factory=dict)
    usual: int = 0  # epochs of all trainings of a finished job

    def show(self) -> None:
        """Report the position: finished models and the shares of those in training."""
        position = self.done + sum(job.models * job.share for job in self.running.values())
        self.track(self.title, min(round(PARTS * position), PARTS * self.total), PARTS * self.total)

    def move(self, event: dict[str, Any]) -> None:
        """Report the epoch in an event as `reported` sends it."""
        job = self.running.setdefault(event["job"], _Trainings(event["models"]))
        job.move(event["epoch"], event["epochs"], self.usual)
        self.show()

    def finish(self, job: str, models: int = 1) -> None:
        """Report that a job is finished."""
        trainings = self.running.pop(job, _Trainings())
        self.usual = max(self.usual, trainings.finished + trainings.epochs)
        self.done += models
        self.show()
