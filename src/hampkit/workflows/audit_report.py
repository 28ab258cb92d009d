"""The files of an audit: the page, the results, the exposure of each record, and a list of their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hampkit import __version__
from hampkit.config.files import writable
from hampkit.judging.exposed import Records
from hampkit.judging.flags import FLAGS
from hampkit.judging.results import ModelResult, Results
from hampkit.judging.verdict import concluded
from hampkit.report import render_csv, render_html, render_markdown
from hampkit.report.cells import safe
from hampkit.report.junit import render_junit
from hampkit.runs.locks import reports
from hampkit.runs.store import write_file, write_json
from hampkit.targets.base import Given
from hampkit.workflows.annex import measured, not_tested
from hampkit.workflows.audit import AuditRequest, audit, default_folder
from hampkit.workflows.audit_ways import Ways
from hampkit.workflows.demo import demonstration
from hampkit.workflows.gate import JUNIT, Gate
from hampkit.workflows.report import texts_of
from hampkit.workflows.session import Progress, Session

HASHES = "SHA256SUMS"
OPTIONAL = ("records.csv", JUNIT)  # files that not every audit writes


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
        writable(release.out)
    return _audited(ways.given(session), request, release, session)


def audit_demonstration(folder: Path, seed: int, progress: Progress) -> tuple[Results, Results]:
    """Audit a model that memorises and one that does not, each into a folder of its own."""
    request, session = AuditRequest(seed=seed), Session(runs_dir=folder, progress=progress)
    first, second = (_audited(given, request, Release(), session) for given in demonstration(seed))
    return first, second


def _audited(given: Given, request: AuditRequest, release: Release, session: Session) -> Results:
    found = Found(*audit(given, request, session))
    results = release.gate.applied(results_of(found))
    more = {JUNIT: render_junit(results.policy)} if results.policy else {}
    return write_audit(found, results, release.out or default_folder(session.runs_dir, found.result), more)


def results_of(found: Found) -> Results:
    """The results of one audit, with the verdict and its annex."""
    results = concluded(Results((found.result,), __version__))
    document = results.to_json()
    annex = {
        "measured": measured(document),
        "declared": found.result.audit.get("declared", {}),
        "not_tested": not_tested(document),
    }
    return replace(results, verdict={**results.verdict, **annex})


def write_audit(found: Found, results: Results, folder: Path, more: Mapping[str, str] | None = None) -> Results:
    """Write results.json, report.html, report.md, results.csv, records.csv, further files and `HASHES` into a folder.

    more: name → text. Raises: `UserError` if the folder cannot be written.
    """
    document = results.to_json()
    words = texts_of(results.models, FLAGS)
    texts = {  # all of them before the first is written
        "report.html": render_html(document, [found.details], words),
        "report.md": render_markdown(document, words),
        "results.csv": render_csv(document),
        **({} if found.records is None else {"records.csv": found.records.to_csv(safe)}),
        **(more or {}),
    }
    writable(folder)
    with reports(folder):
        write_json(folder / "results.json", document)
        for name, text in texts.items():
            write_file(folder / name, text)
        for name in set(OPTIONAL) - set(texts):  # of an earlier audit
            (folder / name).unlink(missing_ok=True)
        write_file(folder / HASHES, _hashes(folder, ["results.json", *texts]))
    kinds = {"html": "report.html", "json": "results.json", "markdown": "report.md", "csv": "results.csv"}
    kinds |= {Path(name).stem: name for name in texts if name not in kinds.values()}
    return replace(results, files={kind: folder / name for kind, name in kinds.items()})


def _hashes(folder: Path, names: list[str]) -> str:
    """Lines that ``sha256sum --check`` reads."""
    return "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(names))
