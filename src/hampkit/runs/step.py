"""A step of a run: made once, named by all that it depends on, read again afterwards."""

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
    """What a run holds in one folder: ``write`` fills it where it is missing or damaged, ``read`` returns its content.

    >>> Step("answers", ["weights", 7], print, print).place, Step("attacks/loss", {}, print, print).place
    ('answers/ea231887', 'attacks/loss-44136fa3')
    """

    name: str  # "answers", "attacks/loss"
    key: Any  # JSON values that decide the content beside the run's recipe; None: the recipe alone decides
    write: Callable[[Path], Any]
    read: Callable[[Path], T]

    @property
    def place(self) -> str:
        """The folder within the run."""
        if self.key is None:
            return self.name
        return f"{self.name}{'-' if '/' in self.name else '/'}{content_hash(self.key)[:8]}"

    def folder(self, run: Run) -> Path:
        """The folder of the finished step. The run's lock must be held."""
        return run.step(self.place, self.write)

    def of(self, run: Run) -> T:
        """The content of the finished step."""
        return self.read(self.folder(run))

    def done(self, run: Run) -> bool:
        return run.done(self.place)
