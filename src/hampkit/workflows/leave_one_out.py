"""Leave-one-out on disk: every attack's scores of all shadow models, and the records of the strongest."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hampkit.attacks import Attack, SignalAttack
from hampkit.code_hash import code_of
from hampkit.content import content_hash
from hampkit.judging.evaluate import unusual
from hampkit.judging.leave_one_out import Record, judge_repeated, records, repeated_scores, variance_used
from hampkit.judging.results import RepeatedResult
from hampkit.report.cells import safe
from hampkit.runs.store import read_json, write_file, write_json
from hampkit.stats.strength import finding, side
from hampkit.targets.trained import ShadowSet, Trained
from hampkit.workflows.problem import Settings

VERSION = 7  # raised when leave-one-out would give other numbers on the same signals

RECORDS = "records.csv"
# explained in docs/reading.md; row: in the data set, from 0
RECORD_COLUMNS = "row,label,attack,separation,advantage,low,high,found_at_0.1%_fpr,in_models,out_models"


def leave_one_out(
    trained: Trained, attacks: list[Attack], shadowed: ShadowSet, settings: Settings, randomised: bool
) -> tuple[tuple[RepeatedResult, ...], dict[str, tuple[str, list[int]]]]:
    """Leave-one-out of every attack that looks at signals alone, and the records of the strongest one.

    Beside the results, where each attack's scores (T, N) lie in the run, and which models are their targets. Each set of features
    is judged once, see `Problem.once`; intervals are clustered by group, where rows are in groups.

    randomised: the release draws noise, as for the target.
    """
    recipe, run = trained.problem.recipe, trained.run
    chosen = [a for a in attacks if isinstance(a, SignalAttack)]
    title = f"leave-one-out of {recipe.title}"
    targets, shadows = shadowed.targets(), shadowed.for_each_other()
    once, units = trained.problem.once, trained.problem.units()
    members = shadows.membership()[targets][:, once]
    found: list[tuple[RepeatedResult, Path]] = []
    untrained, left_out = len(shadows) - len(targets), shadows.left_out()
    done, total = 0, len(chosen) * len(members)
    for attack in chosen:

        def write(folder: Path, attack: SignalAttack = attack) -> None:
            def step() -> None:
                nonlocal done
                done += 1
                settings.track(title, done, total)

            scores = repeated_scores(attack, shadows, targets, step)[:, once]
            np.savez(folder / "scores.npz", scores=scores.astype(np.float32))
            result = judge_repeated(attack, scores, members, recipe.judge.strict, units[once])
            result = replace(result, variance=variance_used(attack, shadows, targets))
            write_json(folder / "result.json", result.to_json())

        options = asdict(attack)  # pyright: ignore[reportArgumentType]
        what = {"version": VERSION, "strict": recipe.judge.strict, "options": options, "targets": targets}
        what |= {"left_out": left_out, "code": code_of(type(attack))}
        name = f"{attack.name}-{content_hash(what)[:8]}"
        place = run.step(f"leave-one-out/{shadowed.name}/{name}", write)
        result = RepeatedResult.from_json(read_json(place / "result.json"))
        flags = (*result.flags, *(["randomised"] if randomised else []))
        found.append(
            (replace(result, flags=flags, untrained=untrained, left_out=left_out, options=unusual(attack)), place)
        )
    if found:
        best, place = max(found, key=lambda f: finding(**vars(f[0].auc)))
        scores = np.load(place / "scores.npz", allow_pickle=False)["scores"].astype(np.float64)
        # an attack below 0.5 finds what it finds when it is turned around
        scores *= -1 if side(**vars(best.auc)) < 0 else 1
        _write_records(trained, best.attack, records_of(trained, scores, members))
    places = {r.attack: (str((place / "scores.npz").relative_to(run.folder)), list(targets)) for r, place in found}
    return tuple(result for result, _ in found), places


def records_of(trained: Trained, scores: Any, members: Any) -> list[Record]:
    """Per example that is judged: how exposed it is over all shadow models."""
    problem = trained.problem
    pool, names = problem.task.pool, problem.dataset.classes
    rows = torch.cat([problem.table.rows("members"), problem.table.rows("nonmembers")])[: len(pool)]
    y, rows = (column[torch.from_numpy(problem.once)].tolist() for column in (pool.y, rows))
    return records(scores, members, rows, [names[c] if names else str(c) for c in y])


def _write_records(trained: Trained, attack: str, found: list[Record]) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(RECORD_COLUMNS.split(","))
    for r in found:
        a = r.advantage
        numbers = [f"{v:.6g}" for v in (r.separation, a.value, a.low, a.high)]
        writer.writerow([r.row, safe(r.label), attack, *numbers, r.found, r.inside, r.outside])
    write_file(trained.run.folder / RECORDS, out.getvalue())
