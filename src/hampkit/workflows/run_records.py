"""records.csv of a run with shadow models: how exposed each record, or each person, is."""

from __future__ import annotations

import csv
import io
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hampkit.attacks import Shadows
from hampkit.code_hash import code_of
from hampkit.config.content import content_hash
from hampkit.judging.exposed import COLUMNS, Records, exposed_records
from hampkit.judging.leave_one_out import Record, records
from hampkit.report.cells import safe
from hampkit.runs.step import Step
from hampkit.runs.store import write_file
from hampkit.stats.exposure import Exposure, exposure
from hampkit.workflows.problem import Problem

RECORDS = "records.csv"
# explained in docs/reading.md; row: in the data set, from 0
RUN_COLUMNS = (
    "row", *COLUMNS[1:], "attack", "separation", "advantage", "advantage_low", "advantage_high", "found_at_0.1%_fpr",
)  # fmt: skip


def first_records(folder: Path, most: int = 10) -> list[dict[str, str]]:
    """The most exposed records of a run as its records.csv has them; none without leave-one-out."""
    try:
        lines = io.StringIO((folder / RECORDS).read_text("utf-8"), newline="")
    except FileNotFoundError:
        return []
    return list(islice(csv.DictReader(lines), most))


def exposure_step(shadows: Shadows, problem: Problem, used: Any) -> Step[Exposure]:
    """The exposure of each judged record, from the scaled logits of the released answers, means over views.

    used: what identifies the shadow models. Shadow models that learnt next to nothing are left out.
    """
    once, models = problem.once[shadows.rows], np.arange(len(shadows))
    if (counted := shadows.counted()) is not None:
        models = np.flatnonzero(counted.any(1))

    def write(folder: Path) -> None:
        signals = np.stack([shadows.signals(view) for view in range(shadows.views())]).mean(0, dtype=np.float64)
        members = shadows.membership()[models][:, once]
        try:
            found = exposure(signals[models][:, once], members)
        except ValueError:  # no record has models of both kinds, and three of them
            found = Exposure.none(members)
        np.savez(folder / "exposure.npz", **{f.name: getattr(found, f.name) for f in fields(found)})

    def read(folder: Path) -> Exposure:
        with np.load(folder / "exposure.npz", allow_pickle=False) as file:
            return Exposure(**{f.name: file[f.name] for f in fields(Exposure)})

    key = {"models": content_hash([used, models.tolist()]), "code": code_of(exposure)}
    return Step("exposure", key, write, read)


def run_records(problem: Problem, found: Exposure) -> Records:
    """The judged records of a run, or the persons if its rows are in groups, most exposed first."""
    names = problem.dataset.classes
    y = problem.task.pool.y.numpy()[problem.once].tolist()
    labels, rows = [names[c] if names else str(c) for c in y], [str(row) for row in _rows(problem)]
    if problem.dataset.group is None:
        return exposed_records(found, rows, labels)
    group = problem.dataset.group.numpy()[problem.places()][problem.once]
    return exposed_records(found, rows, labels, np.unique(group, return_inverse=True)[1])


def write_records(folder: Path, problem: Problem, found: Records, attack: str, scores: Any, members: Any) -> None:
    """Write records.csv: the exposure of each record, and what the strongest attack finds of it.

    scores, members: (T, N) of leave-one-out, of the judged records.
    """
    of_attack = {str(r.row): r for r in records(scores, members, _rows(problem))}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(RUN_COLUMNS)
    for cells in found.rows():
        writer.writerow([cells[0], safe(cells[1]), *cells[2:], *_found(attack, of_attack.get(cells[0]))])
    write_file(folder / RECORDS, out.getvalue())


def _found(attack: str, record: Record | None) -> list[str]:
    """The cells of the strongest attack; empty for a record that all targets, or none of them, were trained on."""
    if record is None:
        return [attack, *[""] * 5]
    a = record.advantage
    return [attack, *(f"{v:.6g}" for v in (record.separation, a.value, a.low, a.high)), str(record.found)]


def _rows(problem: Problem) -> list[int]:
    """The places of the judged records in the data set."""
    pool = problem.task.pool
    places = problem.places() if pool.row is None else pool.row.numpy()
    return places[problem.once].tolist()
