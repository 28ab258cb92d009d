"""``python -m tests.fuzz [TARGET…] --minutes 10``: random inputs by hand, for as long as wanted; exit code 1 if any fails."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from .driver import fuzz
from .targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], help="default: all")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first input")
    given = parser.parse_args()
    targets = given.targets or list(TARGETS)
    with tempfile.TemporaryDirectory() as folder:
        done, failures = fuzz(Path(folder), targets, given.seed, seconds=60 * given.minutes / len(targets))
    print(*failures, f"{done:,} inputs, {len(failures)} failures", sep="\n\n")
    return min(len(failures), 1)


if __name__ == "__main__":
    sys.exit(main())
