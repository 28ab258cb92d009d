"""Train, ask, attack, judge: exactly what the command line calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from hampkit.attacks import Attack
from hampkit.code_hash import code_of
from hampkit.config.recipe import Recipe
from hampkit.config.schema import build
from hampkit.content import content_hash, file_hash
from hampkit.errors import UserError
from hampkit.judging import flags as checks
from hampkit.judging.evaluate import Case, build_case, judge_scores, judged_together, score, shuffled
from hampkit.judging.results import AttackResult, ModelResult
from hampkit.registry import ATTACKS
from hampkit.rng import derive
from hampkit.runs.locks import locked
from hampkit.runs.run_files import complete, local_of, write_run
from hampkit.runs.store import Run, read_json, write_json
from hampkit.shadow_models import train as shadows
from hampkit.shadow_models.plan import ExecutionMode, Plan, plan
from hampkit.shadow_models.reuse import Lender
from hampkit.shadow_models.train import folder_of
from hampkit.stats import grouped
from hampkit.stats.metrics import Interval
from hampkit.targets.trained import Evaluated, ShadowSet, Trained
from hampkit.training.threads import threads
from hampkit.workflows import query as answers
from hampkit.workflows import train as fitted
from hampkit.workflows.leave_one_out import RECORDS, leave_one_out
from hampkit.workflows.problem import Problem, Settings, check_code, prepare, recipe_of_run
from hampkit.workflows.report_inputs import describe

JOB = "models/000-000"
ATTACK_VERSION = 6  # raised when an attack or the judge would give other numbers on the same answers
NULL_ATTACK = "modified-entropy-per-class"  # it fits thresholds, so that a leak of membership into the fit would show


def train(recipe: Recipe, settings: Settings) -> Trained:
    """Train a recipe, or find the run that did."""
    return train_problem(prepare(recipe, settings), settings)


def train_problem(problem: Problem, settings: Settings, wait: bool = True) -> Trained:
    """The same for a problem that is prepared; wait: for a process that works on the run, see `hampkit.runs.locks.locked`."""
    with locked(settings.runs_dir, problem.folder, wait), threads(problem.recipe.train.threads):
        return _train(problem, settings)


def shadow_membership(problem: Problem) -> Any:
    """(M, P) bool array: which of its shadow models is trained on which example of the pool."""
    return shadows.masks(problem, problem.recipe.shadows).numpy()


def evaluate(recipe: Recipe, settings: Settings, attacks: Sequence[str] = ()) -> ModelResult:
    """Train a recipe and attack it with the named attacks, by default with every one whose evidence a run holds."""
    return evaluate_problem(prepare(recipe, settings), settings, attacks).result


def evaluate_problem(
    problem: Problem,
    settings: Settings,
    attacks: Sequence[str] = (),
    mode: ExecutionMode | None = None,
    lender: Lender | None = None,
) -> Evaluated:
    """The same for a problem that is prepared; mode: how shadow models run, where that was measured already.

    lender: another run whose shadow models are taken instead of training some.
    """
    chosen = _choose(problem.recipe, attacks)
    shadowed = None if lender is None else lender.lend(problem)
    with locked(settings.runs_dir, problem.folder), threads(problem.recipe.train.threads):
        run = create(problem, settings)
        if shadowed is None and problem.recipe.shadows.models:
            shadowed = _shadow(problem, settings, run, mode)
        return _attack(_train(problem, settings), chosen, settings, shadowed)


def shadow(problem: Problem, settings: Settings) -> Run:
    """Train the recipe's shadow models, or find those that were trained before."""
    with locked(settings.runs_dir, problem.folder), threads(problem.recipe.train.threads):
        run = create(problem, settings)
        _shadow(problem, settings, run)
    return run


def plan_shadows(problem: Problem, settings: Settings, anew: bool = False) -> Plan:
    """What the shadow models will cost; where some were trained already, in the way they were.

    anew: measure again what was measured before for this device and network.
    """
    run, shadowing = Run(settings.runs_dir / problem.folder), problem.recipe.shadows
    launch = f"{folder_of(shadowing)}/launch"
    mode = _stored(run.folder / launch, settings) if run.done(launch) else None
    planned = plan(problem, shadowing.models, settings.workers, settings.place().cache, anew, mode)
    return planned if mode is not None else replace(planned, note=shadows.left_aside(shadowing, run))


