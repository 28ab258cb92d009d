"""The entry point of ``hampkit`` and ``python -m hampkit``: settings of the process that precede the import of torch."""

from __future__ import annotations

import os
import sys

from hampkit.cli.app import guarded
from hampkit.launch import allocator


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 a bug, 2 a mistake that the user can correct, 130 interrupted."""
    # threads that wait by spinning make small networks several times slower on a busy machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    allocator.keep_freed_memory()
    sys.exit(guarded(sys.argv[1:]))


if __name__ == "__main__":
    main()
