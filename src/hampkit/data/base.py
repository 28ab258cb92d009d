"""Sources of data sets, and the folders in which their files are kept."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from hampkit.config.files import expanded
from hampkit.errors import UserError
from hampkit.types import Dataset


@dataclass(frozen=True)
class Place:
    """The folders in which files are looked for and kept."""

    data_dir: Path | None  # the user's own copies: searched first, never written to
    cache: Path  # downloads are kept here
    download: bool = True  # False: never use the network
    progress: Any = False  # progress bar for pooch: an object with total, update, reset, close

    @staticmethod
    def default(data_dir: str | Path | None = None, download: bool = True, progress: Any = False) -> Place:
        """The given folder or else $HAMPKIT_DATA, with the user's cache.

        Raises: `UserError` if that is not a folder.
        """
        import pooch

        given, origin = (data_dir, "--data-dir") if data_dir else (os.environ.get("HAMPKIT_DATA"), "$HAMPKIT_DATA")
        folder = expanded(given, origin) if given else None
        if folder is not None and not folder.is_dir():
            raise UserError(f"{origin} {folder} is not a folder; create it, name another one or leave it out")
        return Place(folder, Path(pooch.os_cache("hampkit")), download, progress)


class Source(ABC):
    """A source of a data set. Subclasses are frozen dataclasses; their fields are the options of the data set.

    Raises: `UserError` for an option out of its range.
    """

    name: ClassVar[str]
    about: ClassVar[str]  # one line for `hampkit list datasets`
    layout: ClassVar[str] = "default"  # its split layout, see hampkit.data.splits.LAYOUTS
    stratified: ClassVar[bool] = False  # whether every segment of the split gets its share of each class

    @abstractmethod
    def load(self, place: Place) -> Dataset:
        """The whole data set, in the order of its source.

        Raises: `UserError` if its files are missing or not as expected.
        """

    def examine(self, place: Place) -> tuple[Dataset, list[str]]:
        """The data set, and lines for `hampkit data check`: the files that it came from, and how they were verified.

        Raises: `UserError` as `load`.
        """
        return self.load(place), []


def fingerprint(*arrays: Tensor) -> str:
    """The sha256 (64 hex digits) of dtype, shape and bytes of arrays, such as x (N, *shape) and y (N,)."""
    digest = hashlib.sha256()
    for array in arrays:
        values = array.detach().cpu().contiguous().numpy()
        # the dtype text, such as '<f4', contains the byte order
        digest.update(f"{values.dtype.str}{values.shape}".encode())
        digest.update(values.data)
    return digest.hexdigest()
