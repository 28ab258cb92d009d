"""The command ``reproduce``: published studies, made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hampkit.cli.options import (
    DataDir,
    Debug,
    Defenses,
    Device,
    Out,
    Quiet,
    RunsDir,
    Seed,
    Wait,
    Workers,
    comma_separated,
    split,
)
from hampkit.cli.output import write
from hampkit.errors import UserError

reproduce_app = typer.Typer(help="Make published studies again.", no_args_is_help=True, rich_markup_mode=None)


@reproduce_app.command(short_help="Defenses by published attacks, by attacks that know them, and on canaries.")
def critique(
    words: Annotated[list[str] | None, typer.Argument(metavar="[DATA] [KEY=VALUE]…", help="Default: location30.")] = None,
    defenses: Defenses = "",
    shadows: Annotated[int, typer.Option(metavar="M", help="Shadow models of each defense.")] = 64,
    canaries: Annotated[int, typer.Option(metavar="K", help="Canaries.")] = 500,
    data_dir: DataDir = None, runs_dir: RunsDir = Path("runs"), seed: Seed = None, device: Device = "auto", out: Out = None,
    workers: Workers = 0, wait: Wait = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Undefended, HAMP, RelaxLoss, SELENA and DP-SGD of equal accuracy under the published evaluation and under this one.

    After Aerni, Zhang and Tramèr 2024. What is trained is found again: --defenses makes a part of the table at a time.
    """
    from hampkit.cli.progress import Bars, sayer

    names, options = split(words or [])
    if len(names) > 1:
        raise UserError(f"reproduce critique takes one data set, and {names[1]!r} is another")
    bars = Bars(not quiet)
    with bars.shown():
        from hampkit.workflows.recipes import RecipeOptions
        from hampkit.workflows.reproduce import DEFENSES, Critique, reproduce_critique
        from hampkit.workflows.session import session_of

        chosen = tuple(comma_separated(defenses)) or DEFENSES
        asked = Critique(names[0] if names else "location30", chosen, shadows, canaries, RecipeOptions(options, seed))
        settings = {"data_dir": data_dir, "runs_dir": runs_dir, "device": device, "workers": workers, "wait": wait}
        found = reproduce_critique(asked, out, session_of({**settings, "progress": bars.progress(sayer(quiet))}))  # pyright: ignore[reportArgumentType]
    if not quiet:
        from hampkit.cli.terminal import show_critique

        show_critique([list(row.cells) for row in found.rows], found.lines)
        write(f"page: {found.files['html']}")
