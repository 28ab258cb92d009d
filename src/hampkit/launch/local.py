"""Work that is cut into jobs, run in processes of one core each: where arithmetic is the limit, that is faster than threads.

A worker is a fresh interpreter that reads jobs from its standard input, one JSON value per line, and answers a line per event. It
ends when its input does, so that no worker outlives the process that asked for the work, however that one ended.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from hampkit.errors import RunBusy, UserError, of_file_system, one_line
from hampkit.launch import allocator
from hampkit.registry import load_object

Event = Callable[[dict[str, Any]], None]
LAST_WORDS = 5.0  # seconds that may pass until what a process said before it ended is read
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class LocalProcesses:
    """A `hampkit.types.Launcher`: processes of this machine."""

    workers: int = 0  # jobs at once; 0: as many as the cores hold

    def at_once(self, threads: int) -> int:
        return self.workers or at_once(threads)

    def limited(self, workers: int) -> LocalProcesses:
        return LocalProcesses(workers)

    def map(self, function: str, context: dict[str, Any], jobs: Sequence[Any], event: Event) -> None:
        run_jobs(function, context, jobs, self.at_once(1), event)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def at_once(threads: int) -> int:
    """How many jobs of so many threads the cores hold: at least one."""
    return max(1, cores() // max(threads, 1))


def run_jobs(function: str, context: dict[str, Any], jobs: Sequence[Any], workers: int, event: Event) -> None:
    """Run ``function(context) → (job, tell) → None`` over all jobs in this many processes; everything is JSON.

    function: ``package.module:name``, called once in each worker. ``tell`` sends a dict to ``event``, which is called in this
    process, in one thread. A `UserError` of a worker is raised here; the other workers are stopped.
    """
    events: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()
    started: list[_Worker] = []
    waiting, done = list(jobs), 0
    allocator.give_back_freed_memory()
    try:
        for k in range(min(workers, len(jobs))):
            started.append(_Worker(k, function, context, events))
            started[k].give(waiting.pop(0))
        while done < len(jobs):
            k, message = events.get()
            if "failed" in message:
                raise _error_of(message)
            if message.get("done"):
                done += 1
                if waiting:
                    started[k].give(waiting.pop(0))
            else:
                event(message)
    finally:
        for worker in started:
            worker.stop()


class _Worker:
    """One process, and the threads that listen to it and wait for its end."""

    def __init__(self, k: int, function: str, context: dict[str, Any], events: queue.Queue[Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hampkit.launch.local"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        self.listener = threading.Thread(target=self._listen, args=(k, events), daemon=True)
        self.listener.start()
        threading.Thread(target=self._watch, args=(k, events), daemon=True).start()
        self.give({"function": function, "context": context})

    def give(self, value: Any) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(value) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died; the listener says so

    def _listen(self, k: int, events: queue.Queue[Any]) -> None:
        """Pass on what it says and that it ended: of one that falls silent unnoticed, everybody would wait for ever."""
        assert self.process.stdout is not None
        text = "a worker process can no longer be listened to"
        try:
            for line in self.process.stdout:
                events.put((k, json.loads(line)))
            text = _ending(self.process.wait())
        except ValueError as error:
            text = f"a worker process said what is no answer ({one_line(error)})"
        finally:  # of a worker that was stopped, nobody reads it any more
            events.put((k, _failed(text)))

    def _watch(self, k: int, events: queue.Queue[Any]) -> None:
        """Say that it ended where a process that it forked holds its output open: the listener would wait for that one."""
        code = self.process.wait()
        self.listener.join(LAST_WORDS)
        if self.listener.is_alive():
            events.put((k, _failed(_ending(code))))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def _error_of(message: dict[str, Any]) -> Exception:
    """The exception to raise here for the one that a worker raised."""
    if message.get("busy"):
        return RunBusy(message["failed"])
    return (UserError if message["user"] else RuntimeError)(message["failed"])


def _failed(text: str) -> dict[str, Any]:
    return {"failed": f"{text}; run the same command again to go on", "user": True}


def _ending(code: int) -> str:
    """What to say of a process that ended though there was work."""
    why = {-9: " (out of memory?)", 0: " (something in the defense, the network or a library ended it)"}.get(code, "")
    return f"a worker process ended with code {code} before its work was done{why}"


def _serve() -> None:
    """A worker: the first line says what to call, every further one is a job."""
    allocator.keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # of Ctrl-C, the process that gave the work speaks, once
    jobs, answers = _apart()
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(jobs, lines), daemon=True).start()

    def tell(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        start = json.loads(lines.get())
        work = load_object(start["function"])(start["context"])
        while True:
            work(json.loads(lines.get()), tell)
            tell({"done": True})
    except UserError as error:
        tell({"failed": str(error), "user": True, "busy": isinstance(error, RunBusy)})
    except OSError as error:  # such as a full disk
        tell({"failed": of_file_system(error), "user": True})
    except SystemExit as error:
        text = f"SystemExit({error.code!r}) in {_place(error)}: it ends a worker process before its work is done; raise an error"
        tell({"failed": text, "user": True})
    except Exception as error:
        import traceback

        traceback.print_exc()
        tell({"failed": one_line(error, 1000, named=True), "user": False})


def _apart() -> tuple[TextIO, TextIO]:
    """Jobs and answers on descriptors of their own.

    What a user's own code, a library or a process of theirs prints goes to standard error, and what they read is empty: a line
    among the answers could not be understood, and a job that somebody else took would be waited for.
    """
    jobs, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr  # in one order with what is written there
    return jobs, answers


def _place(error: BaseException) -> str:
    """Where it was raised."""
    import traceback

    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}, line {last.lineno}"


def _read(jobs: TextIO, lines: queue.Queue[str]) -> None:
    for line in jobs:
        lines.put(line)
    os._exit(0)  # whoever gave the work is gone


if __name__ == "__main__":
    _serve()
