"""The lock of a run: one thread of one process works on a run folder at a time, the others wait for it.

The lock is the operating system's and is freed when its holder ends, however it ends.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from hampkit.errors import Notice, RunBusy, UserError
from hampkit.runs.store import IN_PLACE, writable

POLL = 0.2  # seconds between two tries of a lock that somebody else holds
_this_thread = threading.local()


@contextlib.contextmanager
def locked(runs_dir: Path, name: str, wait: bool = True) -> Iterator[None]:
    """Hold the run's lock. Where another process holds it, warn (`Notice`) and wait until that process is done or dead.

    No circle of processes can wait for each other: a thread waits only while it holds no lock. So whoever is waited for is not
    waiting itself; it finishes its work and frees the lock. A thread that does hold one, as in a defense that trains a model
    of its own, gets `RunBusy` instead. A worker process that works under its parent's lock counts as a holder (`held_by_parent`).

    wait: False raises `RunBusy` at once. Raises: `RunBusy`; `UserError` where the folder cannot be written.
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
        with _noted(name):
            yield
    finally:
        lock.release()


def reports(out: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the reports of a folder while their files are written, so that two commands do not mix theirs. Raises: as `locked`."""
    return locked(out, "report")


def held_by_parent(name: str) -> contextlib.AbstractContextManager[None]:
    """In a worker process: the process that started it holds the run's lock and waits for the worker."""
    return _noted(name)


def _locks(runs_dir: Path) -> Path:
    """The folder of the locks. Errors: `UserError`."""
    writable(runs_dir, IN_PLACE)
    locks = runs_dir / ".locks"
    if locks.exists() and not locks.is_dir():
        raise UserError(f"{locks} is a file, and hampkit keeps its locks in a folder of that name; remove the file")
    locks.mkdir(exist_ok=True)
    return locks


def _check_free_to_wait(runs_dir: Path, name: str, wait: bool) -> None:
    """Raises: `RunBusy` where this thread may not wait for a lock."""
    folder, held = runs_dir / name, _held()
    if name in held:
        raise RunBusy(
            f"this process already works on {folder}: a defense cannot train or attack the run that it is part of; give the other"
            " one another recipe, seed or --runs-dir"
        )
    if held:
        raise RunBusy(
            f"{folder} is locked, and what works on {', '.join(held)} cannot wait for it: two processes might wait for each"
            " other; run the same command again when the other one is done, or use another --runs-dir"
        )
    if not wait:
        raise RunBusy(f"another process is working on {folder}; run the same command again when it is done")


@contextlib.contextmanager
def _noted(name: str) -> Iterator[None]:
    _held().append(name)
    try:
        yield
    finally:
        _held().remove(name)


def _held() -> list[str]:
    """The runs whose locks this thread holds."""
    if not hasattr(_this_thread, "names"):
        _this_thread.names = []
    return _this_thread.names
