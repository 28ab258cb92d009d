"""The files of an audit: the page, the results, the exposure of each record, and a list of their hashes."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hampkit import __version__
from hampkit.config.files import check_could_write, check_spared, writable
from hampkit.errors import Notice, UserError
from hampkit.judging.exposed import Records
from hampkit.judging.flags import FLAGS
from hampkit.judging.results import ModelResult, Results
from hampkit.judging.verdict import concluded
from hampkit.report import render_csv, render_html, render_markdown
from hampkit.report.cells import safe
from hampkit.report.junit import render_junit
from hampkit.runs.locks import reports
from hampkit.runs.store import json_text, replaces, write_file
from hampkit.targets.base import Given
from hampkit.workflows.annex import measured, not_tested
from hampkit.workflows.audit import AuditRequest, audit, default_folder
from hampkit.workflows.audit_attacks import asked_attacks
from hampkit.workflows.audit_ways import Ways
from hampkit.workflows.demo import demonstration
from hampkit.workflows.gate import JUNIT, Gate
from hampkit.workflows.own_training import Questions
from hampkit.workflows.report import REPORT_FILES, texts_of
from hampkit.workflows.session import Progress, Session

HASHES = "SHA256SUMS"
OPTIONAL = ("records.csv", JUNIT)  # files that not every audit writes
FILES = (*REPORT_FILES, *OPTIONAL, HASHES)


@dataclass(frozen=True)
class Found:
    """What an audit found."""

    result: ModelResult
    details: dict[str, Any]
    records: Records | None


@dataclass(frozen=True)
class Release:
    """The limits of a release, and where the files go."""

    gate: Gate = field(default_factory=Gate)
    out: Path | None = None  # default: a folder of its own in ``runs_dir``, named by the answers


def audit_to(ways: Ways, request: AuditRequest, release: Release, session: Session) -> Results:
    """Audit a model, judge the policy and write what was found.

    Raises: `UserError`; nothing is written before the audit is complete.
    """
    if release.out is not None:
        check_could_write(release.out)
        check_spared(release.out, FILES, ways.files().values())
        _check_own(release.out)
    by = ways.columns.by or ways.arrays.get("by") is not None
    if not by:
        release.gate.check_subgroups(())
    given = ways.given(session, _questions(ways, request))
    release.gate.check_subgroups(sorted(set(given[0].records.by)))
    return _audited(given, replace(request, source=ways.source()), release, session)


def audit_demonstration(folder: Path, seed: int, progress: Progress) -> tuple[Results, Results]:
    """Audit a model that memorises and one that does not, each into a folder of its own."""
    request, session = AuditRequest(seed=seed), Session(runs_dir=folder, progress=progress)
    first, second = (_audited([given], request, Release(), session) for given in demonstration(seed))
    return first, second


def _questions(ways: Ways, request: AuditRequest) -> Questions:
    """The attacks whose questions a training function's models are asked; none in other audits, which have no models to ask."""
    if ways.train is None:
        return Questions()
    return asked_attacks(request.attacks, request.options.get("attacks", {}), ways.shadows)


def _audited(given: Sequence[Given], request: AuditRequest, release: Release, session: Session) -> Results:
    *others, last = given
    # A claim is tested once: on canaries if there are any, which were made for it.
    plain = replace(request, declared=replace(request.declared, claimed_epsilon=None))
    found = [Found(*audit(each, plain, session)) for each in others] + [Found(*audit(last, request, session))]
    results = release.gate.applied(results_of(found))
    more = {JUNIT: render_junit(results.policy)} if results.policy else {}
    return write_audit(found, results, release.out or default_folder(session.runs_dir, found[0].result), more)


def results_of(found: Sequence[Found]) -> Results:
    """The results of one audit, with the verdict and its annex."""
    results = concluded(Results(tuple(each.result for each in found), __version__))
    document = results.to_json()
    annex = {
        "measured": measured(document),
        "declared": found[-1].result.audit.get("declared", {}),
        "not_tested": not_tested(document),
    }
    return replace(results, verdict={**results.verdict, **annex})


def write_audit(
    found: Sequence[Found], results: Results, folder: Path, more: Mapping[str, str] | None = None
) -> Results:
    """Write results.json, report.html, report.md, results.csv, records.csv, further files and `HASHES` into a folder.

    records.csv is of the first model, which has no canaries. more: name → text.
    Raises: `UserError` if the folder cannot be written.
    """
    document, records = results.to_json(), found[0].records
    words = texts_of(results.models, FLAGS)
    texts = {  # all of them before the first is written
        "results.json": json_text(document),
        "report.html": render_html(document, [each.details for each in found], words),
        "report.md": render_markdown(document, words),
        "results.csv": render_csv(document),
        **({} if records is None else {"records.csv": records.to_csv(safe)}),
        **(more or {}),
    }
    writable(folder)
    with reports(folder):
        other = replaces(folder / "results.json", texts["results.json"])
        for name, text in texts.items():
            write_file(folder / name, text)
        _remove_earlier(folder, set(OPTIONAL) - set(texts))
        write_file(folder / HASHES, _hashes(folder, list(texts)))
    kinds = {"html": "report.html", "json": "results.json", "markdown": "report.md", "csv": "results.csv"}
    kinds |= {Path(name).stem: name for name in texts if name not in kinds.values()}
    replaced = (folder / "report.html",) if other else ()
    return replace(results, files={kind: folder / name for kind, name in kinds.items()}, replaced=replaced)


def _listed(folder: Path) -> set[str]:
    """The names of the files of an earlier audit, which `HASHES` lists; none if it cannot be read."""
    try:
        lines = (folder / HASHES).read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return {line.partition("  ")[2] for line in lines}


def _check_own(folder: Path) -> None:
    """Check that a folder has no files that would be replaced and are those of no earlier audit.

    Raises: `UserError`.
    """
    own = {*_listed(folder), HASHES}
    if foreign := [name for name in FILES if name not in own and (folder / name).exists()]:
        raise UserError(
            f"{folder / foreign[0]} is not of an audit, and would be replaced; choose another folder by --out, or move the file"
        )


def _remove_earlier(folder: Path, names: Collection[str]) -> None:
    """Remove files of an earlier audit and name them; others are the user's."""
    for name in sorted(_listed(folder).intersection(names)):
        (folder / name).unlink(missing_ok=True)
        warnings.warn(
            f"{folder / name} of an earlier audit is removed: this audit has no such file", Notice, stacklevel=2
        )


def _hashes(folder: Path, names: list[str]) -> str:
    """Lines that ``sha256sum --check`` reads."""
    return "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(names))
