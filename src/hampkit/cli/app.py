"""argv → library, one to one. Only this file reads argv; it prints what the library returns."""

from __future__ import annotations

import os
import sys
import warnings
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from hampkit import __version__
from hampkit.cli.options import (
    AttackOut,
    CheckDir,
    DataDir,
    Debug,
    Device,
    Force,
    Group,
    Json,
    Label,
    Out,
    Quiet,
    RunsDir,
    Seed,
    ShadowCount,
    ShadowsFrom,
    Table,
    Words,
    Workers,
    only_options,
    split,
)
from hampkit.errors import Notice, UserError

app = typer.Typer(
    name="hampkit",
    help="Train classifiers that do not betray their training data, and measure how much a model does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Get and check data sets.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")

INTERRUPTED = 130  # the exit code of a command that Ctrl-C ended


def guarded(argv: list[str]) -> int:
    """The exit code of a command line; every error is one line on standard error."""
    with warnings.catch_warnings():
        _say_notices("--quiet" in argv)
        return _run(argv)


def _say_notices(quiet: bool) -> None:
    """Print each of the library's warnings once, in one line; other people's as Python does."""
    said, other = set(), warnings.showwarning
    warnings.simplefilter("always", Notice)

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if not issubclass(category, Notice):
            other(message, category, *place)
        elif not quiet and str(message) not in said:
            said.add(str(message))
            print(f"hampkit: warning: {message}", file=sys.stderr)

    warnings.showwarning = show


def _run(argv: list[str]) -> int:
    debug = "--debug" in argv
    try:
        code = app(args=argv, standalone_mode=False) or 0
        return _interrupted() if code == INTERRUPTED else code  # some versions of Typer turn Ctrl-C into this code
    except (KeyboardInterrupt, typer.Abort):  # and others into Abort
        return _interrupted()
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # the reader of a pipe went away; nothing is wrong
        return 0
    except UserError as error:
        if debug:
            raise
        return _fail(str(error), 2)
    except OSError as error:
        if debug:
            raise
        return _fail(
            f"{error.strerror or error}: {error.filename or 'file system'}; check space and permissions, then run again",
            2,
        )
    except Exception as error:
        if _out_of_memory(error):
            if debug:
                raise
            return _fail(f"not enough memory for {_largest(argv)}; take smaller numbers or less data", 2)
        usage = getattr(error, "format_message", None)  # Typer's own errors; their class has moved between versions
        if type(error).__name__ == "NoArgsIsHelpError" and usage is not None:
            print(
                usage(), file=sys.stderr
            )  # the help of a command that was called without anything, as Typer prints it
            return 2
        if usage is not None:
            return _fail(f"{usage()} (see hampkit {_command(argv)}--help)", 2)
        if debug:
            raise
        return _fail(f"{type(error).__name__}: {error} (a bug in hampkit; --debug shows where)", 1)


def _out_of_memory(error: Exception) -> bool:
    """Whether this is NumPy's, torch's or Python's way to say so."""
    texts = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def _largest(argv: list[str]) -> str:
    """The likely cause: the largest number that was asked for."""
    sizes = {word: int(text) for word in argv for text in [word.partition("=")[2]] if text.isdecimal()}
    return max(sizes, key=lambda word: sizes[word]) if sizes else "this data, network or train.batch_size"


def _command(argv: list[str]) -> str:
    """The command that was called, where there is such a one."""
    known = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback} | {"data"}
    return f"{argv[0]} " if argv and argv[0] in known else ""


def _interrupted() -> int:
    return _fail("interrupted; run the same command again to go on", INTERRUPTED)


def _fail(message: str, code: int) -> int:
    print("hampkit: error: " + " ".join(message.split()), file=sys.stderr)
    return code


