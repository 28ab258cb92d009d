"""The commands: each reads its arguments, calls the function of the same name in `hampkit.api`, and prints the result."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hampkit import __version__
from hampkit.cli import completion_shell
from hampkit.cli.audit import audit
from hampkit.cli.bound import bound
from hampkit.cli.failures import exit_code
from hampkit.cli.gate import check_gate, ended
from hampkit.cli.mistyped import check_defenses
from hampkit.cli.options import (
    AttackNames,
    AttackOut,
    AttackWords,
    Canaries,
    CanaryKind,
    CheckDir,
    CompareWords,
    DataDir,
    DataSet,
    Debug,
    Defenses,
    Device,
    FailIf,
    Force,
    Group,
    Json,
    Junit,
    Keys,
    Label,
    ListWords,
    OneRecipe,
    Out,
    Policy,
    Quiet,
    RunsDir,
    Seed,
    ShadowCount,
    ShadowsFrom,
    Table,
    Wait,
    What,
    Words,
    Workers,
    comma_separated,
    only_options,
    split,
)
from hampkit.cli.output import REPLACED, replace_unknown_characters, write, write_json
from hampkit.cli.reproduce import reproduce_app
from hampkit.errors import Notice, UserError

if TYPE_CHECKING:
    from hampkit.api import Comparison, Results

FIRST_SHADOWS = 16  # shadow models of each default recipe
COMPLETES = "_HAMPKIT_COMPLETE"  # is set by a shell that asks for words, or for its script

app = typer.Typer(
    name="hampkit",
    help="Train classifiers with defenses against membership inference, attack them, and judge how much they leak.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Get and check data sets.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
app.add_typer(reproduce_app, name="reproduce")


def guarded(argv: list[str]) -> int:
    """The exit code of a command line; every error is one line on standard error."""
    commands = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    commands |= {group.name for group in app.registered_groups if group.name}
    replace_unknown_characters()
    if COMPLETES in os.environ or {"--install-completion", "--show-completion"} & set(argv):
        completion_shell.prepare()
    with warnings.catch_warnings():
        _print_notices("--quiet" in argv)
        return exit_code(argv, lambda: app(args=argv, prog_name="hampkit", standalone_mode=False), commands)


def _print_notices(quiet: bool) -> None:
    """Print every `Notice` once, on one line; other warnings as Python does."""
    printed, standard = set(), warnings.showwarning
    warnings.simplefilter("always", Notice)

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if not issubclass(category, Notice):
            standard(message, category, *place)
        elif not quiet and str(message) not in printed:
            printed.add(str(message))
            write(f"hampkit: warning: {message}", stream=sys.stderr)

    warnings.showwarning = show


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hampkit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(short_help="Train, attack, judge, report.")
def run(
    words: Words = None, data: Table = None, label: Label = "", group: Group = "", data_dir: DataDir = None,
    runs_dir: RunsDir = Path("runs"), seed: Seed = None, device: Device = "auto", out: Out = None,
    attacks: AttackNames = "", shadows: ShadowCount = 0, workers: Workers = 0,
    shadows_from: ShadowsFrom = None, force: Force = False, canaries: Canaries = 0, canary_kind: CanaryKind = "mislabelled",
    policy: Policy = None, fail_if: FailIf = None, junit: Junit = None,
    wait: Wait = False, json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Train, attack, judge, report. Default: digits/undefended digits/hamp, with 16 shadow models each.

    A RECIPE is DATA/DEFENSE, a .toml file, or a bare DEFENSE together with --data FILE --label COLUMN.
    """
    from hampkit.cli.progress import Bars, sayer

    recipes, options = split(words or [], group)
    check_gate(junit, policy is not None or bool(fail_if))
    names = comma_separated(attacks)
    first = not (recipes or data or names or shadows or shadows_from or {"shadows.models", "models"} & set(options))
    bars = Bars(not quiet)
    with bars.shown():
        from hampkit import api

        results = api.run(
            *recipes, attacks=names, options=options, seed=seed, data=data or "", label=label, data_dir=data_dir,
            runs_dir=runs_dir, out=out, device=device, shadows=FIRST_SHADOWS if first else shadows,
            shadows_from=shadows_from or "", force=force,
            canaries=canaries, canary_kind=canary_kind, policy=policy,
            fail_if=fail_if or (),
            workers=workers, wait=wait, progress=bars.progress(sayer(quiet or json)),
        )  # fmt: skip
    _show(results, json, quiet, first)
    ended(results.policy, junit, quiet or json)


