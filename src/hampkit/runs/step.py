"""Steps of a run: a folder that is computed once, named by a hash of everything it depends on, and read afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from hampkit.config.content import content_hash
from hampkit.runs.store import Run

T = TypeVar("T")


@dataclass(frozen=True)
class Step(Generic[T]):
    """One folder of a run: ``write`` fills it if it is missing or damaged, ``read`` returns its content.

    >>> Step("answers", ["weights", 7], print, print).place, Step("attacks/loss", {}, print, print).place
    ('answers/ea231887', 'attacks/loss-44136fa3')
    """

    name: str  # "answers", "attacks/loss"
    key: Any  # JSON values that the content depends on beside the run's recipe; None: only the recipe
    write: Callable[[Path], Any]
    read: Callable[[Path], T]

    @property
    def place(self) -> str:
        """The path of the folder within the run."""
        if self.key is None:
            return self.name
        return f"{self.name}{'-' if '/' in self.name else '/'}{content_hash(self.key)[:8]}"

    def folder(self, run: Run) -> Path:
        """The folder of the step, which is computed if needed. The lock of the run must be held."""
        return run.step(self.place, self.write)

    def of(self, run: Run) -> T:
        """The content of the step, which is computed if needed. The lock of the run must be held."""
        return self.read(self.folder(run))

    def done(self, run: Run) -> bool:
        """Whether the step exists and is undamaged."""
        return run.done(self.place)
