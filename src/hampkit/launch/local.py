"""Jobs in several processes of one thread each, which is faster than threads if the arithmetic is the limit.

A worker is a new Python interpreter. It reads jobs from its standard input, one JSON value per line, and writes events to its
standard output, one JSON value per line. It ends at the end of its input, so no worker outlives its parent process.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from hampkit.errors import RunBusy, UserError, of_file_system, one_line
from hampkit.launch import allocator
from hampkit.registry import load_object

Event = Callable[[dict[str, Any]], None]
LAST_OUTPUT = 5.0  # seconds to read the remaining output of a process that has ended
# a worker finds modules where this process does; by itself Python would look into the current folder first
START = "from sys import argv, path; path[:] = argv[1:]; from hampkit.launch import local; local.serve()"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class LocalProcesses:
    """A `hampkit.types.Launcher` that starts processes on this machine."""

    workers: int = 0  # jobs at the same time; 0: as many as the cores allow

    def at_once(self, threads: int) -> int:
        return self.workers or at_once(threads)

    def limited(self, workers: int) -> LocalProcesses:
        return LocalProcesses(workers)

    def map(self, function: str, context: dict[str, Any], jobs: Sequence[Any], event: Event) -> None:
        run_jobs(function, context, jobs, self.at_once(1), event)


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def at_once(threads: int) -> int:
    """Number of jobs with this many threads that fit the cores, at least one."""
    return max(1, cores() // max(threads, 1))


def run_jobs(function: str, context: dict[str, Any], jobs: Sequence[Any], workers: int, event: Event) -> None:
    """Run ``function(context) → (job, send) → None`` over all jobs in several processes; everything is JSON.

    function: ``package.module:name``, called once in each worker. ``send`` passes a dict to ``event``, which is called in this
    process, in one thread.

    Raises: the `UserError` of a worker, after the other workers are stopped; `RuntimeError` for any other exception of a worker.
    """
    events: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()
    started: list[_Worker] = []
    waiting, done = deque(jobs), 0
    allocator.give_back_freed_memory()
    try:
        for k in range(min(workers, len(jobs))):
            started.append(_Worker(k, function, context, events))
            started[k].send(waiting.popleft())
        while done < len(jobs):
            k, message = events.get()
            if "failed" in message:
                raise _error_of(message)
            if message.get("done"):
                done += 1
                if waiting:
                    started[k].send(waiting.popleft())
            else:
                event(message)
    finally:
        for worker in started:
            worker.stop()


class _Worker:
    """One worker process, with one thread that reads its output and one that waits for its end."""

    def __init__(self, k: int, function: str, context: dict[str, Any], events: queue.Queue[Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )
        self.reader = threading.Thread(target=self._read, args=(k, events), daemon=True)
        self.reader.start()
        threading.Thread(target=self._wait, args=(k, events), daemon=True).start()
        self.send({"function": function, "context": context})

    def send(self, value: Any) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(value) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the process has ended, which the reader reports

    def _read(self, k: int, events: queue.Queue[Any]) -> None:
        """Put every event of the process into the queue, and at the end a failure: otherwise `run_jobs` might wait for ever."""
        assert self.process.stdout is not None
        text = "the output of a worker process can no longer be read"
        try:
            for line in self.process.stdout:
                events.put((k, json.loads(line)))
            text = _ending(self.process.wait())
        except ValueError as error:
            text = f"a worker process wrote a line that is not an event ({one_line(error)})"
        finally:  # if the worker was stopped by `run_jobs`, the queue is no longer read
            events.put((k, _failed(text)))

    def _wait(self, k: int, events: queue.Queue[Any]) -> None:
        """Report the end of the process if a child of it keeps its output open, which the reader would wait for."""
        code = self.process.wait()
        self.reader.join(LAST_OUTPUT)
        if self.reader.is_alive():
            events.put((k, _failed(_ending(code))))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def _error_of(message: dict[str, Any]) -> Exception:
    """The exception that stands for a worker's in this process."""
    if message.get("busy"):
        return RunBusy(message["failed"])
    return (UserError if message["user"] else RuntimeError)(message["failed"])


def _failed(text: str) -> dict[str, Any]:
    return {"failed": f"{text}; run the same command again to go on", "user": True}


def _ending(code: int) -> str:
    """The message for a process that ended before its jobs were done."""
    cause = {-9: " (out of memory?)", 0: " (something in the defense, the network or a library ended it)"}.get(code, "")
    return f"a worker process ended with code {code} before its work was done{cause}"


def serve() -> None:
    """Run a worker: the first line of its input names the function and its context, every further line is a job."""
    allocator.keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # on Ctrl-C the parent process alone prints a message
    jobs, events = _separate_streams()
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_lines, args=(jobs, lines), daemon=True).start()

    def send(message: dict[str, Any]) -> None:
        events.write(json.dumps(message) + "\n")
        events.flush()

    try:
        start = json.loads(lines.get())
        work = load_object(start["function"])(start["context"])
        while True:
            work(json.loads(lines.get()), send)
            send({"done": True})
    except (Exception, SystemExit) as error:
        send(_message_of(error))


def _message_of(error: BaseException) -> dict[str, Any]:
    """The event of a worker that failed; the traceback of a bug is printed."""
    if isinstance(error, UserError):
        return {"failed": str(error), "user": True, "busy": isinstance(error, RunBusy)}
    if isinstance(error, OSError):  # such as a full disk
        return {"failed": of_file_system(error), "user": True}
    if isinstance(error, SystemExit):
        place = _place(error)
        text = (
            f"SystemExit({error.code!r}) in {place}: it ends a worker process before its work is done; raise an error"
        )
        return {"failed": text, "user": True}
    traceback.print_exception(error)
    return {"failed": one_line(error, 1000, named=True), "user": False}


def _separate_streams() -> tuple[TextIO, TextIO]:
    """The streams of jobs and of events, moved away from standard input and standard output.

    The user's code, a library or a child process may use the standard streams: their output goes to standard error, where it
    cannot mix with events, and their input is empty, so that they cannot take a job.
    """
    jobs, events = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    sys.stdout = sys.stderr  # one buffer, so that lines stay in order
    return jobs, events


def _place(error: BaseException) -> str:
    """The file and line that raised an exception."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}, line {last.lineno}"


def _read_lines(jobs: TextIO, lines: queue.Queue[str]) -> None:
    for line in jobs:
        lines.put(line)
    os._exit(0)  # the parent process has ended
