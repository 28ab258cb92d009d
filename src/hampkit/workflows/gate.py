"""The gate of a release: a policy applied to results, in words and as an exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hampkit.config.files import expanded, writable
from hampkit.errors import UserError, did_you_mean
from hampkit.judging.policy import Limit, groups_of, judged, limit_of, read_policy
from hampkit.judging.results import Results
from hampkit.registry import ATTACKS
from hampkit.report.junit import render_junit
from hampkit.runs.store import write_file

JUNIT = "junit.xml"
Json = Mapping[str, Any]


@dataclass(frozen=True)
class Gate:
    """The limits that results must keep; none: every result passes."""

    limits: Sequence[Limit] = ()

    @staticmethod
    def of(policy: str | Path | None = None, fail_if: Sequence[str] = ()) -> Gate:
        """The limits of a policy file and of short forms.

        Raises: `UserError` for a policy or a short form that cannot be read.
        """
        limits = (*(read_policy(policy) if policy else ()), *map(limit_of, fail_if))
        for limit in limits:
            if limit.attack != "any":
                ATTACKS.get(limit.attack)  # raises for an unknown name: such a limit could never be decided
        return Gate(limits)

    def check_subgroups(self, names: Sequence[str]) -> None:
        """Check that each limit on a subgroup names one of the subgroups that exist.

        Raises: `UserError`.
        """
        for name in groups_of(self.limits):
            if name not in names:
                there = did_you_mean(name, names) if names else "name their column by --by"
                raise UserError(f"a limit is on the subgroup {name!r}, and there is none of this name; {there}")

    def applied(self, results: Results) -> Results:
        """The results with what becomes of the limits."""
        if not self.limits:
            return results
        outcomes = judged(self.limits, results.to_json())
        return replace(results, policy=tuple(outcome.to_json() for outcome in outcomes))


def lines(outcomes: Sequence[Json]) -> list[str]:
    """One line for each outcome of a results document, and one for all.

    >>> lines([])
    []
    """
    if not outcomes:
        return []
    failed = sum(not each["passed"] for each in outcomes)
    of = f"{len(outcomes)} limit{'s' if len(outcomes) != 1 else ''}"
    last = f"policy failed: {failed} of {of}" if failed else f"policy passed: {of}"
    return [*(f"{_word(each)}: {each['model']}: {each['limit']['text']}: {each['text']}" for each in outcomes), last]


def check_junit(file: str | Path) -> None:
    """Check that outcomes can be written into a file, before anything is trained.

    Raises: `UserError`.
    """
    path = expanded(file, "--junit")
    if path.suffix.lower() != ".xml" and not path.is_dir():
        raise UserError(
            f"--junit {file} is no .xml file, and its content would be replaced; write --junit {path.stem}.xml"
        )
    if path.is_dir():
        raise UserError(f"--junit {file} is a folder; name a file in it, such as {path / JUNIT}")
    writable(path.parent, "name a file in another folder by --junit")


def write_junit(file: str | Path, outcomes: Sequence[Json]) -> None:
    """Write the outcomes of a results document as JUnit XML."""
    path = Path(file).expanduser()
    writable(path.parent)
    write_file(path, render_junit(outcomes))


def _word(outcome: Json) -> str:
    if outcome["status"] == "unresolved":
        return "unresolved, accepted" if outcome["passed"] else "unresolved, which fails"
    return outcome["status"]
