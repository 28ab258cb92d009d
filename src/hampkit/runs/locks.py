"""Locks of run folders: one thread of one process works on a run at a time, the others are refused or wait.

They are locks of the operating system, which releases them when their process ends, also after a crash.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from hampkit.config.files import writable
from hampkit.errors import Notice, RunBusy, UserError
from hampkit.runs.store import IN_PLACE

POLL = 0.2  # seconds between two attempts to take a lock
_this_thread = threading.local()


@contextlib.contextmanager
def locked(runs_dir: Path, name: str, wait: bool) -> Iterator[None]:
    """Hold the lock of a run. If another process holds it, raise `RunBusy`, or wait until that process releases it or ends.

    A thread waits only while it holds no lock itself, so that processes never wait for each other in a circle. A thread that
    holds a lock, as in a defense that trains another model, gets `RunBusy` instead. A worker process holds the lock of its
    parent process in this sense, see `held_by_parent`.

    wait: for the other process, after a `Notice`.

    Raises: `RunBusy`; `UserError` if the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(_locks(runs_dir) / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _check_free_to_wait(runs_dir, name, wait)
        warnings.warn(
            f"another process is working on {runs_dir / name}; waiting until it is done"
            " (Ctrl-C ends this command and loses nothing)",
            Notice,
            stacklevel=3,
        )
        lock.acquire(timeout=-1, poll_interval=POLL)
    try:
        with _counted_as_held(name):
            yield
    finally:
        lock.release()


def reports(out: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of a folder's reports, so that two commands do not mix their files.

    Raises: as `locked`.
    """
    return locked(out, "report", wait=True)  # files are written in moments


def held_by_parent(name: str) -> contextlib.AbstractContextManager[None]:
    """In a worker process, count the lock as held: the parent process holds it and waits for the worker."""
    return _counted_as_held(name)


def _locks(runs_dir: Path) -> Path:
    """The folder of the locks, which is made if it is missing.

    Raises: `UserError` if it cannot be written.
    """
    writable(runs_dir, IN_PLACE)
    locks = runs_dir / ".locks"
    if locks.exists() and not locks.is_dir():
        raise UserError(f"{locks} is a file, but hampkit needs a folder of that name for its locks; remove the file")
    locks.mkdir(exist_ok=True)
    return locks


def _check_free_to_wait(runs_dir: Path, name: str, wait: bool) -> None:
    """Check that this thread may wait for a lock.

    Raises: `RunBusy`.
    """
    folder, held = runs_dir / name, _held()
    if name in held:
        raise RunBusy(
            f"this process already works on {folder}: a defense cannot train or attack the run that it is part of; use another"
            " recipe, seed or --runs-dir inside the defense"
        )
    if held:
        raise RunBusy(
            f"{folder} is locked, and a process that works on {', '.join(held)} cannot wait for it: two processes might wait for"
            " each other; run the same command again when the other process is done, or use another --runs-dir"
        )
    if not wait:
        raise RunBusy(
            f"another process is working on {folder}; wait for it with --wait (in Python wait=True), or run the same command"
            " again when it is done"
        )


@contextlib.contextmanager
def _counted_as_held(name: str) -> Iterator[None]:
    _held().append(name)
    try:
        yield
    finally:
        _held().remove(name)


def _held() -> list[str]:
    """Names of the runs of which this thread holds the lock."""
    if not hasattr(_this_thread, "names"):
        _this_thread.names = []
    return _this_thread.names
