"""Leave-one-out on disk: every attack's scores of all shadow models, and the records of the strongest."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hampkit.attacks import Attack, Shadows, SignalAttack
from hampkit.code_hash import code_of
from hampkit.judging.evaluate import evaluate
from hampkit.judging.leave_one_out import Record, records, repeated_scores, variance_used
from hampkit.judging.results import ERROR, AttackResult
from hampkit.report.cells import safe
from hampkit.runs.step import Step
from hampkit.runs.store import Run, read_json, write_file, write_json
from hampkit.shadow_models.base import ShadowSet
from hampkit.stats.intervals import Interval, bonferroni_level
from hampkit.stats.pairs import Pairs
from hampkit.stats.strength import finding, side
from hampkit.workflows.problem import Problem
from hampkit.workflows.session import Session
from hampkit.workflows.shadow import for_each_other

VERSION = 8  # raised when leave-one-out would give other numbers on the same signals

RECORDS = "records.csv"
# explained in docs/reading.md; row: in the data set, from 0
RECORD_COLUMNS = "row,label,attack,separation,advantage,low,high,found_at_0.1%_fpr,in_models,out_models"


@dataclass(frozen=True)
class _Shadowed:
    """The shadow models of a problem, as attackers of one another."""

    problem: Problem
    found: ShadowSet

    @cached_property
    def shadows(self) -> Shadows:
        return for_each_other(self.found)

    @cached_property
    def targets(self) -> list[int]:
        return self.found.targets()

    @cached_property
    def members(self) -> Any:
        """(T, N) bool over the rows that are judged."""
        return self.shadows.membership()[self.targets][:, self.problem.once]


def first_records(folder: Path, most: int = 10) -> list[dict[str, str]]:
    """The most exposed records of a run as its records.csv has them; none without leave-one-out."""
    try:
        lines = io.StringIO((folder / RECORDS).read_text("utf-8"), newline="")
    except FileNotFoundError:
        return []
    return list(islice(csv.DictReader(lines), most))


def leave_one_out(
    problem: Problem, run: Run, attacks: list[Attack], found: ShadowSet, session: Session
) -> tuple[tuple[AttackResult, ...], dict[str, tuple[str, list[int]]]]:
    """Leave-one-out of every attack that looks at signals alone; writes the records of the strongest one.

    Returned beside the results: where each attack's scores (T, N) lie in the run, and which models are their targets. Each set of
    features is judged once, see `Problem.once`; intervals are clustered by group, where rows are in groups.
    """
    shadowed = _Shadowed(problem, found)
    chosen = [a for a in attacks if isinstance(a, SignalAttack)]
    title, done, total = f"leave-one-out of {problem.recipe.title}", 0, len(chosen) * len(shadowed.targets)

    def scored() -> None:
        nonlocal done
        done += 1
        session.progress.track(title, done, total)

    steps = {attack.name: _step(attack, shadowed, scored) for attack in chosen}
    level = bonferroni_level(ERROR, len(steps))
    results = [_corrected(step, shadowed, run, level) for step in steps.values()]
    if results:
        best = max(results, key=lambda r: finding(**vars(r.deciding)))
        _write_records(shadowed, run, best, run.folder / steps[best.attack].place)
    places = {name: (f"{step.place}/scores.npz", list(shadowed.targets)) for name, step in steps.items()}
    return tuple(results), places


def _step(attack: SignalAttack, shadowed: _Shadowed, scored: Callable[[], None]) -> Step[AttackResult]:
    """The scores (T, N) and the result of one attack."""
    problem, shadows, targets = shadowed.problem, shadowed.shadows, shadowed.targets
    strict, left_out = problem.recipe.judge.strict, shadows.left_out()
    options = asdict(attack)  # pyright: ignore[reportArgumentType]
    key = {"version": VERSION, "strict": strict, "options": options, "targets": targets}
    key |= {"left_out": left_out, "code": code_of(type(attack))}

    def write(folder: Path) -> None:
        once = problem.once
        scores = repeated_scores(attack, shadows, targets, scored)[:, once]
        units = problem.units_of_data[once]
        np.savez(folder / "scores.npz", scores=scores.astype(np.float32), member=shadowed.members, unit=units)
        found = evaluate(scores, shadowed.members, rows=problem.units()[once], strict=strict)
        more = {"untrained": len(shadows) - len(targets), "left_out": left_out}
        result = found.result(attack, "leave-one-out", variance=variance_used(attack, shadows, targets), **more)
        write_json(folder / "result.json", result.to_json())

    def read(folder: Path) -> AttackResult:
        return AttackResult.from_json(read_json(folder / "result.json"))

    return Step(f"leave-one-out/{shadowed.found.name}/{attack.name}", key, write, read)


def _corrected(step: Step[AttackResult], shadowed: _Shadowed, run: Run, level: float) -> AttackResult:
    """The result of one attack, with the AUC at the level that allows for the choice among the attacks."""
    result = step.of(run)
    wide = _corrected_step(step, shadowed, run, level).of(run)
    # the scores on disk are float32, so that a few more of them are equal: the value stays the one of the table
    return replace(result, auc_corrected=replace(wide, value=result.auc.value))


def _corrected_step(step: Step[AttackResult], shadowed: _Shadowed, run: Run, level: float) -> Step[Interval]:
    """The AUC of one attack at the level that allows for the choice among the attacks; step: that of its scores."""
    problem = shadowed.problem

    def write(folder: Path) -> None:
        scores = _scores(run.folder / step.place)
        auc = Pairs.of(scores, shadowed.members, rows=problem.units()[problem.once]).auc(level)
        write_json(folder / "result.json", asdict(auc))

    def read(folder: Path) -> Interval:
        return Interval(**read_json(folder / "result.json"))

    attack = step.name.rpartition("/")[2]
    return Step(f"corrected/{attack}", {"version": VERSION, "level": level, "scores": step.place}, write, read)


def _scores(place: Path) -> Any:
    """The scores (T, N) of leave-one-out in the folder of a step."""
    return np.load(place / "scores.npz", allow_pickle=False)["scores"].astype(np.float64)


def records_of(problem: Problem, scores: Any, members: Any) -> list[Record]:
    """Per example that is judged: how exposed it is over all shadow models."""
    names = problem.dataset.classes
    pool = problem.task.pool
    places = problem.places() if pool.row is None else pool.row.numpy()
    y, rows = (column[problem.once].tolist() for column in (pool.y.numpy(), places))
    return records(scores, members, rows, [names[c] if names else str(c) for c in y])


def _write_records(shadowed: _Shadowed, run: Run, best: AttackResult, place: Path) -> None:
    """Write records.csv from the scores of the strongest attack."""
    scores = _scores(place)
    # an attack below 0.5 finds what it finds when it is turned around
    scores *= -1 if side(best.auc.low, best.auc.high) < 0 else 1
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(RECORD_COLUMNS.split(","))
    for r in records_of(shadowed.problem, scores, shadowed.members):
        a = r.advantage
        numbers = [f"{v:.6g}" for v in (r.separation, a.value, a.low, a.high)]
        writer.writerow([r.row, safe(r.label), best.attack, *numbers, r.found, r.inside, r.outside])
    write_file(run.folder / RECORDS, out.getvalue())
