"""What a data set is to the rest: a source that loads, and the places where its files may lie."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from hampkit.errors import UserError
from hampkit.types import Dataset


@dataclass(frozen=True)
class Place:
    """Where files are looked for and kept."""

    data_dir: Path | None  # the user's own copies; looked at first, never written to
    cache: Path  # downloads are kept here
    download: bool = True  # False: never use the network
    progress: Any = False  # handed to pooch as its progress bar: an object with total, update, reset, close

    @staticmethod
    def default(data_dir: str | Path | None = None, download: bool = True, progress: Any = False) -> Place:
        """The given folder, else $HAMPKIT_DATA, and the user's cache; raises `UserError` if that is no folder."""
        import pooch

        given, origin = (data_dir, "--data-dir") if data_dir else (os.environ.get("HAMPKIT_DATA"), "$HAMPKIT_DATA")
        folder = Path(given).expanduser() if given else None
        if folder is not None and not folder.is_dir():
            raise UserError(f"{origin} {folder} is no folder; create it, name another one or leave it out")
        return Place(folder, Path(pooch.os_cache("hampkit")), download, progress)


class Source(ABC):
    """Where a data set comes from; subclasses are frozen dataclasses, their fields are the data set's options."""

    name: ClassVar[str]
    about: ClassVar[str]  # one line for `hampkit list datasets`
    layout: ClassVar[str] = "default"  # the split layout that suits it: see hampkit.data.splits.LAYOUTS
    stratified: ClassVar[bool] = False  # every segment of the split gets its share of each class; not so as published

    @abstractmethod
    def load(self, place: Place) -> Dataset:
        """The whole data set, in the order of its source; raises `UserError` if it cannot be had."""

    def examine(self, place: Place) -> tuple[Dataset, list[str]]:
        """The data set, and lines for `hampkit data check`: which files it came from and how far they are known."""
        return self.load(place), []


def fingerprint(*arrays: Tensor) -> str:
    """sha256 (64 hex digits) over dtype, shape and bytes of arrays, such as ``x`` ``(N, *shape)`` and ``y`` ``(N,)``."""
    digest = hashlib.sha256()
    for array in arrays:
        values = array.detach().cpu().contiguous().numpy()
        # The byte order is part of the dtype text ('<f4'), so the same content never has two names on one machine.
        digest.update(f"{values.dtype.str}{values.shape}".encode())
        digest.update(values.data)
    return digest.hexdigest()
