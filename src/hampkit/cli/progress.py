"""Progress on standard error. It is shown before torch is imported, which takes about two seconds."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hampkit.cli.output import write
from hampkit.cli.wrapping import wrapped

if TYPE_CHECKING:
    from hampkit import api

STARTING = "starting"  # what is shown before the first report


class Bars:
    """Progress bars on stderr, one per kind of work that goes on; nothing where stderr is no terminal."""

    def __init__(self, show: bool) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.bars = Progress(*columns, console=console, disable=not (show and console.is_terminal), transient=True)
        self.tasks: dict[str, TaskID] = {}

    def progress(self, say: Callable[[str], None] = lambda line: None) -> api.Progress:
        """A `Progress` that updates these bars and passes messages to ``say``."""
        from hampkit import api

        return api.Progress(self.track, say, Download(self))

    def track(self, what: str, done: int, total: int) -> None:
        """Show how far a kind of work is. Work of the same kind that begins anew takes the place of the last one."""
        if what not in self.tasks:
            self._remove_finished()
            self.tasks[what] = self.bars.add_task(what, total=total)
        elif self._task(what).finished and done < total:
            self.bars.reset(self.tasks[what], total=total)
        self.bars.update(self.tasks[what], completed=done, total=total)

    @contextlib.contextmanager
    def shown(self) -> Iterator[Bars]:
        """Show the bars, with a moving one at once."""
        # older versions of Rich end a disabled bar with an empty line
        if self.bars.disable:
            yield self
            return
        self.tasks[STARTING] = self.bars.add_task(STARTING, total=None)
        with self.bars:
            yield self

    def _remove_finished(self) -> None:
        """Remove the bars of work that is done: a comparison has more kinds of work than a terminal has lines."""
        for what in [name for name in self.tasks if name == STARTING or self._task(name).finished]:
            self.bars.remove_task(self.tasks.pop(what))

    def _task(self, what: str) -> Any:
        return self.bars.tasks[self.bars.task_ids.index(self.tasks[what])]


class Download:
    """A Rich progress bar as pooch wants it: total, update, reset, close."""

    def __init__(self, bars: Bars) -> None:
        self.bars, self.total, self.done = bars, 0, 0

    def update(self, size: int) -> None:
        self.done += size
        self.bars.track("downloading", self.done, max(self.total, self.done))

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        self.bars.track("downloading", self.done, self.done or 1)


def sayer(silent: bool) -> Callable[[str], None]:
    """Prints the plan of what takes long, to stderr: stdout is for results."""

    def say(line: str) -> None:
        width = Console(stderr=True).width if sys.stderr.isatty() else None
        write(*([line] if width is None else wrapped(line, width)), stream=sys.stderr)

    return (lambda line: None) if silent else say
