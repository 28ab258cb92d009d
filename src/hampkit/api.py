"""The calls of ``hampkit.run``, ``train``, ``attack`` and ``write_report``; the command line adds only printing."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from hampkit.config.recipe import (
    Recipe,
    accepts,
    check_effect,
    load_recipe,
    option_of_attacks,
    unknown_option,
    with_seed,
)
from hampkit.config.schema import check_once, once
from hampkit.errors import Notice, UserError, unknown_key
from hampkit.judging.results import ModelResult, Results
from hampkit.registry import ATTACKS, check_installed
from hampkit.runs.store import Run, read_json, writable
from hampkit.shadow_models.plan import MOST_WORKERS, Plan
from hampkit.shadow_models.reuse import Lender, last_used
from hampkit.targets.trained import Evaluated, Trained
from hampkit.training.trainer import silent
from hampkit.workflows import attack as pipeline
from hampkit.workflows.problem import Problem, Settings, prepare
from hampkit.workflows.report import report_on
from hampkit.workflows.target_jobs import train_targets

DEFAULT_RECIPES = ("digits/undefended", "digits/hamp")
RESULT_KEYS = ("recipe", "defense", "run", "seed", "data", "accuracy", "rows", "known", "judge", "attacks", "null")
Track = Callable[[str, int, int], None]


def run(
    *recipes: str,
    options: Mapping[str, Any] | None = None,
    attacks: Sequence[str] = (),
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    out: str | Path | None = None,
    device: str = "auto",
    shadows: int = 0,
    shadows_from: str | Path = "",
    force: bool = False,
    workers: int = 0,
    say: Callable[[str], None] = lambda line: None,
    track: Track = silent,
    progress: Any = False,
) -> Results:
    """Train every recipe, attack it, judge it, and write the report into ``out`` (default: runs_dir).

    recipes: ``DATA/DEFENSE``, ``.toml`` files, or bare defenses together with ``data`` (a table) and ``label`` (its column).
    options: ``{"train.lr": 0.1, "gamma": 0.9}``, as ``key=value`` on the command line. shadows: train so many shadow models
    too, and attack with them (LiRA, RMIA); ``say`` is told the plan before anything long starts. shadows_from: take those of
    another run folder, which must be of the same recipe, data and split; ``force``: also where the recipe differs, flagged.
    What was done before with the same recipe, data and seed is found again. Errors: `hampkit.UserError`; whatever the user
    can get wrong is found before anything is trained or written.

    >>> results = run("digits/undefended", options={"epochs": 1})  # doctest: +SKIP
    """
    settings = settings_of(data_dir, runs_dir, device, track, progress, workers)
    lender = _lender(shadows_from, shadows, force)
    options = with_shadows(options, shadows, lender)
    wanted = recipes_of(recipes or (("undefended", "hamp") if data else DEFAULT_RECIPES), options, seed, data, label)
    for name in attacks:
        pipeline.family(name)
    for recipe in wanted:
        check_effect(recipe, options or {})
    problems = _distinct([prepare(recipe, settings) for recipe in wanted])
    folder = Path(out) if out is not None else settings.runs_dir
    for place in (settings.runs_dir, folder):
        writable(place)
    modes = {}
    for problem in problems:
        if problem.recipe.shadows.models and lender is None:
            planned = pipeline.plan_shadows(problem, settings)
            say(planned.line())
            modes[problem.folder] = planned.mode
    if lender is not None:
        for problem in problems:
            lender.lend(problem)  # all are checked before the first is trained
    for why in train_targets(problems, settings).values():
        raise UserError(why)
    found = [pipeline.evaluate_problem(p, settings, attacks, modes.get(p.folder), lender) for p in problems]
    return report_on(found, folder)


def check(
    *recipes: str, options: Mapping[str, Any], data: str | Path, label: str, seed: int | None, data_dir: Any, runs_dir: Any,
    device: str, progress: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """The options of each of several recipes, those that it knows. Errors: `UserError` where one of them cannot be trained.

    A single one says so itself.
    """
    if len(recipes) == 1:
        return [dict(options)]
    settings = settings_of(data_dir, runs_dir, device, silent, progress)
    for recipe in recipes_of(recipes, options, seed, data, label):
        prepare(recipe, settings)
    return [{k: v for k, v in options.items() if accepts(recipe, k, str(data), label)} for recipe in recipes]


def train(
    recipe: str,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    device: str = "auto",
    track: Track = silent,
    progress: Any = False,
) -> Trained:
    """Train one recipe, or find the run that did: its folder, models, accuracies and black box."""
    settings = settings_of(data_dir, runs_dir, device, track, progress)
    (wanted,) = recipes_of((recipe,), options, seed, data, label)
    return pipeline.train(wanted, settings)


def shadow(
    recipe: str,
    models: int,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    device: str = "auto",
    workers: int = 0,
    track: Track = silent,
    progress: Any = False,
) -> Path:
    """Train shadow models of a recipe, or find those that were trained before: the run folder that holds them.

    models: an even number of at least 4. Errors: `UserError`.
    """
    settings = settings_of(data_dir, runs_dir, device, track, progress, workers)
    wanted = _shadowed("--models", recipe, models, options, seed, data, label)
    return pipeline.shadow(prepare(wanted, settings), settings).folder


def plan(
    recipe: str,
    shadows: int,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    device: str = "auto",
    workers: int = 0,
) -> Plan:
    """What so many shadow models will cost and show, from a few steps measured now; writes nothing but these into a cache."""
    settings = settings_of(data_dir, runs_dir, device, silent, False, workers)
    wanted = _shadowed("--shadows", recipe, shadows, options, seed, data, label)
    return pipeline.plan_shadows(prepare(wanted, settings), settings, anew=True)


def attack(
    run: str | Path | Trained,
    *attacks: str,
    options: Mapping[str, Any] | None = None,
    data_dir: str | Path | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    shadows: int = 0,
    shadows_from: str | Path = "",
    force: bool = False,
    workers: int = 0,
    track: Track = silent,
    progress: Any = False,
) -> Results:
    """Attack the model of a run folder; by default with every attack. Writes the report into ``out`` (default: the run).

    shadows: with so many shadow models, which are trained where they are missing; by default those of the run's last
    result, so that what it shows besides stays. shadows_from, force: see `run`.

    options: only those of the judge and of attacks, e.g. ``{"neural.epochs": 50, "judge.strict": True}``.
    """
    folder = Path(run.folder if isinstance(run, Trained) else run).resolve()
    settings = settings_of(data_dir, folder.parent, device, track, progress, workers)
    for name in attacks:
        pipeline.family(name)
    overrides = _attack_options(options or {})
    lender = _lender(shadows_from, shadows, force)
    attacked = Run.at(folder)
    if lender is not None:
        overrides["shadows"] = asdict(lender.shadowing)
    else:
        overrides["shadows"] = {"models": shadows} if shadows else _last_shadows(attacked)
    check_installed(folder, attacked.recipe()["defense"]["name"])
    problem = pipeline.open_run(folder, settings, overrides)
    check_effect(problem.recipe, options or {})
    writable(Path(out) if out is not None else folder)
    found = pipeline.evaluate_problem(problem, settings, attacks, lender=lender)
    return report_on([found], Path(out) if out is not None else folder)


def write_report(*runs: str | Path, out: str | Path) -> Results:
    """One report over runs that were attacked before; computes nothing anew."""
    found = [Run.at(Path(folder).resolve()) for folder in runs]
    for r in found:
        if not (r.folder / "result.json").is_file():
            raise UserError(f"{r.folder} was never attacked; run: hampkit attack {r.folder}")
    documents = [read_json(r.folder / "result.json", *RESULT_KEYS) for r in found]
    for r, document in zip(found, documents, strict=True):
        if not document["attacks"]:
            raise UserError(f"{r.folder / 'result.json'} holds no attacks; run: hampkit attack {r.folder}")
    writable(Path(out))
    try:
        for r, document in zip(found, documents, strict=True):
            check_installed(r.folder, document["defense"], [a["attack"] for a in document["attacks"]])
        models = [
            Evaluated(r, ModelResult.from_json(d), pipeline.details_of(r, d))
            for r, d in zip(found, documents, strict=True)
        ]
        return report_on(models, Path(out))
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, zipfile.BadZipFile) as error:
        where = " or ".join(str(r.folder) for r in found)
        raise UserError(
            f"result.json, details.json or the scores of {where} were edited or damaged ({type(error).__name__}: {error});"
            " attack again: hampkit attack RUN"
        ) from error


def settings_of(data_dir: Any, runs_dir: Any, device: str, track: Track, progress: Any, workers: int = 0) -> Settings:
    if not 0 <= workers <= MOST_WORKERS:
        raise UserError(
            f"workers={workers} must be a number of processes up to {MOST_WORKERS}, or 0 for as many as the cores hold"
        )
    return Settings(None if data_dir is None else Path(data_dir), Path(runs_dir), device, track, workers, progress)


def _lender(folder: str | Path, models: int, force: bool) -> Lender | None:
    if force and not folder:
        raise UserError("force only makes sense with shadows of another run: --shadows-from RUN --force")
    return Lender.of(Path(folder).resolve(), models, force) if folder else None


def _last_shadows(run: Run) -> dict[str, Any]:
    """The options of the run's own shadow models that its last result used; warns if another run had lent them."""
    own, lender = last_used(run)
    if lender:
        warnings.warn(
            f"the last result of {run.folder} used shadow models of another run; its attacks with them and its leave-one-out"
            f" are no longer in the result; to keep them, add --shadows-from with the folder of {lender}",
            Notice,
            stacklevel=2,
        )
    return {} if own is None else asdict(own)


