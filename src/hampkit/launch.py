"""Work that is cut into jobs, run in processes of one core each: where arithmetic is the limit, that is faster than threads.

A worker is a fresh interpreter that reads jobs from its standard input, one JSON value per line, and answers a line per event. It
ends when its input does, so that no worker outlives the process that asked for the work, however that one ended.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from hampkit.errors import UserError
from hampkit.registry import load_object

Event = Callable[[dict[str, Any]], None]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(function: str, context: dict[str, Any], jobs: Sequence[Any], workers: int, event: Event) -> None:
    """Run ``function(context) → (job, tell) → None`` over all jobs in this many processes; everything is JSON.

    function: ``package.module:name``, called once in each worker. ``tell`` sends a dict to ``event``, which is called in this
    process, in one thread. A `UserError` of a worker is raised here; the other workers are stopped.
    """
    events: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()
    started = [_Worker(k, function, context, events) for k in range(min(workers, len(jobs)))]
    waiting, done = list(jobs), 0
    try:
        for worker in started:
            worker.give(waiting.pop(0))
        while done < len(jobs):
            k, message = events.get()
            if "failed" in message:
                raise (UserError if message["user"] else RuntimeError)(message["failed"])
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
    """One process, and the thread that listens to it."""

    def __init__(self, k: int, function: str, context: dict[str, Any], events: queue.Queue[Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hampkit.launch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        threading.Thread(target=self._listen, args=(k, events), daemon=True).start()
        self.give({"function": function, "context": context})

    def give(self, value: Any) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(value) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died; the listener says so

    def _listen(self, k: int, events: queue.Queue[Any]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            events.put((k, json.loads(line)))
        code = self.process.wait()
        if code:  # a worker that was stopped tells nobody, and nobody listens any more
            text = f"a worker process ended with code {code}" + (" (out of memory?)" if code == -9 else "")
            events.put((k, {"failed": f"{text}; run the same command again to go on", "user": True}))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def _serve() -> None:
    """A worker: the first line says what to call, every further one is a job."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a user's own code prints must not mix with the answers
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()

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
        tell({"failed": str(error), "user": True})
    except OSError as error:  # such as a full disk
        where = error.filename or "file system"
        text = f"{error.strerror or error}: {where}; check space and permissions, then run again"
        tell({"failed": text, "user": True})
    except Exception as error:
        import traceback

        traceback.print_exc()
        tell({"failed": f"{type(error).__name__}: {error}", "user": False})


def _read(lines: queue.Queue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)  # whoever gave the work is gone


if __name__ == "__main__":
    _serve()
