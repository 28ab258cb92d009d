"""Memory that a file declares to need, compared with what is free before it is taken."""

from __future__ import annotations

import os
from pathlib import Path

from hampkit.errors import UserError

_CGROUP = Path("/sys/fs/cgroup")  # of Linux, where a container's limit stands


def check_fits(path: Path, n_bytes: float, remedy: str = "take fewer rows or columns") -> None:
    """Check that the content of a file fits into the free memory.

    n_bytes: what reading the file will take.
    Raises: `UserError` with both numbers.
    """
    free = free_memory()
    if free is not None and n_bytes > free:
        raise UserError(
            f"{path} needs {_gigabytes(n_bytes)} of memory, and {_gigabytes(free)} are free; {remedy}, or a machine with more"
        )


def free_memory() -> float | None:
    """The bytes of memory that this process may still take, the limit of a container included; None if that is unknown."""
    found = [size for size in (_of_machine(), _of_container()) if size is not None]
    return min(found, default=None)


def _of_machine() -> float | None:
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        return float(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        pass
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):  # macOS and Windows
        return None


def _of_container() -> float | None:
    try:
        limit = (_CGROUP / "memory.max").read_text("ascii").strip()
        used = float((_CGROUP / "memory.current").read_text("ascii"))
        return None if limit == "max" else float(limit) - used
    except (OSError, ValueError):
        return None


def _gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes < 1e15 else f"{n_bytes / 1e9:.1e} GB"
