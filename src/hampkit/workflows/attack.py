"""Attack a target, judge the attacks, and write what was found into its run."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hampkit.attacks import Attack, Reference
from hampkit.attacks.base import Oracle
from hampkit.code_hash import code_of
from hampkit.config.content import content_hash
from hampkit.config.recipe import Recipe
from hampkit.errors import Notice
from hampkit.judging import flags
from hampkit.judging.case import Case, Pool, build_case, score, shuffled
from hampkit.judging.evaluate import judge_scores, judged_together
from hampkit.judging.results import AttackResult, ModelResult
from hampkit.registry import ATTACKS
from hampkit.rng import derive
from hampkit.runs.locks import locked
from hampkit.runs.step import Step
from hampkit.runs.store import read_json, write_json
from hampkit.shadow_models.base import ShadowSet
from hampkit.shadow_models.reuse import Lender
from hampkit.stats import grouped
from hampkit.stats.metrics import Interval
from hampkit.targets.trained import Trained
from hampkit.training.threads import threads
from hampkit.types import Probe
from hampkit.workflows.canaries import canary_facts
from hampkit.workflows.chosen_attacks import choose, earlier, probes_of, shadow_probes_of, suited, without_answers
from hampkit.workflows.command import command_of
from hampkit.workflows.leave_one_out import leave_one_out
from hampkit.workflows.prepare import usual_threads
from hampkit.workflows.problem import Problem
from hampkit.workflows.query import Answers, probe_step, query_step
from hampkit.workflows.reference_model import check_named, reference_of, reference_step, with_reference
from hampkit.workflows.report_inputs import Evaluated, curve, describe, details, with_checksum
from hampkit.workflows.run_records import RECORDS, first_records
from hampkit.workflows.scores import read_scores
from hampkit.workflows.session import Session
from hampkit.workflows.shadow import for_target, train_shadow_models
from hampkit.workflows.train import create, train_locked

ATTACK_VERSION = 8  # raised when an attack or the judge would give other numbers on the same answers
NULL_ATTACK = "modified-entropy-per-class"  # it fits thresholds, so that a leak of membership into the fit would show


def evaluate(
    problem: Problem, session: Session, attacks: Sequence[str] = (), lender: Lender | None = None
) -> Evaluated:
    """Train the target or find it, and attack it with the named attacks, by default with all whose evidence a run holds.

    lender: another run whose shadow models are taken instead of training some.
    """
    chosen = choose(problem.recipe, attacks)
    check_named(problem, attacks)
    found = None if lender is None else lender.load_for(problem.shadow_task())  # raises before anything is trained
    with locked(session.runs_dir, problem.folder, session.wait), threads(problem.recipe.train.threads):
        run = create(problem, session)
        target = train_locked(problem, run)
        chosen, skipped = suited(chosen, Attacked(problem, target).answers, named=bool(attacks))
        others = earlier(run, problem.recipe, [attack.name for attack in chosen])
        chosen, others, without = with_reference(problem, run, (chosen, others), named=bool(attacks))
        skipped |= without
        if lender is not None and found is not None:
            task = problem.shadow_task(shadow_probes_of([*chosen, *others]))
            found = replace(found, probes=lender.probes_for(task, None if found.differences else run))
            chosen, others, without = without_answers(chosen, others, found, named=bool(attacks))
            skipped |= without
        elif problem.recipe.shadows.models:
            found = train_shadow_models(problem, run, session, [*chosen, *others])
        attacked = Attacked(problem, target, found, probes_of([*chosen, *others]))
        return attack(attacked, Attacks(chosen, others, skipped), session)


@dataclass(frozen=True)
class Attacks:
    """The attacks of a command, and what becomes of others."""

    chosen: Sequence[Attack]
    earlier: Sequence[Attack] = ()  # of an earlier command on this run, which stay in its result
    skipped: Mapping[str, str] = field(default_factory=dict)  # made for the defense, but without effect → the reason

    def everyone(self) -> list[Attack]:
        return [*self.chosen, *self.earlier]


@dataclass(frozen=True)
class Attacked:
    """A target with its problem, its shadow models, and what it answered."""

    problem: Problem
    target: Trained
    shadow_set: ShadowSet | None = None
    probes: tuple[Probe, ...] = ()

    @property
    def recipe(self) -> Recipe:
        return self.problem.recipe

    @cached_property
    def queries(self) -> Step[Answers]:
        return query_step(self.target, self.problem)

    @cached_property
    def answers(self) -> Answers:
        return self.queries.of(self.target.run)

    @cached_property
    def reference(self) -> Reference:
        """The reference model; computed only where an attack that needs it is made."""
        return reference_of(self.problem, self.target)

    @cached_property
    def case(self) -> Case:
        problem, judge = self.problem, self.recipe.judge
        units = problem.units() if judge.copies == "keep" else None
        pool = Pool(self.target.pool, problem.table.n_members, problem.once, units)
        shadows = None if self.shadow_set is None else for_target(self.shadow_set)
        case = build_case(pool, self.answers.released, judge, self.recipe.seed)
        kept = {probe: probe_step(self.target, problem, probe).of(self.target.run) for probe in self.probes}
        return case.holding(shadows, self.answers.population, kept)

    def key(self) -> dict[str, Any]:
        """What decides the numbers of every attack."""
        model = self.queries.place.rpartition("/")[2]
        return {"version": ATTACK_VERSION, "model": model, "judge": asdict(self.recipe.judge)}


def attack(attacked: Attacked, attacks: Attacks, session: Session) -> Evaluated:
    """Attack, judge, write result.json and details.json; the run's lock must be held.

    Attacks of an earlier result that was judged in the same way stay in the run's files. Returned are those that were asked for.
    """
    run, recipe = attacked.target.run, attacked.recipe
    session.progress.track(f"querying {recipe.title}", 0, 1)
    case = attacked.case
    session.progress.track(f"querying {recipe.title}", 1, 1)
    everyone = attacks.everyone()
    steps = {attack.name: _attack_step(attack, attacked) for attack in everyone}
    checks = Step("checks", attacked.key(), lambda f: _write_checks(case, recipe, f), _result)
    found: dict[str, tuple[AttackResult, Any]] = {}
    title = f"attacking {recipe.title}"
    for k, (name, step) in enumerate(steps.items()):
        session.progress.track(title, k, len(steps) + 1)
        found[name] = step.of(run)
    session.progress.track(title, len(steps), len(steps) + 1)
    checked = checks.of(run)
    session.progress.track(title, len(steps) + 1, len(steps) + 1)
    scores = {name: values for name, (_, values) in found.items()}
    places = {name: f"{step.place}/scores.npz" for name, step in steps.items()}
    result = _assemble(attacked, [r for r, _ in found.values()], scores, checked)
    result = replace(result, earlier=tuple(attack.name for attack in attacks.earlier), skipped=dict(attacks.skipped))
    result, again = _with_leave_one_out(attacked, everyone, result, session)
    files = {name: read_scores(run, place) for name, place in places.items()} if attacked.problem.canaries else {}
    result = replace(result, canaries=canary_facts(attacked.problem, result.attacks, files))
    written = _write_result(attacked, result, {"scores": places, "repeated": again}, scores)
    if attacks.earlier:
        result = _only([attack.name for attack in attacks.chosen], result, scores, case)
    return Evaluated(run, result, written)


def _attack_step(attack: Attack, attacked: Attacked) -> Step[tuple[AttackResult, Any]]:
    """The result of one attack and its scores of the candidates (N,)."""
    key = {**attacked.key(), "options": asdict(attack), "code": code_of(type(attack))}  # pyright: ignore[reportArgumentType]
    key |= attack.asks()
    if attacked.shadow_set is not None and "shadows" in attack.needs:
        key["shadows"] = attacked.shadow_set.used()
    if "reference" in attack.needs:
        key["reference"] = reference_step(attacked.problem).place

    def write(folder: Path) -> None:
        _write_attack(attack, attacked, folder)

    def read(folder: Path) -> tuple[AttackResult, Any]:
        return AttackResult.from_json(_result(folder)), np.load(folder / "scores.npz", allow_pickle=False)["scores"]

    return Step(f"attacks/{attack.name}", key, write, read)


def _result(folder: Path) -> dict[str, Any]:
    return read_json(folder / "result.json")


def _write_attack(attack: Attack, attacked: Attacked, folder: Path) -> None:
    case, recipe = attacked.case, attacked.recipe
    oracle = _oracle(attack, attacked)
    case = case.holding_reference(attacked.reference if "reference" in attack.needs else None)
    scores, known = score(attack, replace(case, evidence=replace(case.evidence, oracle=oracle)))
    arrays: dict[str, Any] = {"scores": scores, "known_scores": known, "member": case.member}
    arrays["unit"] = attacked.problem.units_of_judged()[case.rows]
    np.savez(folder / "scores.npz", **arrays, **({"group": case.group} if case.group is not None else {}))  # pyright: ignore[reportArgumentType]
    found = judge_scores(attack, scores, known, case, recipe.judge)
    found = found if oracle is None else replace(found, queries=max(1, int(oracle.asked.max())))
    write_json(folder / "result.json", found.to_json())


def _oracle(attack: Attack, attacked: Attacked) -> Oracle | None:
    """What answers the questions of an attack's own choice, about the candidates and the known examples behind them."""
    if "oracle" not in attack.needs:
        return None
    box, asked, case = attacked.target.black_box(), itertools.count(), attacked.case
    seed = derive(attacked.recipe.seed, "oracle", attack.name)
    rows = len(case.member) + len(case.known_member)
    return Oracle(lambda x: box.query(x, derive(seed, next(asked))), rows, attack.budget)


