"""The workflow of ``hampkit audit``: from the answers of a foreign model to results and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from hampkit.attacks import Attack, Shadows, SignalAttack
from hampkit.config.schema import build
from hampkit.config.sections import JudgeConfig
from hampkit.errors import UserError
from hampkit.judging import flags
from hampkit.judging.case import score, shuffled
from hampkit.judging.evaluate import evaluate, judge_scores, judged_together
from hampkit.judging.exposed import Records, exposed_records
from hampkit.judging.leave_one_out import repeated_scores, variance_used
from hampkit.judging.predictive_value import PRIORS, predictive
from hampkit.judging.results import ERROR, AttackResult, ModelResult
from hampkit.judging.results.wording import named
from hampkit.judging.subgroups import subgroups
from hampkit.registry import ATTACKS
from hampkit.rng import derive
from hampkit.runs.environment import environment
from hampkit.stats import grouped
from hampkit.stats.exposure import exposure
from hampkit.stats.intervals import bonferroni_level
from hampkit.targets.base import Audited, Given, audited
from hampkit.text import audit_folder
from hampkit.workflows.audit_attacks import chosen_attacks
from hampkit.workflows.audit_bounds import Made, Scores, audit_bounds
from hampkit.workflows.audit_subject import Subject
from hampkit.workflows.report_inputs import answer_histogram, curve
from hampkit.workflows.session import Session


@dataclass(frozen=True)
class Declared:
    """What the user declares about the model: it is printed as such, and never checked."""

    claimed_epsilon: float | None = None
    claimed_delta: float | None = None
    prior: tuple[float, ...] = ()  # shares of members among the records an attacker meets
    purpose: str = ""

    def __post_init__(self) -> None:
        epsilon, delta = self.claimed_epsilon, self.claimed_delta
        if epsilon is not None and not (epsilon >= 0 and np.isfinite(epsilon)):
            raise UserError(f"claimed_epsilon={epsilon} must be a number of at least 0")
        if delta is not None and not 0 <= delta < 1:
            raise UserError(f"claimed_delta={delta} must lie in [0, 1)")
        for prior in self.prior:
            if not 0 < prior < 1:
                raise UserError(f"prior={prior} must lie between 0 and 1: the share of members among the records")

    def to_json(self) -> dict[str, Any]:
        found = {key: value for key, value in asdict(self).items() if value not in (None, (), "")}
        return {**found, **({"prior": list(self.prior)} if self.prior else {})}


@dataclass(frozen=True)
class AuditRequest:
    """What an audit is to do."""

    attacks: Sequence[str] = ()  # names or families; default: all whose evidence is there
    options: Mapping[str, Any] = field(default_factory=dict)  # of the judge and of attacks, by section
    declared: Declared = field(default_factory=Declared)
    membership: Literal["given", "coin"] = (
        "given"  # coin: each record's membership was drawn by an independent fair coin
    )
    allow_equal: bool = False
    seed: int = 0
    source: Mapping[str, Any] = field(
        default_factory=dict
    )  # what was given, see `hampkit.workflows.audit_ways.Ways.source`

    def __post_init__(self) -> None:
        if self.membership not in ("given", "coin"):
            raise UserError(f"membership={self.membership!r} must be given or coin")


def audit(given: Given, request: AuditRequest, session: Session) -> tuple[ModelResult, dict[str, Any], Records | None]:
    """The result of an audit, its details for a page, and the exposure of each record where there are shadow models.

    Raises: `UserError` for answers, records or options that no audit can use.
    """
    target = audited(given, request.seed, request.allow_equal)
    judge = build(JudgeConfig, request.options.get("judge", {}), "judge")
    subject = Subject(target, judge, request.seed)
    options = request.options.get("attacks", {})
    attacks, skipped = chosen_attacks(request.attacks, options, subject.evident)
    made = _attacked(attacks, subject, session)
    checks = _checks(subject)
    records = _exposure(subject)
    made = made._replace(results=_flagged(made.results, checks, subject), again=_randomised(made.again, subject))
    result = _result(subject, request, made, checks)
    found = _findings(request, made, subject, records)
    if target.canaries:
        result = replace(result, canaries={**target.canaries, "bounds": found["bounds"]})
    result = replace(result, audit=found, skipped=skipped)
    return result, _details(subject, made.scores, records), records


def _attacked(attacks: list[Attack], subject: Subject, session: Session) -> Made:
    """The results of the attacks on the target and on the shadow models, and their scores."""
    results, scores, known = [], {}, {}
    for k, attack in enumerate(attacks):
        session.progress.track(f"attacking {subject.target.title}", k, len(attacks))
        scores[attack.name], known[attack.name] = score(attack, subject.case)
        found = judge_scores(attack, scores[attack.name], known[attack.name], subject.case, subject.judge)
        # leave-one-out leaves models out on purpose: none of them is unusable
        results.append(found if subject.target.as_target is None else replace(found, left_out=0))
    session.progress.track(f"attacking {subject.target.title}", len(attacks), len(attacks))
    return Made(results, scores, known, _repeated(attacks, subject, session))


def _repeated(attacks: list[Attack], subject: Subject, session: Session) -> list[AttackResult]:
    """Leave-one-out over the shadow models: each is the target once."""
    if subject.shadows is None:
        return []
    chosen = [attack for attack in attacks if isinstance(attack, SignalAttack)]
    level, title, found = bonferroni_level(ERROR, len(chosen)), f"leave-one-out of {subject.target.title}", []
    for k, attack in enumerate(chosen):
        session.progress.track(title, k, len(chosen))
        found.append(_on_shadows(attack, subject, subject.shadows, level))
    session.progress.track(title, len(chosen), len(chosen))
    return found


def _on_shadows(attack: SignalAttack, subject: Subject, shadows: Shadows, level: float) -> AttackResult:
    """One attack on every shadow model; level: of the AUC for the best of several attacks."""
    once, group = subject.once, subject.target.pool.group
    rows = None if group is None else group.numpy()[once]
    scores, members = repeated_scores(attack, shadows)[:, once], shadows.membership()[:, once]
    measured = evaluate(scores, members, rows=rows, strict=subject.judge.strict)
    variance = variance_used(attack, shadows, range(len(shadows)))
    corrected = measured.pairs.auc(level)
    shape = tuple(subject.target.pool.shape)
    return measured.result(attack, "leave-one-out", shape, variance=variance, auc_corrected=corrected)


def _checks(subject: Subject) -> dict[str, Any]:
    """The null, and whether members differ from non-members without any model."""
    case = subject.case
    null = shuffled(case, subject.seed)
    scores, _ = score(ATTACKS.get(subject.null_attack)(), null)
    found = {
        "null": grouped.auc_interval(scores, null.member, case.group),
        "off_null": flags.off_null(scores, null.member, case.group),
    }
    if not (subject.target.has_inputs or subject.target.has_labels):
        return {**found, "shift": None, "shifted": False}
    e, known = case.evidence, case.evidence.known
    assert known is not None
    given = (known.x, known.y, known.member, e.x, e.y, case.member)
    blind, surely = flags.shift(*given, derive(subject.seed, "shift"), group_new=case.group)
    return {**found, "shift": blind, "shifted": surely}


def _flagged(results: list[AttackResult], checks: Mapping[str, Any], subject: Subject) -> list[AttackResult]:
    raised = {
        "shifted": checks["shifted"],
        "constant": flags.constant(subject.target.logits.numpy()),
        "null": checks["off_null"],
    }
    more = tuple(name for name, is_raised in raised.items() if is_raised)
    return _randomised([replace(r, flags=r.flags + more) for r in results], subject)


def _randomised(results: list[AttackResult], subject: Subject) -> list[AttackResult]:
    """The results with the flag of attacks that see one draw of random answers."""
    if not subject.target.randomised:
        return results
    return [replace(r, flags=(*r.flags, "randomised")) if r.sees_one_draw else r for r in results]


def _exposure(subject: Subject) -> Records | None:
    """How exposed each record is, from the scaled logits of the shadow models."""
    found, target = subject.target.shadows, subject.target
    if found is None:
        return None
    names = target.ids or tuple(str(int(row) + 1) for row in target.pool.row)  # pyright: ignore[reportOptionalIterable]
    labels = [target.pool.classes[c] for c in target.pool.y.tolist()]
    group = None if target.pool.group is None else target.pool.group.numpy()
    try:
        exposed = exposure(found.signals.mean(2), found.members)
    except ValueError:  # no record has models of both kinds
        return None
    return exposed_records(exposed, names, labels, group, target.persons)


def _result(subject: Subject, request: AuditRequest, made: Made, checks: Mapping[str, Any]) -> ModelResult:
    target, case, pool = subject.target, subject.case, subject.target.pool
    together = judged_together(made.results, made.scores, case.member, case.group)
    member = target.membership
    return ModelResult(
        recipe=target.title,
        defense="",
        run=target.folder,
        seed=request.seed,
        data={
            "name": named({"recipe": target.title, "canaries": target.canaries}),
            "rows": len(pool),
            "features": int(np.prod(pool.shape)) if target.has_inputs else 0,
            "classes": pool.num_classes if target.has_labels else 0,
            "sha256": pool.sha256,
            "notes": list(target.notes),
        },
        accuracy=dict(target.trained.accuracy) if target.trained else _accuracy(target),
        rows=dict(target.trained.rows)
        if target.trained
        else {"train": int(member.sum()), "test": int((~member).sum())},
        known={"members": int(case.known_member.sum()), "nonmembers": int((~case.known_member).sum())},
        judge=asdict(subject.judge),
        attacks=(*together, *made.again),
        null=checks["null"],
        null_attack=subject.null_attack,
        off_null=checks["off_null"],
        shift=checks["shift"],
        facts=dict(target.facts),
        copies={"left_out": int((~subject.once).sum())},
        groups=case.groups(),
        weights=(target.fingerprint,),
    )


def _accuracy(target: Audited) -> dict[str, float]:
    """The accuracy on members and on non-members; empty if the answers are scores, which do not have the predicted label."""
    if target.scale.kind == "scores":
        return {}
    right, member = (target.logits.argmax(1) == target.pool.y).numpy(), target.membership
    return {"train": float(right[member].mean()), "test": float(right[~member].mean())}


def _findings(request: AuditRequest, made: Made, subject: Subject, records: Records | None) -> dict[str, Any]:
    """What an audit has beside the numbers of attacks: predictive values, exposure, bounds, and what the user declared."""
    case, priors, declared = subject.case, request.declared.prior or PRIORS, request.declared
    scores, known = made.scores, made.known
    fixed = [name for name in scores if "known" not in ATTACKS.get(name).needs] or list(scores)
    sides = {name: (scores[name], known[name]) for name in fixed}
    values = predictive(sides, case.member, case.known_member, priors, (case.group, subject.known_group))
    found: dict[str, Any] = {
        "way": subject.target.way,
        **subject.answers,
        "inputs": subject.target.has_inputs,
        "names": bool(subject.target.ids),
        "declared": declared.to_json(),
        "source": dict(request.source),
        "membership": request.membership,
        "persons": subject.target.pool.group is not None,
        "ppv": [value.to_json() for value in values],
        "bounds": audit_bounds(subject, made, request.membership == "coin", declared.claimed_delta),
    }
    if subject.target.by and case.rows is not None:
        by = [subject.target.by[row] for row in case.rows]
        found["subgroups"] = subgroups(scores, case.member, by, case.group)
    return found | ({} if records is None else {"exposure": records.summary()})


def _details(subject: Subject, scores: Scores, records: Records | None) -> dict[str, Any]:
    """What a page shows beside the results: curves, a histogram, records, provenance."""
    target, env = subject.target, environment(torch.device("cpu"))
    logits, y = target.logits.numpy(), target.pool.y.numpy()
    return {
        "curves": {name: curve(values, subject.case.member) for name, values in scores.items()},
        "histogram": {**answer_histogram(logits, y, target.membership), "label": "The model's answers"},
        "exposed": [] if records is None else _first(records),
        "provenance": {
            "versions": {"python": env["python"], **env["versions"]},
            "git": env["git"],
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        },
    }


def _first(records: Records) -> list[list[str]]:
    """The ten most exposed records; for persons with names, the name comes before the record."""
    rows = records.rows(10)
    if not records.persons:
        return rows
    return [[f"{person} (record {row[0]})", *row[1:]] for row, person in zip(rows, records.persons, strict=False)]


def default_folder(runs_dir: Path, result: ModelResult) -> Path:
    """The folder of an audit's files: that of the models if they were trained here, else one for the answers."""
    return runs_dir / (result.run or audit_folder(result.recipe, result.weights[0]))
