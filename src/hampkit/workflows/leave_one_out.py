"""Leave-one-out on disk: every attack's scores of all shadow models, and the records of the strongest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hampkit.attacks import Attack, Shadows, SignalAttack
from hampkit.code_hash import code_of
from hampkit.judging.evaluate import evaluate
from hampkit.judging.leave_one_out import repeated_scores, variance_used
from hampkit.judging.results import ERROR, AttackResult
from hampkit.runs.step import Step
from hampkit.runs.store import Run, read_json, write_json
from hampkit.shadow_models.base import ShadowSet
from hampkit.stats.intervals import Interval, bonferroni_level
from hampkit.stats.pairs import Pairs
from hampkit.stats.strength import finding, side
from hampkit.workflows.problem import Problem
from hampkit.workflows.run_records import exposure_step, run_records, write_records
from hampkit.workflows.session import Session
from hampkit.workflows.shadow import for_each_other

VERSION = 9  # raised when leave-one-out would give other numbers on the same signals


@dataclass(frozen=True)
class Repeated:
    """Leave-one-out of every attack."""

    results: tuple[AttackResult, ...] = ()
    places: dict[str, tuple[str, list[int]]] = field(default_factory=dict)  # where scores (T, N) lie, and the T targets
    exposure: dict[str, Any] = field(default_factory=dict)  # how many records are exposed, see `Records.summary`


@dataclass(frozen=True)
class _Shadowed:
    """The shadow models of a problem, as attackers of one another."""

    problem: Problem
    found: ShadowSet

    @cached_property
    def shadows(self) -> Shadows:
        return for_each_other(self.found, self.problem.drawn)

    @cached_property
    def once(self) -> Any:
        """Which of the rows of ``shadows`` are judged."""
        return self.problem.once[self.shadows.rows]

    @cached_property
    def targets(self) -> list[int]:
        return self.found.targets()

    @cached_property
    def members(self) -> Any:
        """(T, N) bool over the rows that are judged."""
        return self.shadows.membership()[self.targets][:, self.once]


def leave_one_out(problem: Problem, run: Run, attacks: list[Attack], found: ShadowSet, session: Session) -> Repeated:
    """Leave-one-out of every attack that looks at signals alone; writes the records of the strongest one.

    Each set of features is judged once, see `Problem.once`; intervals are clustered by group, where rows are in groups.
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
    exposed: dict[str, Any] = {}
    if results:
        best = max(results, key=lambda r: finding(**vars(r.deciding)))
        exposed = _write_records(shadowed, run, best, run.folder / steps[best.attack].place)
    places = {name: (f"{step.place}/scores.npz", list(shadowed.targets)) for name, step in steps.items()}
    return Repeated(tuple(results), places, exposed)


def _step(attack: SignalAttack, shadowed: _Shadowed, scored: Callable[[], None]) -> Step[AttackResult]:
    """The scores (T, N) and the result of one attack."""
    problem, shadows, targets = shadowed.problem, shadowed.shadows, shadowed.targets
    strict, left_out = problem.recipe.judge.strict, shadows.left_out()
    options = asdict(attack)  # pyright: ignore[reportArgumentType]
    key = {"version": VERSION, "strict": strict, "options": options, "targets": targets}
    key |= {"left_out": left_out, "code": code_of(type(attack)), **attack.asks()}

    def write(folder: Path) -> None:
        scores = repeated_scores(attack, shadows, targets, scored)[:, shadowed.once]
        units = problem.units_of_data[problem.once]
        np.savez(folder / "scores.npz", scores=scores.astype(np.float32), member=shadowed.members, unit=units)
        found = evaluate(scores, shadowed.members, rows=problem.units()[problem.once], strict=strict)
        more: dict[str, Any] = {"untrained": len(shadows) - len(targets), "left_out": left_out}
        more["shape"] = problem.dataset.shape
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


def _write_records(shadowed: _Shadowed, run: Run, best: AttackResult, place: Path) -> dict[str, Any]:
    """Write records.csv, with the scores of the strongest attack. Returns how many records are exposed."""
    scores = _scores(place)
    # an attack below 0.5 finds what it finds when it is turned around
    scores *= -1 if side(best.auc.low, best.auc.high) < 0 else 1
    exposed = exposure_step(shadowed.shadows, shadowed.problem, shadowed.found.used()).of(run)
    found = run_records(shadowed.problem, exposed)
    write_records(run.folder, shadowed.problem, found, best.attack, scores, shadowed.members)
    return found.summary()