def _write_checks(case: Case, recipe: Recipe, folder: Path) -> None:
    """The null, and whether members differ from non-members without any model."""
    null = shuffled(case, recipe.seed)
    scores, _ = score(ATTACKS.get(NULL_ATTACK)(), null)
    e, known = case.evidence, case.evidence.known
    assert known is not None
    given, seed = (known.x, known.y, known.member, e.x, e.y, case.member), derive(recipe.seed, "shift")
    shift, surely = flags.shift(*given, seed, group_new=case.group)
    document = {
        "null": asdict(grouped.auc_interval(scores, null.member, case.group)),
        "off_null": flags.off_null(scores, null.member, case.group),
        "shift": asdict(shift),
        "shifted": surely,
    }
    write_json(folder / "result.json", document)


def _with_leave_one_out(
    attacked: Attacked, attacks: list[Attack], result: ModelResult, session: Session
) -> tuple[ModelResult, dict[str, Any]]:
    """The result with leave-one-out over the shadow models, and where each attack's scores lie."""
    found, again = attacked.shadow_set, {}
    # leave-one-out judges the shadow models' own recipe: not this one where they were trained otherwise
    if found is not None and not found.differences:
        repeated = leave_one_out(attacked.problem, attacked.target.run, attacks, found, session)
        duplicated = ["duplicated"] if attacked.problem.duplicated else []
        models = tuple(
            replace(r, flags=(*r.flags, *(["randomised"] if _randomised(r, attacked.answers) else []), *duplicated))
            for r in repeated.results
        )
        result = replace(result, attacks=(*result.attacks, *models), exposure=repeated.exposure)
        again = repeated.places
    if not result.of("leave-one-out"):
        _remove_records(attacked.target.folder)
    return result, again


