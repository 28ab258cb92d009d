"""``hampkit.compare``: every defense on one data set, one split, one set of masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from hampkit import __version__
from hampkit.api import Track, recipes_of, settings_of, with_shadows
from hampkit.config.recipe import Recipe, accepts, with_seed
from hampkit.config.schema import check_once
from hampkit.errors import RunBusy, UserError, did_you_mean
from hampkit.judging.strongest import Comparison, Entry, entry_of
from hampkit.launch.local import at_once
from hampkit.registry import DATASETS, DEFENSES
from hampkit.report import render_comparison_html, render_comparison_markdown
from hampkit.runs.locks import reports
from hampkit.runs.store import writable, write_file, write_json
from hampkit.targets.trained import Evaluated
from hampkit.training.trainer import silent
from hampkit.workflows import attack as pipeline
from hampkit.workflows.problem import Problem, Settings, prepare
from hampkit.workflows.report import report_on
from hampkit.workflows.target_jobs import train_targets

MOST_SEEDS = 1000  # more is a slip of the finger
BASE = "undefended"  # whose recipe says how the data are split and judged, for all


def compare(
    dataset: str = "digits",
    *,
    defenses: Sequence[str] = (),
    shadows: int = 0,
    seeds: int = 1,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    out: str | Path | None = None,
    device: str = "auto",
    workers: int = 0,
    say: Callable[[str], None] = lambda line: None,
    track: Track = silent,
    progress: Any = False,
) -> Comparison:
    """Train and attack every defense on one split, and write one page: accuracy against leakage, table, cost.

    defenses: names; default all there are, where one that cannot train here is left out and said so. shadows: so many shadow
    models per defense and seed. seeds: how many, from ``seed`` on, which by default is the recipe's. data, label: a table of
    one's own instead of a data set.
    Writes compare.json, compare.html, compare.md and the full report into ``out`` (default: runs_dir). Errors: `UserError`.
    """
    if not 1 <= seeds <= MOST_SEEDS:
        raise UserError(f"seeds={seeds} must be a number from 1 to {MOST_SEEDS}")
    settings = settings_of(data_dir, runs_dir, device, track, progress, workers)
    folder = Path(out) if out is not None else settings.runs_dir
    for place in (settings.runs_dir, folder):
        writable(place)
    check_once(options or {}, seed)
    names = _names(defenses)
    wanted = _one_split(names, "" if data else dataset, with_shadows(options, shadows), str(data), label)
    start = wanted[0].seed if seed is None else seed
    wanted = [with_seed(recipe, start) for recipe in wanted]
    wanted, left_out = _trainable(wanted, settings, strict=bool(defenses))
    for name, reason in left_out.items():
        say(f"left out: {name}: {reason}")
    for key, takers in _shared(options or {}, [recipe.defense.name for recipe in wanted]).items():
        say(f"{key} is an option of several defenses, and reaches {', '.join(takers)}")
    _plan(wanted, settings, seeds, say)
    entries, evaluated = [], []
    sown = {recipe.defense.name: [with_seed(recipe, start + s) for s in range(seeds)] for recipe in wanted}
    failed = train_targets(_prepared(chain.from_iterable(sown.values()), settings), settings)
    for name, recipes in sown.items():
        try:
            entry, mine = _entry(recipes, settings, failed)
        except RunBusy:  # nothing failed: to leave the defense out would be wrong
            raise
        except UserError as error:  # of the training itself: it diverges, or its answers are none
            if defenses or name == BASE:
                raise UserError(f"{name}: {error}") from error
            left_out[name] = str(error)
            say(f"left out: {name}: {error}")
            continue
        entries.append(entry)
        evaluated += mine
    title = wanted[0].title.rpartition("/")[0]
    given = {key: str(value) for key, value in (options or {}).items()}
    spread = tuple(range(start, start + seeds))
    found = Comparison(title, spread, shadows, tuple(entries), __version__, left_out, given)
    _write(found, folder)
    report_on(evaluated, folder)
    return found


def check_all(
    sets: Sequence[str], defenses: Sequence[str], options: Mapping[str, Any] | None, data_dir: str | Path | None
) -> None:
    """Errors: `UserError` where one of several data sets has no recipes, takes other options or is not there: before the first
    is compared."""
    for name in filter(None, sets):
        first, *_ = _one_split(_names(defenses), name, options, "", "")
        if len(sets) > 1:
            prepare(first, settings_of(data_dir, "runs", "cpu", silent, False))


def _shared(options: Mapping[str, Any], names: Sequence[str]) -> dict[str, list[str]]:
    """Options of defenses that more than one of these takes, each in its own sense."""
    found = {}
    for key in options:
        last = key.removeprefix("defense.")
        takers = [name for name in names if last in DEFENSES.get(name).__dataclass_fields__]
        if len(takers) > 1 and not accepts(f"toy/{BASE}", key):
            found[key] = takers
    return found


def _names(defenses: Sequence[str]) -> list[str]:
    known = DEFENSES.classes()
    if defenses and not any(defenses):
        raise UserError("--defenses names none; leave it out to compare all there are")
    for name in defenses:
        if name not in known:
            raise UserError(f"unknown defense {name!r}; {did_you_mean(name, known)}")
    chosen = list(dict.fromkeys(defenses)) or list(known)
    return sorted(chosen, key=lambda n: n != BASE)  # the baseline first


def _one_split(
    names: Sequence[str], dataset: str, options: Mapping[str, Any] | None, file: str, label: str
) -> list[Recipe]:
    """The recipes, with the split, the judge and the masks of the baseline's."""
    if dataset and dataset not in DATASETS.classes():
        raise UserError(
            f"compare takes a data set, not {dataset!r}; {did_you_mean(dataset, DATASETS.classes())} (--defenses names defenses)"
        )
    references = [f"{dataset}/{name}" if dataset else name for name in (BASE, *names)]
    base, *recipes = recipes_of(references, options, None, file, label)
    layout = base.split.layout or DATASETS.get(base.data.name)(**base.data.options).layout
    if layout == "default" and any("reference" in DEFENSES.get(n).needs for n in names):
        layout = "with-reference"  # rows that AdvReg and MemGuard need beside the members
    split = replace(base.split, layout=layout)
    return [replace(r, split=split, judge=base.judge, shadows=base.shadows) for r in recipes]


