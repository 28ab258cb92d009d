"""Random inputs for every loader: each ends well, or in one `UserError` that a terminal can show."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hampkit.errors import UserError

from .targets import TARGETS

SECONDS = 60  # for one input; the reader of a damaged file may not wait
GIGABYTES = 2.0  # that the process may grow by
LONGEST = 1000  # characters of a message, with the paths in it


def fuzz(folder: Path, targets: list[str], first: int, inputs: int = 0, seconds: float = 0.0) -> tuple[int, list[str]]:
    """The number of inputs tried, and a text for each that went wrong; inputs or seconds bound the work, for each target."""
    done, failures = 0, []
    for name in targets:
        start, seed = time.monotonic(), first
        while (inputs and seed < first + inputs) or (seconds and time.monotonic() - start < seconds):
            if text := tried(folder / name, name, seed):
                failures.append(f"{name} with seed {seed}: {text}")
            done, seed = done + 1, seed + 1
    return done, failures


def tried(folder: Path, name: str, seed: int) -> str:
    """What is wrong with how one input ends; empty if nothing is."""
    folder.mkdir(parents=True, exist_ok=True)
    before = _memory()
    faulthandler.dump_traceback_later(4 * SECONDS, exit=True)
    try:
        with warnings.catch_warnings(), _limit():
            warnings.simplefilter("ignore")
            TARGETS[name](folder, np.random.default_rng(seed))
    except UserError as error:
        return _of_message(str(error)) or next(filter(None, map(_of_message, error.report)), "")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "".join(traceback.format_exception(error))
    finally:
        faulthandler.cancel_dump_traceback_later()
    grown = _memory() - before
    return f"the process grew by {grown:.1f} GB" if grown > GIGABYTES else ""


def _of_message(text: str) -> str:
    if "\n" in text or not text.isprintable():
        return f"a message that breaks a terminal: {text!r}"
    return f"a message of {len(text)} characters: {text}" if len(text) > LONGEST else ""


def _memory() -> float:
    """The largest memory of this process so far, in GB; 0 where it is unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


@contextlib.contextmanager
def _limit() -> Iterator[None]:
    """A `TimeoutError` in the block after a minute, on systems with alarms."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(*_: object) -> None:
        raise TimeoutError(f"no end after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