def _stored(launch: Path, settings: Settings) -> ExecutionMode:
    """How shadow models were begun: those that come to them run likewise, in as many processes as are asked for now."""
    mode = ExecutionMode(**read_json(launch / "mode.json"))
    return replace(mode, workers=settings.workers) if mode.workers > 1 and settings.workers else mode


def create(problem: Problem, settings: Settings) -> Run:
    """The run of a problem, made where it does not exist; its lock must be held."""
    run = Run.create(settings.runs_dir, problem.folder, lambda folder: write_run(problem, folder))
    complete(problem, run.folder)  # what was deleted or damaged since: it follows from the recipe
    return run


def _shadow(problem: Problem, settings: Settings, run: Run, mode: ExecutionMode | None = None) -> ShadowSet:
    shadowing = problem.recipe.shadows
    chosen = run.step(
        f"{folder_of(shadowing)}/launch",
        lambda folder: write_json(folder / "mode.json", asdict(mode or plan_shadows(problem, settings).mode)),
    )
    mode = _stored(chosen, settings)
    return ShadowSet(
        shadows.train(problem, shadowing, settings, run, mode),
        shadows.name_of(shadowing),
        shadows.untrained(shadowing, run, mode),
    )


def open_run(folder: Path, settings: Settings, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Problem:
    """The problem of an existing run, its data loaded again. Errors: `UserError` where the data are others by now."""
    run = Run.at(folder)
    local = local_of(run.folder)
    local["attacks"] = {name: options for name, options in local["attacks"].items() if name in ATTACKS.classes()}
    for section, values in (overrides or {}).items():
        before = local.get(section, {})
        if section == "attacks":  # options that are not given stay the recipe's
            values = {name: {**before.get(name, {}), **options} for name, options in values.items()}
        local[section] = {**before, **values}
    problem = prepare(recipe_of_run(run.recipe(), local), settings)
    if problem.folder != run.name:
        check_code(problem.recipe, run.recipe(), folder)
        raise UserError(
            f"the data of {folder} are not those it was trained on (sha256 {problem.recipe.fingerprint[:12]}…); put them back"
        )
    return problem


def details(run: Run) -> dict[str, Any]:
    """What a report shows beside the result: curves, histograms, provenance."""
    return read_json(run.folder / "details.json", "curves", "scores", "provenance")


def details_of(run: Run, document: Any) -> dict[str, Any]:
    """The details of the run's result, given as its file holds it. Errors: `UserError` where they belong to another attack."""
    found, result = details(run), content_hash(document)
    if found.get("result", result) != result:
        raise UserError(
            f"result.json and details.json of {run.folder} are of two different attacks: the last one was interrupted, or is"
            f" still running; attack again: hampkit attack {run.folder}"
        )
    return found


def paired_difference(
    a: Evaluated, b: Evaluated, attack_a: str, attack_b: str, levels: Sequence[float] = (0.95,)
) -> list[Interval]:
    """AUC of one attack on one model minus that of another on a second model, paired, with an interval for each level.

    Empty where the candidates differ.
    """
    files = [
        np.load(model.run.folder / model.details["scores"][name], allow_pickle=False)
        for model, name in ((a, attack_a), (b, attack_b))
    ]
    (first, second), members = ([f["scores"] for f in files], [f["member"] for f in files])
    if not np.array_equal(*members) or len({_same_split(model) for model in (a, b)}) > 1:
        return []
    return [grouped.auc_difference(first, second, members[0], group_of(files[0]), level) for level in levels]


def group_of(scores: Any) -> Any:
    """The groups of an attack's scores.npz, None where its rows are in none."""
    return scores.get("group")


def _same_split(model: Evaluated) -> str:
    recipe, judged = model.run.recipe(), model.details["provenance"]["recipe"]["judge"]
    return content_hash([recipe["data"], recipe["split"], recipe["seed"], judged])


def _train(problem: Problem, settings: Settings) -> Trained:
    run = create(problem, settings)
    job = run.step(JOB, lambda folder: fitted.write(problem, folder))
    history = read_json(job / "history.json")
    models = fitted.read(problem, job, history)
    accuracy = {name: history["accuracy"][name] for name in ("train", "val", "test")}
    return Trained(run, problem, models, accuracy, history)


def _attack(
    trained: Trained, attacks: list[Attack], settings: Settings, shadowed: ShadowSet | None = None
) -> Evaluated:
    problem, run = trained.problem, trained.run
    recipe = problem.recipe
    settings.track(f"asking {recipe.title}", 0, 1)
    model = answers.name_of(problem, file_hash(run.folder / JOB / "stack.safetensors"))
    asked = run.step(f"answers/{model}", lambda folder: answers.write(trained, folder))
    settings.track(f"asking {recipe.title}", 1, 1)
    released, around = answers.read(problem, asked)
    case = build_case(
        problem.task.pool,
        problem.table.n_members,
        released,
        recipe.judge,
        recipe.seed,
        None if shadowed is None else shadowed.for_target(),
        around,
        problem.once,
        problem.units() if recipe.judge.copies == "keep" else None,
    )
    everyone = [*attacks, *_earlier(run, recipe, [attack.name for attack in attacks])]
    results, scores, places = [], {}, {}
    for k, attack in enumerate(everyone):
        settings.track(f"attacking {recipe.title}", k, len(everyone) + 1)
        folder = run.step(
            _step(attack, recipe, model, shadowed),
            lambda folder, attack=attack: _write_attack(attack, case, recipe, folder),
        )
        results.append(AttackResult.from_json(read_json(folder / "result.json")))
        places[attack.name] = str((folder / "scores.npz").relative_to(run.folder))
        scores[attack.name] = np.load(folder / "scores.npz", allow_pickle=False)["scores"]
    settings.track(f"attacking {recipe.title}", len(everyone), len(everyone) + 1)
    checks_at = run.step(f"checks/{_digest(recipe, model)}", lambda folder: _write_checks(case, recipe, folder))
    settings.track(f"attacking {recipe.title}", len(everyone) + 1, len(everyone) + 1)
    checked = {**read_json(checks_at / "result.json"), **read_json(asked / "result.json")}
    result = _assemble(trained, case, results, scores, checked, shadowed is not None and bool(shadowed.differences))
    again: dict[str, Any] = {}
    # leave-one-out judges the shadow models' own recipe: not this one where they were trained otherwise
    if shadowed is not None and not shadowed.differences:
        repeated, again = leave_one_out(trained, everyone, shadowed, settings, checked["randomised"])
        if problem.duplicated:
            repeated = tuple(replace(r, flags=(*r.flags, "duplicated")) for r in repeated)
        result = replace(result, repeated=repeated)
    if not result.repeated:
        (run.folder / RECORDS).unlink(missing_ok=True)  # of an earlier result: they would be taken for this one's
    document = result.to_json()
    found = {**describe(trained, case, scores, asked, shadowed), "scores": places, "repeated": again}
    found["result"] = content_hash(document)
    write_json(run.folder / "details.json", found)
    write_json(run.folder / "result.json", document)
    found = details(run)  # as a file holds it: a report on runs of before shows the same
    if len(attacks) < len(everyone):
        asked_for = judged_together(result.attacks[: len(attacks)], scores, case.member, case.group)
        names = {attack.name for attack in attacks}
        repeated = tuple(r for r in result.repeated if r.attack in names)
        result = replace(result, attacks=asked_for, repeated=repeated)
    return Evaluated(run, result, found)


def _earlier(run: Run, recipe: Recipe, names: Sequence[str]) -> list[Attack]:
    """The attacks that the run's result holds besides these, judged in the same way: a report goes on showing them."""
    try:
        document, classes = read_json(run.folder / "result.json", "judge", "attacks"), ATTACKS.classes()
    except UserError:  # not there yet, or damaged: it follows from the attacks' own files and is written anew
        return []
    if document.get("judge") != asdict(recipe.judge):
        return []
    rows = document["attacks"] if isinstance(document["attacks"], list) else []
    found: list[Attack] = []
    for row in rows:
        name, options = (row.get("attack"), row.get("options", {})) if isinstance(row, dict) else ("", {})
        if not isinstance(name, str) or name not in classes or name in names:
            continue
        if "shadows" in classes[name].needs and not recipe.shadows.models:
            continue
        try:
            found.append(build(classes[name], options, f"attacks.{name}"))
        except UserError:  # edited by hand: it is a convenience, and the rest still holds
            continue
    return found


def _choose(recipe: Recipe, names: Sequence[str]) -> list[Attack]:
    """The named attacks with the recipe's options; without names all whose evidence the run holds.

    A name that is no attack but the beginning of several, as lira of lira-online, means all of these.
    """
    classes, options = ATTACKS.classes(), recipe.attacks
    held = {"known", "shadows", "population"} if recipe.shadows.models else {"known"}
    wanted = [name for name, cls in classes.items() if set(cls.needs) <= held]
    if names:
        wanted = [n for name in names for n in family(name)]
    for name in wanted:
        missing = set(classes[name].needs) - held - {"population"}
        if missing:
            raise UserError(f"attack {name} needs {', '.join(sorted(missing))}; add --shadows M")
    return [build(classes[name], options.get(name, {}), f"attacks.{name}") for name in dict.fromkeys(wanted)]


def family(name: str) -> list[str]:
    """The attack of that name, or all whose names begin with it. Errors: `UserError` where there is none."""
    classes = ATTACKS.classes()
    family = [n for n in classes if n.startswith(f"{name}-")]
    return family if name not in classes and family else [ATTACKS.get(name).name]


def _step(attack: Attack, recipe: Recipe, model: str, shadowed: ShadowSet | None) -> str:
    with_shadows = shadowed.used() if shadowed is not None and "shadows" in attack.needs else ""
    return f"attacks/{attack.name}-{_digest(recipe, model, attack, with_shadows)}"


def _digest(recipe: Recipe, model: str, attack: Attack | None = None, with_shadows: str = "") -> str:
    options = {} if attack is None else asdict(attack)  # pyright: ignore[reportArgumentType]
    what = {"version": ATTACK_VERSION, "model": model, "judge": asdict(recipe.judge), "options": options}
    what |= {"shadows": with_shadows} if with_shadows else {}
    what |= {} if attack is None else {"code": code_of(type(attack))}
    return content_hash(what)[:8]


def _write_attack(attack: Attack, case: Case, recipe: Recipe, folder: Path) -> None:
    scores, known = score(attack, case)
    arrays: dict[str, Any] = {"scores": scores, "known_scores": known, "member": case.member}
    np.savez(folder / "scores.npz", **arrays, **({"group": case.group} if case.group is not None else {}))  # pyright: ignore[reportArgumentType]
    write_json(folder / "result.json", judge_scores(attack, scores, known, case, recipe.judge).to_json())


def _write_checks(case: Case, recipe: Recipe, folder: Path) -> None:
    """The null, and whether members differ from non-members without any model."""
    null = shuffled(case, recipe.seed)
    scores, _ = score(ATTACKS.get(NULL_ATTACK)(), null)
    e, known = case.evidence, case.evidence.known
    assert known is not None
    given, seed = (known.x, known.y, known.member, e.x, e.y, case.member), derive(recipe.seed, "shift")
    shift, surely = checks.shift(*given, seed, group_new=case.group)
    document = {
        "null": asdict(grouped.auc_interval(scores, null.member, case.group)),
        "off_null": checks.off_null(scores, null.member, case.group),
        "shift": asdict(shift),
        "shifted": surely,
    }
    write_json(folder / "result.json", document)


def _assemble(
    trained: Trained,
    case: Case,
    results: list[AttackResult],
    scores: Mapping[str, Any],
    checked: Mapping[str, Any],
    mismatched: bool,
) -> ModelResult:
    recipe = trained.problem.recipe
    label_only = [scores[r.attack] for r in results if r.label_only]
    untrained = any(h.diverged for h in trained.models.stack.history)
    everywhere = {"shifted": checked["shifted"], "untrained": untrained, "null": checked["off_null"]}
    everywhere["duplicated"] = trained.problem.duplicated
    judged = []
    for r in results:
        mine = {
            **everywhere,
            "mismatched": mismatched and "shadows" in ATTACKS.get(r.attack).needs,
            "randomised": checked["randomised"] and not r.label_only,
            "masked": checked["modified"]
            and not r.label_only
            and any(checks.masked(scores[r.attack], label, case.member, case.group) for label in label_only),
        }
        judged.append(replace(r, flags=r.flags + tuple(name for name, raised in mine.items() if raised)))
    return ModelResult(
        recipe=recipe.title,
        defense=recipe.defense.name,
        run=trained.run.name,
        seed=recipe.seed,
        data=trained.problem.data(),
        accuracy=trained.accuracy,
        rows=trained.problem.rows(),
        known={"members": int(case.known_member.sum()), "nonmembers": int((~case.known_member).sum())},
        judge=asdict(recipe.judge),
        attacks=judged_together(judged, scores, case.member, case.group),
        null=Interval(**checked["null"]),
        null_attack=NULL_ATTACK,
        off_null=checked["off_null"],
        shift=Interval(**checked["shift"]),
        facts=trained.history.get("facts", {}),
        copies=trained.problem.copies(),
        groups=case.groups(),
        sizes=trained.history.get("sizes", {}),
    )