def _trainable(recipes: Sequence[Recipe], settings: Settings, strict: bool) -> tuple[list[Recipe], dict[str, str]]:
    """The recipes that can be trained here, and why others cannot. Errors: `UserError` where none can, or one was named."""
    left_out: dict[str, str] = {}
    good = []
    for recipe in recipes:
        try:
            problem = prepare(recipe, settings)
            if min(problem.judged()) < 2:
                members, others = problem.judged()
                raise UserError(
                    f"{members} members and {others} non-members are judged; to choose an attack on one half and judge it on the"
                    " other takes two of each"
                )
            good.append(recipe)
        except UserError as error:
            if strict or recipe.defense.name == BASE:
                raise
            left_out[recipe.defense.name] = str(error)
    return good, left_out


def _plan(recipes: Sequence[Recipe], settings: Settings, seeds: int, say: Callable[[str], None]) -> None:
    """Measure and tell what the shadow models of all will take."""
    if not recipes[0].shadows.models:
        return
    shadows = targets = 0.0
    for recipe in recipes:
        planned = pipeline.plan_shadows(prepare(recipe, settings), settings)
        shadows += planned.seconds * seeds
        targets += planned.each * seeds / (settings.workers or at_once(planned.mode.threads))
        say(f"{recipe.title}: {planned.line()}")
    say(
        f"all {len(recipes)} defenses, {seeds} seed{'s' if seeds > 1 else ''}: about {shadows / 60:.0f} min of shadow models and"
        f" {targets / 60:.0f} min of targets; attacks come on top"
    )


def _prepared(recipes: Iterable[Recipe], settings: Settings) -> Iterator[Problem]:
    """Those that can be prepared; the entry of another one meets its error again."""
    for recipe in recipes:
        try:
            problem = prepare(recipe, settings)
        except UserError:
            continue
        yield problem


def _entry(recipes: Sequence[Recipe], settings: Settings, failed: Mapping[str, str]) -> tuple[Entry, list[Evaluated]]:
    """One defense with all its seeds; nothing of its data is held afterwards. Raises: `UserError` where its training failed."""
    problems = [prepare(recipe, settings) for recipe in recipes]
    for problem in problems:
        if problem.folder in failed:
            raise UserError(failed[problem.folder])
    evaluated = [pipeline.evaluate_problem(problem, settings) for problem in problems]
    return entry_of(problems, evaluated, settings), evaluated


def _write(found: Comparison, folder: Path) -> None:
    document = found.to_json()
    texts = {"compare.md": render_comparison_markdown(document), "compare.html": render_comparison_html(document)}
    with reports(folder):
        write_json(folder / "compare.json", document)
        for name, text in texts.items():
            write_file(folder / name, text)