def with_shadows(
    options: Mapping[str, Any] | None, models: int, lender: Lender | None = None
) -> Mapping[str, Any] | None:
    """The options with so many shadow models, or with those of a lender. Errors: `UserError` where both set one."""
    if lender is not None:
        for key in asdict(lender.shadowing):
            once(f"--shadows-from {lender.run.folder}", options or {}, f"shadows.{key}")
        return {**(options or {}), **{f"shadows.{k}": v for k, v in asdict(lender.shadowing).items()}}
    if not models:
        return options
    once(f"--shadows {models}", options or {}, "shadows.models", "models")
    return {**(options or {}), "shadows.models": models}


def _shadowed(
    flag: str,
    recipe: str,
    models: int,
    options: Mapping[str, Any] | None,
    seed: int | None,
    data: str | Path,
    label: str,
) -> Recipe:
    """A recipe with so many shadow models; where it is about nothing else, none are a mistake. Errors: `UserError`."""
    once(f"{flag} {models}", options or {}, "shadows.models", "models")
    (wanted,) = recipes_of((recipe,), {**(options or {}), "shadows.models": models}, seed, data, label)
    if not wanted.shadows.models:
        raise UserError(f"shadows.models={models} trains none; give an even number from 4 on")
    return wanted


def recipes_of(
    references: Sequence[str], options: Mapping[str, Any] | None, seed: int | None, data: str | Path, label: str
) -> list[Recipe]:
    """The recipes with options; each takes those it knows, and each option must be known to one."""
    texts = {key: _text(key, value) for key, value in (options or {}).items()}
    file = str(data)
    if label and not file:
        raise UserError(f"label={label} names a column of a table of one's own; add --data FILE, or leave it out")
    recipes = []
    for reference in references:
        mine = {key: text for key, text in texts.items() if accepts(reference, key, file, label)}
        recipe = load_recipe(reference, mine, file, label)
        recipes.append(recipe if seed is None else with_seed(recipe, seed))
    check_once(texts, seed, file, label)
    for key in texts:
        if not any(accepts(reference, key, file, label) for reference in references):
            raise UserError(
                f"unknown key {key!r} in {key}={texts[key]}; {unknown_option(key, references, file, label)}"
            )
    return recipes