def _version(asked: bool) -> None:
    if asked:
        print(f"hampkit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    words: Words = None, data: Table = None, label: Label = "", group: Group = "", data_dir: DataDir = None,
    runs_dir: RunsDir = Path("runs"), seed: Seed = None, device: Device = "auto", out: Out = None,
    shadows: ShadowCount = 0, workers: Workers = 0,
    shadows_from: ShadowsFrom = None, force: Force = False, json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Train, attack, judge, report. Default: digits/undefended digits/hamp.

    A RECIPE is DATA/DEFENSE, a .toml file, or a bare DEFENSE together with --data FILE --label COLUMN.
    """
    from hampkit import api
    from hampkit.cli.terminal import Bars, sayer

    recipes, options = split(words or [], group)
    bars = Bars(not quiet)
    with bars.shown():
        results = api.run(
            *recipes, options=options, seed=seed, data=data or "", label=label, data_dir=data_dir, runs_dir=runs_dir,
            out=out, device=device, shadows=shadows, shadows_from=shadows_from or "", force=force,
            workers=workers, progress=bars.progress(sayer(quiet or json)),
        )  # fmt: skip
    _show(results, json, quiet)


@app.command()
def shadow(
    recipe: Annotated[str, typer.Argument(help="A recipe: DATA/DEFENSE, a .toml file, or a DEFENSE with --data.")],
    models: Annotated[int, typer.Option(help="How many: an even number from 4 on.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE…]", show_default=False)] = None,
    data: Table = None, label: Label = "", group: Group = "", data_dir: DataDir = None, runs_dir: RunsDir = Path("runs"),
    seed: Seed = None, device: Device = "auto", workers: Workers = 0,
    keep_models: Annotated[bool, typer.Option("--keep-models", help="Keep their weights too.")] = False,
    quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Train shadow models of a recipe and print the run folder that holds them."""
    from hampkit import api
    from hampkit.cli.terminal import Bars

    options = only_options(words or [], group, keep_models)
    bars = Bars(not quiet)
    with bars.shown():
        folder = api.shadow(
            recipe, models, options=options, seed=seed, data=data or "", label=label, data_dir=data_dir,
            runs_dir=runs_dir, device=device, workers=workers, progress=bars.progress(),
        )  # fmt: skip
    print(folder)


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(help="A recipe: DATA/DEFENSE, a .toml file, or a DEFENSE with --data.")],
    shadows: Annotated[int, typer.Option(metavar="M", help="How many shadow models: an even number from 4 on.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE…]", show_default=False)] = None,
    data: Table = None, label: Label = "", group: Group = "", data_dir: DataDir = None, runs_dir: RunsDir = Path("runs"),
    seed: Seed = None, device: Device = "auto", workers: Workers = 0, debug: Debug = False,
) -> None:  # fmt: skip
    """Measure a few steps and say what so many shadow models will cost and show."""
    from hampkit import api

    found = api.plan(
        recipe, shadows, options=only_options(words or [], group), seed=seed, data=data or "", label=label, data_dir=data_dir,
        runs_dir=runs_dir, device=device, workers=workers,
    )  # fmt: skip
    print(found.line())