def _randomised(result: AttackResult, answers: Answers) -> bool:
    """Whether an attack's numbers rest on one draw of the release's random numbers."""
    return answers.randomised and result.sees_one_draw


def _remove_records(folder: Path) -> None:
    """Remove the records of an earlier result, and warn of that: no attack of this result is behind them."""
    if (folder / RECORDS).exists():
        (folder / RECORDS).unlink()
        warnings.warn(
            f"{folder / RECORDS} is removed, and leave-one-out is no longer in the result, because this command has no shadow"
            " models of the run's own recipe; give --shadows again to have both again",
            Notice,
            stacklevel=5,
        )


def _write_result(
    attacked: Attacked, result: ModelResult, places: Mapping[str, Any], scores: Mapping[str, Any]
) -> dict[str, Any]:
    """Write result.json and details.json. Returns the details as their file holds them."""
    run, document = attacked.target.run, result.to_json()
    found = describe(attacked.target, attacked.problem.recipe, attacked.answers.folder, attacked.shadow_set)
    found["records"] = {"first": first_records(run.folder), "summary": result.exposure}
    found |= {"curves": {name: curve(s, attacked.case.member) for name, s in scores.items()}, **places}
    found["result"] = content_hash(document)
    write_json(run.folder / "details.json", with_checksum(found))
    write_json(run.folder / "result.json", document)
    return details(run)


