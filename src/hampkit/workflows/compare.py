"""The workflow of ``hampkit compare``: every defense on one data set, with one split and the same masks."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hampkit import __version__
from hampkit.config.files import check_spared, is_run, table_advice, writable
from hampkit.config.recipe import Recipe, accepts, with_seed
from hampkit.config.schema import check_once
from hampkit.config.sections import CanaryConfig
from hampkit.errors import RunBusy, UserError, did_you_mean
from hampkit.judging.strongest import Comparison, Entry
from hampkit.registry import DATASETS, DEFENSES
from hampkit.report import render_comparison_html, render_comparison_markdown
from hampkit.runs.locks import reports
from hampkit.runs.store import read_json, replaces, write_file, write_json
from hampkit.text import counted, duration
from hampkit.workflows.attack import evaluate
from hampkit.workflows.command import command_of_comparison
from hampkit.workflows.compare_entries import entry_of, on_canaries
from hampkit.workflows.gate import Gate
from hampkit.workflows.matched import NAME as DP_SGD
from hampkit.workflows.matched import matches
from hampkit.workflows.prepare import prepare
from hampkit.workflows.problem import Problem
from hampkit.workflows.recipes import RecipeOptions, texts_of
from hampkit.workflows.report import REPORT_FILES, report_on
from hampkit.workflows.report_inputs import Evaluated
from hampkit.workflows.session import Session
from hampkit.workflows.shadow import plan_shadows
from hampkit.workflows.target_jobs import train_targets

MOST_SEEDS = 1000  # a larger number is a typing error
BASE = "undefended"  # the baseline; the split and the judge of its recipe are used for all


@dataclass(frozen=True)
class ComparisonRequest:
    """The defenses to compare, on one data set or on a table of the user."""

    dataset: str = "digits"
    defenses: Sequence[str] = ()  # names; default: all
    recipe_options: RecipeOptions = field(default_factory=RecipeOptions)
    shadows: int = 0  # shadow models per defense and seed
    seeds: int = 1  # number of seeds, counted from the given one; default: the recipe's
    gate: Gate = field(default_factory=Gate)  # limits of a release, on every attack on every model
    # every defense is trained a second time with canaries; DP-SGD of equal accuracy is compared too
    canaries: CanaryConfig = field(default_factory=CanaryConfig)

    def names(self) -> list[str]:
        """Names of the defenses, the baseline first.

        Raises: `UserError` for an unknown name.
        """
        return _names(self.defenses)

    def command(self) -> str:
        """The command line that makes the comparison again."""
        given = self.recipe_options
        counts: dict[str, Any] = {"seeds": self.seeds if self.seeds > 1 else None, "seed": given.seed}
        counts |= {"shadows": self.shadows or None, "canaries": self.canaries.count or None}
        if self.canaries.kind != CanaryConfig.kind:
            counts["canary-kind"] = self.canaries.kind
        return command_of_comparison(self.dataset, self.defenses, given, counts)

    def recipes(self, *more: str) -> list[Recipe]:
        """Their recipes, with the split, the judge and the masks of the baseline; more: names of further defenses.

        Raises: `UserError`.
        """
        check_once(self.recipe_options.options or {}, self.recipe_options.seed)
        recipe_options = replace(self.recipe_options.with_shadows(self.shadows), seed=None)
        wanted = _one_split([*self.names(), *more], "" if self.recipe_options.data else self.dataset, recipe_options)
        start = wanted[0].seed if self.recipe_options.seed is None else self.recipe_options.seed
        return [with_seed(recipe, start) for recipe in wanted]


def compare(request: ComparisonRequest, out: Path | None, session: Session) -> Comparison:
    """Train and attack every defense on one split, and write one page: accuracy against leakage, table, cost.

    A defense that cannot be trained here is left out with the reason, unless it was named.
    Writes compare.json, compare.html, compare.md and the full report into ``out`` (default: the runs folder).

    Raises: `UserError`.
    """
    if not 1 <= request.seeds <= MOST_SEEDS:
        raise UserError(f"seeds={request.seeds} must be a number from 1 to {MOST_SEEDS}")
    folder = session.runs_dir if out is None else out
    for place in (session.runs_dir, folder):
        writable(place)
    check_spared(folder, REPORT_FILES, [request.recipe_options.data])
    recipes, left_out = _trainable(request.recipes(), session, strict=bool(request.defenses))
    _announce(request, recipes, left_out, session)
    entries, evaluated = _entries(request, recipes, left_out, session)
    start, title = recipes[0].seed, recipes[0].title.rpartition("/")[0]
    options = texts_of(request.recipe_options.options)
    seeds = tuple(range(start, start + request.seeds))
    found = Comparison(title, seeds, request.shadows, tuple(entries), __version__, left_out, options, **_sources(evaluated),
                       command=request.command())  # fmt: skip
    found = _as_before(found, folder)
    replaced = _write(found, folder)
    again = report_on(evaluated, folder, request.gate)
    return replace(found, replaced=(*replaced, *again.replaced), policy=again.policy)


def check_all(sets: Sequence[str], request: ComparisonRequest, session: Session) -> None:
    """Check several data sets before the first is compared.

    Raises: `UserError` if one has no recipes, lacks an option or cannot be loaded.
    """
    for name in filter(None, sets):
        first, *_ = _one_split(request.names(), name, RecipeOptions(request.recipe_options.options))
        if len(sets) > 1:
            prepare(first, session)


def _announce(
    request: ComparisonRequest, recipes: Sequence[Recipe], left_out: Mapping[str, str], session: Session
) -> None:
    """Report the defenses that are left out, options of several defenses, and the plan of shadow models, on one line each."""
    say = session.progress.say
    for name, reason in left_out.items():
        say(f"left out: {name}: {reason}")
    names = [recipe.defense.name for recipe in recipes]
    for key, takers in _shared(request.recipe_options.options or {}, names).items():
        say(f"{key} is an option of several defenses, and reaches {', '.join(takers)}")
    _plan(recipes, session, request.seeds)


def _entries(
    request: ComparisonRequest, recipes: Sequence[Recipe], left_out: dict[str, str], session: Session
) -> tuple[list[Entry], list[Evaluated]]:
    """An entry per defense, and all evaluations; a defense that fails is added to ``left_out``, unless it was named.

    Raises: `RunBusy`; `UserError` if a named defense or the baseline fails.
    """
    entries, evaluated = [], []
    seeds = {r.defense.name: [with_seed(r, r.seed + s) for s in range(request.seeds)] for r in recipes}
    every = [each for own in seeds.values() for each in (*own, *_canaries_of(own, request))]
    failed = train_targets(_prepared(every, session), session)
    for name, own in seeds.items():
        try:
            entry, found = _entry(own, request, session, failed)
        except RunBusy:  # not a failure of the defense
            raise
        except UserError as error:  # the training diverged, or the answers are not finite
            if request.defenses or name == BASE:
                raise UserError(f"{name}: {error}") from error
            left_out[name] = str(error)
            session.progress.say(f"left out: {name}: {error}")
            continue
        entries.append(entry)
        evaluated += found
    if request.canaries.count:
        for entry, found in _matched(request, entries, left_out, session):
            entries.append(entry)
            evaluated += found
    return entries, evaluated


def _canaries_of(recipes: Sequence[Recipe], request: ComparisonRequest) -> list[Recipe]:
    """The same recipes with canaries; none if they are not asked for."""
    return [replace(recipe, canaries=request.canaries) for recipe in recipes] if request.canaries.count else []


def _matched(
    request: ComparisonRequest, entries: Sequence[Entry], left_out: dict[str, str], session: Session
) -> Iterator[tuple[Entry, list[Evaluated]]]:
    """Entries of DP-SGD that is as accurate as the defenses; if it cannot be trained here, it is added to ``left_out``."""
    accuracies = {entry.defense: entry.accuracy["val"] for entry in entries if entry.defense != DP_SGD}
    try:
        *_, recipe = request.recipes(DP_SGD)
        found = matches(recipe, accuracies, session)
        for match in found:
            session.progress.say(f"{match.title}: {match.summary('')}")
            own = [with_seed(match.recipe, recipe.seed + s) for s in range(request.seeds)]
            failed = train_targets(_prepared([*own, *_canaries_of(own, request)], session), session)
            entry, evaluated = _entry(own, request, session, failed)
            yield replace(entry, defense=match.title, summary=match.summary(entry.summary)), evaluated
    except RunBusy:
        raise
    except UserError as error:
        left_out[f"{DP_SGD} of equal accuracy"] = str(error)
        session.progress.say(f"left out: {DP_SGD} of equal accuracy: {error}")


def _shared(options: Mapping[str, Any], names: Sequence[str]) -> dict[str, list[str]]:
    """Option → names of the defenses that have it, for options of more than one defense."""
    found = {}
    for key in options:
        last = key.removeprefix("defense.")
        takers = [name for name in names if last in DEFENSES.get(name).__dataclass_fields__]
        if len(takers) > 1 and not accepts(f"toy/{BASE}", key):
            found[key] = takers
    return found


def _names(defenses: Sequence[str]) -> list[str]:
    """The defenses without repetitions, the baseline first; all if none is named.

    Raises: `UserError` for an unknown name.
    """
    known = DEFENSES.classes()
    if defenses and not any(defenses):
        raise UserError("--defenses is empty; leave it out to compare all defenses")
    for name in defenses:
        if name not in known:
            raise UserError(f"unknown defense {name!r}; {did_you_mean(name, known)}")
    chosen = list(dict.fromkeys(defenses)) or list(known)
    return sorted(chosen, key=lambda name: name != BASE)


def _one_split(names: Sequence[str], dataset: str, recipe_options: RecipeOptions) -> list[Recipe]:
    """The recipes of the defenses, with the split, the judge and the masks of the baseline.

    Raises: `UserError` for an unknown data set or option.
    """
    if dataset and dataset not in DATASETS.classes():
        raise UserError(f"compare takes a data set, not {dataset!r}; {_instead_of(dataset)}")
    references = [f"{dataset}/{name}" if dataset else name for name in (BASE, *names)]
    base, *recipes = recipe_options.recipes(references)
    split, layout = base.split, base.split.layout or DATASETS.get(base.data.name)(**base.data.options).layout
    if layout == "default" and any("reference" in DEFENSES.get(n).needs for n in names):
        split = replace(split, layout="with-reference")  # AdvReg and MemGuard need reference rows
    return [replace(r, split=split, judge=base.judge, shadows=base.shadows) for r in recipes]


def _instead_of(word: str) -> str:
    """What to write in place of a word that is no data set."""
    if is_run(word):
        return f"it is a run folder: hampkit report {shlex.quote(word)} OTHER-RUN writes one report about several"
    return table_advice(word, beside=True) or f"{did_you_mean(word, DATASETS.classes())} (--defenses names defenses)"


def _trainable(recipes: Sequence[Recipe], session: Session, strict: bool) -> tuple[list[Recipe], dict[str, str]]:
    """The recipes that can be trained here, and name → reason for the others.

    strict: no defense may be left out, and the baseline never. Raises: `UserError`.
    """
    left_out: dict[str, str] = {}
    good = []
    for recipe in recipes:
        try:
            problem = prepare(recipe, session)
            if min(problem.judged()) < 2:
                members, others = problem.judged()
                raise UserError(
                    f"judged are {counted(members, 'member')} and {counted(others, 'non-member')}, but two of each are needed:"
                    " an attack is chosen on one half of them and judged on the other; give more rows"
                )
            good.append(recipe)
        except UserError as error:
            if strict or recipe.defense.name == BASE:
                raise
            left_out[recipe.defense.name] = str(error)
    return good, left_out


def _plan(recipes: Sequence[Recipe], session: Session, seeds: int) -> None:
    """Measure and report the expected time of all shadow models and targets."""
    if not recipes[0].shadows.models:
        return
    shadows = references = targets = 0.0
    say = session.progress.say
    for recipe in recipes:
        planned = plan_shadows(prepare(recipe, session), session)
        shadows += planned.seconds * seeds
        references += planned.reference * seeds
        targets += planned.each * seeds / (session.launcher.at_once(planned.mode.threads))
        say(f"{recipe.title}: {planned.line()}")
    more = f", {duration(references)} for reference models" if references else ""
    say(
        f"all {len(recipes)} defenses, {seeds} seed{'s' if seeds > 1 else ''}: about {duration(shadows)} for shadow models{more}"
        f" and {duration(targets)} for targets; attacks come on top"
    )


def _prepared(recipes: Iterable[Recipe], session: Session) -> Iterator[Problem]:
    """The problems that can be prepared; the error of another one is raised again by `_entry`."""
    for recipe in recipes:
        try:
            problem = prepare(recipe, session)
        except UserError:
            continue
        yield problem


def _entry(
    recipes: Sequence[Recipe], request: ComparisonRequest, session: Session, failed: Mapping[str, str]
) -> tuple[Entry, list[Evaluated]]:
    """The entry of one defense with all its seeds, and with canaries if asked for; its data are not kept in memory.

    Raises: `UserError` if the training of a seed failed.
    """
    problems, evaluated = _evaluated(recipes, session, failed)
    entry = entry_of(problems, evaluated, session)
    if request.canaries.count:
        problems, more = _evaluated(_canaries_of(recipes, request), session, failed)
        entry, evaluated = replace(entry, canaries=on_canaries(problems, more)), evaluated + more
    return entry, evaluated


def _evaluated(
    recipes: Sequence[Recipe], session: Session, failed: Mapping[str, str]
) -> tuple[list[Problem], list[Evaluated]]:
    """Raises: `UserError` if the training of a recipe failed."""
    problems = [prepare(recipe, session) for recipe in recipes]
    for problem in problems:
        if problem.folder in failed:
            raise UserError(failed[problem.folder])
    return problems, [evaluate(problem, session) for problem in problems]


def _sources(evaluated: Sequence[Evaluated]) -> dict[str, Any]:
    """The hash of the data, and the device and the versions of packages if they are the same for all models."""
    sources = [each.details["provenance"] for each in evaluated]
    same = {key: sources[0][key] for key in ("device", "versions") if all(s[key] == sources[0][key] for s in sources)}
    return {"data_sha256": evaluated[0].result.data["sha256"], **same}


def _as_before(found: Comparison, folder: Path) -> Comparison:
    """The comparison with the overheads of one that the folder holds, if nothing else differs.

    They are the only numbers that are measured anew each time; so the same comparison leaves its page as it is.
    """
    if not (folder / "compare.json").is_file():
        return found
    try:
        before = read_json(folder / "compare.json", "entries")
        overheads = [float(entry["overhead"]) for entry in before["entries"]]
        entries = [replace(entry, overhead=was) for entry, was in zip(found.entries, overheads, strict=True)]
    except (UserError, LookupError, TypeError, ValueError):  # of another version, edited or damaged
        return found
    same = replace(found, entries=tuple(entries))
    return same if json.loads(json.dumps(same.to_json())) == before else found


def _write(found: Comparison, folder: Path) -> tuple[Path, ...]:
    """Write the JSON file and the pages of a comparison. Returns the pages that existed with another content."""
    document = found.to_json()
    texts = {"compare.md": render_comparison_markdown(document), "compare.html": render_comparison_html(document)}
    with reports(folder):
        replaced = tuple(folder / name for name, text in texts.items() if replaces(folder / name, text))
        write_json(folder / "compare.json", document)
        for name, text in texts.items():
            write_file(folder / name, text)
    return replaced