@app.command(short_help="Train shadow models and print the run folder that holds them.")
def shadow(
    recipe: OneRecipe,
    models: Annotated[int, typer.Option(help="Number of shadow models: even, at least 4.")],
    words: Keys = None,
    data: Table = None, label: Label = "", group: Group = "", data_dir: DataDir = None, runs_dir: RunsDir = Path("runs"),
    seed: Seed = None, device: Device = "auto", workers: Workers = 0,
    keep_models: Annotated[bool, typer.Option("--keep-models", help="Keep the weights, however large.")] = False,
    wait: Wait = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Train shadow models of a recipe and print the run folder that holds them."""
    from hampkit.cli.progress import Bars

    options = only_options(words or [], group, keep_models)
    bars = Bars(not quiet)
    with bars.shown():
        from hampkit import api

        folder = api.shadow(
            recipe, models, options=options, seed=seed, data=data or "", label=label, data_dir=data_dir,
            runs_dir=runs_dir, device=device, workers=workers, wait=wait, progress=bars.progress(),
        )  # fmt: skip
    write(folder)


@app.command(short_help="Estimate the cost of shadow models from a few training steps.")
def plan(
    recipe: OneRecipe,
    shadows: Annotated[int, typer.Option(metavar="M", help="Number of shadow models: even, at least 4.")],
    words: Keys = None,
    data: Table = None, label: Label = "", group: Group = "", data_dir: DataDir = None, runs_dir: RunsDir = Path("runs"),
    seed: Seed = None, device: Device = "auto", workers: Workers = 0, debug: Debug = False,
) -> None:  # fmt: skip
    """Measure a few training steps and print the expected cost of M shadow models and the rates that they resolve."""
    from hampkit.cli.progress import Bars
    from hampkit.cli.terminal_table import say, stdout_console

    options, bars = only_options(words or [], group), Bars(True)
    with bars.shown():
        from hampkit import api

        found = api.plan(
            recipe, shadows, options=options, seed=seed, data=data or "", label=label, data_dir=data_dir,
            runs_dir=runs_dir, device=device, workers=workers, progress=bars.progress(),
        )  # fmt: skip
    say(stdout_console(), found.line())


@app.command(short_help="Train recipes and print their run folders.")
def train(
    words: Words = None, data: Table = None, label: Label = "", group: Group = "", data_dir: DataDir = None,
    runs_dir: RunsDir = Path("runs"), seed: Seed = None, device: Device = "auto", wait: Wait = False, quiet: Quiet = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Train recipes and print their run folders."""
    from hampkit.cli.progress import Bars

    recipes, options = split(words or [], group)
    if not recipes:
        raise UserError("train needs a recipe, e.g. hampkit train digits/hamp (hampkit list recipes shows all)")
    bars = Bars(not quiet)
    with bars.shown():
        from hampkit import api
        from hampkit.workflows.recipes import RecipeOptions
        from hampkit.workflows.run import check

        session = api.Session(runs_dir, data_dir, device, progress=bars.progress(), wait=wait)
        each = check(recipes, RecipeOptions(options, seed, data or "", label), session)
    for recipe, accepted in zip(recipes, each, strict=True):
        with bars.shown():
            trained = api.train(
                recipe, options=accepted.options, seed=seed, data=accepted.data, label=label, session=session
            )
        accuracy = ", ".join(f"{part} {trained.accuracy[part]:.1%}" for part in ("train", "val", "test"))
        write(trained.folder if quiet else f"{trained.folder}  accuracy: {accuracy}")


@app.command(short_help="Attack the model of a run folder, by default with every attack.")
def attack(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    words: AttackWords = None,
    data_dir: DataDir = None, device: Device = "auto", shadows: ShadowCount = 0, workers: Workers = 0, out: AttackOut = None,
    shadows_from: ShadowsFrom = None, force: Force = False, wait: Wait = False, json: Json = False, quiet: Quiet = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Attack the model of a run folder, by default with every attack."""
    from hampkit.cli.progress import Bars

    names, options = split(words or [])
    bars = Bars(not quiet)
    with bars.shown():
        from hampkit import api

        results = api.attack(
            run, *names, options=options, data_dir=data_dir, out=out, device=device, shadows=shadows,
            shadows_from=shadows_from or "", force=force, workers=workers, wait=wait, progress=bars.progress(),
        )  # fmt: skip
    _show(results, json, quiet)


@app.command(short_help="Train and attack every defense on one split; write one page.")
def compare(
    words: CompareWords = None,
    defenses: Defenses = "",
    seeds: Annotated[int, typer.Option(metavar="S", help="Number of seeds, counted from --seed.")] = 1,
    paper: Annotated[bool, typer.Option("--paper", help="Print the layout of the published comparison.")] = False,
    data: Table = None, label: Label = "", group: Group = "", data_dir: DataDir = None, runs_dir: RunsDir = Path("runs"),
    seed: Seed = None, device: Device = "auto", out: Out = None, shadows: ShadowCount = 0, workers: Workers = 0,
    canaries: Canaries = 0, canary_kind: CanaryKind = "mislabelled", policy: Policy = None, fail_if: FailIf = None,
    junit: Junit = None, wait: Wait = False, json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Train and attack every defense on one split, and write one page: accuracy against leakage, table, cost.

    Default: digits. With several DATA every page has its own folder in the runs folder.
    """
    from hampkit.cli.catalog import catalog
    from hampkit.cli.progress import Bars, sayer

    names, options = split(words or [], group)
    check_defenses(names, defenses, *map(catalog().names, ("defenses", "datasets")))
    chosen = comma_separated(defenses)
    folders, bars = _folders(names, data, out or runs_dir), Bars(not quiet)
    check_gate(junit, policy is not None or bool(fail_if))
    with bars.shown():
        from hampkit import api
        from hampkit.workflows.compare import ComparisonRequest, check_all
        from hampkit.workflows.recipes import RecipeOptions

        request = ComparisonRequest(defenses=chosen, recipe_options=RecipeOptions(options))
        check_all(list(folders), request, api.Session(data_dir=data_dir, device="cpu"))
        found = [api.compare(
            name, defenses=chosen, shadows=shadows, seeds=seeds, options=options, canaries=canaries, canary_kind=canary_kind,
            seed=seed, data=data or "", label=label, data_dir=data_dir, runs_dir=runs_dir, out=folder, device=device,
            workers=workers, wait=wait, progress=bars.progress(sayer(quiet or json)), policy=policy, fail_if=fail_if or (),
        ) for name, folder in folders.items()]  # fmt: skip
    if json:
        write_json([c.to_json() for c in found] if len(found) > 1 else found[0].to_json())
    elif not quiet:
        _show_comparisons(found, paper, list(folders.values()))
    ended([outcome for comparison in found for outcome in comparison.policy], junit, quiet or json)


def _show_comparisons(found: list[Comparison], paper: bool, folders: list[Path]) -> None:
    from hampkit.cli.terminal import show_comparison

    show_comparison(found, paper)
    pages = [folder / "compare.html" for folder in folders]
    reports = [page.with_name("report.html") for page in pages]
    lines = [f"report: {r}{REPLACED}" for r, c in zip(reports, found, strict=True) if r in c.replaced]
    write(*lines, *(f"page: {p}{REPLACED if p in c.replaced else ''}" for p, c in zip(pages, found, strict=True)))


def _folders(names: list[str], data: Path | None, out: Path) -> dict[str, Path]:
    """Data set → folder of its page; several data sets have a folder each. The name of a user's table is empty.

    Raises: `UserError` for both a data set and a table.
    """
    if data and names:
        raise UserError(f"compare takes a data set, {names[0]!r}, or a table, --data {data}; leave one out")
    sets = [""] if data else list(dict.fromkeys(names)) or ["digits"]
    return {name: out / name if len(sets) > 1 else out for name in sets}


app.command(short_help="Attack a model that was trained elsewhere, or its predictions.")(audit)
app.command(short_help="Bounds on epsilon and mu from the scores of canaries.")(bound)


@app.command(short_help="Write one report (HTML, Markdown, CSV, JSON) about several runs.")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders that were attacked.", metavar="RUN…")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("runs"),
    json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Write one report (HTML, Markdown, CSV, JSON) about several runs."""
    from hampkit.cli.progress import Bars

    with Bars(not quiet).shown():
        from hampkit import api

        results = api.write_report(*runs, out=out)
    _show(results, json, quiet)


@app.command("list", short_help="List recipes, data sets, defenses, attacks, nets, options.")
def list_(
    what: What = "",
    words: ListWords = None,
    debug: Debug = False,
) -> None:
    """List the datasets, defenses, attacks, generators, recipes, nets or options (every KEY=VALUE).

    hampkit list options NAME lists the options of one section, such as train or data, data set, defense, generator or attack.
    hampkit list recipes NAME prints one recipe, DATA/DEFENSE or a .toml file, with the origin of each value.
    """
    from hampkit.cli.catalog import listing

    names, options = split(words or [])
    width = get_terminal_size().columns if sys.stdout.isatty() else None
    write(*listing(what, names, options, width))


@data_app.command("fetch")
def data_fetch(name: DataSet, data_dir: DataDir = None, debug: Debug = False) -> None:
    """Find a data set, or download it into the cache, and check it."""
    from hampkit.cli.progress import Bars, Download

    bars = Bars(True)
    with bars.shown():
        from hampkit.workflows.catalog import describe_data

        lines = describe_data(name, data_dir, download=True, progress=Download(bars))
    write(*lines)


@data_app.command("check")
def data_check(name: DataSet, data_dir: CheckDir = None, debug: Debug = False) -> None:
    """Check the files of a data set without downloading anything: shape, hash, class counts."""
    from hampkit.workflows.catalog import describe_data

    write(*describe_data(name, data_dir, download=False))


def _show(results: Results, json: bool, quiet: bool, first: bool = False) -> None:
    if json:
        # not read from results.json, which another process may have replaced by now
        write_json(results.to_json(), sort=True)
    elif not quiet:
        from hampkit.cli.terminal import show_first_look, show_results, stdout_console

        if not first or not show_first_look(stdout_console(), results):
            show_results(stdout_console(), results)
        page = results.files["html"]
        write(f"report: {page}{REPLACED if page in results.replaced else ''}")