def _attack_options(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Options of a judge or of attacks, sorted into the sections of a run's local.json."""
    from hampkit.config.recipe import JudgeConfig
    from hampkit.config.schema import parse_text

    sections: dict[str, dict[str, Any]] = {"judge": {}, "attacks": {}}
    judge = set(JudgeConfig.__dataclass_fields__)
    for key, value in options.items():
        where, _, last = key.removeprefix("attacks.").rpartition(".")
        value = parse_text(value) if isinstance(value, str) else value
        if where in ("", "judge") and last in judge:
            sections["judge"][last] = value
        elif where in ATTACKS.classes():
            sections["attacks"].setdefault(where, {})[last] = value
        else:
            known = [f"judge.{k}" for k in judge]
            known += [f"{n}.{f.name}" for n, attack in ATTACKS.classes().items() for f in fields(attack)]
            hint = "" if where else option_of_attacks(last)
            raise UserError(
                f"unknown key {key!r}; a trained run takes only judge and attack options; {hint or unknown_key(key, known)}"
            )
    return sections


def _distinct(problems: Sequence[Problem]) -> list[Problem]:
    return list({problem.folder: problem for problem in problems}.values())


def _text(key: str, value: Any) -> str:
    """A value as one writes it behind ``key=``."""
    if not isinstance(value, (list, tuple)):
        return str(value).lower() if isinstance(value, bool) else str(value)
    items = [_text(key, item) for item in value]
    for item in items:
        if "," in item or item != item.strip():
            raise UserError(f"{key}: {item!r} holds a comma or a blank at its end, which a list cannot; rename it")
    return f"[{', '.join(items)}]"
