"""The limits of a command: they are printed, written as JUnit XML, and give exit code 3 if one fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
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


def gate_of(
    policy: Path | None, fail_if: Sequence[str] | None, junit: Path | None
) -> Callable[[Json], list[dict[str, Any]]]:
    """The function from a results document to the outcomes of the limits; none without limits.

    Raises: `UserError` for a policy that cannot be read, before anything is trained.
    """
    check_gate(junit, policy is not None or bool(fail_if))
    if policy is None and not fail_if:
        return lambda results: []
    from hampkit.workflows.gate import Gate

    gate = Gate.of(policy, fail_if or ())
    return lambda results: [outcome.to_json() for outcome in gate.outcomes(results)]


def ended_in(
    folders: Iterable[Path], gate: Callable[[Json], list[dict[str, Any]]], junit: Path | None, silent: bool
) -> None:
    """`ended` for the results.json of several folders of comparisons, which have the attacks of every defense."""
    documents = [json.loads((folder / "results.json").read_text("utf-8")) for folder in folders]
    ended([outcome for document in documents for outcome in gate(document)], junit, silent)


def ended(outcomes: Sequence[dict[str, Any]], junit: Path | None, silent: bool) -> None:
    """Print the outcomes, write them as JUnit XML, and end with `FAILED` if a limit fails."""
    from hampkit.workflows.gate import lines, write_junit

    if junit is not None:
        write_junit(junit, outcomes)
    if outcomes and not silent:
        write(*lines(outcomes))
    if not all(outcome["passed"] for outcome in outcomes):
        raise typer.Exit(FAILED)