@app.command()
def train(
    words: Words = None, data: Table = None, label: Label = "", group: Group = "", data_dir: DataDir = None,
    runs_dir: RunsDir = Path("runs"), seed: Seed = None, device: Device = "auto", quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Train recipes and print their run folders."""
    from hampkit import api
    from hampkit.cli.terminal import Bars
    from hampkit.workflows.recipes import Given
    from hampkit.workflows.run import check

    recipes, options = split(words or [], group)
    if not recipes:
        raise UserError("train needs a recipe, e.g. hampkit train digits/hamp (hampkit list recipes shows all)")
    bars, given = Bars(not quiet), Given(options, seed, data or "", label)
    session = api.Session(runs_dir, data_dir, device, progress=bars.progress())
    with bars.shown():
        each = check(recipes, given, session)
    for recipe, own in zip(recipes, each, strict=True):
        with bars.shown():
            trained = api.train(recipe, options=own.options, seed=seed, data=data or "", label=label, session=session)
        a = trained.accuracy
        print(
            trained.folder
            if quiet
            else f"{trained.folder}  accuracy: train {a['train']:.1%}, val {a['val']:.1%}, test {a['test']:.1%}"
        )


@app.command()
def attack(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[ATTACK…] [KEY=VALUE…]", show_default=False)] = None,
    data_dir: DataDir = None, device: Device = "auto", shadows: ShadowCount = 0, workers: Workers = 0, out: AttackOut = None,
    shadows_from: ShadowsFrom = None, force: Force = False, json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Attack the model of a run folder, by default with every attack."""
    from hampkit import api
    from hampkit.cli.terminal import Bars

    names, options = split(words or [])
    bars = Bars(not quiet)
    with bars.shown():
        results = api.attack(
            run, *names, options=options, data_dir=data_dir, out=out, device=device, shadows=shadows,
            shadows_from=shadows_from or "", force=force, workers=workers, progress=bars.progress(),
        )  # fmt: skip
    _show(results, json, quiet)


@app.command()
def compare(
    words: Annotated[list[str] | None, typer.Argument(metavar="[DATA…] [KEY=VALUE…]", show_default=False)] = None,
    defenses: Annotated[str, typer.Option(metavar="NAME,…", help="Which, with commas; default: all there are.")] = "",
    seeds: Annotated[int, typer.Option(metavar="S", help="How many seeds, from --seed on.")] = 1,
    paper: Annotated[bool, typer.Option("--paper", help="Print the layout of the published comparison.")] = False,
    data: Table = None, label: Label = "", group: Group = "", data_dir: DataDir = None, runs_dir: RunsDir = Path("runs"),
    seed: Seed = None, device: Device = "auto", out: Out = None, shadows: ShadowCount = 0, workers: Workers = 0,
    json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Train and attack every defense on one split, and write one page: accuracy against leakage, table, cost.

    Default: digits. With several DATA the pages lie in a folder each below the runs folder.
    """
    from hampkit import api
    from hampkit.cli.terminal import Bars, sayer, show_comparison
    from hampkit.workflows.compare import Compared, check_all
    from hampkit.workflows.recipes import Given

    names, options = split(words or [], group)
    if data and names:
        raise UserError(f"compare takes a data set, {names[0]!r}, or a table, --data {data}; leave one out")
    sets = [""] if data else list(dict.fromkeys(names)) or ["digits"]
    chosen = [name.strip() for name in defenses.split(",")] if defenses else ()
    check_all(sets, Compared(defenses=chosen, given=Given(options)), api.Session(data_dir=data_dir, device="cpu"))
    found, bars = [], Bars(not quiet)
    for name in sets:
        with bars.shown():
            found.append(api.compare(
                name, defenses=chosen, shadows=shadows, seeds=seeds, options=options,
                seed=seed, data=data or "", label=label, data_dir=data_dir, runs_dir=runs_dir,
                out=(out or runs_dir) / name if len(sets) > 1 else out, device=device, workers=workers,
                progress=bars.progress(sayer(quiet or json)),
            ))  # fmt: skip
    if json:
        print(dumps([c.to_json() for c in found] if len(found) > 1 else found[0].to_json(), indent=1))
    elif not quiet:
        show_comparison(found, paper)
        print(*(f"page: {(out or runs_dir) / (n if len(sets) > 1 else '') / 'compare.html'}" for n in sets), sep="\n")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders that were attacked before.", metavar="RUN…")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("runs"),
    json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Write one report (HTML, Markdown, CSV, JSON) over several runs."""
    from hampkit import api

    _show(api.write_report(*runs, out=out), json, quiet)


@app.command("list")
def list_(
    what: Annotated[
        str, typer.Argument(help="datasets, defenses, attacks, generators, recipes, nets or options.")
    ] = "",
    words: Annotated[list[str] | None, typer.Argument(metavar="[NAME] [KEY=VALUE…]", show_default=False)] = None,
    debug: Debug = False,
) -> None:
    """List what there is: datasets, defenses, attacks, generators, recipes, nets or options (every KEY=VALUE).

    hampkit list options NAME lists those of one section, such as train or data, of one data set, defense, generator or attack.
    hampkit list recipes NAME prints one recipe, DATA/DEFENSE or a .toml file, with the origin of each value.
    """
    from hampkit.workflows.catalog import listing

    names, options = split(words or [])
    print("\n".join(listing(what, names, options)))


@data_app.command("fetch")
def data_fetch(name: str, data_dir: DataDir = None, debug: Debug = False) -> None:
    """Find a data set, or download it into the cache, and check it."""
    from hampkit.cli.terminal import Bars, Download
    from hampkit.workflows.catalog import describe_data

    bars = Bars(True)
    with bars.shown():
        lines = describe_data(name, data_dir, download=True, progress=Download(bars))
    print("\n".join(lines))


@data_app.command("check")
def data_check(name: str, data_dir: CheckDir = None, debug: Debug = False) -> None:
    """Check the files of a data set without downloading anything: shape, hash, class counts."""
    from hampkit.workflows.catalog import describe_data

    print("\n".join(describe_data(name, data_dir, download=False)))


def _show(results: Any, json: bool, quiet: bool) -> None:
    if json:
        # not read back from its file, which another process may have replaced by now
        print(dumps(results.to_json(), indent=1, sort_keys=True, ensure_ascii=False))
    elif not quiet:
        from hampkit.cli.terminal import show_results, stdout_console

        show_results(stdout_console(), results)
        print(f"report: {results.files['html']}")
