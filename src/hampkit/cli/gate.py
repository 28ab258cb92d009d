"""The limits of a command: they are printed, written as JUnit XML, and give exit code 3 if one fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from hampkit.cli.output import write
from hampkit.errors import UserError

Json = Mapping[str, Any]
FAILED = 3  # the exit code of a policy that failed


def check_gate(junit: Path | None, limited: bool) -> None:
    """Check that a file for outcomes is only asked for together with limits, and can be written.

    Raises: `UserError`.
    """
    if junit is None:
        return
    if not limited:
        raise UserError(f"--junit {junit} has nothing to hold without limits; add --policy FILE or --fail-if LIMIT")
    from hampkit.workflows.gate import check_junit

    check_junit(junit)


def ended(outcomes: Sequence[dict[str, Any]], junit: Path | None, silent: bool) -> None:
    """Print the outcomes, write them as JUnit XML, and end with `FAILED` if a limit fails."""
    from hampkit.workflows.gate import lines, write_junit

    if junit is not None:
        write_junit(junit, outcomes)
    if outcomes and not silent:
        write(*lines(outcomes))
    if not all(outcome["passed"] for outcome in outcomes):
        raise typer.Exit(FAILED)
