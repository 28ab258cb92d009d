"""The process of the command ``hampkit`` (also ``python -m hampkit``): what is set once, before torch is loaded."""

from __future__ import annotations

import os
import sys

from hampkit.cli.app import guarded
from hampkit.launch import allocator


def main() -> None:
    """The command. Exit codes: 0 done, 2 a mistake the user can mend, 1 a bug."""
    # before torch is loaded: threads that wait by spinning make small networks several times slower on a busy machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    allocator.keep_freed_memory()
    sys.path.insert(0, os.getcwd())  # for net=mymodule:factory beside the user's own files
    sys.exit(guarded(sys.argv[1:]))


if __name__ == "__main__":
    main()