def _only(names: Sequence[str], result: ModelResult, scores: Mapping[str, Any], case: Case) -> ModelResult:
    """The result with these attacks alone."""
    kept = [a for a in result.of("target") if a.attack in names]
    together = judged_together(kept, scores, case.member, case.group)
    models = (a for a in result.of("leave-one-out") if a.attack in names)
    return replace(result, attacks=(*together, *models), earlier=())


def _assemble(
    attacked: Attacked, results: list[AttackResult], scores: Mapping[str, Any], checked: Mapping[str, Any]
) -> ModelResult:
    """All numbers of one target; leave-one-out is added later."""
    problem, target, case, recipe = attacked.problem, attacked.target, attacked.case, attacked.recipe
    judged = _flagged(attacked, results, scores, checked)
    return ModelResult(
        recipe=recipe.title,
        defense=recipe.defense.name,
        run=target.run.name,
        seed=recipe.seed,
        data=problem.data(),
        accuracy=dict(target.accuracy),
        rows=problem.rows(),
        known={"members": int(case.known_member.sum()), "nonmembers": int((~case.known_member).sum())},
        judge=asdict(recipe.judge),
        attacks=judged_together(judged, scores, case.member, case.group),
        null=Interval(**checked["null"]),
        null_attack=NULL_ATTACK,
        off_null=checked["off_null"],
        shift=Interval(**checked["shift"]),
        facts=dict(target.facts),
        copies=problem.copies(),
        groups=case.groups(),
        sizes=target.history.get("sizes", {}),
        weights=(target.fingerprint,),
        adaptive=target.defense.adaptive,
        commands=(_command(attacked),),
    )


def _command(attacked: Attacked) -> str:
    """The command that repeats the run; empty with shadow models of another recipe, which it would not train."""
    shadows = attacked.shadow_set
    if shadows is not None and shadows.differences:
        return ""
    return command_of(attacked.recipe, usual_threads(attacked.problem.dataset))


def _flagged(
    attacked: Attacked, results: list[AttackResult], scores: Mapping[str, Any], checked: Mapping[str, Any]
) -> list[AttackResult]:
    """The results with the flags that depend on the target, the shadow models or the other attacks."""
    case, answers, found = attacked.case, attacked.answers, attacked.shadow_set
    label_only = [scores[r.attack] for r in results if r.label_only and r.queries == 1]
    everywhere = {
        "shifted": checked["shifted"],
        "untrained": any(h.diverged for h in attacked.target.models.stack.history),
        "constant": answers.constant,
        "null": checked["off_null"],
        "duplicated": attacked.problem.duplicated,
    }
    flagged = []
    for r in results:
        mine = {
            **everywhere,
            "mismatched": found is not None and bool(found.differences) and "shadows" in ATTACKS.get(r.attack).needs,
            "randomised": _randomised(r, answers),
            "masked": answers.modified
            and r.tier == "probabilities"
            and any(flags.masked(scores[r.attack], label, case.member, case.group) for label in label_only),
        }
        flagged.append(replace(r, flags=r.flags + tuple(name for name, raised in mine.items() if raised)))
    return flagged
