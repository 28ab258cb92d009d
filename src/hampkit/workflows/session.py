"""Sessions: the folders, the device, the launcher and the progress of calls. None of these changes a result."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypedDict

import torch

from hampkit.config.files import expanded
from hampkit.data.base import Place
from hampkit.errors import UserError, did_you_mean
from hampkit.launch.local import LocalProcesses
from hampkit.shadow_models.plan import MOST_WORKERS
from hampkit.training.trainer import silent
from hampkit.types import Launcher


@dataclass(frozen=True)
class Progress:
    """Callbacks that report progress."""

    track: Callable[[str, int, int], None] = silent  # (title, parts done, parts in total)
    say: Callable[[str], None] = lambda line: None  # a line of text, such as the plan of shadow models
    downloads: Any = False  # progress bar for pooch


@dataclass(frozen=True)
class Session:
    """The folders, device, launcher and progress of one or more calls."""

    runs_dir: Path = Path("runs")
    data_dir: Path | None = None  # searched for data files before the cache; default: $HAMPKIT_DATA
    device: str = "auto"  # auto, cpu, cuda, or one of several GPUs as cuda:1
    launcher: Launcher = field(default_factory=LocalProcesses)
    progress: Progress = field(default_factory=Progress)
    wait: bool = False  # for a run that another process works on; False: `RunBusy` is raised

    def __post_init__(self) -> None:
        for name in ("runs_dir", "data_dir"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, expanded(path, name))

    @property
    def cache(self) -> Path:
        """The user's cache folder."""
        return self.place().cache

    def place(self) -> Place:
        """The folders of data files."""
        return Place.default(self.data_dir, progress=self.progress.downloads)

    def torch_device(self) -> torch.device:
        """The device for torch.

        Raises: `UserError` for an invalid device or one that this machine does not have.
        """
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", self.device):
            raise UserError(f"--device {self.device} must be auto, cpu, cuda or cuda:N, a GPU by its number from 0")
        gpus = torch.cuda.device_count() if self.device != "cpu" and torch.cuda.is_available() else 0
        if self.device.startswith("cuda") and not gpus:
            raise UserError(
                f"--device {self.device}: this machine has no CUDA device that torch can use; take --device cpu or auto"
            )
        if self.device.startswith("cuda:") and int(self.device[5:]) >= gpus:
            raise UserError(f"--device {self.device}: this machine has {gpus} CUDA devices, cuda:0 to cuda:{gpus - 1}")
        return torch.device(self.device if self.device != "auto" else "cuda" if gpus else "cpu")


class Settings(TypedDict, total=False):
    """Keyword arguments: a session, fields that replace its own, and ``workers``, the number of local processes."""

    session: Session
    runs_dir: str | Path
    data_dir: str | Path | None
    device: str
    workers: int
    launcher: Launcher
    progress: Progress
    wait: bool


def session_of(settings: Settings) -> Session:
    """The session of keyword arguments.

    Raises: `TypeError` for an unknown name; `UserError` for an invalid number of workers.
    """
    given: dict[str, Any] = dict(settings)
    session, workers = given.pop("session", None) or Session(), given.pop("workers", 0)
    known = {f.name for f in fields(Session)}
    if unknown := sorted(set(given) - known):
        raise TypeError(
            f"unexpected keyword argument {unknown[0]!r}; {did_you_mean(unknown[0], {*known, 'workers', 'session'})}"
        )
    if not 0 <= workers <= MOST_WORKERS:
        raise UserError(
            f"workers={workers} must be a number of processes up to {MOST_WORKERS}, or 0 for as many as the cores allow"
        )
    if workers:
        given["launcher"] = given.get("launcher", session.launcher).limited(workers)
    if "runs_dir" in given:
        given["runs_dir"] = Path(given["runs_dir"])
    if given.get("data_dir") is not None:
        given["data_dir"] = Path(given["data_dir"])
    return replace(session, **given)
